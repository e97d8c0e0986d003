// SPDX-License-Identifier: Apache-2.0

package report

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// results is the file of all that was measured, page what people read of it.
const (
	results = "results.json"
	page    = "README.md"
)

// Save writes the report into a folder.
func (r Report) Save(folder string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the results: %w", err)
	}
	return replace(filepath.Join(folder, results), append(text, '\n'))
}

// Read reads the report that Save wrote into a folder.
func Read(folder string) (Report, error) {
	var r Report
	text, err := os.ReadFile(filepath.Join(folder, results))
	if err != nil {
		return r, fmt.Errorf("read the results: %w", err)
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("decode the results of %s: %w", folder, err)
	}
	return r, nil
}

// Render writes the page and the plots into a folder.
func (r Report) Render(folder string) error {
	if err := replace(filepath.Join(folder, page), []byte(r.Page())); err != nil {
		return err
	}
	for _, p := range r.Plots() {
		if err := replace(filepath.Join(folder, p.File), []byte(p.Chart.SVG())); err != nil {
			return err
		}
	}
	return nil
}

// replace writes a file so that a reader sees the old one or the new.
func replace(path string, text []byte) error {
	if err := os.WriteFile(path+".new", text, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
