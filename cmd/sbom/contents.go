// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"regexp"
	"runtime/debug"
	"time"

	classifier "github.com/google/licenseclassifier/v2"
	"github.com/google/licenseclassifier/v2/assets"
	"github.com/spdx/tools-golang/spdx"
	"github.com/spdx/tools-golang/spdx/v2/common"
)

// unknown is SPDX' word for what is not known.
const unknown = "NOASSERTION"

const (
	image       = spdx.ElementID("Image")
	application = spdx.ElementID("Program")
)

// Relationships of SPDX.
const (
	describes = "DESCRIBES"
	contains  = "CONTAINS"
	links     = "STATIC_LINK"
)

// contents is what an image contains, in the order in which it was found.
type contents struct {
	name, version, arch string
	source              string // the path of the program's module
	created             time.Time
	hash                []byte // of everything in the image: two documents of a name differ in it

	packages []*spdx.Package
	related  []*spdx.Relationship
	licences []*spdx.OtherLicense
	reads    *classifier.Classifier
}

func newContents(name, arch string, about *debug.BuildInfo, created time.Time) (*contents, error) {
	reads, err := assets.DefaultClassifier()
	if err != nil {
		return nil, fmt.Errorf("opening the texts of known licences: %w", err)
	}
	c := &contents{name: name, version: about.Main.Version, arch: arch, source: about.Main.Path, created: created, reads: reads}
	c.add(&spdx.Package{
		PackageName: name, PackageSPDXIdentifier: image, PackageVersion: c.version, PrimaryPackagePurpose: "CONTAINER",
		PackageLicenseDeclared: unknown, PackageLicenseComments: "that of each package inside",
	})
	c.relate("DOCUMENT", describes, image)
	return c, nil
}

// add adds a package, and what SPDX requires of each.
func (c *contents) add(p *spdx.Package) {
	p.PackageDownloadLocation = unknown
	p.PackageLicenseConcluded = unknown
	p.PackageCopyrightText = unknown
	c.packages = append(c.packages, p)
}

func (c *contents) relate(from spdx.ElementID, how string, to spdx.ElementID) {
	c.related = append(c.related, &spdx.Relationship{
		RefA: common.MakeDocElementID("", string(from)), RefB: common.MakeDocElementID("", string(to)), Relationship: how,
	})
}

// hashed adds bytes of the image to the hash of everything.
func (c *contents) hashed(sum [sha256.Size]byte) {
	all := sha256.Sum256(append(c.hash, sum[:]...))
	c.hash = all[:]
}

func (c *contents) document() *spdx.Document {
	name := notInIDs.ReplaceAllString(fmt.Sprintf("%s-%s-%s", c.name, c.version, c.arch), "-")
	return &spdx.Document{
		SPDXVersion: spdx.Version, DataLicense: spdx.DataLicense, SPDXIdentifier: "DOCUMENT", DocumentName: name,
		DocumentNamespace: fmt.Sprintf("https://%s/spdx/%s-%s", c.source, name, hex.EncodeToString(c.hash)),
		CreationInfo: &spdx.CreationInfo{
			Created:  c.created.Format(time.RFC3339),
			Creators: []spdx.Creator{{CreatorType: "Tool", Creator: c.source + "/cmd/sbom"}},
		},
		Packages: c.packages, Relationships: c.related, OtherLicenses: c.licences,
	}
}

var notInIDs = regexp.MustCompile(`[^A-Za-z0-9.-]+`)

// elementID returns an identifier of SPDX for a kind of package and its name.
func elementID(kind, name string) spdx.ElementID {
	return spdx.ElementID(kind + "-" + notInIDs.ReplaceAllString(name, "-"))
}

// purl returns the reference by which vulnerability databases know a package: a package URL.
func purl(kind, name, version, qualifiers string) []*spdx.PackageExternalReference {
	locator := "pkg:" + kind + "/" + name + "@" + url.QueryEscape(version) + qualifiers
	return []*spdx.PackageExternalReference{{Category: common.CategoryPackageManager, RefType: common.TypePackageManagerPURL, Locator: locator}}
}
