// SPDX-License-Identifier: Apache-2.0

// Package traffic reads, as Prometheus does, what went through Services on a real
// kernel.
package traffic

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

// node has one endpoint, and Metrics with a connection to IPVS of their own.
type node struct {
	t        *testing.T
	endpoint netip.AddrPort
	writes   *ipvs.Conn
	metrics  *metrics.Metrics
}

func newNode(t *testing.T, most int) node {
	t.Helper()
	testkit.Namespace(t)
	n := node{t: t, endpoint: echo(t)}
	for _, conn := range []**ipvs.Conn{&n.writes, new(*ipvs.Conn)} {
		c, err := ipvs.Open()
		if err != nil {
			t.Fatal(err)
		}
		testkit.CloseAtEnd(t, c)
		*conn = c
		n.metrics = metrics.New(metrics.Options{Families: []state.Family{state.IPv4}, Traffic: most, Loads: c})
	}
	return n
}

// echo answers UDP packets at a loopback address, and returns where.
func echo(t *testing.T) netip.AddrPort {
	t.Helper()
	server, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	go func() {
		packet := make([]byte, 2000)
		for {
			size, from, err := server.ReadFromUDPAddrPort(packet)
			if err != nil {
				return
			}
			if _, err := server.WriteToUDPAddrPort(packet[:size], from); err != nil {
				return
			}
		}
	}()
	return server.LocalAddr().(*net.UDPAddr).AddrPort()
}

func key(address string) state.VirtualServerKey {
	return state.VirtualServerKey{Address: netip.MustParseAddrPort(address), Protocol: state.UDP}
}

// serve makes a virtual server of a Service, or of nobody known.
func (n node) serve(address, service string) {
	n.t.Helper()
	k := key(address)
	check(n.t, n.writes.VirtualServers().Apply(context.Background(), diff.Delta[state.VirtualServerKey, state.VirtualServer]{
		Add: []diff.Row[state.VirtualServerKey, state.VirtualServer]{{Key: k, Value: state.VirtualServer{Scheduler: "rr", Prefix: 32}}},
	}))
	check(n.t, n.writes.RealServers().Apply(context.Background(), diff.Delta[state.RealServerKey, state.RealServer]{
		Add: []diff.Row[state.RealServerKey, state.RealServer]{{Key: state.RealServerKey{Server: k, Address: n.endpoint}, Value: state.RealServer{Weight: 1}}},
	}))
	if service != "" {
		owner := reconcile.ServerOwner{Key: k, Owner: desired.Owner{Namespace: "shop", Name: service}, Owned: true}
		n.metrics.Received(reconcile.Change{Owners: []reconcile.ServerOwner{owner}})
	}
}

func (n node) remove(address string) {
	n.t.Helper()
	check(n.t, n.writes.VirtualServers().Apply(context.Background(), diff.Delta[state.VirtualServerKey, state.VirtualServer]{
		Remove: []diff.Row[state.VirtualServerKey, state.VirtualServer]{{Key: key(address)}},
	}))
}

func check[K comparable](t *testing.T, r kernel.Result[K]) {
	t.Helper()
	for _, err := range r.Failed {
		t.Fatal(err)
	}
}

// send sends packets of 100 bytes from a port of its own, and waits for each to
// come back.
func (n node) send(address string, packets int) {
	n.t.Helper()
	client, err := net.Dial("udp4", address)
	if err != nil {
		n.t.Fatal(err)
	}
	defer client.Close()
	if err := client.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		n.t.Fatal(err)
	}
	for range packets {
		if _, err := client.Write(make([]byte, 100)); err != nil {
			n.t.Fatal(err)
		}
		if _, err := client.Read(make([]byte, 200)); err != nil {
			n.t.Fatal(err)
		}
	}
}

// want reads the page until it has these lines: the kernel sums up every two
// seconds.
func (n node) want(when string, lines ...string) {
	n.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		w := httptest.NewRecorder()
		n.metrics.Page().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
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
			n.t.Fatalf("%s: the page lacks\n%s", when, missing)
		}
	}
}

// counted are the lines of a Service with so many connections and packets each
// way.
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
	n := newNode(t, 2)
	n.serve("127.0.0.10:53", "dns")
	n.serve("127.0.0.11:53", "dns")
	n.serve("127.0.0.12:53", "log")
	n.serve("127.0.0.13:53", "web")
	n.serve("127.0.0.14:53", "") // somebody else's
	n.send("127.0.0.10:53", 3)
	n.send("127.0.0.11:53", 2)
	n.send("127.0.0.12:53", 1)
	n.send("127.0.0.13:53", 4)
	n.send("127.0.0.14:53", 5)
	n.want("after packets to all", append(append(append(
		counted("shop", "dns", 2, 5), counted("shop", "log", 1, 1)...), counted("", "other", 1, 4)...),
		`service_connections{namespace="shop",service="dns",state="inactive"} 2`,
		`service_connections{namespace="shop",service="dns",state="active"} 0`,
		`traffic_read_errors_total 0`)...)

	n.remove("127.0.0.10:53")
	n.want("after a virtual server is gone", counted("shop", "dns", 2, 5)...)
	n.serve("127.0.0.10:53", "dns")
	n.send("127.0.0.10:53", 1)
	n.want("after it was made anew, and counts from zero", counted("shop", "dns", 3, 6)...)
}
