// SPDX-License-Identifier: Apache-2.0

package proxyconfig

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"k8s.io/kube-proxy/config/v1alpha1"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
)

// ReadConfig reads the file of kube-proxy's --config: its document, and ours if the file has it. (kube-proxy reads only
// the first document, so one file serves both.) As with kube-proxy, unknown and repeated fields are only warnings.
func (p *Pair) ReadConfig(text []byte) (warnings []string, err error) {
	proxies := 0
	err = eachDocument(text, func(d document) error {
		if d.is(OwnKind, OwnVersion) {
			return p.readOwn(d)
		}
		if !d.is(ProxyKind, ProxyVersion) {
			return d.unexpected(ProxyKind, ProxyVersion)
		}
		proxies++
		warnings, err = p.readProxy(d)
		return err
	})
	if err == nil && proxies != 1 {
		err = fmt.Errorf("it has %d documents of kind %s, want one", proxies, ProxyKind)
	}
	return warnings, err
}

// ReadSettings reads our own document. An unknown field is an error: it may be a misspelt setting.
func (p *Pair) ReadSettings(text []byte) error {
	documents := 0
	err := eachDocument(text, func(d document) error {
		if !d.is(OwnKind, OwnVersion) {
			return d.unexpected(OwnKind, OwnVersion)
		}
		documents++
		return p.readOwn(d)
	})
	if err == nil && documents != 1 {
		err = fmt.Errorf("it has %d documents of kind %s, want one", documents, OwnKind)
	}
	return err
}

func (p *Pair) readProxy(d document) (warnings []string, err error) {
	p.Proxy = v1alpha1.KubeProxyConfiguration{}
	odd, err := d.into(&p.Proxy)
	for _, c := range d.twice {
		warnings = append(warnings, fmt.Sprintf("%v: the last one counts", c))
	}
	for _, c := range odd {
		warnings = append(warnings, fmt.Sprintf("%v: it has no effect", c))
	}
	if p.Proxy.Mode == "" {
		// kubeadm's document has it so, and must work as it is.
		warnings = append(warnings, "mode: empty, which kube-proxy takes for iptables: kube-ipvs is ipvs always")
		p.Proxy.Mode = modeIPVS
	}
	p.Complete()
	return warnings, err
}

func (p *Pair) readOwn(d document) error {
	odd, err := d.into(&p.Own)
	if err != nil {
		return err
	}
	return append(d.twice, odd...).Err()
}

// document is one document of a file, decoded as a mapping.
type document struct {
	json    []byte
	mapping map[string]any
	twice   config.Complaints // keys that are there twice
}

func (d document) is(kind, version string) bool {
	return d.mapping["kind"] == kind && d.mapping["apiVersion"] == version
}

func (d document) unexpected(kind, version string) error {
	return fmt.Errorf("kind %v of %v is not %s of %s", d.mapping["kind"], d.mapping["apiVersion"], kind, version)
}

// into decodes d over to. odd are unknown fields. As with kube-proxy the case of a field's name matters.
func (d document) into(to any) (odd config.Complaints, err error) {
	strict, err := kjson.UnmarshalStrict(d.json, to, kjson.DisallowUnknownFields)
	if err != nil {
		if named := misfits(d.mapping, to); len(named) > 0 {
			return nil, named
		}
		return nil, err
	}
	for _, e := range strict {
		if f, ok := e.(kjson.FieldError); ok {
			odd.Add(f.FieldPath(), "unknown field")
		}
	}
	return odd, nil
}

// eachDocument reads the documents of a file one by one, up to an error.
func eachDocument(text []byte, take func(document) error) error {
	for _, part := range split(string(text)) {
		d, err := parse(part)
		if err != nil {
			return err
		}
		if d.mapping == nil {
			continue // nothing but comments
		}
		if err := take(d); err != nil {
			return err
		}
	}
	return nil
}

// split cuts a file at its lines of three dashes. Each part begins with as many empty lines as there were lines before
// it, so that the parser's line numbers are those of the file.
func split(text string) []string {
	var parts []string
	var part strings.Builder
	before := 0
	for line := range strings.Lines(text) {
		before++
		if strings.TrimRight(line, " \t\r\n") == "---" {
			parts = append(parts, part.String())
			part.Reset()
			part.WriteString(strings.Repeat("\n", before))
			continue
		}
		part.WriteString(line)
	}
	return append(parts, part.String())
}

func parse(text string) (document, error) {
	var d document
	var err error
	if d.json, err = yaml.YAMLToJSONStrict([]byte(text)); err != nil {
		strictly := err
		if d.json, err = yaml.YAMLToJSON([]byte(text)); err != nil {
			return d, err
		}
		d.twice = doubles(strictly)
	}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(d.json, &d.mapping); err != nil {
		return d, fmt.Errorf("it is no mapping of fields: %w", err)
	}
	return d, nil
}

// doubles returns repeated keys from the parser's error: a headline, and a line for each.
func doubles(err error) config.Complaints {
	var twice config.Complaints
	_, lines, _ := strings.Cut(err.Error(), "\n")
	for line := range strings.Lines(lines) {
		where, what, _ := strings.Cut(strings.TrimSpace(line), ": ")
		twice.Add(where, "%s", what)
	}
	return twice
}

// Text returns the pair as a file for ReadConfig, with kube-proxy's document first.
func (p Pair) Text() ([]byte, error) {
	proxy, err := yaml.Marshal(p.Proxy)
	if err != nil {
		return nil, fmt.Errorf("writing %s: %w", ProxyKind, err)
	}
	own, err := yaml.Marshal(p.Own)
	if err != nil {
		return nil, fmt.Errorf("writing %s: %w", OwnKind, err)
	}
	return append(append(proxy, "---\n"...), own...), nil
}

// Configz returns the pair for /configz: kube-proxy's document under the name of its group, and ours beside it.
func Configz(p Pair) ([]byte, error) {
	text, err := json.Marshal(map[string]any{"kubeproxy.config.k8s.io": p.Proxy, "kube-ipvs.io": p.Own})
	if err != nil {
		return nil, fmt.Errorf("writing configz: %w", err)
	}
	return text, nil
}

// misfits returns the fields of a document that do not fit the type of like. The decoder stops at the first, and does
// not name fields of types with their own decoder, such as durations. So each value is tried alone, in a document
// without others.
func misfits(document map[string]any, like any) config.Complaints {
	t := trial{of: reflect.TypeOf(like).Elem()}
	t.mapping("", document, func(v any) any { return v })
	return t.found
}

type trial struct {
	of    reflect.Type
	found config.Complaints
}

// within returns the smallest document with a value at its place.
type within func(value any) any

func (t *trial) value(path string, value any, place within) {
	switch v := value.(type) {
	case map[string]any:
		if t.fits(path, map[string]any{}, place) {
			t.mapping(path+".", v, place)
		}
	case []any:
		if !t.fits(path, []any{}, place) {
			return
		}
		for i, element := range v {
			t.value(fmt.Sprintf("%s[%d]", path, i), element, func(e any) any { return place([]any{e}) })
		}
	default:
		t.fits(path, v, place)
	}
}

func (t *trial) mapping(prefix string, m map[string]any, place within) {
	for _, key := range slices.Sorted(maps.Keys(m)) {
		t.value(prefix+key, m[key], func(v any) any { return place(map[string]any{key: v}) })
	}
}

func (t *trial) fits(path string, value any, place within) bool {
	text, err := json.Marshal(place(value))
	if err == nil {
		err = kjson.UnmarshalCaseSensitivePreserveInts(text, reflect.New(t.of).Interface())
	}
	if err != nil {
		t.found.Add(path, "%s", t.misfit(text, err))
	}
	return err == nil
}

// misfit explains err. The error type of the deciding decoder is internal; the standard decoder's is not.
func (t *trial) misfit(text []byte, err error) string {
	var wrong *json.UnmarshalTypeError
	if errors.As(json.Unmarshal(text, reflect.New(t.of).Interface()), &wrong) {
		return fmt.Sprintf("a %s, want a %v", wrong.Value, wrong.Type.Kind())
	}
	return err.Error()
}
