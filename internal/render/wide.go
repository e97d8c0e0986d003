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

// Wide writes v for the person who has to find out what is wrong: a line for each virtual and real server,
// what looks wrong in words at its end, and below them what steers or attracts packets that no virtual server
// takes.
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
	_, err := io.WriteString(w, b.String())
	return err
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

// binding is how an address is bound, if not as most are.
func binding(s VirtualServer) string {
	if s.Bound == Yes && s.Binding.Means != state.Assigned {
		return s.Binding.Means.String()
	}
	return s.Bound.String()
}

func affinity(s VirtualServer) string {
	if s.Row.Flags&state.Persistent == 0 {
		return ""
	}
	text := fmt.Sprintf("%ds", s.Row.Timeout)
	if m := mask(s.Key.Family(), s.Row); m != "" {
		text += "/" + m
	}
	return text
}

// wideFlags are all flags but persistence, which has a column of its own.
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

// Notes say in words what is unusual about a virtual server.
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
		notes = append(notes, "both an address and a route: a change of one to the other has not ended")
	}
	return notes
}

func wideUnserved(b *strings.Builder, u Unserved) {
	if len(u.Entries) > 0 {
		b.WriteString("\nSet entries without a virtual server:\n")
	}
	for _, e := range u.Entries {
		fmt.Fprintf(b, "  %v  %s\n", e.Key, e.Comment)
	}
	if len(u.Addresses) > 0 {
		fmt.Fprintf(b, "\nAddresses on %s without a virtual server:\n", state.DummyLink)
	}
	for _, a := range u.Addresses {
		fmt.Fprintf(b, "  %v\n", a)
	}
}
