// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/spdx/tools-golang/spdx"
	"golang.org/x/mod/module"
)

// addProgram adds the program and the modules that are linked into it, as the compiler recorded them.
func (c *contents) addProgram(file string, about *debug.BuildInfo) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("reading the program: %w", err)
	}
	sum := sha256.Sum256(text)
	c.hashed(sum)
	c.add(&spdx.Package{
		PackageName: about.Main.Path, PackageSPDXIdentifier: application, PackageVersion: about.Main.Version,
		PackageFileName: filepath.Base(file), PrimaryPackagePurpose: "APPLICATION", PackageLicenseDeclared: "Apache-2.0",
		PackageChecksums:          []spdx.Checksum{{Algorithm: spdx.SHA256, Value: hex.EncodeToString(sum[:])}},
		PackageExternalReferences: purl("golang", about.Main.Path, about.Main.Version, ""),
	})
	c.relate(image, contains, application)
	folders, err := goFolders()
	if err != nil {
		return err
	}
	if err := c.addModule(module.Version{Path: "stdlib", Version: strings.TrimPrefix(about.GoVersion, "go")}, folders.root); err != nil {
		return err
	}
	for _, m := range about.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		v := module.Version{Path: m.Path, Version: m.Version}
		path, err := module.EscapePath(v.Path)
		if err != nil {
			return fmt.Errorf("module %s: %w", v.Path, err)
		}
		if err := c.addModule(v, filepath.Join(folders.modules, path+"@"+v.Version)); err != nil {
			return err
		}
	}
	return nil
}

func (c *contents) addModule(v module.Version, folder string) error {
	licence, err := c.licenceIn(folder)
	if err != nil {
		return fmt.Errorf("module %s: %w", v, err)
	}
	id := elementID("Go", v.Path)
	c.add(&spdx.Package{
		PackageName: v.Path, PackageSPDXIdentifier: id, PackageVersion: v.Version, PrimaryPackagePurpose: "LIBRARY",
		PackageLicenseDeclared: licence, PackageExternalReferences: purl("golang", v.Path, v.Version, ""),
	})
	c.relate(application, links, id)
	return nil
}

// places are where Go keeps its own sources and those of modules.
type places struct{ root, modules string }

func goFolders() (places, error) {
	out, err := exec.Command("go", "env", "GOROOT", "GOMODCACHE").Output()
	lines := strings.Split(string(out), "\n")
	if err != nil || len(lines) < 2 {
		return places{}, fmt.Errorf("asking Go for its folders: %q, %w", out, err)
	}
	return places{lines[0], lines[1]}, nil
}

var licenceFile = regexp.MustCompile(`(?i)^(licen[cs]es?|copying|unlicense)([-._].*)?$`)

// licenceIn returns the licences whose text is in a folder, all of which apply: a reader of texts cannot see a choice.
func (c *contents) licenceIn(folder string) (string, error) {
	files, err := os.ReadDir(folder)
	if err != nil {
		return "", fmt.Errorf("looking for its licence: %w", err)
	}
	var found []string
	for _, f := range files {
		if f.IsDir() || !licenceFile.MatchString(f.Name()) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(folder, f.Name()))
		if err != nil {
			return "", fmt.Errorf("reading its licence: %w", err)
		}
		for _, m := range c.reads.Match(bytes.TrimSpace(text)).Matches {
			if m.MatchType == "License" {
				found = append(found, m.Name)
			}
		}
	}
	if slices.Sort(found); len(found) == 0 {
		return unknown, nil
	}
	return strings.Join(slices.Compact(found), " AND "), nil
}
