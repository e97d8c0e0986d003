// SPDX-License-Identifier: Apache-2.0

package file

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// What kubectl's own way of reading makes of the manifests is what we make.
func TestObjectsAreWhatTheUsualWayReads(t *testing.T) {
	content, err := os.ReadFile(demo + "/nodes.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var want corev1.NodeList
	if err := yaml.Unmarshal(content, &want); err != nil {
		t.Fatal(err)
	}
	var got []corev1.Node
	for _, o := range parse("nodes.yaml", content).objects {
		got = append(got, *o.node)
	}
	if d := cmp.Diff(want.Items, got); d != "" {
		t.Errorf("nodes (-want +got):\n%s", d)
	}
}

func FuzzParse(f *testing.F) {
	for _, name := range []string{"nodes.yaml", "shop-web.yaml"} {
		content, err := os.ReadFile(demo + "/" + name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(false, content)
		list := parse(name, content)
		text, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "List", "items": values(list)})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(true, text)
	}
	f.Add(false, []byte(minimal))
	f.Add(false, []byte("metadata: &m {name: web, <<: *m}\nkind: Service\napiVersion: v1\n"))
	f.Add(false, []byte(" !"+strings.Repeat("0", 600)+"\"0\r"))
	f.Add(false, []byte("a: *b\n--- !!binary x\n? [c]\n: - |\n  d\n...\n"))
	f.Fuzz(func(t *testing.T, isJSON bool, content []byte) {
		name := "x.yaml"
		if isJSON {
			name = "x.json"
		}
		first := parse(name, content)
		for _, p := range slices.Concat(first.errors, first.notes) {
			if lines := lineBreaks(content) + 1; p.Line < 1 || p.Line > lines {
				t.Errorf("%v is in line %d of %d", p, p.Line, lines)
			}
		}
		if len(first.errors) > 0 {
			return
		}
		text := printed(t, first)
		again := parse("x.json", text)
		if len(again.errors) > 0 || string(printed(t, again)) != string(text) {
			t.Errorf("read again: %v\n%s\n%s", again.errors, text, printed(t, again))
		}
	})
}

// lineBreaks counts whatever YAML takes for one, at least.
func lineBreaks(content []byte) int {
	n := 0
	for _, kind := range []string{"\n", "\r", "\u0085", "\u2028", "\u2029"} {
		n += strings.Count(string(content), kind)
	}
	return n
}

func BenchmarkParseTenThousandServices(b *testing.B) {
	content, err := os.ReadFile(demo + "/shop-web.yaml")
	if err != nil {
		b.Fatal(err)
	}
	_, items, _ := strings.Cut(string(content), "items:\n")
	items, _, _ = strings.Cut(items, "kind: List\n")
	all := []byte("apiVersion: v1\nkind: List\nitems:\n")
	for i := range 10_000 {
		all = append(all, strings.ReplaceAll(items, "web", fmt.Sprint("web", i))...)
	}
	b.SetBytes(int64(len(all)))
	for b.Loop() {
		if c := parse("all.yaml", all); len(c.objects) != 30_000 || len(c.errors) > 0 {
			b.Fatal(len(c.objects), c.errors)
		}
	}
}
