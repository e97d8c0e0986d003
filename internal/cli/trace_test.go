// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/trace"
)

const traceManifests = `apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  type: NodePort
  clusterIP: 10.96.7.7
  clusterIPs: [10.96.7.7]
  ipFamilies: [IPv4]
  ports: [{name: http, port: 80, targetPort: 8080, nodePort: 30080, protocol: TCP}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080, protocol: TCP}]
endpoints: [{addresses: [10.244.1.5], nodeName: node-1, conditions: {ready: true}}]
---
apiVersion: v1
kind: Node
metadata: {name: node-1}
status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}
`

// traceWorld is a world with the base and the rows of the tests in the kernel.
func traceWorld() *world {
	w := newWorld()
	s := plan.Base(config.Default()).State()
	more := rows()
	s.Entries, s.VirtualServers, s.RealServers, s.Addresses = more.Entries, more.VirtualServers, more.RealServers, more.Addresses
	w.env.ReadNode = func(context.Context) (state.State, []netip.Addr, error) {
		return s, []netip.Addr{netip.MustParseAddr("172.16.0.5")}, nil
	}
	return w
}

func TestTraceSaysWhatBecomesOfAPacketInTheKernel(t *testing.T) {
	for line, want := range map[string]string{
		"trace node 10.96.0.1:443": "10.96.0.1 -> 10.96.0.1:443/TCP, from this node\n" +
			"answered by the one endpoint of default/kubernetes:https, which sees an address of this node as the client's\n" +
			"  172.16.0.2:6443  weight 1\nbecause\n",
		"trace 10.244.1.7 10.96.0.10:53/udp": "10.244.1.7 -> 10.96.0.10:53/UDP\n" +
			"answered by the one endpoint of kube-system/kube-dns:dns, which sees the client's own address, 10.244.1.7\n",
		"trace 10.244.1.7@cni0 10.96.0.10:54/udp": "10.244.1.7 -> 10.96.0.10:54/UDP\n" +
			"for the node itself, and refused unless something listens there\n",
		"trace 172.16.0.5 172.16.0.5:30443":     "172.16.0.5 -> 172.16.0.5:30443/TCP, from this node\nanswered by ",
		"trace 10.96.0.1@node 172.16.0.5:30443": "10.96.0.1 -> 172.16.0.5:30443/TCP, from this node\nanswered by ",
		"trace 172.16.0.5@eth0 10.96.0.1:443":   "172.16.0.5 -> 10.96.0.1:443/TCP\ndropped by routing",
		"trace 10.244.1.7:999 10.96.0.1:443":    "10.244.1.7:999 -> 10.96.0.1:443/TCP\nanswered by ",
		"trace [fd00::7]:9 [fd00::10]:53/UDP":   "[fd00::7]:9 -> [fd00::10]:53/UDP\nanswered by ",
		"trace fd00::7 [fd00::10]/icmp":         "fd00::7 -> fd00::10 ping\nfor the node itself, which answers\n",
		"trace node 10.96.0.1/ping":             "10.96.0.1 -> 10.96.0.1 ping, from this node\n",
	} {
		status, stdout, stderr := traceWorld().run(t, line)
		if status != ExitOK || stderr != "" || !strings.HasPrefix(stdout, want) {
			t.Errorf("%s: status %d, stderr %q, stdout\n%s", line, status, stderr, stdout)
		}
	}
}

func TestTraceTakesStatesAndManifests(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	manifests := write("shop.yaml", traceManifests)
	w := newWorld()
	if status, _, stderr := w.run(t, "plan -f "+manifests); status != ExitOK {
		t.Fatal(stderr)
	}
	rows := write("rows", w.out.String())
	const want = "192.0.2.9 -> 192.0.2.1:30080/TCP\n" +
		"answered by the one endpoint of shop/web:http, which sees an address of this node as the client's\n  10.244.1.5:8080  weight 1\n"
	for _, flags := range []string{
		"-f " + manifests, "-f " + manifests + " --node node-1", "-f " + dir + "/shop.yaml -f " + manifests,
		"-f " + rows + " --node-addresses 192.0.2.1", "-f -", "--node-addresses 192.0.2.1 -f - ",
	} {
		w := newWorld()
		w.env.Stdin = strings.NewReader(traceManifests)
		if strings.HasSuffix(flags, "- ") {
			text, err := os.ReadFile(rows)
			if err != nil {
				t.Fatal(err)
			}
			w.env.Stdin = bytes.NewReader(text)
		}
		status, stdout, stderr := w.run(t, "trace 192.0.2.9 192.0.2.1:30080 "+flags)
		if status != ExitOK || stderr != "" || !strings.HasPrefix(stdout, want) {
			t.Errorf("%s: status %d, stderr %q, stdout\n%s", flags, status, stderr, stdout)
		}
	}
}

func TestTraceWritesJSONAndYAML(t *testing.T) {
	w := traceWorld()
	_, stdout, _ := w.run(t, "trace 10.244.1.7 10.96.0.1:443 -o json")
	var r trace.Report
	if err := json.Unmarshal([]byte(stdout), &r); err != nil {
		t.Fatal(err)
	}
	if r.APIVersion != trace.ReportVersion || r.Kind != trace.ReportKind || r.Fate != "served" || r.Service != "default/kubernetes:https" ||
		r.VirtualServer != "TCP 10.96.0.1:443" || r.Resting != 1 || len(r.Endpoints) != 1 || r.Endpoints[0].Address != "172.16.0.2" ||
		len(r.Steps) == 0 || r.Steps[0].At == "" || r.Steps[0].Rule == "" || !strings.Contains(stdout, `"doubts": []`) || strings.Contains(stdout, `\u003e`) {
		t.Errorf("%s", stdout)
	}
	_, stdout, _ = w.run(t, "trace 10.244.1.7 10.96.0.1:443 -o yaml")
	if !strings.Contains(stdout, "\nfate: served\n") || !strings.Contains(stdout, "\nkind: PacketTrace\n") {
		t.Errorf("%s", stdout)
	}
}

func TestTraceRefusesWhatMakesNoSenseInOneSentence(t *testing.T) {
	for line, want := range map[string]string{
		"trace":                           "trace takes two arguments, SRC and DST:PORT, but has 0",
		"trace node":                      "trace takes two arguments, SRC and DST:PORT, but has 1",
		"trace node 10.96.0.1":            "destination 10.96.0.1 has no port",
		"trace node example.org:80":       `destination "example.org:80" is not ADDRESS:PORT, with an IP address, nor ADDRESS/icmp`,
		"trace node 10.96.0.1:80/http":    `destination "10.96.0.1:80/http": protocol "http" is none of tcp, udp, sctp, icmp`,
		"trace node 10.96.0.1:80/47":      `destination "10.96.0.1:80/47": protocol "47" is none of tcp, udp, sctp, icmp`,
		"trace node 10.96.0.1:80/icmp":    "a ping has no port, but 80 was given",
		"trace host 10.96.0.1:80":         `source "host" is neither node nor an IP address, perhaps with a port or @INTERFACE`,
		"trace 10.0.0.1@ 10.96.0.1:80":    `source "10.0.0.1@": "" is not the name of an interface`,
		"trace fd00::1 10.96.0.1:80":      "client fd00::1 and destination 10.96.0.1 are not of one IP family",
		"trace fe80::1%eth0 [fd00::1]:80": `source "fe80::1%eth0" is neither node nor an IP address`,
		"trace node 10.96.0.1:80 -o wide": `output "wide" is none of text, json, yaml`,
	} {
		status, stdout, stderr := traceWorld().run(t, line)
		if status != ExitUsage || stdout != "" || !strings.Contains(stderr, want) {
			t.Errorf("%s: status %d, stdout %q, stderr %q, want %q", line, status, stdout, stderr, want)
		}
	}
}

func TestTraceSaysWhatItCannotRead(t *testing.T) {
	w := traceWorld()
	status, stdout, stderr := w.run(t, "trace node 10.96.0.1:80 -f "+filepath.Join(t.TempDir(), "missing"))
	if status != ExitFailed || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "no such file") {
		t.Errorf("status %d, stdout %q, stderr %q", status, stdout, stderr)
	}
	w.env.Stdin = strings.NewReader("virtual servers\n  nonsense\n")
	status, stdout, stderr = w.run(t, "trace node 10.96.0.1:80 -f -")
	if status != ExitFailed || stdout != "" || !strings.HasPrefix(stderr, "kube-ipvs: reading the state in -: line 2: ") {
		t.Errorf("status %d, stdout %q, stderr %q", status, stdout, stderr)
	}
	w.env.ReadNode = func(context.Context) (state.State, []netip.Addr, error) { return state.State{}, nil, syscall.EPERM }
	status, stdout, stderr = w.run(t, "trace node 10.96.0.1:80")
	if want := "kube-ipvs: reading IPVS needs root, or CAP_NET_ADMIN in the initial user namespace\n"; status != ExitFailed || stdout != "" || stderr != want {
		t.Errorf("status %d, stdout %q, stderr %q", status, stdout, stderr)
	}
	part := rows()
	part.Entries = nil
	w.env.ReadNode = func(context.Context) (state.State, []netip.Addr, error) {
		return part, nil, errors.New("listing set entries: busy")
	}
	status, stdout, stderr = w.run(t, "trace node 10.96.0.1:443")
	if status != ExitOK || !strings.Contains(stdout, "the set entries were not read") || stderr != "Not everything could be read: listing set entries: busy\n" {
		t.Errorf("status %d, stdout %q, stderr %q", status, stdout, stderr)
	}
}

func TestTraceSaysWhichRulesOfOthersItDoesNotConsider(t *testing.T) {
	for which, rules := range map[string]state.Ruleset{"The": {}, "Some": {Bases: map[state.ChainKey]state.Base{}}} {
		w := traceWorld()
		w.env.ReadRules = func(context.Context) (state.Ruleset, error) { return rules, errors.New("no tools") }
		status, _, stderr := w.run(t, "trace node 10.96.0.1:443")
		if want := which + " rules of other programs could not be read and are not considered: no tools\n"; status != ExitOK || stderr != want {
			t.Errorf("status %d, stderr %q, want %q", status, stderr, want)
		}
	}
}

func FuzzParsePacket(f *testing.F) {
	for _, s := range []string{"node", "10.0.0.1@eth0", "10.0.0.1@node", "[fd00::1]:80/udp", "10.96.0.1/icmp", "::ffff:10.0.0.1:80", "[::1"} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, from, to string) {
		p, w, err := parsePacket(from, to)
		if err != nil {
			return
		}
		if p.Check() != nil || w.Node && w.Interface != "" || !w.Node && !p.Source.Addr().IsValid() {
			t.Errorf("%q %q: %+v %+v", from, to, p, w)
		}
	})
}
