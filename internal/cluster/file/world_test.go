// SPDX-License-Identifier: Apache-2.0

package file

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
)

// world is what a Source reported, as text.
type world struct {
	mu       sync.Mutex
	services map[string]string // "shop/web" -> "80 web-1=10.244.1.10"
	node     string            // its zone
	others   string            // the zones of other Nodes
	calls    []string          // "shop/web", "nodes", "synced"
	reports  []string          // "a.yaml" and, after it, what is to be said of it
}

func (w *world) Service(key types.NamespacedName, o *cluster.Objects) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, key.String())
	if o == nil {
		delete(w.services, key.String())
		return
	}
	s, all := o.Unpack()
	text := fmt.Sprint(s.Spec.Ports[0].Port)
	for _, slice := range all {
		text += " " + slice.Name + "=" + slice.Endpoints[0].Addresses[0]
	}
	w.services[key.String()] = text
}

func (w *world) Place(p cluster.Place) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, "nodes")
	w.node, w.others = "gone", ""
	for _, other := range p.Others {
		w.others += other.Name + "=" + other.Labels[corev1.LabelTopologyZone]
	}
	if p.Node != nil {
		w.node = p.Node.Labels[corev1.LabelTopologyZone]
	}
}

func (w *world) Listed(cluster.Extent) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, "synced")
}

func (w *world) report(r Report) {
	w.mu.Lock()
	defer w.mu.Unlock()
	text := filepath.Base(r.File)
	for _, word := range []struct {
		is   bool
		text string
	}{{r.Broken, " broken"}, {r.Gone, " gone"}, {r.Good, " good"}} {
		if word.is {
			text += word.text
		}
	}
	for _, problem := range r.Problems {
		text += " " + problem.Error()
	}
	w.reports = append(w.reports, text)
}

// take returns the calls and reports since the last time.
func (w *world) take() (calls, reports []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	calls, reports = w.calls, w.reports
	w.calls, w.reports = nil, nil
	return calls, reports
}

// start runs a Source until the end of the test.
func start(t *testing.T, s Source) *world {
	t.Helper()
	w := &world{services: map[string]string{}}
	s.Report = w.report
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, w) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return w
}

// started runs a Source of dir, which relies on events alone, and waits until it is synced.
func started(t *testing.T, dir string) *world {
	t.Helper()
	w := start(t, Source{Dir: dir, Node: "node-1", Quiet: 20 * time.Millisecond, Rescan: time.Hour})
	w.until(t, "synced", func() bool { return slices.Contains(w.calls, "synced") })
	return w
}

// until waits for what must come true.
func (w *world) until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(time.Millisecond) {
		w.mu.Lock()
		ok, late := is(), time.Now().After(deadline)
		services, node, calls, reports := "", w.node, w.calls, w.reports
		if late {
			services = fmt.Sprint(w.services)
		}
		w.mu.Unlock()
		if ok {
			return
		}
		if late {
			t.Fatalf("not %s: services %.1000s, node %q, calls %q, reports %q", what, services, node, calls, reports)
		}
	}
}

// becomes waits until exactly these Services are there: "shop/web: 80".
func (w *world) becomes(t *testing.T, want ...string) {
	t.Helper()
	w.until(t, strings.Join(want, ", "), func() bool {
		var got []string
		for key, text := range w.services {
			got = append(got, key+": "+text)
		}
		slices.Sort(got)
		return slices.Equal(got, want)
	})
}

func (w *world) reported(t *testing.T, want string) {
	t.Helper()
	w.until(t, "reported "+want, func() bool { return slices.Contains(w.reports, want) })
}

func web(port int) string { return named("web", port) }

func named(name string, port int) string {
	return fmt.Sprintf("---\napiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: shop}\nspec:\n  ports:\n  - port: %d\n", name, port)
}

func slice(name, owner, address string) string {
	return fmt.Sprintf("---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\n"+
		"metadata: {name: %s, namespace: shop, labels: {kubernetes.io/service-name: %s}}\nendpoints: [{addresses: [%s]}]\n", name, owner, address)
}

func node(name, zone string) string {
	return fmt.Sprintf("---\napiVersion: v1\nkind: Node\nmetadata: {name: %s, labels: {topology.kubernetes.io/zone: %s}}\n", name, zone)
}

func write(t *testing.T, path, content string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(content), 0o600))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantCalls(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}
