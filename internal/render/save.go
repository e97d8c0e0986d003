// SPDX-License-Identifier: Apache-2.0

package render

import (
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Save writes v for ipvsadm --restore: as ipvsadm -Sn does, but with the connection limits of real servers, which -Sn
// forgets, and with marks of 2^31 and above, which it writes as negative numbers.
//
// Neither can express a persistence granularity without persistence, or the forwarding methods Local and Bypass, which
// it writes as Route. A tunnel is IP in IP, the only kind that State knows.
func Save(w io.Writer, v View) error {
	var lines []line
	for _, s := range v.VirtualServers {
		lines = append(lines, line{text: saveVirtualServer(s.Key, s.Row)})
		for _, r := range s.RealServers {
			k := state.RealServerKey{Server: s.Key, Address: r.Address}
			lines = append(lines, line{text: saveRealServer(k, r.Row)})
		}
	}
	return writeLines(w, lines)
}

// saveKey returns ipvsadm's option for a virtual server.
func saveKey(k state.VirtualServerKey) string {
	if k.Mark != 0 {
		return fmt.Sprintf("-f %d", k.Mark) + when(k.Family() == state.IPv6, " -6")
	}
	return protocolOption(k.Protocol) + " " + k.Address.String()
}

func protocolOption(p state.Protocol) string {
	switch p {
	case state.UDP:
		return "-u"
	case state.SCTP:
		return "--sctp-service"
	}
	return "-t"
}

func saveVirtualServer(k state.VirtualServerKey, v state.VirtualServer) string {
	flags, granularity := schedulerFlags(v), mask(k.Family(), v)
	persistent := v.Flags&state.Persistent != 0
	return "-A " + saveKey(k) + " -s " + v.Scheduler +
		when(persistent, " -p %d", v.Timeout) +
		when(persistent && granularity != "", " -M %s", granularity) +
		when(v.Engine != "", " --pe %s", v.Engine) +
		when(v.Flags&state.OnePacket != 0, " -o") +
		when(len(flags) > 0, " -b %s", strings.Join(flags, ","))
}

func saveRealServer(k state.RealServerKey, r state.RealServer) string {
	return fmt.Sprintf("-a %s -r %s %s -w %d", saveKey(k.Server), k.Address, methodOption(r.Method), r.Weight) +
		when(r.Upper != 0, " -x %d", r.Upper) +
		when(r.Lower != 0, " -y %d", r.Lower) +
		when(r.Method == state.Tunnel, " --tun-type ipip")
}

func methodOption(m state.ForwardMethod) string {
	switch m {
	case state.Masquerade:
		return "-m"
	case state.Tunnel:
		return "-i"
	}
	return "-g"
}

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
