// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"strings"
)

// Text writes v for operators: the packet, what happens to it, and why. The example shows the form.
func Text(w io.Writer, v Verdict) error {
	var b strings.Builder
	b.WriteString(v.Packet.String() + from(v) + "\n" + v.Sentence() + "\n")
	if v.Fate == Served {
		endpointLines(&b, v)
	}
	if len(v.Steps) > 0 {
		b.WriteString("because\n")
		stepLines(&b, v.Steps)
	}
	if len(v.Doubts) > 0 {
		b.WriteString("not sure\n")
		for _, d := range v.Doubts {
			b.WriteString("  " + d + "\n")
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func from(v Verdict) string {
	if v.Node {
		return ", from this node"
	}
	return ""
}

func endpointLines(b *strings.Builder, v Verdict) {
	width := 0
	for _, e := range v.Endpoints {
		width = max(width, len(e.Address.String()))
	}
	for _, e := range v.Endpoints {
		fmt.Fprintf(b, "  %-*s  weight %d", width, e.Address, e.Weight)
		if v.sees() == "" {
			b.WriteString(", sees " + seenAddress(v, e.Masqueraded))
		}
		if e.Fate != Served {
			fmt.Fprintf(b, ", but the packet is %v on its way", e.Fate)
		}
		b.WriteString("\n")
	}
}

func stepLines(b *strings.Builder, steps []Step) {
	width := 0
	for _, s := range steps {
		width = max(width, len(s.At))
	}
	for _, s := range steps {
		fmt.Fprintf(b, "  %-*s  %s%s\n", width, s.At, s.Text, only(s.Only))
	}
}

// only lists the endpoints of a step.
func only(endpoints []netip.AddrPort) string {
	const most = 3
	var names []string
	for i, e := range endpoints {
		if i == most {
			names = append(names, fmt.Sprintf("%d more", len(endpoints)-most))
			break
		}
		names = append(names, e.String())
	}
	if len(names) == 0 {
		return ""
	}
	return " (on the way to " + strings.Join(names, ", ") + ")"
}

// Sentence says what becomes of the packet.
func (v Verdict) Sentence() string {
	switch v.Fate {
	case Served:
		return v.served()
	case Refused:
		if v.By == "IPVS" {
			return "refused: no endpoint of " + v.whose() + " takes a new connection"
		}
		return "refused by " + v.By + v.asked()
	case Dropped:
		return "dropped by " + v.By + v.asked() + ": there is no answer"
	case Host:
		if v.Packet.Protocol == Ping {
			return "for the node itself, which answers"
		}
		if v.Sent.IsValid() {
			return fmt.Sprintf("for the node itself, at %v, where a rule that is not a Service's leads it; refused unless something listens there", v.Sent)
		}
		return "for the node itself, and refused unless something listens there" + v.asked()
	case Forwarded:
		text := "sent on like any other packet: not a Service's"
		if v.Sent.IsValid() {
			text = fmt.Sprintf("sent on to %v, where a rule that is not a Service's leads it", v.Sent)
		}
		if v.Masqueraded {
			text += "; an address of this node is put in place of the source"
		}
		return text
	}
	return v.Fate.String()
}

func (v Verdict) served() string {
	text := fmt.Sprintf("answered by one of %d endpoints of %s", len(v.Endpoints), v.whose())
	if len(v.Endpoints) == 1 {
		text = "answered by the one endpoint of " + v.whose()
	}
	switch sees := v.sees(); {
	case sees == "":
		return text
	case len(v.Endpoints) == 1:
		return text + ", which sees " + sees
	default:
		return text + ", which see " + sees
	}
}

// sees returns the client's address as all endpoints see it; empty if they see different ones.
func (v Verdict) sees() string {
	for _, e := range v.Endpoints {
		if e.Masqueraded != v.Endpoints[0].Masqueraded {
			return ""
		}
	}
	return seenAddress(v, v.Endpoints[0].Masqueraded)
}

func seenAddress(v Verdict, masqueraded bool) string {
	if masqueraded {
		return "an address of this node as the client's"
	}
	return "the client's own address, " + v.Packet.Source.Addr().String()
}

func (v Verdict) whose() string { return cmp.Or(v.Service, v.Server.String()) }

func (v Verdict) asked() string {
	if v.Service == "" {
		return ""
	}
	return ", asking for " + v.Service
}
