// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"bytes"
	"debug/buildinfo"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx"

	"github.com/kube-ipvs/kube-ipvs/e2e/image"
)

// bill returns the bill of materials of an image.
func bill(t *testing.T, name, arch string) *spdx.Document {
	t.Helper()
	d, err := json.Read(bytes.NewReader(read(t, filepath.Join(image.Folder(t), name+"-"+arch+".spdx.json"))))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// packages returns the packages of a bill by their package URLs, up to the version.
func packages(t *testing.T, d *spdx.Document) map[string]*spdx.Package {
	t.Helper()
	all := map[string]*spdx.Package{}
	for _, p := range d.Packages {
		for _, r := range p.PackageExternalReferences {
			name, _, _ := strings.Cut(r.Locator, "@")
			if all[name] = p; r.RefType != "purl" || p.PackageVersion == "" {
				t.Errorf("%s: %+v, version %q", d.DocumentName, r, p.PackageVersion)
			}
		}
	}
	return all
}

func TestTheBillOfMaterialsListsEveryModuleWithItsLicence(t *testing.T) {
	for _, name := range []string{image.Bare, image.WithIPTables} {
		for _, arch := range architectures() {
			all := packages(t, bill(t, name, arch))
			about, err := buildinfo.ReadFile(filepath.Join(image.Folder(t), "files", arch, "kube-ipvs"))
			if err != nil {
				t.Fatal(err)
			}
			versions := map[string]string{"stdlib": strings.TrimPrefix(about.GoVersion, "go"), about.Main.Path: about.Main.Version}
			for _, m := range about.Deps {
				versions[m.Path] = m.Version
			}
			for path, version := range versions {
				p := all["pkg:golang/"+path]
				if p == nil || p.PackageVersion != version || p.PackageLicenseDeclared == "NOASSERTION" {
					t.Errorf("%s for %s has module %s as %+v, want version %s", name, arch, path, p, version)
				}
				delete(all, "pkg:golang/"+path)
			}
			debian := slices.Collect(func(yield func(string) bool) {
				for url := range all {
					if !yield(strings.TrimPrefix(url, "pkg:deb/debian/")) {
						return
					}
				}
			})
			checkDebian(t, name, debian)
		}
	}
}

// checkDebian reports packages that an image should have, or not.
func checkDebian(t *testing.T, name string, got []string) {
	t.Helper()
	if name == image.Bare && len(got) > 0 {
		t.Errorf("%s has %q beside the modules", name, got)
	}
	for _, p := range []string{"base-files", "ipset", "iptables", "kmod", "libc6", "libxtables12"} {
		if name == image.WithIPTables && !slices.Contains(got, p) {
			t.Errorf("%s lacks %s: it has %q", name, p, got)
		}
	}
}

// What readers of SPDX expect of every document.
func TestTheBillOfMaterialsIsADocumentOfSPDX(t *testing.T) {
	namespaces := map[string]bool{}
	for _, name := range []string{image.Bare, image.WithIPTables} {
		for _, arch := range architectures() {
			d := bill(t, name, arch)
			if d.SPDXVersion != "SPDX-2.3" || d.DataLicense != "CC0-1.0" || d.CreationInfo.Created == "" || len(d.CreationInfo.Creators) != 1 {
				t.Errorf("%s: %s, %s, %+v", d.DocumentName, d.SPDXVersion, d.DataLicense, d.CreationInfo)
			}
			if namespaces[d.DocumentNamespace] {
				t.Errorf("two documents are %s", d.DocumentNamespace)
			}
			namespaces[d.DocumentNamespace] = true
			known := map[spdx.ElementID]bool{"DOCUMENT": true}
			for _, p := range d.Packages {
				if known[p.PackageSPDXIdentifier] || p.PackageName == "" || p.PackageDownloadLocation == "" {
					t.Errorf("%s: package %+v", d.DocumentName, p)
				}
				known[p.PackageSPDXIdentifier] = true
			}
			for _, r := range d.Relationships {
				if !known[r.RefA.ElementRefID] || !known[r.RefB.ElementRefID] {
					t.Errorf("%s: %v %s %v", d.DocumentName, r.RefA, r.Relationship, r.RefB)
				}
			}
		}
	}
}
