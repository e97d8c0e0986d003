// SPDX-License-Identifier: Apache-2.0

package render

import (
	"net/netip"
	"strconv"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// flagName is one of the three flags that mean what the scheduler wants. Two schedulers have own names for the first
// two.
type flagName struct {
	bit       state.ServerFlags
	scheduler string // empty: any
	name      string
}

func flagNames() []flagName {
	return []flagName{
		{state.Sched1, "sh", "sh-fallback"},
		{state.Sched2, "sh", "sh-port"},
		{state.Sched1, "mh", "mh-fallback"},
		{state.Sched2, "mh", "mh-port"},
		{state.Sched1, "", "flag-1"},
		{state.Sched2, "", "flag-2"},
		{state.Sched3, "", "flag-3"},
	}
}

// schedulerFlags returns ipvsadm's names of the scheduler's flags of v.
func schedulerFlags(v state.VirtualServer) []string {
	var names []string
	var named state.ServerFlags
	for _, f := range flagNames() {
		if v.Flags&f.bit != 0 && named&f.bit == 0 && (f.scheduler == v.Scheduler || f.scheduler == "") {
			named |= f.bit
			names = append(names, f.name)
		}
	}
	return names
}

// mask returns the persistence granularity as ipvsadm writes it: a netmask for IPv4, a length for IPv6; empty if each
// address is a client of its own.
func mask(f state.Family, v state.VirtualServer) string {
	switch {
	case int(v.Prefix) == f.Bits():
		return ""
	case f == state.IPv6:
		return strconv.Itoa(int(v.Prefix))
	}
	bits := ^uint32(0) << (32 - min(v.Prefix, 32))
	return netip.AddrFrom4([4]byte{byte(bits >> 24), byte(bits >> 16), byte(bits >> 8), byte(bits)}).String()
}
