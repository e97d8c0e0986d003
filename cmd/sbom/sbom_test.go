// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spdx/tools-golang/json"
)

// empty returns the contents of an image without any.
func empty(t *testing.T) *contents {
	t.Helper()
	about := &debug.BuildInfo{GoVersion: "go1.26.0", Main: debug.Module{Path: "example.com/a", Version: "v1.2.3+dirty"}}
	c, err := newContents("a", "amd64", about, time.Unix(0, 0).UTC())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// archive returns the file of a tar; names that end with -> are links.
func archive(t *testing.T, files map[string]string) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, text := range files {
		h := &tar.Header{Name: "./" + name, Size: int64(len(text)), Mode: 0o644}
		if link, is := strings.CutSuffix(name, "->"); is {
			h = &tar.Header{Name: "./" + link, Typeflag: tar.TypeSymlink, Linkname: text}
			text = ""
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "a.tar")
	if err := os.WriteFile(name, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestDebiansPackagesAreListedWithTheirLicences(t *testing.T) {
	const format = "Format: https://example.com/copyright-format/1.0/\n"
	c := empty(t)
	err := c.addDebian(archive(t, map[string]string{
		releaseFile:              "ID=debian\nVERSION_ID=\"13\"\n",
		statusFolder + "/tool":   "Package: tool\nVersion: 1:2.0+b1\nArchitecture: arm64\nMaintainer: A B <a@example.com>\nDescription: short\n long\n",
		docFolder + "/tool->":    "libtool",
		statusFolder + "/libold": "Package: libold\nVersion: 1\nArchitecture: all",
		docFolder + "/libtool/copyright": format + "Files: *\nLicense: GPL-2+ and Expat\n text\n\nFiles: b\nLicense: custom or GPL-1+\n\n" +
			"Files: c\nLicense: GPL-2+ and Expat\n",
		docFolder + "/libold/copyright": "This is free.\nLicense: GPL-2\n",
		"var/lib/dpkg/other":            "Package: other\n",
	}))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range c.packages[1:] {
		got = append(got, p.PackageName, p.PackageVersion, p.PackageLicenseDeclared, p.PackageExternalReferences[0].Locator)
	}
	want := []string{
		"libold", "1", "NOASSERTION", "pkg:deb/debian/libold@1?arch=all&distro=debian-13",
		"tool", "1:2.0+b1", "(LicenseRef-Debian-custom OR GPL-1.0-or-later) AND GPL-2.0-or-later AND MIT",
		"pkg:deb/debian/tool@1%3A2.0%2Bb1?arch=arm64&distro=debian-13",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	if len(c.licences) != 1 || c.licences[0].LicenseName != "custom" {
		t.Errorf("own licences are %+v", c.licences)
	}
}

func TestATarOfNoDebianIsRefused(t *testing.T) {
	if err := empty(t).addDebian(archive(t, map[string]string{"a": "b"})); err == nil || !strings.Contains(err.Error(), releaseFile) {
		t.Errorf("got %v", err)
	}
}

func TestTheLicencesOfAModuleAreThoseOfItsTexts(t *testing.T) {
	c := empty(t)
	folders, err := goFolders()
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	for _, file := range []string{"../../LICENSE", filepath.Join(folders.root, "LICENSE")} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		texts[file] = string(text)
	}
	ours, theirs := texts["../../LICENSE"], texts[filepath.Join(folders.root, "LICENSE")]
	for _, x := range []struct {
		files map[string]string
		want  string
	}{
		{map[string]string{"LICENSE": ours}, "Apache-2.0"},
		{map[string]string{"license.md": ours, "COPYING": theirs, "Licence-2": ours}, "Apache-2.0 AND BSD-3-Clause"},
		{map[string]string{"README": ours, "licensed.go": ours}, "NOASSERTION"},
		{map[string]string{"LICENSE": "Do what is right.\n"}, "NOASSERTION"},
	} {
		folder := t.TempDir()
		for name, text := range x.files {
			if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := c.licenceIn(folder); err != nil || got != x.want {
			t.Errorf("%v: got %s, %v, want %s", slices.Sorted(maps.Keys(x.files)), got, err, x.want)
		}
	}
}

func TestTheSameInputGivesTheSameBytes(t *testing.T) {
	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, []byte("program"), 0o755); err != nil {
		t.Fatal(err)
	}
	about := &debug.BuildInfo{GoVersion: "go1.26.0", Main: debug.Module{Path: "example.com/a", Version: "v1.2.3+dirty"}}
	var written []string
	for _, content := range []string{"one", "one", "two"} {
		c := empty(t)
		if err := os.WriteFile(program, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := c.addProgram(program, about); err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := json.Write(c.document(), &b); err != nil {
			t.Fatal(err)
		}
		written = append(written, b.String())
	}
	if written[0] != written[1] || written[0] == written[2] {
		t.Errorf("got\n%s\n%s\n%s", written[0], written[1], written[2])
	}
	for _, says := range []string{`"created":"1970-01-01T00:00:00Z"`, `/spdx/a-v1.2.3-dirty-amd64-`, `pkg:golang/example.com/a@v1.2.3%2Bdirty`, `"pkg:golang/stdlib@1.26.0"`} {
		if !strings.Contains(written[0], says) {
			t.Errorf("lacks %s:\n%s", says, written[0])
		}
	}
}
