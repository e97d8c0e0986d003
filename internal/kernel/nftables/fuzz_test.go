// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"bytes"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// What the kernel sends may be of another program's making, and of a kernel that is newer than we are. It is read in any
// case.

func families() []state.Family { return []state.Family{state.IPv4, state.IPv6} }

// encoded is the body of a request.
func encoded(write func(*netlink.Requests)) []byte {
	var b netlink.Requests
	b.Begin(0, 0)
	write(&b)
	return b.Body(0)
}

func FuzzElements(f *testing.F) {
	rows := served()
	for e, v := range rows.Entries {
		s, _ := shapeOf(e.Set.Family(), rows.Sets[e.Set].Type)
		element, _ := netlink.ParseAttributes(encoded(func(b *netlink.Requests) { s.appendElement(b, e, v) }))
		f.Add(element[0].Value)
	}
	f.Fuzz(func(t *testing.T, list []byte) {
		a, err := netlink.ParseAttributes(list)
		if err != nil {
			return
		}
		for _, family := range families() {
			for _, kind := range setTypes() {
				s, _ := shapeOf(family, kind)
				n := state.SetInside.For(family).On(state.OnNFTables)
				e, v, ours := s.parseElement(n, a)
				strayRow(n, a)
				if !ours || s.check(e, v) != nil { // its comment may be longer than any of ours
					continue
				}
				again := encoded(func(b *netlink.Requests) { s.appendElement(b, e, v) })
				element, _ := netlink.ParseAttributes(again)
				inside, _ := element[0].Nested()
				if e2, v2, ours := s.parseElement(n, inside); !ours || e2 != e || v2 != v {
					t.Errorf("%v %+v of a set of type %s came back as %v %+v", e, v, kind, e2, v2)
				}
			}
		}
	})
}

func FuzzSets(f *testing.F) {
	c := Conn{table: state.NFTable}
	for n, v := range baseRows(config.Default()).Sets {
		c.requests.Reset()
		c.makeSet(n, v)
		f.Add(c.requests.Body(0)[header:])
	}
	f.Fuzz(func(t *testing.T, list []byte) {
		a, err := netlink.ParseAttributes(list)
		if err != nil {
			return
		}
		for _, family := range families() {
			n, v := parseSet(family, a)
			if _, known := shapeOf(family, v.Type); known && v != headerOf(family, v.Type) {
				t.Errorf("set %s has the header %+v", n, v)
			}
		}
	})
}

func FuzzRules(f *testing.F) {
	rows := baseRows(config.Default())
	for k, v := range rows.Chains {
		for _, line := range v.Lines() {
			list, err := encoderOf(chainID{k.Family, chainName(k.Table, k.Name)}, rows.Sets).expressionsOf(line)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(list, piece(nil, textKind, line))
		}
	}
	f.Fuzz(func(t *testing.T, list, notes []byte) {
		before, r := bytes.Clone(list), ruleAt{list, notes}
		text := r.text(encoderOf(chainID{state.IPv4, "nat-KUBE-SERVICES"}, rows.Sets))
		again := r.text(encoderOf(chainID{state.IPv4, "nat-KUBE-SERVICES"}, rows.Sets))
		if text != again || !bytes.Equal(list, before) {
			t.Errorf("reading a rule changed it: %q, then %q", text, again)
		}
	})
}

func FuzzEvents(f *testing.F) {
	f.Add([]byte{20, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0})
	f.Fuzz(func(_ *testing.T, packet []byte) { (&Watch{table: state.NFTable}).about(packet) })
}
