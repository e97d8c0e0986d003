// SPDX-License-Identifier: Apache-2.0

package walk

import (
	"context"
	"maps"
	"net/netip"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// foreignRows returns rows of other programs, as similar to ours as possible: one virtual server has an address of the
// node, and one address is on our device.
func foreignRows() state.State {
	s := state.New()
	s.Sets["OTHERS"] = state.Set{Type: state.HashIP, Family: state.IPv4, MaxElem: 10, Comment: true}
	s.Entries[state.SetEntry{Set: "OTHERS", Address: netip.MustParseAddr("10.96.0.1")}] = state.Entry{Comment: "others'"}
	for _, f := range []state.Family{state.IPv4, state.IPv6} {
		s.Chains[state.ChainKey{Family: f, Table: state.Filter, Name: "OTHERS"}] = state.ChainOf("-p udp -j RETURN")
		s.Jumps[state.JumpKey{Family: f, Table: state.Filter, From: "FORWARD", To: "OTHERS"}] = state.Jump{Rule: "-j OTHERS"}
	}
	for _, server := range []string{"TCP 192.0.2.1:6443", "UDP 203.0.113.7:53", "TCP [2001:db8::1]:6443", "FWM 77"} {
		k, err := state.ParseVirtualServerKey(server)
		if err != nil {
			panic(err)
		}
		s.VirtualServers[k] = state.VirtualServer{Scheduler: "wlc", Prefix: uint8(k.Family().Bits())}
		endpoint := netip.MustParseAddrPort("203.0.113.8:80")
		if k.Family() == state.IPv6 {
			endpoint = netip.MustParseAddrPort("[2001:db8::8]:80")
		}
		s.RealServers[state.RealServerKey{Server: k, Address: endpoint}] = state.RealServer{Weight: 3}
	}
	s.Addresses[state.Address{Addr: netip.MustParseAddr("203.0.113.99")}] = state.Binding{}
	s.Addresses[state.Address{Addr: netip.MustParseAddr("2001:db8::99")}] = state.Binding{}
	return s
}

func (w *walker) listing() state.State {
	s, err := w.all.List(context.Background())
	if err != nil {
		w.Fatal(err)
	}
	return s
}

// spared fails if a row of others has changed.
func (w *walker) spared(have state.State) {
	w.Helper()
	if d := state.Diff(within(have, w.foreign), w.there); d.Len() > 0 {
		w.Errorf("the rows of others have been touched: %s", few(d))
	}
}

// restore is what others do when their rows are gone.
func (w *walker) restore() {
	missing := state.Diff(within(w.listing(), w.foreign), w.foreign)
	w.all.Apply(context.Background(), missing)
	w.there = within(w.listing(), w.foreign)
}

// vandalise changes rows without the daemon's knowledge.
func (w *walker) vandalise() {
	have := w.listing()
	w.spared(have)
	ours := without(have, w.foreign)
	for range 1 + w.IntN(3) {
		w.spoil(ours)
	}
	if w.IntN(8) == 0 {
		w.all.Apply(context.Background(), extra(ours))
	}
	if n := w.IntN(4 + len(w.breakages)); n >= 4 {
		w.breakages[n-4]()
	}
	w.restore()
}

// spoil deletes and alters rows of one table. It spares set entries until the daemon has read them: if the daemon is
// killed, and its entries are removed before it starts again, no program can recognise its rows.
func (w *walker) spoil(ours state.State) {
	table := w.IntN(9)
	evidence := table == 1 || table == 2
	if evidence && !w.informed {
		return
	}
	w.unproven = w.unproven || evidence
	switch table {
	case 0:
		damage(w, w.all.Sysctls, diff.Of(nil, ours.Sysctls, state.SysctlName.Compare), func(*string) {})
	case 1:
		damage(w, w.all.Sets, diff.Of(nil, ours.Sets, state.SetName.Compare), func(s *state.Set) {
			s.Comment = w.IntN(2) == 0
			if s.MaxElem > 0 {
				s.MaxElem = 1000 + w.Uint32N(3)
			}
		})
	case 2:
		damage(w, w.all.Entries, diff.Of(nil, ours.Entries, state.SetEntry.Compare), func(e *state.Entry) { e.Comment = "x" })
	case 3:
		damage(w, w.all.Chains, diff.Of(nil, ours.Chains, state.ChainKey.Compare), func(c *state.Chain) {
			*c = pick(w.dice, state.Chain{}, state.ChainOf("-j RETURN", c.Rules), state.ChainOf("-j ACCEPT"))
		})
	case 4:
		damage(w, w.all.Jumps, diff.Of(nil, ours.Jumps, state.JumpKey.Compare), func(j *state.Jump) { j.Rule = "-p tcp " + j.Rule })
	case 5:
		w.all.Links.Apply(context.Background(), diff.Of(ours.Links, nil, state.LinkName.Compare))
		device := diff.Of(nil, map[state.LinkName]state.Link{state.DummyLink: {Kind: "dummy"}}, state.LinkName.Compare)
		if w.all.Links.Apply(context.Background(), diff.Delta[state.LinkName, state.Link]{Remove: device.Add}); w.IntN(2) == 0 {
			w.all.Links.Apply(context.Background(), device)
		}
	case 6:
		damage(w, w.all.VirtualServers, diff.Of(nil, ours.VirtualServers, state.VirtualServerKey.Compare), func(v *state.VirtualServer) {
			v.Scheduler = pick(w.dice, "sh", "lc")
			v.Flags, v.Timeout = state.Persistent, 7
		})
	case 7:
		damage(w, w.all.RealServers, diff.Of(nil, ours.RealServers, state.RealServerKey.Compare), func(r *state.RealServer) {
			r.Weight = w.Uint32N(3)
			r.Method = pick(w.dice, state.Masquerade, state.Route)
		})
	case 8:
		damage(w, w.all.Addresses, diff.Of(nil, ours.Addresses, state.Address.Compare), func(*state.Binding) {})
	}
}

// damage deletes or alters some of the rows, or deletes all. The kernel may refuse.
func damage[K, V comparable](w *walker, s kernel.Store[K, V], rows diff.Delta[K, V], alter func(*V)) {
	d := diff.Delta[K, V]{Remove: rows.Add}
	if w.IntN(4) > 0 {
		d = diff.Delta[K, V]{}
		for _, row := range rows.Add {
			switch w.IntN(5) {
			case 0:
				d.Remove = append(d.Remove, row)
			case 1:
				c := diff.Change[K, V]{Key: row.Key, Old: row.Value, New: row.Value}
				alter(&c.New)
				d.Update = append(d.Update, c)
			}
		}
	}
	s.Apply(context.Background(), d)
}

// extra returns rows that look like ours but are not desired.
func extra(ours state.State) state.Delta {
	s := state.New()
	for k := range ours.VirtualServers {
		e := netip.MustParseAddrPort("203.0.113.200:1")
		if k.Family() == state.IPv6 {
			e = netip.MustParseAddrPort("[2001:db8::200]:1")
		}
		s.RealServers[state.RealServerKey{Server: k, Address: e}] = state.RealServer{Weight: 1}
	}
	s.Sets[state.TemporarySet("left")] = state.Set{Type: state.HashIP, Family: state.IPv4, MaxElem: 10} // by a crash
	s.Entries[state.SetEntry{Set: "KUBE-CLUSTER-IP", Address: netip.MustParseAddr("203.0.113.201"), Protocol: state.TCP, Port: 1}] = state.Entry{}
	s.Jumps[state.JumpKey{Family: state.IPv4, Table: state.NAT, From: "INPUT", To: "KUBE-SERVICES"}] = state.Jump{Rule: "-j KUBE-SERVICES"}
	return state.Diff(state.New(), s)
}

// within returns the rows of s whose keys are in some; without returns the others.
func within(s, some state.State) state.State  { return sieve(s, some, true) }
func without(s, some state.State) state.State { return sieve(s, some, false) }

func sieve(s, some state.State, in bool) state.State {
	return state.State{
		Sysctls: keep(s.Sysctls, some.Sysctls, in), Sets: keep(s.Sets, some.Sets, in), Entries: keep(s.Entries, some.Entries, in),
		Chains: keep(s.Chains, some.Chains, in), Jumps: keep(s.Jumps, some.Jumps, in),
		Links:          keep(s.Links, some.Links, in),
		VirtualServers: keep(s.VirtualServers, some.VirtualServers, in),
		RealServers:    keep(s.RealServers, some.RealServers, in),
		Addresses:      keep(s.Addresses, some.Addresses, in),
	}
}

func keep[K, V comparable](rows, some map[K]V, in bool) map[K]V {
	kept := maps.Clone(rows)
	maps.DeleteFunc(kept, func(k K, _ V) bool { _, there := some[k]; return there != in })
	return kept
}
