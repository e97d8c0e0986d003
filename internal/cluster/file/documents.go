// SPDX-License-Identifier: Apache-2.0

package file

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

// documents splits content into documents: of JSON if the file is named .json, otherwise of YAML.
func documents(name string, content []byte) ([]*yaml.Node, *Problem) {
	if strings.HasSuffix(name, ".json") {
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

// syntaxLine finds the line of a syntax error. The YAML package names the line where the surrounding list or map
// starts, which in a List of all Services is the second line of the file. But it reads no further than it must, and
// returns the same error for every beginning of the file that has the bad line.
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

// jsonDocuments reads JSON into trees like YAML. The YAML package reads JSON, but not surrogate pairs or values without
// separator.
func jsonDocuments(content []byte) ([]*yaml.Node, *Problem) {
	r := &jsonReader{content: content, decoder: json.NewDecoder(bytes.NewReader(content)), line: 1}
	r.decoder.UseNumber()
	var all []*yaml.Node
	for {
		document, err := r.value(0)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, &Problem{Line: r.next(), Text: "no valid JSON: " + err.Error()}
		}
		all = append(all, document)
	}
}

type jsonReader struct {
	content []byte
	decoder *json.Decoder
	offset  int // lines are counted up to here
	line    int
}

// maxDepth is more than any used object needs.
const maxDepth = 100

var (
	errDepth = errors.New("nested too deeply")
	errEnd   = errors.New("unexpected end")
)

// value reads the next value. At depth 0 it returns io.EOF if there is none.
func (r *jsonReader) value(depth int) (*yaml.Node, error) {
	if depth > maxDepth {
		return nil, errDepth
	}
	token, err := r.decoder.Token()
	if errors.Is(err, io.ErrUnexpectedEOF) || depth > 0 && errors.Is(err, io.EOF) {
		return nil, errEnd
	}
	if err != nil {
		return nil, err
	}
	n := &yaml.Node{Kind: yaml.ScalarNode, Line: r.lineAt(int(r.decoder.InputOffset()))}
	switch t := token.(type) {
	case json.Delim:
		n.Kind, n.Tag = yaml.SequenceNode, "!!seq"
		if t == '{' {
			n.Kind, n.Tag = yaml.MappingNode, "!!map"
		}
		return n, r.inside(n, depth)
	case string:
		n.Tag, n.Value = "!!str", t
	case json.Number:
		n.Tag, n.Value = "!!int", t.String()
		if strings.ContainsAny(n.Value, ".eE") {
			n.Tag = "!!float"
		}
	case bool:
		n.Tag, n.Value = "!!bool", "false"
		if t {
			n.Value = "true"
		}
	default:
		n.Tag, n.Value = "!!null", "null"
	}
	return n, nil
}

// inside reads the content of a list or map, and its end. Names and values alternate, as in a YAML tree.
func (r *jsonReader) inside(n *yaml.Node, depth int) error {
	for r.decoder.More() {
		child, err := r.value(depth + 1)
		if err != nil {
			return err
		}
		n.Content = append(n.Content, child)
	}
	_, err := r.decoder.Token()
	if errors.Is(err, io.EOF) {
		return errEnd
	}
	return err
}

// lineAt returns the line of offset, which must not decrease from call to call.
func (r *jsonReader) lineAt(offset int) int {
	offset = max(offset, r.offset)
	r.line += bytes.Count(r.content[r.offset:offset], []byte("\n"))
	r.offset = offset
	return r.line
}

// next returns the line of what follows the last token: the place of an error.
func (r *jsonReader) next() int {
	rest := r.content[min(int(r.decoder.InputOffset()), len(r.content)):]
	blank := len(rest) - len(bytes.TrimLeft(rest, " \t\r\n,:"))
	return r.lineAt(min(int(r.decoder.InputOffset())+blank, len(bytes.TrimRight(r.content, "\n"))))
}
