// SPDX-License-Identifier: Apache-2.0

package proxyconfig

import (
	"fmt"
	"strings"

	"k8s.io/kube-proxy/config/v1alpha1"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
)

// ReadConfig takes what kube-proxy's --config names: its document, and ours if the text has that too.
// (kube-proxy reads the first document only, so that one file serves both.) As with kube-proxy, fields that
// are unknown or there twice are worth a warning and no more.
func (p *Pair) ReadConfig(text []byte) (warnings []string, err error) {
	proxies := 0
	err = eachDocument(text, func(d document) error {
		if d.is(OwnKind, OwnVersion) {
			return p.readOwn(d)
		}
		if !d.is(ProxyKind, ProxyVersion) {
			return d.stranger(ProxyKind, ProxyVersion)
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

// ReadSettings takes our own document. What it does not know is an error: a setting that is misspelt would be
// without effect, and nobody would hear of it.
func (p *Pair) ReadSettings(text []byte) error {
	documents := 0
	err := eachDocument(text, func(d document) error {
		if !d.is(OwnKind, OwnVersion) {
			return d.stranger(OwnKind, OwnVersion)
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
		warnings = append(warnings, fmt.Sprintf("%v: it counts for nothing", c))
	}
	if p.Proxy.Mode == "" {
		// kubeadm's document has it so, and is to be taken as it is.
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

// document is one document of a file, of which the mapping is known.
type document struct {
	json    []byte
	mapping map[string]any
	twice   config.Complaints // keys that are there twice
}

func (d document) is(kind, version string) bool {
	return d.mapping["kind"] == kind && d.mapping["apiVersion"] == version
}

func (d document) stranger(kind, version string) error {
	return fmt.Errorf("kind %v of %v is not %s of %s", d.mapping["kind"], d.mapping["apiVersion"], kind, version)
}

// into decodes d over what is there. Odd are fields that nobody knows. As with kube-proxy the case of a
// field's name matters.
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

// split cuts a file at its lines of three dashes. Each part has as many empty lines in front as there were
// lines before it, so that what the parser says of lines is true of the file.
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

// doubles are the keys that are there twice, as the parser tells of them: a headline, and a line for each.
func doubles(err error) config.Complaints {
	var twice config.Complaints
	_, lines, _ := strings.Cut(err.Error(), "\n")
	for line := range strings.Lines(lines) {
		where, what, _ := strings.Cut(strings.TrimSpace(line), ": ")
		twice.Add(where, "%s", what)
	}
	return twice
}
