// SPDX-License-Identifier: Apache-2.0

package file

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
)

// Stdin is the path that makes Read use its reader.
const Stdin = "-"

// Read reads manifests once: those of a directory, as a Source does, or a file of any name. Reports name
// single files by their path.
func Read(paths []string, stdin io.Reader) (*cluster.Index, []Report) {
	r := reading{folder: newFolder(""), fresh: map[string]bool{}, affected: map[identity]bool{}}
	for _, path := range paths {
		r.path(path, stdin)
	}
	var c change
	r.folder.settle(&c, r.affected)
	r.folder.report(&c, r.fresh, map[string]bool{})
	return r.folder.index, c.reports
}

// reading is a folder of files from anywhere.
type reading struct {
	folder   *folder
	fresh    map[string]bool
	affected map[identity]bool
}

func (r *reading) path(path string, stdin io.Reader) {
	if path == Stdin {
		r.take("stdin", stdin, nil)
		return
	}
	stat, err := os.Stat(path)
	if err != nil || !stat.IsDir() {
		r.open(path)
		return
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		r.take(path, nil, err)
	}
	for _, entry := range entries {
		inside := filepath.Join(path, entry.Name())
		if stat, err := os.Stat(inside); isManifest(entry.Name()) && (err != nil || !stat.IsDir()) {
			r.open(inside)
		}
	}
}

func (r *reading) open(path string) {
	f, err := os.Open(path)
	if err != nil {
		r.take(path, nil, err)
		return
	}
	r.take(path, f, nil)
	_ = f.Close() // read only
}

// take reads one file. A file that is named twice counts once.
func (r *reading) take(name string, from io.Reader, err error) {
	if r.folder.files[name] != nil {
		return
	}
	m := &manifest{}
	r.folder.files[name] = m
	r.fresh[name] = true
	var content []byte
	if err == nil {
		content, err = readAll(from)
	}
	if err != nil {
		m.fail(err)
		return
	}
	m.take(parse(formOf(name, content), content))
	for id := range r.folder.claims.replace(name, nil, m.objects) {
		r.affected[id] = true
	}
}

func readAll(from io.Reader) ([]byte, error) {
	content, err := io.ReadAll(io.LimitReader(from, largest+1))
	if len(content) > largest {
		return nil, fmt.Errorf("has more than %d bytes", largest)
	}
	return content, err
}

// formOf returns a name whose extension says whether content is JSON or YAML. Valid JSON that begins with "{"
// is JSON.
func formOf(name string, content []byte) string {
	if begin := bytes.TrimLeft(content, " \t\r\n"); len(begin) == 0 || begin[0] != '{' {
		return name
	}
	if _, broken := jsonDocuments(content); broken != nil {
		return name
	}
	return "content.json"
}
