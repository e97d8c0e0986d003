// SPDX-License-Identifier: Apache-2.0

package render

import (
	"fmt"
	"io"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Columns says which numbers Text shows.
type Columns uint8

// The numbers that ipvsadm knows to list.
const (
	Connections Columns = iota // ipvsadm -Ln
	Traffic                    // ipvsadm -Ln --stats
	Rates                      // ipvsadm -Ln --rate
)

// Text writes v as ipvsadm -Ln does, with the Service at the end of the line of each virtual server. Scripts
// that read ipvsadm's columns by number find them where they were.
func Text(w io.Writer, v View, c Columns) error {
	lines := listing(v, c)
	width := 0
	for _, l := range lines {
		if l.service != "" {
			width = max(width, len(l.text))
		}
	}
	for i, l := range lines {
		if l.service != "" {
			lines[i].text = fmt.Sprintf("%-*s  %s", width, l.text, l.service)
		}
	}
	return write(w, lines)
}

// Plain writes v as ipvsadm -Ln does, byte for byte.
func Plain(w io.Writer, v View, c Columns) error { return write(w, listing(v, c)) }

// line is one line of a listing, and what stands in its Service column.
type line struct{ text, service string }

func write(w io.Writer, lines []line) error {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(l.text)
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func listing(v View, c Columns) []line {
	var lines []line
	if v.Title != "" {
		lines = append(lines, line{text: v.Title})
	}
	lines = append(lines, titles(c)...)
	for _, s := range v.VirtualServers {
		lines = append(lines, line{virtualServer(s, c), s.Owner.String()})
		for _, r := range s.RealServers {
			lines = append(lines, line{text: realServer(r, c)})
		}
	}
	return lines
}

func titles(c Columns) []line {
	const service = "Service"
	numbers := func(names ...any) []line {
		first := fmt.Sprintf("%-33s", "Prot LocalAddress:Port") + fmt.Sprintf(" %8s %8s %8s %8s %8s", names...)
		return []line{{first, service}, {text: "  -> RemoteAddress:Port"}}
	}
	switch c {
	case Traffic:
		return numbers("Conns", "InPkts", "OutPkts", "InBytes", "OutBytes")
	case Rates:
		return numbers("CPS", "InPPS", "OutPPS", "InBPS", "OutBPS")
	}
	return []line{
		{"Prot LocalAddress:Port Scheduler Flags", service},
		{text: "  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn"},
	}
}

func virtualServer(s VirtualServer, c Columns) string {
	if c != Connections {
		return fmt.Sprintf("%-33s%s", name(s.Key), numbers(s.Counters, c))
	}
	return name(s.Key) + " " + s.Row.Scheduler + serverFlags(s)
}

// name is a key in a column: "TCP  10.96.0.1:443", "FWM  256 IPv6".
func name(k state.VirtualServerKey) string {
	kind, rest, _ := strings.Cut(k.String(), " ")
	return fmt.Sprintf("%-4s %s", kind, rest)
}

func serverFlags(s VirtualServer) string {
	var b strings.Builder
	if names := schedulerFlags(s.Row); len(names) > 0 {
		fmt.Fprintf(&b, " (%s)", strings.Join(names, ","))
	}
	if s.Row.Flags&state.Persistent != 0 {
		fmt.Fprintf(&b, " persistent %d", s.Row.Timeout)
		if m := mask(s.Key.Family(), s.Row); m != "" {
			b.WriteString(" mask " + m)
		}
	}
	if s.Row.Engine != "" {
		b.WriteString(" pe " + s.Row.Engine)
	}
	if s.Row.Flags&state.OnePacket != 0 {
		b.WriteString(" ops")
	}
	return b.String()
}

func realServer(r RealServer, c Columns) string {
	if c != Connections {
		return fmt.Sprintf("  -> %-28s%s", r.Address, numbers(r.Counters, c))
	}
	return fmt.Sprintf("  -> %-28s %-7s %-6d %-10d %-10d",
		r.Address, r.Row.Method, r.Row.Weight, r.Connections.Active, r.Connections.Inactive)
}

func numbers(n state.Counters, c Columns) string {
	list := [...]uint64{n.Connections, n.PacketsIn, n.PacketsOut, n.BytesIn, n.BytesOut}
	if c == Rates {
		list = [...]uint64{n.ConnectionRate, n.PacketRateIn, n.PacketRateOut, n.ByteRateIn, n.ByteRateOut}
	}
	var b strings.Builder
	for _, number := range list {
		b.WriteString(large(number))
	}
	return b.String()
}

// large is a number in ipvsadm's nine columns: thousands, millions and so on, cut off and not rounded, if it
// has more than eight digits.
func large(n uint64) string {
	switch {
	case n < 1e8:
		return fmt.Sprintf("%9d", n)
	case n < 1e9:
		return fmt.Sprintf("%8dK", n/1e3)
	case n < 1e11:
		return fmt.Sprintf("%8dM", n/1e6)
	case n < 1e14:
		return fmt.Sprintf("%8dG", n/1e9)
	}
	return fmt.Sprintf("%8dT", n/1e12)
}
