// SPDX-License-Identifier: Apache-2.0

package app

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/node"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/ports"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit/mem"
)

// nodeWith sets a Node object with an address and pod networks.
func nodeWith(address string, podCIDRs ...string) func(cluster.Sink) {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}}
	n.Spec.PodCIDRs = podCIDRs
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address}}
	return func(sink cluster.Sink) { sink.Place(cluster.Place{Node: n}) }
}

func nodeLost(sink cluster.Sink) { sink.Place(cluster.Place{}) }

// localNetwork is the network in the rule that distinguishes pods of this node, in one family; empty without such a
// rule.
func (h *harness) localNetwork(f state.Family) string {
	chain := h.kernel.State.Chains[state.ChainKey{Family: f, Table: "nat", Name: "KUBE-SERVICES"}]
	_, rest, found := strings.Cut(chain.Rules, "! -s ")
	if !found {
		return ""
	}
	return strings.Fields(rest)[0]
}

func byNodeCIDR(d *Daemon) {
	d.Config.LocalDetector = config.LocalDetector{Kind: config.DetectNodeCIDR}
}

// kube-proxy exits when the networks change, waits for them at the start, and keeps the old ones when the Node is gone.
func TestTheRulesFollowTheNodesPodNetworks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, mem.New(), byNodeCIDR)
		wants := func(when, v4, v6 string) {
			t.Helper()
			if got4, got6 := h.localNetwork(state.IPv4), h.localNetwork(state.IPv6); got4 != v4 || got6 != v6 {
				t.Errorf("%s: pods are in %q and %q, want %q and %q", when, got4, got6, v4, v6)
			}
		}
		h.call(web("10.244.1.10"), synced)
		wants("without a Node object", "", "")
		h.mustServe(t, "TCP 10.96.0.80:80 -> 10.244.1.10:8080", "TCP 192.0.2.1:30080 -> 10.244.1.10:8080")
		h.call(nodeWith("192.0.2.1"))
		wants("before there are networks", "", "")
		h.call(nodeWith("192.0.2.1", "10.244.1.0/24"))
		wants("one network", "10.244.1.0/24", "")
		h.call(nodeWith("192.0.2.1", "fd00:10:244:1::/64", "10.244.7.0/24"))
		wants("others", "10.244.7.0/24", "fd00:10:244:1::/64")
		h.call(nodeLost)
		wants("the Node is gone", "", "")
		h.mustServe(t, "TCP 10.96.0.80:80 -> 10.244.1.10:8080", "TCP 192.0.2.1:30080 -> 10.244.1.10:8080")
		select {
		case err := <-h.ended:
			t.Errorf("ended with %v", err)
		default:
		}
	})
}

func TestWhatTheNodeHasAtTheStartIsInTheFirstRules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, mem.New(), byNodeCIDR)
		h.call(nodeWith("192.0.2.1", "10.244.1.0/24"))
		if n := len(h.kernel.State.Chains); n != 0 {
			t.Errorf("%d chains before all Services are known, want none", n)
		}
		h.call(synced)
		if got := h.localNetwork(state.IPv4); got != "10.244.1.0/24" {
			t.Errorf("pods are in %q, want 10.244.1.0/24", got)
		}
	})
}

func TestPrimaryNodePortsAreAtTheAddressThatTheOperatorChose(t *testing.T) {
	for name, c := range map[string]struct {
		chosen string
		want   []string
	}{
		"none":                 {"0.0.0.0", []string{"192.0.2.1:30080"}},
		"another of the nodes": {"192.0.2.77", []string{"192.0.2.77:30080"}},
		"a loopback one":       {"127.0.0.1", nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := start(t, mem.New(), func(d *Daemon) {
					d.Config.NodePortPrimary = true
					d.Config.BindAddress = netip.MustParseAddr(c.chosen)
				})
				h.addresses.changes <- node.Event{Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.77")}}
				h.call(nodeWith("192.0.2.1"), web("10.244.1.10"), synced)
				var got []string
				for k := range h.kernel.State.VirtualServers {
					if k.Address.Port() == 30080 {
						got = append(got, k.Address.String())
					}
				}
				if !slices.Equal(got, c.want) {
					t.Errorf("NodePorts at %v, want %v", got, c.want)
				}
			})
		})
	}
}

func TestHealthChecksAreAnsweredWhereNodePortsAre(t *testing.T) {
	addresses := func(texts ...string) []netip.Addr {
		var list []netip.Addr
		for _, a := range texts {
			list = append(list, netip.MustParseAddr(a))
		}
		return list
	}
	n := plan.Node{
		IPs:       addresses("192.0.2.1"),
		Addresses: addresses("192.0.2.1", "192.0.2.77", "198.51.100.7", "2001:db8::1"),
	}
	for name, c := range map[string]struct {
		primary  bool
		networks []string
		want     []netip.Addr
	}{
		"everywhere":               {false, nil, addresses("0.0.0.0", "::")},
		"the Node's addresses":     {true, nil, addresses("192.0.2.1")},
		"these and a network":      {true, []string{"198.51.100.0/24"}, addresses("192.0.2.1", "198.51.100.7")},
		"these and localhost":      {true, []string{"127.0.0.0/8", "::1/128"}, addresses("127.0.0.1", "192.0.2.1", "::1")},
		"localhost alone":          {false, []string{"127.0.0.0/8", "::1/128"}, addresses("127.0.0.1", "::1")},
		"a network of one family":  {false, []string{"198.51.100.0/24"}, addresses("198.51.100.7", "::")},
		"all, and the Node's more": {true, []string{"0.0.0.0/0", "::/0"}, addresses("0.0.0.0", "::")},
	} {
		x := config.Default()
		x.NodePortPrimary = c.primary
		for _, p := range c.networks {
			x.NodePortAddresses = append(x.NodePortAddresses, netip.MustParsePrefix(p))
		}
		if got := ports.Listening(nodePortNetworks(x, n), n.Addresses); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestExternalIPsThatAreTurnedOffAreNotServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, mem.New(), func(d *Daemon) { d.Config.IgnoreExternalIPs = true })
		h.call(externally("198.51.100.9"), synced)
		h.mustServe(t, "TCP 10.96.0.80:80 -> 10.244.1.10:8080", "TCP 192.0.2.1:30080 -> 10.244.1.10:8080")
	})
}

func TestWhatDoesNotFitTheNodeIsToldOnceWhenAllIsKnown(t *testing.T) {
	core, logged := observer.New(zap.WarnLevel)
	synctest.Test(t, func(t *testing.T) {
		h := start(t, mem.New(), byNodeCIDR, func(d *Daemon) { d.Log = zap.New(core) })
		mustLog := func(want ...string) {
			t.Helper()
			time.Sleep(time.Second) // of the bubble's clock
			synctest.Wait()
			var got []string
			for _, e := range logged.FilterMessage("configuration does not fit the node").TakeAll() {
				got = append(got, e.ContextMap()["why"].(string))
			}
			if !slices.Equal(got, want) {
				t.Errorf("logged %q, want %q", got, want)
			}
			logged.TakeAll()
		}
		h.call(nodeWith("192.0.2.1"))
		mustLog()
		h.call(synced)
		mustLog("the Node has none yet: pods of this node are not recognized")
		h.call(nodeWith("192.0.2.2"))
		mustLog()
		h.call(nodeWith("192.0.2.2", "10.244.1.0/24"))
		mustLog()
		h.call(nodeLost)
		mustLog("there is no Node object: pods of this node are not recognized")
	})
}
