// SPDX-License-Identifier: Apache-2.0

// Package image reads the images that make image writes: folders in the layout of the Open Container Initiative.
package image

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	oci "github.com/opencontainers/image-spec/specs-go/v1"
)

// The images, by the target of the Dockerfile.
const (
	Bare         = "kube-ipvs"          // the program, and nothing else
	WithIPTables = "kube-ipvs-iptables" // the program and iptables, ipset and modprobe
)

// folderEnv names the folder that make image fills.
const folderEnv = "IMAGES"

// Folder returns the folder with the images, for tests.
func Folder(t testing.TB) string {
	t.Helper()
	folder := os.Getenv(folderEnv)
	if folder == "" {
		t.Fatalf("%s does not name the folder with the images to test: run this with make test, or run make image-root first and set it to bin/image", folderEnv)
	}
	return folder
}

// Image is one image for one architecture.
type Image struct {
	Digest   digest.Digest // of the manifest: of everything
	Manifest oci.Manifest
	Config   oci.Image
	layout   string
}

// Read returns the images in a layout, in the order in which its index lists them.
func Read(layout string) ([]Image, error) {
	text, err := os.ReadFile(filepath.Join(layout, oci.ImageIndexFile))
	if err != nil {
		return nil, fmt.Errorf("reading an image: %w", err)
	}
	var top, index oci.Index
	if err := json.Unmarshal(text, &top); err != nil {
		return nil, fmt.Errorf("reading image %s: %w", layout, err)
	}
	if len(top.Manifests) != 1 {
		return nil, fmt.Errorf("%s has %d images, want one for several architectures", layout, len(top.Manifests))
	}
	if err := read(layout, top.Manifests[0], &index); err != nil {
		return nil, err
	}
	var all []Image
	for _, d := range index.Manifests {
		i := Image{Digest: d.Digest, layout: layout}
		if err := read(layout, d, &i.Manifest); err != nil {
			return nil, err
		}
		if err := read(layout, i.Manifest.Config, &i.Config); err != nil {
			return nil, err
		}
		all = append(all, i)
	}
	return all, nil
}

// Blob returns the file with the content of a descriptor.
func (i Image) Blob(d oci.Descriptor) string { return blob(i.layout, d) }

func blob(layout string, d oci.Descriptor) string {
	return filepath.Join(layout, oci.ImageBlobsDir, d.Digest.Algorithm().String(), d.Digest.Encoded())
}

// read reads what a descriptor names, and holds it to the digest.
func read(layout string, d oci.Descriptor, into any) error {
	text, err := os.ReadFile(blob(layout, d))
	if err != nil {
		return fmt.Errorf("reading image %s: %w", layout, err)
	}
	if got := d.Digest.Algorithm().FromBytes(text); got != d.Digest {
		return fmt.Errorf("image %s: %s has digest %s", layout, d.Digest, got)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("reading image %s: %s: %w", layout, d.Digest, err)
	}
	return nil
}
