// SPDX-License-Identifier: Apache-2.0

package packets

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/desired"
	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/ipvs"
	"github.com/kube-ipvs/kube-ipvs/internal/metrics"
	"github.com/kube-ipvs/kube-ipvs/internal/reconcile"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

// meteredKernel is a kernel with one endpoint, and Metrics with a connection to IPVS of their own.
type meteredKernel struct {
	t        *testing.T
	endpoint netip.AddrPort
	writes   *ipvs.Conn
	metrics  *metrics.Metrics
}

func newMeteredKernel(t *testing.T, most int) meteredKernel {
	t.Helper()
	testkit.Namespace(t)
	k := meteredKernel{t: t, endpoint: testkit.Echo(t)}
	for _, conn := range []**ipvs.Conn{&k.writes, new(*ipvs.Conn)} {
		c, err := ipvs.Open()
		if err != nil {
			t.Fatal(err)
		}
		testkit.CloseAtEnd(t, c)
		*conn = c
		k.metrics = metrics.New(metrics.Options{Families: []state.Family{state.IPv4}, Traffic: most, Loads: c})
	}
	return k
}

func key(address string) state.VirtualServerKey {
	return state.VirtualServerKey{Address: netip.MustParseAddrPort(address), Protocol: state.UDP}
}

// serve makes a virtual server of a Service, or an unowned one.
func (k meteredKernel) serve(address, service string) {
	k.t.Helper()
	server := key(address)
	mustApply(k.t, k.writes.VirtualServers().Apply(context.Background(), diff.Delta[state.VirtualServerKey, state.VirtualServer]{
		Add: []diff.Row[state.VirtualServerKey, state.VirtualServer]{{Key: server, Value: state.VirtualServer{Scheduler: "rr", Prefix: 32}}},
	}))
	mustApply(k.t, k.writes.RealServers().Apply(context.Background(), diff.Delta[state.RealServerKey, state.RealServer]{
		Add: []diff.Row[state.RealServerKey, state.RealServer]{{Key: state.RealServerKey{Server: server, Address: k.endpoint}, Value: state.RealServer{Weight: 1}}},
	}))
	if service != "" {
		owner := reconcile.ServerOwner{Key: server, Owner: desired.Owner{Namespace: "shop", Name: service}, Owned: true}
		k.metrics.Received(reconcile.Change{Owners: []reconcile.ServerOwner{owner}})
	}
}

func (k meteredKernel) remove(address string) {
	k.t.Helper()
	mustApply(k.t, k.writes.VirtualServers().Apply(context.Background(), diff.Delta[state.VirtualServerKey, state.VirtualServer]{
		Remove: []diff.Row[state.VirtualServerKey, state.VirtualServer]{{Key: key(address)}},
	}))
}

func mustApply[K comparable](t *testing.T, r kernel.Result[K]) {
	t.Helper()
	for _, err := range r.Failed {
		t.Fatal(err)
	}
}

// send sends packets of 100 bytes from a port of its own, and waits for each answer.
func (k meteredKernel) send(address string, packets int) {
	k.t.Helper()
	client, err := net.Dial("udp4", address)
	if err != nil {
		k.t.Fatal(err)
	}
	defer client.Close()
	if err := client.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		k.t.Fatal(err)
	}
	for range packets {
		if _, err := client.Write(make([]byte, 100)); err != nil {
			k.t.Fatal(err)
		}
		if _, err := client.Read(make([]byte, 200)); err != nil {
			k.t.Fatal(err)
		}
	}
}

// want reads the page until it has these lines: the kernel sums up every two seconds.
func (k meteredKernel) want(when string, lines ...string) {
	k.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		w := httptest.NewRecorder()
		k.metrics.Page().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		text := w.Body.String()
		missing := ""
		for _, line := range lines {
			if !strings.Contains(text, "\nkubeipvs_"+line+"\n") {
				missing += line + "\n"
			}
		}
		if missing == "" {
			return
		}
		if time.Now().After(deadline) {
			k.t.Fatalf("%s: the page lacks\n%s", when, missing)
		}
	}
}

// counted returns the metrics lines of a Service with so many connections, and packets each way.
func counted(namespace, service string, connections, packets int) []string {
	who := fmt.Sprintf("namespace=%q,service=%q", namespace, service)
	return []string{
		fmt.Sprintf("service_connections_total{%s} %d", who, connections),
		fmt.Sprintf(`service_packets_total{direction="in",%s} %d`, who, packets),
		fmt.Sprintf(`service_packets_total{direction="out",%s} %d`, who, packets),
		fmt.Sprintf(`service_bytes_total{direction="in",%s} %d`, who, 128*packets),
		fmt.Sprintf(`service_bytes_total{direction="out",%s} %d`, who, 128*packets),
	}
}

func TestTheTrafficOfServicesIsWhatTheKernelCounted(t *testing.T) {
	k := newMeteredKernel(t, 2)
	k.serve("127.0.0.10:53", "dns")
	k.serve("127.0.0.11:53", "dns")
	k.serve("127.0.0.12:53", "log")
	k.serve("127.0.0.13:53", "web")
	k.serve("127.0.0.14:53", "") // another program's
	k.send("127.0.0.10:53", 3)
	k.send("127.0.0.11:53", 2)
	k.send("127.0.0.12:53", 1)
	k.send("127.0.0.13:53", 4)
	k.send("127.0.0.14:53", 5)
	k.want("after packets to all", append(append(append(
		counted("shop", "dns", 2, 5), counted("shop", "log", 1, 1)...), counted("", "other", 1, 4)...),
		`service_connections{namespace="shop",service="dns",state="inactive"} 2`,
		`service_connections{namespace="shop",service="dns",state="active"} 0`,
		`traffic_read_errors_total 0`)...)

	k.remove("127.0.0.10:53")
	k.want("after a virtual server is gone", counted("shop", "dns", 2, 5)...)
	k.serve("127.0.0.10:53", "dns")
	k.send("127.0.0.10:53", 1)
	k.want("after it was made anew, and counts from zero", counted("shop", "dns", 3, 6)...)
}
