// SPDX-License-Identifier: Apache-2.0

package packets

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/trace"
)

// neighbour is another program on the node with rules of iptables, and what undoes them.
type neighbour struct {
	name       string
	do, undo   []string
	mustMatter bool   // some client must be stopped
	shown      string // in the wide dump
}

// added returns rules in built-in chains, which are deleted again.
func added(name string, rules ...string) neighbour {
	n := neighbour{name: name, mustMatter: true}
	for _, r := range rules {
		n.do = append(n.do, r)
		table, rest, _ := strings.Cut(r, " -I ")
		n.undo = append([]string{table + " -D " + rest}, n.undo...)
	}
	return n
}

func neighbours() []neighbour {
	firewall := func(name, last, undo string) neighbour {
		n := added(name, "-t filter -I INPUT -p tcp --dport 22 -j ACCEPT", "-t filter -I INPUT -i lo -j ACCEPT",
			"-t filter -I INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")
		n.do, n.undo, n.mustMatter = append(n.do, last), append(n.undo, undo), false // our own rules may let Services in
		return n
	}
	early := added("a drop before all", "-t raw -I PREROUTING -p tcp -m multiport --dports 80:90,443 -j DROP")
	early.shown = "\nRules of other programs that stop Services:\n  raw PREROUTING 1 (-p tcp -m multiport --dports 80:90,443 -j DROP) stops packets to Services, such as "
	forward := neighbour{name: "a node that forwards nothing", do: []string{"-t filter -P FORWARD DROP"}, undo: []string{"-t filter -P FORWARD ACCEPT"}}
	return []neighbour{
		{name: "no other program"},
		firewall("a policy", "-t filter -P INPUT DROP", "-t filter -P INPUT ACCEPT"),
		firewall("a last rule", "-t filter -A INPUT -j REJECT", "-t filter -D INPUT -j REJECT"),
		forward,
		early,
		added("a drop of the way out", "-t filter -I OUTPUT -d 10.244.0.0/16 -p tcp --dport 8080 -j DROP"),
		added("a drop of answers", "-t filter -I FORWARD -s 10.244.0.0/16 -m conntrack --ctstate ESTABLISHED -j DROP"),
		added("a drop of the node's answers", "-t mangle -I INPUT -p tcp --sport 8080 -m conntrack --ctstate ESTABLISHED -j DROP"),
		added("a mark and a drop by it", "-t raw -I PREROUTING -p tcp --syn -j MARK --set-xmark 0x8/0x8",
			"-t filter -I INPUT -m mark --mark 0x8/0x8 -j DROP"),
	}
}

// TestTraceShowsWhatTheRulesOfOthersDo compares what trace says with what happens to packets.
func TestTraceShowsWhatTheRulesOfOthersDo(t *testing.T) {
	s := newStage(t, podsByAddress)
	svc := exposed(1, service(1, "web", rig.Pod("pod-b")))
	s.offer(t, svc)
	at := frontends()
	for _, n := range neighbours() {
		for _, rule := range n.do {
			s.run(t, "node-1", strings.Fields("iptables -w "+rule)...)
		}
		tr, stopped := s.tracer(t), false
		for _, where := range []frontend{at.clusterIP, at.nodePort, at.loadBalancer} {
			for _, client := range []string{"client", "node-1", "pod-a"} {
				to := where.at(s, svc, state.IPv4, state.TCP)
				v := trace.Of(tr.rows, tr.packet(client, state.TCP, to), tr.place(client))
				traced := tr.fate(v)
				found := s.find(t.Context(), cell{client: client, want: traced}, state.TCP, to)
				if diff := cmp.Diff(found.got, traced); found.err != nil || diff != "" || len(v.Doubts) > 0 {
					var text strings.Builder
					_ = trace.Text(&text, v) // a builder takes everything
					t.Errorf("%s: %s at the %s: %v, and trace differs (-packets +trace):\n%s%s", n.name, client, where, found.err, diff, &text)
				}
				stopped = stopped || traced.Answers == nil
			}
		}
		if n.mustMatter && !stopped {
			t.Errorf("%s stops no client", n.name)
		}
		if n.shown != "" {
			if wide := s.run(t, "node-1", s.Command("dump", "-o", "wide")...); !strings.Contains(wide, n.shown) {
				t.Errorf("%s: dump -o wide does not say %q:\n%s", n.name, n.shown, wide)
			}
		}
		for _, rule := range n.undo {
			s.run(t, "node-1", strings.Fields("iptables -w "+rule)...)
		}
	}
}
