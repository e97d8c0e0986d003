// SPDX-License-Identifier: Apache-2.0

package render

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Columns selects the numbers that Text shows.
type Columns uint8

// ipvsadm's listings.
const (
	Connections Columns = iota // ipvsadm -Ln
	Traffic                    // ipvsadm -Ln --stats
	Rates                      // ipvsadm -Ln --rate
)

// Text writes v as ipvsadm -Ln does, with the Service at the end of each virtual server's line, so that scripts find
// ipvsadm's columns where they were.
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
	return writeLines(w, lines)
}

// Plain writes v as ipvsadm -Ln does, byte for byte.
func Plain(w io.Writer, v View, c Columns) error { return writeLines(w, listing(v, c)) }

// line is one line of a listing, and its Service column.
type line struct{ text, service string }

func writeLines(w io.Writer, lines []line) error {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(l.text + "\n")
	}
	return write(w, b.String())
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

// name returns a key in a column: "TCP  10.96.0.1:443", "FWM  256 IPv6".
func name(k state.VirtualServerKey) string {
	kind, rest, _ := strings.Cut(k.String(), " ")
	return fmt.Sprintf("%-4s %s", kind, rest)
}

func serverFlags(s VirtualServer) string {
	flags, granularity := schedulerFlags(s.Row), mask(s.Key.Family(), s.Row)
	persistent := s.Row.Flags&state.Persistent != 0
	return when(len(flags) > 0, " (%s)", strings.Join(flags, ",")) +
		when(persistent, " persistent %d", s.Row.Timeout) +
		when(persistent && granularity != "", " mask %s", granularity) +
		when(s.Row.Engine != "", " pe %s", s.Row.Engine) +
		when(s.Row.Flags&state.OnePacket != 0, " ops")
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

// large returns a number in ipvsadm's nine columns: with more than eight digits in thousands, millions and so on, cut
// off and not rounded.
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

// Wide writes v for a search for faults: a line for each virtual and real server, with what looks wrong at its end, and
// then rows that steer or attract packets without a virtual server.
func Wide(w io.Writer, v View) error {
	var table strings.Builder
	t := tabwriter.NewWriter(&table, 0, 8, 2, ' ', 0)
	row(t, "SERVICE", "PROT", "FAMILY", "ADDRESS", "SCHEDULER", "WEIGHT", "ACTIVE", "INACTIVE", "AFFINITY", "FLAGS", "SET", "BOUND", "NOTES")
	for _, s := range v.VirtualServers {
		wideVirtualServer(t, s)
		for _, r := range s.RealServers {
			wideRealServer(t, r)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	var b strings.Builder
	for text := range strings.Lines(table.String()) {
		b.WriteString(strings.TrimRight(text, " \n") + "\n")
	}
	wideUnserved(&b, v.Unserved)
	return write(w, b.String())
}

// row writes cells, "-" for an empty one but the last.
func row(w io.Writer, cells ...string) {
	for i, c := range cells[:len(cells)-1] {
		if c == "" {
			cells[i] = "-"
		}
	}
	// A tabwriter keeps its first error and returns it from Flush.
	_, _ = io.WriteString(w, strings.Join(cells, "\t")+"\n")
}

func wideVirtualServer(w io.Writer, s VirtualServer) {
	kind, address, _ := strings.Cut(s.Key.String(), " ")
	if s.Key.Mark != 0 {
		address = strconv.FormatUint(uint64(s.Key.Mark), 10)
	}
	var weight uint64
	var sum state.Connections
	for _, r := range s.RealServers {
		weight += uint64(r.Row.Weight)
		sum.Active += r.Connections.Active
		sum.Inactive += r.Connections.Inactive
	}
	set := string(s.Owner.Set)
	if s.Owner.Ours == Unknown && s.Key.Mark == 0 {
		set = "?"
	}
	row(w, s.Owner.String(), kind, s.Key.Family().String(), address, s.Row.Scheduler,
		fmt.Sprint(weight), fmt.Sprint(sum.Active), fmt.Sprint(sum.Inactive),
		affinity(s), wideFlags(s.Row), set, binding(s), strings.Join(Notes(s), "; "))
}

// binding returns how an address is bound, unless it is assigned, as usual.
func binding(s VirtualServer) string {
	if s.Bound == Yes && s.Binding.Means != state.Assigned {
		return s.Binding.Means.String()
	}
	return s.Bound.String()
}

func affinity(s VirtualServer) string {
	granularity := mask(s.Key.Family(), s.Row)
	return when(s.Row.Flags&state.Persistent != 0, "%ds%s", s.Row.Timeout, when(granularity != "", "/%s", granularity))
}

// wideFlags returns all flags but persistence, which has its own column.
func wideFlags(v state.VirtualServer) string {
	flags := schedulerFlags(v)
	if v.Flags&state.OnePacket != 0 {
		flags = append(flags, "ops")
	}
	if v.Engine != "" {
		flags = append(flags, "pe="+v.Engine)
	}
	return strings.Join(flags, ",")
}

func wideRealServer(w io.Writer, r RealServer) {
	var notes []string
	if r.Row.Weight == 0 {
		notes = append(notes, "draining")
	}
	if r.Row.Upper != 0 || r.Row.Lower != 0 {
		notes = append(notes, fmt.Sprintf("connections limited to %d, again below %d", r.Row.Upper, r.Row.Lower))
	}
	if n := r.Connections.Persistent; n != 0 {
		notes = append(notes, fmt.Sprintf("%d clients with affinity", n))
	}
	row(w, "  ->", " ", " ", r.Address.String(), r.Row.Method.String(), fmt.Sprint(r.Row.Weight),
		fmt.Sprint(r.Connections.Active), fmt.Sprint(r.Connections.Inactive), " ", " ", " ", " ", strings.Join(notes, "; "))
}

// Notes returns what is unusual about a virtual server.
func Notes(s VirtualServer) []string {
	var notes []string
	draining := 0
	for _, r := range s.RealServers {
		if r.Row.Weight == 0 {
			draining++
		}
	}
	switch n := len(s.RealServers); {
	case n == 0:
		notes = append(notes, "no real servers")
	case draining == n:
		notes = append(notes, "all real servers draining")
	case draining > 0:
		notes = append(notes, fmt.Sprintf("%d of %d draining", draining, n))
	}
	switch {
	case s.Owner.Ours == No && s.Bound == Yes:
		notes = append(notes, fmt.Sprintf("address on %s but in no set of ours", state.DummyLink))
	case s.Owner.Ours == Yes && s.Bound == No:
		notes = append(notes, fmt.Sprintf("address not on %s", state.DummyLink))
	}
	if s.Bound == Yes && s.Binding.Means == state.Doubled {
		notes = append(notes, "both an address and a route: a change from one to the other has not finished")
	}
	return notes
}

func wideUnserved(b *strings.Builder, u Unserved) {
	b.WriteString(when(len(u.Entries) > 0, "\nSet entries without a virtual server:\n"))
	for _, e := range u.Entries {
		fmt.Fprintf(b, "  %v  %s\n", e.Key, e.Comment)
	}
	b.WriteString(when(len(u.Addresses) > 0, "\nAddresses on %s without a virtual server:\n", state.DummyLink))
	for _, a := range u.Addresses {
		fmt.Fprintf(b, "  %v\n", a)
	}
}
