// SPDX-License-Identifier: Apache-2.0

package file

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
)

const demo = "../../../manifests/demo"

// line is a Service in one line: addresses, ports, and the endpoints.
func line(x *cluster.Index, i int) string {
	service, all := x.Objects(x.Services()[i]).Unpack()
	text := fmt.Sprint(service.Name, " ", service.Spec.ClusterIPs, " ", service.Spec.SessionAffinity)
	for _, port := range service.Spec.Ports {
		text += fmt.Sprintf(" %s %d:%d", port.Protocol, port.Port, port.NodePort)
	}
	for _, slice := range all {
		for _, e := range slice.Endpoints {
			text += fmt.Sprintf(" %s/%s:%d", *e.NodeName, e.Addresses[0], *slice.Ports[0].Port)
		}
	}
	return text
}

func TestDemoManifestsHaveNoProblems(t *testing.T) {
	x, reports := Load(demo)
	files := map[string]int{}
	for _, r := range reports {
		files[r.File] = r.Objects
		if len(r.Problems) > 0 || len(r.Ignored) > 0 {
			t.Errorf("%s: problems %v, ignored %v", r.File, r.Problems, r.Ignored)
		}
	}
	if d := cmp.Diff(map[string]int{"nodes.yaml": 2, "shop-api.yaml": 3, "shop-dns.yaml": 3, "shop-web.yaml": 3}, files); d != "" {
		t.Errorf("objects by file (-want +got):\n%s", d)
	}
	for i, want := range []string{
		"api [10.96.0.90 fd00:10:96::90] ClientIP TCP 80:0" +
			" node-1/fd00:10:244:1::11:8080 node-2/fd00:10:244:2::10:8080" +
			" node-1/10.244.1.11:8080 node-2/10.244.2.10:8080",
		"dns [10.96.0.53 fd00:10:96::53] None UDP 53:30053" +
			" node-1/10.244.1.10:5353 node-2/10.244.2.10:5353" +
			" node-1/fd00:10:244:1::10:5353 node-2/fd00:10:244:2::10:5353",
		"web [10.96.0.80 fd00:10:96::80] None TCP 80:30080" +
			" node-1/10.244.1.10:8080 node-1/10.244.1.11:8080 node-2/10.244.2.10:8080" +
			" node-1/fd00:10:244:1::10:8080 node-1/fd00:10:244:1::11:8080 node-2/fd00:10:244:2::10:8080",
	} {
		if got := line(x, i); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	for _, name := range []string{"node-1", "node-2"} {
		if p := x.Place(name); p.Node == nil || len(p.Others) == 0 || len(p.Node.Spec.PodCIDRs) != 2 || len(p.Node.Status.Addresses) != 3 {
			t.Errorf("%s is %v", name, p.Node)
		}
	}
}

func TestDemoReplacementDiffersOnlyInOneEndpoint(t *testing.T) {
	x, _ := Load(demo)
	y, reports := Load(demo + "/changed")
	if len(reports) != 1 || len(reports[0].Problems) > 0 || len(y.Services()) != 1 {
		t.Fatalf("reports are %+v", reports)
	}
	want := strings.NewReplacer("10.244.1.11:", "10.244.1.13:", "fd00:10:244:1::11:", "fd00:10:244:1::13:").
		Replace(line(x, 2))
	if got := line(y, 0); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestDemoManifestsReadTheSameAsJSON(t *testing.T) {
	for _, name := range []string{"nodes.yaml", "shop-api.yaml", "shop-dns.yaml", "shop-web.yaml"} {
		content, err := os.ReadFile(demo + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		first := parse(name, content)
		again := parse("list.json", printed(t, first))
		if d := cmp.Diff(values(first), values(again)); d != "" || len(again.errors)+len(again.notes) > 0 {
			t.Errorf("%s (-yaml +json):\n%s%v%v", name, d, again.errors, again.notes)
		}
	}
}

func TestDemoEndpointCanBeReplacedWhileRunning(t *testing.T) {
	dir := t.TempDir()
	must(t, os.CopyFS(dir, os.DirFS(demo)))
	w := started(t, dir)
	w.until(t, "complete", func() bool { return len(w.services) == 3 && w.node == "zone-a" })
	calls, reports := w.take()
	wantCalls(t, "calls", calls, "nodes", "shop/api", "shop/dns", "shop/web", "synced")
	wantCalls(t, "reports", reports, "nodes.yaml", "shop-api.yaml", "shop-dns.yaml", "shop-web.yaml")
	must(t, os.Rename(dir+"/changed/shop-web.yaml", dir+"/shop-web.yaml"))
	w.until(t, "reported", func() bool { return len(w.calls) > 0 })
	calls, reports = w.take()
	wantCalls(t, "calls", calls, "shop/web")
	wantCalls(t, "reports", reports, "shop-web.yaml")
}
