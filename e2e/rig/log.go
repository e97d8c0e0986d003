// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// Line is one line of kube-ipvs's log.
type Line struct {
	Time           time.Time
	Level, Message string
	Fields         map[string]any
}

// Rows returns how many rows of the kernel's tables the line reports as written.
func (l Line) Rows() int {
	n, _ := l.Fields["rows"].(float64)
	return int(n)
}

// Took returns how long it took to write them.
func (l Line) Took() time.Duration {
	text, _ := l.Fields["took"].(string)
	took, _ := time.ParseDuration(text)
	return took
}

// Lines returns the log so far, without a line that is being written.
func (d *Daemon) Lines(t testing.TB) []Line {
	t.Helper()
	var list []Line
	for text := range strings.Lines(d.Log(t)) {
		if !strings.HasSuffix(text, "\n") {
			break
		}
		line, err := parseLine(strings.TrimSuffix(text, "\n"))
		if err != nil {
			t.Fatalf("reading the log of kube-ipvs: %v: %q", err, text)
		}
		list = append(list, line)
	}
	return list
}

// Writes returns the lines so far that report written rows.
func (d *Daemon) Writes(t testing.TB) []Line {
	t.Helper()
	var list []Line
	for _, line := range d.Lines(t) {
		if line.Rows() > 0 {
			list = append(list, line)
		}
	}
	return list
}

// parseLine reads "TIME<tab>LEVEL<tab>MESSAGE<tab>{FIELDS}". The last part may be missing.
func parseLine(text string) (Line, error) {
	parts := strings.SplitN(text, "\t", 4)
	if len(parts) < 3 {
		return Line{}, fmt.Errorf("a line has %d parts, not 3 or 4", len(parts))
	}
	stamp, err := time.Parse("2006-01-02T15:04:05.000Z0700", parts[0])
	if err != nil {
		return Line{}, err
	}
	line := Line{Time: stamp, Level: parts[1], Message: parts[2]}
	if len(parts) == 4 {
		err = json.Unmarshal([]byte(parts[3]), &line.Fields)
	}
	return line, err
}
