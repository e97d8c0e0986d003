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

// jsonDocuments reads JSON values into the trees that YAML is read into. The YAML package reads most JSON,
// but no surrogate pairs, and no values without a separator.
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

// inside reads the content of a list or map, and its end. Names and values of a map alternate, as in a YAML
// tree.
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
