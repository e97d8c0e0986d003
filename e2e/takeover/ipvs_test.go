// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"slices"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

func TestTakingOverFromServersLosesNothing(t *testing.T) {
	for _, x := range []struct {
		name    string
		detects bool
	}{{"pods are known by their network", true}, {"pods are not known", false}} {
		t.Run(x.name, func(t *testing.T) {
			s := newStage(t, x.detects)
			s.serveByServers(t)
			before := s.Kernel(t)
			l := s.startLoad(t, slices.DeleteFunc(s.clients(), astray))
			d := s.Start(t)
			written := d.AwaitStart(t)
			l.more(t, 10)
			l.end(t)
			s.SettleButDrains(t)
			t.Logf("the start wrote %d rows", written)
			s.adopted(t, before)
		})
	}
}

// astray reports whether kube-proxy's IPVS mode sends a client elsewhere than other modes do: to endpoints of other
// nodes, by the virtual server for outside clients, who must not get these. Its real servers leave, and a datagram that
// is under way just then is lost.
func astray(c client) bool { return c.over == state.UDP && slices.Equal(c.from, []string{"pod-d"}) }

// adopted checks, and logs, which rows of kube-proxy's stay.
func (s *stage) adopted(t *testing.T, before state.State) {
	t.Helper()
	after := s.Kernel(t)
	for _, f := range families() { // kube-proxy sends no clients there
		delete(after.Addresses, state.Address{Addr: state.InsideAddress(f)})
	}
	for a, b := range after.Addresses { // kube-proxy gives its routes none
		b.MTU = 0
		after.Addresses[a] = b
	}
	d := state.Diff(before, after)
	if d.Addresses.Len()+d.Links.Len()+len(d.VirtualServers.Update)+len(d.VirtualServers.Remove) > 0 {
		t.Errorf("rows that were right have changed: %+v %+v %+v", d.Addresses, d.Links, d.VirtualServers)
	}
	far := s.services[2]
	outside := func(k state.VirtualServerKey) bool {
		return slices.Contains(far.LoadBalancers, k.Address.Addr()) || k.Address.Port() == far.Ports[0].NodePort || k.Address.Port() == far.Ports[1].NodePort
	}
	for _, r := range d.RealServers.Remove {
		if !outside(r.Key.Server) {
			t.Errorf("real server %v was right and is gone", r.Key)
		}
	}
	for _, c := range d.RealServers.Update {
		if !outside(c.Key.Server) {
			t.Errorf("real server %v was right and has changed to %+v", c.Key, c.New)
		}
	}
	t.Logf("addresses: %d were there, %d added, %d removed", len(before.Addresses), len(d.Addresses.Add), len(d.Addresses.Remove))
	t.Logf("virtual servers: %d were there, %d added, %d changed, %d removed", len(before.VirtualServers),
		len(d.VirtualServers.Add), len(d.VirtualServers.Update), len(d.VirtualServers.Remove))
	t.Logf("real servers: %d were there, %d added, %d changed, %d removed", len(before.RealServers),
		len(d.RealServers.Add), len(d.RealServers.Update), len(d.RealServers.Remove))
	t.Logf("sets: %d were there, %d added, %d changed; entries: %d were there, %d added, %d changed, %d removed", len(before.Sets),
		len(d.Sets.Add), len(d.Sets.Update), len(before.Entries), len(d.Entries.Add), len(d.Entries.Update), len(d.Entries.Remove))
	t.Logf("chains: %d were there, %d added, %d changed; jumps: %d were there, %d added, %d changed", len(before.Chains),
		len(d.Chains.Add), len(d.Chains.Update), len(before.Jumps), len(d.Jumps.Add), len(d.Jumps.Update))
}
