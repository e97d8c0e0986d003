// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bufio"
	_ "embed"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

//go:embed kernel.config
var wantedText string

// settings are lines such as CONFIG_IP_VS=y by their symbol, here IP_VS.
type settings map[string]string

// parseSettings reads a kernel configuration. Comments, and so symbols that are off, are left out.
func parseSettings(text string) settings {
	s := settings{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if name, _, ok := strings.Cut(line, "="); ok && strings.HasPrefix(name, "CONFIG_") {
			s[strings.TrimPrefix(name, "CONFIG_")] = line
		}
	}
	return s
}

// missing returns the wanted symbols that a configuration has not, or has with another value, in order.
func (s settings) missing(got settings) []string {
	var names []string
	for name, line := range s {
		if got[name] != line {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// check fails if the configuration lacks a wanted symbol that the kernel in tree knows. It drops symbols without a word
// if something that they depend on is off.
func check(tree, config string) error {
	text, err := os.ReadFile(config)
	if err != nil {
		return err
	}
	missing := parseSettings(wantedText).missing(parseSettings(string(text)))
	if len(missing) == 0 {
		return nil
	}
	known, err := symbols(tree)
	if err != nil {
		return fmt.Errorf("list the symbols of the kernel: %w", err)
	}
	dropped := slices.DeleteFunc(missing, func(name string) bool { return !known[name] })
	if len(dropped) > 0 {
		return fmt.Errorf("the kernel knows these symbols of kernel.config and dropped them, so something that they depend on is off: %s",
			strings.Join(dropped, " "))
	}
	return nil
}

// symbols returns all symbols of a kernel's sources.
func symbols(tree string) (map[string]bool, error) {
	all := map[string]bool{}
	err := filepath.WalkDir(tree, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasPrefix(d.Name(), "Kconfig") {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			if name, ok := defined(lines.Text()); ok {
				all[name] = true
			}
		}
		return lines.Err()
	})
	return all, err
}

// defined returns the symbol that a line of Kconfig defines, if it does.
func defined(line string) (string, bool) {
	words := strings.Fields(line)
	if len(words) == 2 && (words[0] == "config" || words[0] == "menuconfig") {
		return words[1], true
	}
	return "", false
}
