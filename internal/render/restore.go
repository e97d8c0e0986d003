// SPDX-License-Identifier: Apache-2.0

package render

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// The tables as input of the standard tools, for a kernel without their rows. Sets writes sets and entries for ipset
// restore.
func Sets(w io.Writer, s state.State) error {
	var b strings.Builder
	for _, k := range slices.SortedFunc(maps.Keys(s.Sets), state.SetName.Compare) {
		fmt.Fprintf(&b, "create %s %s\n", k, setOptions(s.Sets[k]))
	}
	for _, k := range slices.SortedFunc(maps.Keys(s.Entries), state.SetEntry.Compare) {
		fmt.Fprintf(&b, "add %s %s%s\n", k.Set, k.Member(), entryOptions(s.Entries[k]))
	}
	return write(w, b.String())
}

func setOptions(v state.Set) string {
	return string(v.Type) +
		when(v.Family == state.IPv4, " family inet") +
		when(v.Family == state.IPv6, " family inet6") +
		when(v.Type == state.BitmapPort, " range 0-65535") +
		when(v.MaxElem != 0, " maxelem %d", v.MaxElem) +
		when(v.Comment, " comment") +
		when(v.Marks, " skbinfo")
}

func entryOptions(v state.Entry) string {
	// skbmark is by the whole mark, the default.
	return when(v.Comment != "", ` comment "%s"`, v.Comment) + when(v.Mark != 0, " skbmark %#x", v.Mark)
}

// Rules writes the chains and jumps of one family for iptables-restore --noflush or ip6tables-restore --noflush. The
// sets must exist. It empties a chain that exists, and makes a jump that exists once more.
func Rules(w io.Writer, s state.State, f state.Family) error {
	var b strings.Builder
	chains := slices.SortedFunc(maps.Keys(s.Chains), state.ChainKey.Compare)
	jumps := slices.SortedFunc(maps.Keys(s.Jumps), state.JumpKey.Compare)
	for _, table := range []state.RuleTable{state.Mangle, state.NAT, state.Filter} {
		var declared, rules string
		for _, k := range chains {
			if k.Family != f || k.Table != table {
				continue
			}
			declared += fmt.Sprintf(":%s - [0:0]\n", k.Name)
			for _, rule := range s.Chains[k].Lines() {
				rules += fmt.Sprintf("-A %s %s\n", k.Name, rule)
			}
		}
		for _, k := range jumps {
			if k.Family == f && k.Table == table {
				rules += fmt.Sprintf("-I %s 1 %s\n", k.From, s.Jumps[k].Rule)
			}
		}
		if declared+rules != "" {
			fmt.Fprintf(&b, "*%s\n%s%sCOMMIT\n", table, declared, rules)
		}
	}
	return write(w, b.String())
}

// Timeouts writes the option that sets IPVS' timeouts, for ipvsadm --restore; nothing if they stay.
func Timeouts(w io.Writer, s state.State) error {
	option, any := "--set", false
	for _, name := range []state.SysctlName{state.TCPTimeout, state.TCPFinTimeout, state.UDPTimeout} {
		seconds, ok := s.Sysctls[name]
		if !ok {
			seconds = "0" // as it is
		}
		option, any = option+" "+seconds, any || ok
	}
	if !any {
		return nil
	}
	return write(w, option+"\n")
}

// Sysctls writes the settings for sysctl -p, without IPVS' timeouts, which sysctl does not know.
func Sysctls(w io.Writer, s state.State) error {
	var b strings.Builder
	for _, k := range slices.SortedFunc(maps.Keys(s.Sysctls), state.SysctlName.Compare) {
		if k != state.TCPTimeout && k != state.TCPFinTimeout && k != state.UDPTimeout {
			fmt.Fprintf(&b, "%s = %s\n", k, s.Sysctls[k])
		}
	}
	return write(w, b.String())
}

// Links writes the device and its addresses for ip -batch.
func Links(w io.Writer, s state.State) error {
	var b strings.Builder
	for _, k := range slices.SortedFunc(maps.Keys(s.Links), state.LinkName.Compare) {
		fmt.Fprintf(&b, "link add %s type %s\n", k, s.Links[k].Kind)
	}
	b.WriteString(ground(s))
	for _, k := range slices.SortedFunc(maps.Keys(s.Addresses), state.Address.Compare) {
		v := s.Addresses[k]
		if v.Means != state.Routed {
			fmt.Fprintf(&b, "address add %v/%d dev %s\n", k, k.Addr.BitLen(), state.DummyLink)
		}
		source, mtu := when(v.Source.IsValid(), " src %v", v.Source), when(v.MTU != 0, " mtu %d", v.MTU)
		if v.Means == state.Assigned && v.MTU > 0 {
			fmt.Fprintf(&b, "route prepend local %v/%d dev %s table local protocol %d scope host%s\n",
				k, k.Addr.BitLen(), state.DummyLink, state.RouteProtocol, mtu)
		}
		if v.Means != state.Assigned {
			fmt.Fprintf(&b, "route add local %v/%d dev %s table local protocol %d scope host metric %d%s%s\n",
				k, k.Addr.BitLen(), state.DummyLink, state.RouteProtocol, state.RouteMetric, source, mtu)
		}
	}
	return write(w, b.String())
}

// ground returns what the device needs for routes: an IPv4 address that keeps them, and to be up for IPv6.
func ground(s state.State) string {
	needs := map[state.Family]bool{}
	for k, v := range s.Addresses {
		needs[state.FamilyOf(k.Addr)] = needs[state.FamilyOf(k.Addr)] || v.Means != state.Assigned
	}
	return when(needs[state.IPv4], "address add %v/32 dev %s scope host\n", state.Anchor(), state.DummyLink) +
		when(needs[state.IPv6], "link set %s addrgenmode none\nlink set %[1]s up\n", state.DummyLink)
}
