// SPDX-License-Identifier: Apache-2.0

// Package chaos breaks things: what kube-ipvs made in the kernel, kube-ipvs itself, and its manifests. It uses the real
// program on a real kernel.
package chaos

import (
	"context"
	"fmt"
	"net/netip"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
	"github.com/kube-ipvs/kube-ipvs/e2e/world"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// target is the port that pods serve at.
const target = 8080

func families() []state.Family { return []state.Family{state.IPv4, state.IPv6} }

// vip returns the n-th cluster IP of a family.
func vip(f state.Family, n int) netip.Addr {
	if f == state.IPv4 {
		return netip.AddrFrom4([4]byte{10, 96, byte(n >> 8), byte(n)})
	}
	a := netip.MustParseAddr("fd00:10:96::").As16()
	a[14], a[15] = byte(n>>8), byte(n)
	return netip.AddrFrom16(a)
}

// dual returns a Service of both families with one TCP port.
func dual(name string, n int, pods ...string) rig.Service {
	return rig.Service{
		Name:      name,
		Addresses: []netip.Addr{vip(state.IPv4, n), vip(state.IPv6, n)},
		Ports:     []rig.Port{{Protocol: state.TCP, Number: 80, Target: target}},
		Endpoints: rig.Pods(pods...),
	}
}

// serve makes pods answer.
func serve(t *testing.T, r *rig.Rig, pods ...string) {
	t.Helper()
	for _, name := range pods {
		if err := r.World.Host(name).Serve(state.TCP, target); err != nil {
			t.Fatal(err)
		}
	}
}

// dial opens connections from outside to port 80 of a Service, one of each family.
func dial(t *testing.T, r *rig.Rig, s rig.Service) map[state.Family]*world.Conn {
	t.Helper()
	conns := map[state.Family]*world.Conn{}
	for _, f := range families() {
		to := netip.AddrPortFrom(s.Address(f), 80)
		// A new IPv6 address gets packets only a little later: the kernel's work queue makes its route.
		rig.Until(t, rig.Patience, func() (err error) {
			conns[f], err = r.World.Host("client").Dial(t.Context(), state.TCP, to)
			return err
		})
		t.Cleanup(func() { _ = conns[f].Close() }) // a test may have closed it
	}
	return conns
}

// answers checks that the same server still answers over each of the connections.
func answers(t *testing.T, conns map[state.Family]*world.Conn, server string) {
	t.Helper()
	for f, c := range conns {
		reply, err := c.Ask(t.Context())
		if err != nil {
			t.Errorf("%v connection: %v", f, err)
		} else if reply.Server != server {
			t.Errorf("%v connection: %s answers, want %s", f, reply.Server, server)
		}
	}
}

// shell runs a script on the node.
func shell(ctx context.Context, r *rig.Rig, script string) error {
	_, err := r.Node.Run(ctx, "sh", "-euc", script)
	return err
}

func mustShell(t *testing.T, r *rig.Rig, script string) {
	t.Helper()
	if err := shell(t.Context(), r, script); err != nil {
		t.Fatal(err)
	}
}

// mustHold fails unless the kernel holds the wanted rows now.
func mustHold(t *testing.T, r *rig.Rig, want state.State) {
	t.Helper()
	if err := rig.Differ(r.Kernel(t), want); err != nil {
		t.Fatal(err)
	}
}

func numbered(name string, n int) string { return fmt.Sprintf("%s-%d", name, n) }
