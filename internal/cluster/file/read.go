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
	p := newFolder("").begin()
	for _, path := range paths {
		p.path(path, stdin)
	}
	return p.index, p.end().reports
}

func (p *pass) path(path string, stdin io.Reader) {
	if path == Stdin {
		p.read("stdin", stdin, nil)
		return
	}
	stat, err := os.Stat(path)
	if err != nil || !stat.IsDir() {
		p.open(path)
		return
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		p.read(path, nil, err)
	}
	for _, entry := range entries {
		inside := filepath.Join(path, entry.Name())
		if stat, err := os.Stat(inside); isManifest(entry.Name()) && (err != nil || !stat.IsDir()) {
			p.open(inside)
		}
	}
}

func (p *pass) open(path string) {
	f, err := os.Open(path)
	if err != nil {
		p.read(path, nil, err)
		return
	}
	p.read(path, f, nil)
	_ = f.Close() // read only
}

// read reads one file. A file that is named twice counts once.
func (p *pass) read(name string, from io.Reader, err error) {
	if p.files[name] != nil {
		return
	}
	m := &manifest{}
	p.files[name] = m
	var content []byte
	if err == nil {
		content, err = readAll(from)
	}
	if err != nil {
		m.fail(err)
		p.fresh[name] = true
		return
	}
	p.take(name, parse(formOf(name, content), content))
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
