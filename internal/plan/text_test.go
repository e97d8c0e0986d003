// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"fmt"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// text returns a fragment as scripts expect it: every field of every row, a row a line, in the fragment's order.
func text(f plan.Fragment) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	for _, r := range f.Sysctls {
		line("sysctl %s = %s", r.Key, r.Value)
	}
	for _, r := range f.Sets {
		line("set %s %s%s", r.Key, r.Value.Type, header(r.Value))
	}
	for _, r := range f.Entries {
		line("set entry %v%s # %s", r.Key, mark(r.Value), r.Value.Comment)
	}
	for _, r := range f.Chains {
		line("chain %v", r.Key)
		for _, rule := range r.Value.Lines() {
			line("  %s", rule)
		}
	}
	for _, r := range f.Jumps {
		line("jump %v: %s", r.Key, r.Value.Rule)
	}
	for _, r := range f.Links {
		line("link %s %s", r.Key, r.Value.Kind)
	}
	for _, r := range f.VirtualServers {
		line("virtual server %v %s", r.Key, server(r.Value))
	}
	for _, r := range f.RealServers {
		line("real server %v %v weight %d%s", r.Key, r.Value.Method, r.Value.Weight, thresholds(r.Value))
	}
	for _, r := range f.Addresses {
		line("address %v%s", r.Key, binding(r.Value))
	}
	if h := f.HealthCheck; h != (state.HealthCheck{}) {
		line("health check %d IPv4 %+v IPv6 %+v", h.Port, h.IPv4, h.IPv6)
	}
	for _, forward := range f.Forwards {
		line("forward %v", forward)
	}
	if f.Drains {
		line("drain timeout %v", f.DrainTimeout)
	}
	for _, n := range f.Notes {
		line("note %v", n)
	}
	return b.String()
}

// binding returns nothing for the usual binding.
func binding(b state.Binding) string {
	if b == (state.Binding{}) {
		return ""
	}
	return " " + b.String()
}

func mark(e state.Entry) string {
	if e.Mark == 0 {
		return ""
	}
	return fmt.Sprintf(" mark %d", e.Mark)
}

func header(s state.Set) string {
	var words string
	if s.Family != 0 {
		words += fmt.Sprintf(" %v", s.Family)
	}
	if s.MaxElem != 0 {
		words += fmt.Sprintf(" maxelem %d", s.MaxElem)
	}
	if s.Comment {
		words += " comment"
	}
	if s.Marks {
		words += " skbinfo"
	}
	return words
}

func server(v state.VirtualServer) string {
	words := fmt.Sprintf("%s /%d", v.Scheduler, v.Prefix)
	if v.Flags&state.Persistent != 0 || v.Timeout != 0 {
		words += fmt.Sprintf(" persistent %d", v.Timeout)
	}
	if other := v.Flags &^ state.Persistent; other != 0 {
		words += fmt.Sprintf(" flags %#x", uint32(other))
	}
	if v.Engine != "" {
		words += " engine " + v.Engine
	}
	return words
}

func thresholds(r state.RealServer) string {
	if r.Upper == 0 && r.Lower == 0 {
		return ""
	}
	return fmt.Sprintf(" upper %d lower %d", r.Upper, r.Lower)
}
