// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/textproto"
	"net/url"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/spdx/tools-golang/spdx"
)

// Where an image without dpkg keeps what dpkg knows of each package, and a package its licences.
const (
	statusFolder = "var/lib/dpkg/status.d"
	docFolder    = "usr/share/doc"
	releaseFile  = "usr/lib/os-release"
)

// addDebian adds the packages in the tar of a root file system.
func (c *contents) addDebian(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("reading Debian's packages: %w", err)
	}
	c.hashed(sha256.Sum256(text))
	t, err := readTree(bytes.NewReader(text))
	if err != nil {
		return fmt.Errorf("reading %s: %w", file, err)
	}
	release := regexp.MustCompile(`(?m)^VERSION_ID="?([^"\n]+)`).FindStringSubmatch(t.files[releaseFile])
	if release == nil {
		return fmt.Errorf("%s does not name a release of Debian in %s", file, releaseFile)
	}
	for _, name := range slices.Sorted(maps.Keys(t.files)) {
		if path.Dir(name) != statusFolder {
			continue
		}
		fields, err := textproto.NewReader(bufio.NewReader(strings.NewReader(t.files[name] + "\n\n"))).ReadMIMEHeader()
		if err != nil {
			return fmt.Errorf("%s: %s: %w", file, name, err)
		}
		c.addPackage(fields, release[1], t)
	}
	return nil
}

func (c *contents) addPackage(fields textproto.MIMEHeader, release string, t tree) {
	name, version, arch := fields.Get("Package"), fields.Get("Version"), fields.Get("Architecture")
	id := elementID("Debian", name)
	c.add(&spdx.Package{
		PackageName: name, PackageSPDXIdentifier: id, PackageVersion: version,
		PackageSupplier:           &spdx.Supplier{SupplierType: "Person", Supplier: fields.Get("Maintainer")},
		PackageLicenseDeclared:    c.debianLicence(t.file(path.Join(docFolder, name, "copyright"))),
		PackageExternalReferences: purl("deb", "debian/"+url.PathEscape(name), version, "?arch="+arch+"&distro=debian-"+release),
	})
	c.relate(image, contains, id)
}

// tree is the small text files of a tar, and its symbolic links.
type tree struct{ files, links map[string]string }

// largest is the size of the largest file that tree keeps: those of licences and packages are smaller.
const largest = 1 << 20

func readTree(from io.Reader) (tree, error) {
	t := tree{map[string]string{}, map[string]string{}}
	for r := tar.NewReader(from); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return t, nil
		}
		if err != nil {
			return t, err
		}
		name := path.Clean(h.Name)
		switch {
		case h.Typeflag == tar.TypeSymlink:
			t.links[name] = h.Linkname
		case h.Typeflag == tar.TypeReg && h.Size <= largest:
			text, err := io.ReadAll(r)
			if err != nil {
				return t, err
			}
			t.files[name] = string(text)
		}
	}
}

// file returns a file, whose folder or whose own name may be a link.
func (t tree) file(name string) string {
	const most = 8
	for range most {
		folder, link := path.Dir(name), ""
		if to, is := t.links[name]; is {
			link = path.Join(folder, to)
		} else if to, is := t.links[folder]; is {
			link = path.Join(path.Dir(folder), to, path.Base(name))
		}
		if link == "" {
			break
		}
		name = link
	}
	return t.files[name]
}

var licenceField = regexp.MustCompile(`(?m)^License:[ \t]*(\S.*)$`)

// debianLicence returns the licences that a copyright file names, all of which apply. Older files have no fields.
func (c *contents) debianLicence(copyright string) string {
	var all []string
	if strings.HasPrefix(copyright, "Format: ") {
		for _, m := range licenceField.FindAllStringSubmatch(copyright, -1) {
			all = append(all, c.expression(m[1]))
		}
	}
	if slices.Sort(all); len(all) == 0 {
		return unknown
	}
	return strings.Join(slices.Compact(all), " AND ")
}
