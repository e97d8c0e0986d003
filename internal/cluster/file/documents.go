// SPDX-License-Identifier: Apache-2.0

package file

import (
	"bytes"
	"errors"
	"io"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
)

// documents splits content into its documents, each a tree with line numbers. A file named .json has one or
// more JSON values, any other is YAML.
func documents(name string, content []byte) ([]*yaml.Node, *Problem) {
	if filepath.Ext(name) == ".json" {
		return jsonDocuments(content)
	}
	documents, err := yamlDocuments(content)
	if err != nil {
		return nil, &Problem{Line: syntaxLine(content, err), Text: syntaxText(err)}
	}
	return documents, nil
}

func yamlDocuments(content []byte) ([]*yaml.Node, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	var all []*yaml.Node
	for {
		document := new(yaml.Node)
		err := decoder.Decode(document)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		all = append(all, document.Content...)
	}
}

// syntaxText is the message without the YAML package's line: see syntaxLine.
func syntaxText(err error) string {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if strings.HasPrefix(text, "line ") {
		_, text, _ = strings.Cut(text, ": ")
	}
	return "no valid YAML: " + text
}

// syntaxLine finds the line of a syntax error. The YAML package names the line where the surrounding list or
// map starts, which in a List of all Services is the second line of the file. But it reads no further than it
// must, and returns the same error for every beginning of the file that has the bad line.
func syntaxLine(content []byte, err error) int {
	const (
		lookahead  = 5       // lines that may be read beyond the bad one
		affordable = 4 << 20 // bytes that are worth reading several times
	)
	r := &lineReader{rest: content}
	decoder := yaml.NewDecoder(r)
	for e := error(nil); e == nil; {
		e = decoder.Decode(new(yaml.Node))
	}
	if r.read > affordable {
		return r.lines
	}
	last, end := r.lines, r.read
	for line := last; line > max(last-lookahead, 0); line-- {
		end = bytes.LastIndexByte(bytes.TrimSuffix(content[:end], []byte("\n")), '\n') + 1
		if _, e := yamlDocuments(content[:end]); e == nil || e.Error() != err.Error() {
			return line
		}
	}
	return last
}

// lineReader returns one line at a time and counts.
type lineReader struct {
	rest        []byte
	lines, read int
	within      bool // inside a line that is too long for one Read
}

func (r *lineReader) Read(buffer []byte) (int, error) {
	if len(r.rest) == 0 {
		return 0, io.EOF
	}
	line := r.rest
	if end := bytes.IndexByte(line, '\n'); end >= 0 {
		line = line[:end+1]
	}
	n := copy(buffer, line)
	if !r.within {
		r.lines++
	}
	r.within = n < len(line)
	r.rest = r.rest[n:]
	r.read += n
	return n, nil
}
