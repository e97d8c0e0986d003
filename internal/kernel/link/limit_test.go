// SPDX-License-Identifier: Apache-2.0

package link

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

func limitedRows(mtu uint32, list ...string) []diff.Row[state.Address, state.Binding] {
	all := rows(list)
	for i := range all {
		all[i].Value.MTU = mtu
	}
	return all
}

// What the kernel does with its routes when the device is set up or down, or an address removed, leaves nothing behind
// that is not seen and removed.
func TestALimitIsNeverLeftBehind(t *testing.T) {
	for name, between := range map[string]func(*Conn){
		"nothing": func(*Conn) {},
		"the device is set up": func(*Conn) {
			testkit.Tool(t, "ip", "link", "set", "kube-ipvs0", "up")
		},
		"the device is set up and down": func(*Conn) {
			testkit.Tool(t, "ip", "link", "set", "kube-ipvs0", "up")
			testkit.Tool(t, "ip", "link", "set", "kube-ipvs0", "down")
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := openWithDummy(t)
			vips := limitedRows(1500, "10.96.0.1", "10.96.0.2")
			applied(t, c.Addresses().Apply(t.Context(), addressDelta{Add: vips}), 0)
			between(c)
			bindings(t, c, "10.96.0.1 assigned mtu 1500", "10.96.0.2 assigned mtu 1500")
			if got := testkit.Tool(t, "ip", "route", "get", "10.96.0.2"); !strings.Contains(got, "mtu 1500") || !strings.Contains(got, "src 10.96.0.2") {
				t.Errorf("the node's own packets go by %q", got)
			}
			applied(t, c.Addresses().Apply(t.Context(), addressDelta{Remove: vips[:1]}), 0)
			bindings(t, c, "10.96.0.2 assigned mtu 1500")
			applied(t, c.Addresses().Apply(t.Context(), addressDelta{Remove: vips[1:]}), 0)
			bindings(t, c)
			if got := testkit.Tool(t, "ip", "route", "show", "table", "local", "dev", "kube-ipvs0"); strings.Contains(got, "10.96") {
				t.Errorf("left: %q", got)
			}
		})
	}
}

func TestALimitWithoutItsAddressIsShownAndRemoved(t *testing.T) {
	c := openWithDummy(t)
	testkit.Tool(t, "ip", "address", "add", "10.96.0.9/32", "dev", "kube-ipvs0")
	applied(t, c.Addresses().Apply(t.Context(), addressDelta{Add: limitedRows(1500, "10.96.0.1", "10.96.0.2")}), 0)
	testkit.Tool(t, "ip", "address", "del", "10.96.0.1/32", "dev", "kube-ipvs0")
	testkit.Tool(t, "ip", "address", "del", "10.96.0.2/32", "dev", "kube-ipvs0")
	bindings(t, c, "10.96.0.1 routed mtu 1500", "10.96.0.2 routed mtu 1500", "10.96.0.9 assigned")
	now := testkit.Listed(t, c.Addresses())
	one := state.Address{Addr: netip.MustParseAddr("10.96.0.1")}
	two := state.Address{Addr: netip.MustParseAddr("10.96.0.2")}
	applied(t, c.Addresses().Apply(t.Context(), addressDelta{
		Remove: []diff.Row[state.Address, state.Binding]{{Key: one, Value: now[one]}},
		Update: []diff.Change[state.Address, state.Binding]{{Key: two, Old: now[two], New: state.Binding{MTU: 1400}}},
	}), 0)
	bindings(t, c, "10.96.0.2 assigned mtu 1400", "10.96.0.9 assigned")
}

// Of two limits one counts, and which one was desired is not known.
func TestTwoLimitsAreShownAndOneIsLeft(t *testing.T) {
	c := openWithDummy(t)
	vips := limitedRows(1500, "10.96.0.1")
	applied(t, c.Addresses().Apply(t.Context(), addressDelta{Add: vips}), 0)
	testkit.Tool(t, "ip", "route", "prepend", "local", "10.96.0.1", "dev", "kube-ipvs0", "table", "local",
		"protocol", "73", "scope", "host", "mtu", "1400")
	bindings(t, c, "10.96.0.1 doubled mtu 1500")
	change := diff.Change[state.Address, state.Binding]{Key: vips[0].Key, Old: state.Binding{Means: state.Doubled, MTU: 1500}, New: vips[0].Value}
	applied(t, c.Addresses().Apply(t.Context(), addressDelta{Update: []diff.Change[state.Address, state.Binding]{change}}), 0)
	bindings(t, c, "10.96.0.1 assigned mtu 1500")
}
