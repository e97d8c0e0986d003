// SPDX-License-Identifier: Apache-2.0

package trace_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/trace"
)

// rulesOf returns the rules of a State and of other programs: lines as iptables-save prints them, each after its table.
func rulesOf(s state.State, others ...string) state.Ruleset {
	r := state.Ruleset{Chains: maps.Clone(s.Chains), Bases: map[state.ChainKey]state.Base{}}
	add := func(k state.ChainKey, rules ...string) {
		r.Chains[k] = state.ChainOf(slices.Concat(rules, r.Chains[k].Lines())...)
	}
	for _, k := range slices.SortedFunc(maps.Keys(s.Jumps), state.JumpKey.Compare) {
		from := state.ChainKey{Family: k.Family, Table: k.Table, Name: k.From}
		r.Bases[from] = state.BuiltIn(k.Table, k.From)
		add(from, s.Jumps[k].Rule)
	}
	for _, line := range others {
		words := strings.SplitN(line, " ", 4)
		k := state.ChainKey{Family: state.IPv4, Table: state.RuleTable(words[0]), Name: words[2]}
		b, known := r.Bases[k]
		if !known && slices.Contains([]string{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"}, k.Name) {
			b, known = state.BuiltIn(k.Table, k.Name), true
		}
		switch words[1] {
		case "-P":
			b.Drops = true
		case "-A":
			r.Chains[k] = state.ChainOf(append(r.Chains[k].Lines(), words[3])...)
		case "-I":
			add(k, words[3])
		}
		if known {
			r.Bases[k] = b
		}
	}
	return r
}

// shop returns a node with the Service of the other tests, and clients of it.
func shop(t *testing.T, others ...string) (s state.State, fromOutside, fromNode trace.Where) {
	s = rows(t, cidrs(), both())
	fromOutside = where()
	fromOutside.Interface = "eth0"
	fromOutside.Rules = rulesOf(s, others...)
	fromNode = where()
	fromNode.Node = true
	fromNode.Rules = fromOutside.Rules
	return s, fromOutside, fromNode
}

func TestRulesAndPoliciesOfOthersAreFollowed(t *testing.T) {
	const stop = "-p tcp -m tcp --dport 80 -j DROP"
	for _, c := range []struct {
		name   string
		rules  []string
		want   string
		client string
	}{
		{"nothing of others", nil, "served", "outside"},
		{"a host's firewall that lets all in", []string{"filter -P INPUT", "filter -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
			"filter -A INPUT -i lo -j ACCEPT", "filter -I INPUT -p tcp -m multiport --dports 22,80 -j ACCEPT"}, "served", "outside"},
		{"a drop in raw", []string{"raw -A PREROUTING " + stop}, "dropped by raw PREROUTING 1", "outside"},
		{"a chain of theirs", []string{"raw -A PREROUTING -i eth+ -j THEIRS", "raw -A THEIRS -s 192.0.2.0/24 -g MORE", "raw -A MORE " + stop},
			"dropped by raw MORE 1", "outside"},
		{"a first rule", []string{"filter -I INPUT -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j REJECT --reject-with tcp-reset"},
			"refused by filter INPUT 1", "outside"},
		{"a drop after IPVS has taken the packet", []string{"security -A INPUT " + stop}, "dropped by security INPUT 1", "outside"},
		{"one that comes later than IPVS", []string{"nat -A INPUT " + stop}, "served", "outside"},
		{"the way to the endpoint", []string{"filter -I OUTPUT -d 10.244.0.0/16 -j DROP"}, "dropped by filter OUTPUT 1", "outside"},
		{"the answer's way", []string{"filter -I FORWARD -s 10.244.0.0/16 -m conntrack --ctstate ESTABLISHED -j DROP"},
			"dropped by filter FORWARD 1", "outside"},
		{"a policy that our rule comes before", []string{"filter -P FORWARD"}, "served", "outside"},
		{"a port of the host", []string{"nat -I PREROUTING -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.244.1.77:8080"},
			"forwarded by routing", "outside"},
		{"a rule that only logs", []string{"filter -I INPUT -m limit --limit 1/sec -j LOG --log-prefix \"-j DROP \" --log-level 4",
			"filter -I INPUT -m limit --limit 1/sec -j LOGS", "filter -A LOGS -j LOG"}, "served", "outside"},
		{"the node's answer", []string{"filter -I INPUT -m conntrack ! --ctstate NEW -j DROP"}, "dropped by filter INPUT 1", "node"},
		{"the node by lo", []string{"filter -I INPUT ! -i lo -m conntrack --ctstate NEW -j DROP"}, "served", "node"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, fromOutside, fromNode := shop(t, c.rules...)
			w := fromOutside
			if c.client == "node" {
				w = fromNode
			}
			v := trace.Of(s, packet(tcp, outside, clusterIP, 80), w)
			if got := fate(v); !strings.HasPrefix(got, c.want) || len(v.Doubts) > 0 {
				t.Errorf("got %s, want %s...\n%s", got, c.want, text(t, v))
			}
		})
	}
}

func TestAPolicyThatStopsAServiceIsNamed(t *testing.T) {
	s, w, _ := shop(t, "filter -P INPUT")
	delete(s.Jumps, state.JumpKey{})
	w.Rules.Chains[state.ChainKey{Family: state.IPv4, Table: state.Filter, Name: "INPUT"}] = state.ChainOf("-i lo -j ACCEPT")
	v := trace.Of(s, packet(tcp, outside, clusterIP, 80), w)
	if want := "dropped by filter INPUT, policy DROP"; fate(v) != want || len(v.Doubts) > 0 {
		t.Errorf("got %s, want %s\n%s", fate(v), want, text(t, v))
	}
}

func TestWhatIsNotSimpleIsNamedWhereItDecides(t *testing.T) {
	for rule, doubted := range map[string]bool{
		"-m recent --rcheck --name x -j DROP":        true,
		"-m recent --rcheck --name x -j REJECTS":     true,
		"-m recent --rcheck --name x -j NOTHING":     false,
		"-p udp -m recent --rcheck --name x -j DROP": false,
		"-j NFQUEUE --queue-num 0":                   true,
		"-m recent --set --name x":                   false,
	} {
		s, w, _ := shop(t, "filter -I INPUT "+rule, "filter -A REJECTS -j REJECT", "filter -A NOTHING -j LOG", "filter -A NOTHING -j RETURN")
		v := trace.Of(s, packet(tcp, outside, clusterIP, 80), w)
		if got := len(v.Doubts) > 0 && strings.Contains(v.Doubts[0], "filter INPUT 1"); got != doubted || v.Fate != trace.Served {
			t.Errorf("%s: doubted %v, want %v\n%s", rule, got, doubted, text(t, v))
		}
	}
}

func TestWhatADeviceDropsIsDroppedThereAlone(t *testing.T) {
	s, w, _ := shop(t)
	k := state.ChainKey{Family: state.IPv4, Table: "nftables netdev theirs", Name: "in"}
	for device, want := range map[string]string{"eth0": "dropped by nftables netdev theirs in 1", "eth1": "served", "": "served"} {
		w.Rules.Chains[k] = state.ChainOf("-p 6 -m tcp --dport 80 -j DROP")
		w.Rules.Bases[k] = state.Base{Hook: "INGRESS", Device: device}
		if v := trace.Of(s, packet(tcp, outside, clusterIP, 80), w); !strings.HasPrefix(fate(v), want) {
			t.Errorf("at %q: got %s, want %s", device, fate(v), want)
		}
	}
}
