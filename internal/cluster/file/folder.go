// SPDX-License-Identifier: Apache-2.0

package file

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
)

// folder is a directory as it was last read.
type folder struct {
	dir    string
	files  map[string]*manifest // by name
	claims claims
	index  *cluster.Index
	away   string // why the directory could not be read; empty: it could
}

// manifest is a file as it was last read.
type manifest struct {
	stat     fs.FileInfo       // nil: look again
	sum      [sha256.Size]byte // of the content that was parsed last
	target   string            // of a symbolic link; empty: no link
	objects  []kept            // the last good ones
	problems []Problem         // of the latest content
	broken   bool
	ignored  map[string]int
	reported []string // the problems that were reported last
}

func newFolder(dir string) *folder {
	return &folder{dir: dir, files: map[string]*manifest{}, claims: claims{}, index: cluster.NewIndex()}
}

// read reads the files that changed or are dirty. If the directory is not there, everything stays as it was.
func (f *folder) read(dirty func(name string) bool) change {
	p := f.begin()
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		p.reports = f.absent(err)
		return p.change
	}
	if f.away != "" {
		f.away = ""
		p.reports = append(p.reports, Report{File: f.dir, Good: true})
	}
	missing := maps.Clone(f.files)
	for _, entry := range entries {
		if name := entry.Name(); isManifest(name) && p.look(entry, dirty(name)) {
			delete(missing, name)
		}
	}
	for name, m := range missing {
		f.claims.replace(name, m.objects, nil, p.affected)
		delete(f.files, name)
		p.reports = append(p.reports, Report{File: name, Gone: true})
	}
	return p.end()
}

// absent reports that the directory cannot be read, once for each reason.
func (f *folder) absent(err error) []Report {
	err = fmt.Errorf("read directory: %w", err)
	if f.away == err.Error() {
		return nil
	}
	f.away = err.Error()
	return []Report{{File: f.dir, Problems: []error{err}, Broken: true}}
}

// isManifest reports whether a file is read. Hidden ones belong to editors and to the kubelet (..data).
func isManifest(name string) bool {
	switch filepath.Ext(name) {
	case ".yaml", ".yml", ".json":
		return !strings.HasPrefix(name, ".")
	}
	return false
}

// look reads a file if it is dirty or changed, and reports whether there is one.
func (p *pass) look(entry fs.DirEntry, dirty bool) bool {
	name := entry.Name()
	path := filepath.Join(p.dir, name)
	link := entry.Type()&fs.ModeSymlink != 0
	stat, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !link, err == nil && stat.IsDir():
		return false
	case err == nil && !dirty && p.looksSame(name, stat):
		return true
	}
	m := p.files[name]
	if m == nil {
		m = &manifest{}
		p.files[name] = m
	}
	if m.target = ""; link {
		m.target = targetOf(path)
	}
	var content []byte
	if err == nil {
		content, err = readRegular(path, stat)
	}
	if err != nil {
		m.fail(err)
		p.doubtful[name] = true
		return true
	}
	m.stat = stat
	if sum := sha256.Sum256(content); sum != m.sum {
		m.sum = sum
		p.take(name, parse(name, content))
	}
	return true
}

func (f *folder) looksSame(name string, stat fs.FileInfo) bool {
	m := f.files[name]
	return m != nil && m.stat != nil && os.SameFile(m.stat, stat) &&
		m.stat.Size() == stat.Size() && m.stat.ModTime().Equal(stat.ModTime())
}

// largest is the maximum size of a file.
const largest = 256 << 20

func readRegular(path string, stat fs.FileInfo) ([]byte, error) {
	switch {
	case !stat.Mode().IsRegular():
		return nil, fmt.Errorf("is no regular file but %v", stat.Mode().Type())
	case stat.Size() > largest:
		return nil, fmt.Errorf("has %d bytes, more than %d", stat.Size(), largest)
	}
	return os.ReadFile(path)
}

// targetOf returns the final target of a link, or its next one if it leads nowhere.
func targetOf(path string) string {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		return target
	}
	target, err := os.Readlink(path)
	if err == nil && !filepath.IsAbs(target) {
		target = filepath.Join(filepath.Dir(path), target)
	}
	return filepath.Clean(target)
}

// fail keeps the objects. The file is read again, even if it is as it was before.
func (m *manifest) fail(err error) {
	m.stat, m.sum, m.broken = nil, [sha256.Size]byte{}, true
	m.problems = []Problem{{Text: fmt.Sprintf("cannot be read: %v", err)}}
}

// Stdin is the path that makes Read use its reader.
const Stdin = "-"

// Read reads manifests once: those of a directory, as a Source does, or a file of any name.
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

// formOf returns a name with the extension of JSON if content is valid JSON, else the name.
func formOf(name string, content []byte) string {
	if begin := bytes.TrimLeft(content, " \t\r\n"); len(begin) == 0 || begin[0] != '{' {
		return name
	}
	if _, broken := jsonDocuments(content); broken != nil {
		return name
	}
	return "content.json"
}

// change is the result of one reading.
type change struct {
	cluster.Changes
	reports []Report
}

// pass is one reading of files into a folder.
type pass struct {
	*folder
	change
	fresh    map[string]bool   // files with new content
	doubtful map[string]bool   // files whose problems may have changed
	affected map[identity]bool // objects that were or are in fresh files
}

func (f *folder) begin() *pass {
	return &pass{folder: f, fresh: map[string]bool{}, doubtful: map[string]bool{}, affected: map[identity]bool{}}
}

// take takes in the contents of a file. If they are broken, its last valid objects stay.
func (p *pass) take(name string, c contents) {
	m := p.files[name]
	p.fresh[name] = true
	m.broken, m.ignored, m.problems = len(c.errors) > 0, c.ignored, append(c.errors, c.notes...)
	if !m.broken {
		objects := keep(c.objects)
		p.claims.replace(name, m.objects, objects, p.affected)
		m.objects = objects
	}
}

// end updates the index and returns what changed.
func (p *pass) end() change {
	for id := range p.affected {
		if all := p.claims[id]; len(all) > 0 {
			p.set(all[0].kept)
		} else {
			p.unset(id)
		}
		for _, claim := range p.claims[id] {
			p.doubtful[claim.file] = true
		}
	}
	maps.Copy(p.doubtful, p.fresh)
	for _, name := range slices.Sorted(maps.Keys(p.doubtful)) {
		p.report(name)
	}
	return p.change
}

func (p *pass) set(o kept) {
	switch {
	case !o.service.IsZero():
		p.Add(p.index.SetService(o.service))
	case !o.slice.IsZero():
		p.Add(p.index.SetSlice(o.slice))
	default:
		p.AddPlace(p.index.SetNode(o.node))
	}
}

func (p *pass) unset(id identity) {
	switch id.kind {
	case "Service":
		p.Add(p.index.DeleteService(id.name))
	case "EndpointSlice":
		p.Add(p.index.DeleteSlice(id.name))
	default:
		p.AddPlace(p.index.DeleteNode(id.name.Name))
	}
}

// report adds a report of a file if its content is new, or its problems are: they also depend on other files.
func (p *pass) report(name string) {
	m := p.files[name]
	problems := capped(name, slices.Concat(m.problems, p.claims.lost(name, m.objects)))
	var texts []string
	for _, err := range problems {
		texts = append(texts, err.Error())
	}
	if !p.fresh[name] && slices.Equal(texts, m.reported) {
		return
	}
	p.reports = append(p.reports, Report{
		File: name, Problems: problems, Broken: m.broken, Good: len(m.reported) > 0 && len(texts) == 0,
		Objects: len(m.objects), Ignored: m.ignored,
	})
	m.reported = texts
}
