// SPDX-License-Identifier: Apache-2.0

package packets

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// routed makes Service addresses reachable by local routes, without adding them to the node.
func routed(c *config.Config) { c.VIPBinding = config.RouteBinding }

func assigned(c *config.Config) { c.VIPBinding = config.AddressBinding }

// nameNode writes the Node object, with the given addresses or those that the node has.
func (s *stage) nameNode(t *testing.T, addresses ...string) {
	t.Helper()
	if len(addresses) == 0 {
		addresses = []string{s.Node.Addr(state.IPv4).String(), s.Node.Addr(state.IPv6).String()}
	}
	var text strings.Builder
	fmt.Fprintf(&text, "apiVersion: v1\nkind: Node\nmetadata: {name: %s}\nstatus:\n  addresses:\n", s.Node.Name)
	for _, a := range addresses {
		fmt.Fprintf(&text, "  - {type: InternalIP, address: %q}\n", a)
	}
	s.WriteText(t, "node", []byte(text.String()))
}

// settings is a settings file of kube-ipvs, in memory like the manifests.
type settings struct{ path string }

func newSettings(t *testing.T, text string) settings {
	t.Helper()
	f := settings{filepath.Join(rig.EmptyFolder(t), "settings.yaml")}
	f.write(t, text)
	return f
}

func (f settings) write(t *testing.T, text string) {
	t.Helper()
	const head = "apiVersion: kube-ipvs.io/v1alpha1\nkind: KubeIPVSConfiguration\n"
	err := os.WriteFile(f.path+".new", []byte(head+text+"\n"), 0o644)
	if err := errors.Join(err, os.Rename(f.path+".new", f.path)); err != nil {
		t.Fatal(err)
	}
}

// isBound checks how the Services' addresses are bound: as addresses that ip shows, or as routes.
func (s *stage) isBound(t *testing.T, svc rig.Service, means state.Means) {
	t.Helper()
	for _, a := range svc.Addresses {
		if s.hasAddress(t, a) != (means == state.Assigned) {
			t.Errorf("the node has the address %v: %v, while it is to be %v", a, s.hasAddress(t, a), means)
		}
		prefix := netip.PrefixFrom(a, a.BitLen()).String()
		family := map[bool]string{true: "-4", false: "-6"}[a.Is4()]
		routes := s.run(t, "node-1", "ip", family, "route", "show", "table", "local", "protocol", "73", "to", prefix)
		if strings.Contains(routes, "metric") != (means == state.Routed) {
			t.Errorf("the node has the routes %q to %v, while it is to be %v", routes, a, means)
		}
	}
}

// unharmed checks that the sender lost no datagram since the last reset, nor the one that is on its way now. It does
// not limit how long an answer takes, which depends on the load.
func (u *sender) unharmed(t *testing.T, after string) {
	t.Helper()
	lost := u.reset()
	rig.Until(t, rig.Patience, func() error {
		u.mu.Lock()
		defer u.mu.Unlock()
		if u.lost == 0 && u.last == "nothing" {
			return fmt.Errorf("%s hears nothing", u.name)
		}
		return nil
	})
	u.mu.Lock()
	defer u.mu.Unlock()
	if lost += u.lost; lost > 0 {
		t.Errorf("%s: %s lost %d datagrams, and hears %s", after, u.name, lost, u.last)
	}
}

// Service addresses are bound in another way and back, while clients of all kinds ask there: over new and old
// connections, and over UDP. No client may notice.
func TestBindingOtherwiseLosesNoPacket(t *testing.T) {
	s := prepare(t, podsByAddress)
	s.nameNode(t)
	file := newSettings(t, "vipBinding: address")
	s.begin(t, append(s.Argv(), "--settings", file.path)...)
	at := frontends()
	web := exposed(1, service(1, "web", rig.Pods("pod-a", "pod-d")...))
	s.offer(t, web)
	for i := range uint8(40) { // a change takes a while
		s.write(t, service(100+i, fmt.Sprintf("other-%d", i), rig.Pods("pod-b")...))
	}
	s.Settle(t)
	s.isBound(t, web, state.Assigned)
	clients := []cell{
		{client: "pod-client", where: at.clusterIP}, {client: "pod-a", where: at.clusterIP}, {client: "node-1", where: at.clusterIP},
		{client: "client", where: at.clusterIP}, {client: "client", where: at.loadBalancer}, {client: "node-1", where: at.externalIP},
		{client: "pod-d", where: at.nodePort},
	}
	held := s.hold(t, web, "pod-d", clients)
	senders := s.sendersWithin(t, web, clients, rig.Patience/2)
	l := s.startLoad(t, web, clients)
	for _, change := range []struct {
		text   string
		option func(*config.Config)
		means  state.Means
	}{
		{"vipBinding: route", routed, state.Routed}, {"vipBinding: address", assigned, state.Assigned},
		{"vipBinding: route", routed, state.Routed},
	} {
		l.more(t, perStep)
		file.write(t, change.text)
		s.Expect(change.option)
		s.Settle(t)
		s.isBound(t, web, change.means)
		l.more(t, perStep)
		for _, o := range held {
			if reply, err := o.conn.Ask(t.Context()); err != nil || reply.Server != "pod-d" {
				t.Errorf("%s, %s: the connection was answered by %q: %v", change.text, o.name, reply.Server, err)
			}
		}
		for _, u := range senders {
			u.unharmed(t, change.text)
		}
	}
	l.end()
	l.clients.Wait()
	for _, r := range l.requests() {
		if r.err != nil {
			t.Errorf("%s: %v", r.client, r.err)
		}
	}
	t.Logf("%d requests over connections of their own", len(l.requests()))
}

// The node's own packets come from the address in the Node object. If the node loses that address, they come from
// another.
func TestRoutesFollowTheNodesAddress(t *testing.T) {
	s := prepare(t, podsByAddress, routed)
	other := []string{"192.0.2.50", "2001:db8:1::50"}
	for _, a := range other { // deprecated: of connections that are masqueraded, none may end with it
		s.run(t, "node-1", "ip", "addr", "add", a, "dev", "eth0", "preferred_lft", "0")
	}
	s.nameNode(t, other...)
	s.begin(t, s.Argv()...)
	svc := service(1, "web", rig.Pods("pod-a", "pod-d")...)
	s.offer(t, svc)
	sources := func(want ...string) {
		t.Helper()
		for i, a := range svc.Addresses {
			if text := s.run(t, "node-1", "ip", "route", "get", a.String()); !strings.Contains(text, " src "+want[i]+" ") {
				t.Errorf("the way to %v is %q, want it from %s", a, text, want[i])
			}
		}
	}
	sources(other...)
	own4, own6 := s.Node.Addr(state.IPv4).String(), s.Node.Addr(state.IPv6).String()
	l := s.startLoad(t, svc, []cell{{client: "pod-client", where: frontends().clusterIP}, {client: "client", where: frontends().clusterIP}})
	l.more(t, perStep/4)
	for _, a := range other {
		s.run(t, "node-1", "ip", "addr", "del", a, "dev", "eth0")
	}
	s.Settle(t)
	sources(svc.Addresses[0].String(), own6) // as the Node object still has the old ones
	s.nameNode(t)
	s.Settle(t)
	sources(own4, own6)
	l.more(t, perStep/4)
	l.end()
	l.clients.Wait()
	s.answered(t, svc, frontends().clusterIP, "node-1", masking("pod-a", "pod-d"))
	for _, r := range l.requests() {
		if r.err != nil {
			t.Errorf("%s: %v", r.client, r.err)
		}
	}
}

// kube-ipvs notices the loss of routes, and makes them again.
func TestLostRoutesAreMadeAgain(t *testing.T) {
	s := newStage(t, podsByAddress, routed, func(c *config.Config) { c.SyncPeriod = rig.Patience * 10 })
	svc := service(1, "web", rig.Pods("pod-a", "pod-d")...)
	s.offer(t, svc)
	for _, loss := range [][]string{
		{"ip", "link", "set", "kube-ipvs0", "down"},
		{"ip", "addr", "del", state.Anchor().String() + "/32", "dev", "kube-ipvs0"},
		{"ip", "link", "del", "kube-ipvs0"},
	} {
		s.run(t, "node-1", loss...)
		s.Settle(t)
		s.answered(t, svc, frontends().clusterIP, "pod-client", keeping("pod-a", "pod-d"))
	}
}

// Both ways of leaving remove routes; kube-proxy does not use any, so for it they become addresses.
func TestRoutesAreCleanedUp(t *testing.T) {
	for _, c := range []struct {
		flags []string
		means state.Means
	}{{[]string{"cleanup", "--for-kube-proxy"}, state.Assigned}, {[]string{"cleanup"}, state.Routed}} {
		s := prepare(t, podsByAddress, routed)
		s.nameNode(t)
		daemon := s.Start(t)
		svc := service(1, "web", rig.Pods("pod-a", "pod-d")...)
		s.offer(t, svc)
		s.isBound(t, svc, state.Routed)
		daemon.Stop(t)
		t.Log(s.run(t, "node-1", s.Command(c.flags...)...))
		if c.means == state.Assigned {
			s.isBound(t, svc, c.means)
			if routes := s.run(t, "node-1", "ip", "-4", "route", "show", "table", "local", "protocol", "73"); routes != "" {
				t.Errorf("left over: %s", routes)
			}
			continue
		}
		for _, family := range []string{"-4", "-6"} {
			if routes := s.run(t, "node-1", "ip", family, "route", "show", "table", "local", "protocol", "73"); routes != "" {
				t.Errorf("left over: %s", routes)
			}
		}
		if links := s.run(t, "node-1", "ip", "-brief", "link"); strings.Contains(links, "kube-ipvs0") {
			t.Errorf("left over: %s", links)
		}
	}
}
