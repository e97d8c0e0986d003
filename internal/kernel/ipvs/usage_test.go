// SPDX-License-Identifier: Apache-2.0

package ipvs

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

func TestConnectionsAndCountersOfRealTraffic(t *testing.T) {
	c := connect(t)
	k := state.RealServerKey{Server: virtualKey("UDP 127.0.0.10:53"), Address: testkit.Echo(t)}
	idle := state.RealServerKey{Server: virtualKey("UDP 127.0.0.11:53"), Address: k.Address}
	apply(t, c.VirtualServers(), virtualDelta{Add: []virtualRow{{Key: k.Server, Value: plain}, {Key: idle.Server, Value: plain}}}, 0)
	apply(t, c.RealServers(), realDelta{Add: []realRow{{Key: k, Value: state.RealServer{Weight: 1}}, {Key: idle, Value: state.RealServer{Weight: 1}}}}, 0)

	askThrice(t, k.Server.Address)
	connections, err := c.Connections(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[state.RealServerKey]state.Connections{k: {Inactive: 1}, idle: {}}, connections, exact); d != "" {
		t.Error(d)
	}
	want := state.Counters{Connections: 1, PacketsIn: 3, PacketsOut: 3, BytesIn: 384, BytesOut: 384}
	another, err := Open() // which leaves the counters alone
	if err != nil {
		t.Fatal(err)
	}
	defer another.Close()
	for deadline := time.Now().Add(30 * time.Second); ; { // the kernel sums up every two seconds
		u, err := c.Counters(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		loads, err := another.Loads(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if totals(u.VirtualServers[k.Server]) == want && totals(u.RealServers[k].Counters) == want && totals(loads[k.Server].Counters) == want {
			if len(loads) != 2 || loads[k.Server].Connections != (state.Connections{Inactive: 1}) || loads[idle.Server] != (state.Load{}) {
				t.Errorf("loads %+v", loads)
			}
			if u.RealServers[k].Connections.Inactive != 1 || totals(u.RealServers[idle].Counters) != (state.Counters{}) {
				t.Errorf("%+v", u)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v, want %+v", u, want)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// askThrice sends three packets to a server that echoes them.
func askThrice(t *testing.T, server netip.AddrPort) {
	t.Helper()
	client, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(server))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := client.Write(make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		if n, err := client.Read(make([]byte, 200)); err != nil || n != 100 {
			t.Fatalf("%d bytes, %v", n, err)
		}
	}
}

func totals(c state.Counters) state.Counters {
	return state.Counters{Connections: c.Connections, PacketsIn: c.PacketsIn, PacketsOut: c.PacketsOut, BytesIn: c.BytesIn, BytesOut: c.BytesOut}
}

func TestTimeoutsAreReadAndSet(t *testing.T) {
	c := connect(t)
	ctx := context.Background()
	type change = diff.Change[state.SysctlName, string]
	set := func(changes ...change) kernel.Result[state.SysctlName] {
		return c.Timeouts().Apply(ctx, diff.Delta[state.SysctlName, string]{Update: changes})
	}
	r := set(change{Key: state.TCPTimeout, New: "7200"}, change{Key: state.TCPFinTimeout, New: "30"}, change{Key: state.UDPTimeout, New: "60"})
	if len(r.Failed) > 0 || r.Drift != 0 {
		t.Fatalf("%+v", r)
	}
	r = set(change{Key: state.UDPTimeout, New: "90"}, change{Key: state.TCPTimeout, New: "0"}, change{Key: "ipvs/timeout/none", New: "1"})
	if len(r.Failed) != 2 || r.Failed[state.TCPTimeout] == nil || r.Failed["ipvs/timeout/none"] == nil {
		t.Errorf("of three, one of them good: %+v", r)
	}
	got, err := c.Timeouts().List(ctx)
	want := map[state.SysctlName]string{state.TCPTimeout: "7200", state.TCPFinTimeout: "30", state.UDPTimeout: "90"}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := c.Timeouts().List(cancelled); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	testkit.Namespace(t) // the connection belongs to the one that it was opened in
	if got, err := c.Timeouts().List(ctx); err != nil || !maps.Equal(got, want) {
		t.Errorf("from another network namespace: %v, %v; want %v", got, err, want)
	}
}
