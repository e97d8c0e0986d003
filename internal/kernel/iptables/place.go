// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"slices"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// place returns the number of a new jump in its built-in chain: 1, but in filter behind jumps to network policies,
// which do not see what a jump of ours accepts. Calico's Felix marks packets of pods in INPUT for OUTPUT.
func (t saved) place(k state.JumpKey) int {
	rules := t.rules[k.From]
	if k.Table != state.Filter {
		return 1
	}
	n := slices.IndexFunc(rules, func(rule string) bool { return !ofPolicies(target(rule)) })
	if n < 0 {
		n = len(rules)
	}
	return n + 1
}

// ofPolicies reports whether a chain is of Calico, Cilium, Antrea, kube-router or Weave: of network policies.
func ofPolicies(chain string) bool {
	return slices.ContainsFunc([]string{"cali-", "CILIUM_", "ANTREA-", "KUBE-ROUTER-", "WEAVE-"}, func(prefix string) bool {
		return strings.HasPrefix(chain, prefix)
	})
}

// behind returns the first rule of a built-in chain that comes before all jumps from there to a chain of ours and can
// decide what becomes of a packet. It is empty if there is none, or no such jump.
func (t saved) behind(from, to string, ours func(string) bool) string {
	rules := t.rules[from]
	i := slices.IndexFunc(rules, func(rule string) bool { return target(rule) == to })
	for _, rule := range rules[:max(0, i)] {
		if to := target(rule); (to == "" || !ours(to)) && t.decides(rule, true, nil) {
			return rule
		}
	}
	return ""
}

// decides reports whether a rule, or one that it leads to, can end a packet's way through the table. above are the
// chains that led to it: the kernel has no circles, but what is read from elsewhere may.
func (t saved) decides(rule string, builtIn bool, above []string) bool {
	verdict, forGood := verdictOf(rule)
	if _, chain := t.builtIn[verdict]; chain && verdict != "" {
		if forGood && builtIn {
			return true // a packet that comes back from there meets the policy
		}
		return !slices.Contains(above, verdict) && slices.ContainsFunc(t.rules[verdict], func(rule string) bool {
			return t.decides(rule, false, append(slices.Clip(above), verdict))
		})
	}
	if verdict == "RETURN" {
		return builtIn
	}
	return !state.Aside(verdict) && !slices.Contains(marking(), verdict)
}

// marking returns the targets that only change what the next rule may look at. Empty: a rule that only counts.
func marking() []string { return []string{"", "CONNMARK", "CT", "HMARK", "MARK", "NOTRACK", "SET"} }

// verdictOf returns the target of a rule, built in or a chain, and whether it goes there for good.
func verdictOf(rule string) (name string, forGood bool) {
	words := words(rule)
	for i, word := range words[:max(0, len(words)-1)] {
		if word == "-j" || word == "-g" {
			return words[i+1], word == "-g"
		}
	}
	return "", false
}

// words splits a rule. What is in quotes, such as a comment, is part of one word.
func words(rule string) []string {
	var list []string
	quoted, from := false, 0
	for i := 0; i <= len(rule); i++ {
		switch {
		case i == len(rule) || rule[i] == ' ' && !quoted:
			list = append(list, rule[from:i])
			from = i + 1
		case rule[i] == '\\' && quoted:
			i = min(i+1, len(rule)-1)
		case rule[i] == '"':
			quoted = !quoted
		}
	}
	return list
}
