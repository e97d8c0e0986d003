// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"slices"
	"strings"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// syncAsKubeProxy does, in its order, what the first sync of kube-proxy's IPVS mode does to existing tables. What would
// end its sync fails the test. jumps is whether those of kube-proxy are there, as kube-ipvs made them.
func (s *stage) syncAsKubeProxy(t *testing.T, there bool) {
	t.Helper()
	for _, f := range families() {
		m := s.ipvsMode(t, f)
		rules, jumps := m.parted()
		if !there {
			s.feed(t, declared(rules), tool(f, "-restore"), "--noflush")
		}
		for _, j := range jumps {
			if !there || strings.Contains(j, " INPUT ") && strings.HasSuffix(j, "KUBE-PROXY-FIREWALL") { // KUBE-IPVS-FILTER goes there for us
				j = strings.Replace(j, " -C ", " -I ", 1)
			}
			s.feed(t, "", tool(f, ""), j) // there already, or it would be made a second time
		}
		for _, c := range m.creates() {
			s.run(t, "node-1", append([]string{"ipset"}, strings.Fields(c)...)...)
		}
		s.feed(t, m.setText(), "ipset", "restore")
		s.feed(t, rules, tool(f, "-restore"), "--noflush", "--counters")
	}
}

// declared returns the chains of rules without what is in them.
func declared(rules string) string {
	var kept []string
	for line := range strings.Lines(rules) {
		if !strings.HasPrefix(line, "-") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

// parted returns the rules without the jumps, and the jumps as arguments of iptables -C.
func (m *ipvsMode) parted() (rules string, jumps []string) {
	var table string
	var kept []string
	for line := range strings.Lines(m.rules()) {
		if strings.HasPrefix(line, "*") {
			table = strings.TrimSpace(line[1:])
		}
		if jump, is := strings.CutPrefix(strings.TrimSpace(line), "-I "); is {
			jumps = append(jumps, "-t "+table+" -C "+jump)
			continue
		}
		kept = append(kept, line)
	}
	return strings.Join(kept, ""), jumps
}

func TestKubeProxyCanNotUseOurSetsAsTheyAre(t *testing.T) {
	s := newStage(t, true)
	s.UseFirewall(state.OnIPTables)
	d := s.Start(t)
	d.AwaitStart(t)
	s.Settle(t)
	d.Stop(t)
	failed := 0
	for _, f := range families() {
		for _, c := range (&ipvsMode{family: f}).creates() {
			if _, err := s.Node.Run(t.Context(), append([]string{"ipset"}, strings.Fields(c)...)...); err != nil {
				failed++
			}
		}
	}
	if all := 2 * len(itsSets()); failed != all {
		t.Errorf("%d of its %d sets can't be made: the way back may be shorter than it was", failed, all)
	}
}

func TestGoingBackToServersLosesNothing(t *testing.T) { goBack(t, state.OnIPTables) }

// Our table serves until kube-proxy's rules do, and goes then.
func TestGoingBackToServersFromNFTablesLosesNothing(t *testing.T) { goBack(t, state.OnNFTables) }

func goBack(t *testing.T, from state.Firewall) {
	s := newStage(t, true)
	s.UseFirewall(from)
	d := s.Start(t)
	d.AwaitStart(t)
	before := s.Settle(t)
	l := s.startLoad(t, slices.DeleteFunc(s.clients(), func(c client) bool { return astray(c) || steered(c) && c.over == state.UDP }))
	d.Stop(t)
	status, stdout, stderr := s.cleanup(t, "--for-kube-proxy")
	if status != 0 {
		t.Fatalf("status %d: %s", status, stderr)
	}
	t.Logf("the way back:\n%s%s", stdout, stderr)
	const holds = "table kube-ipvs of nftables stays until rules of kube-proxy's IPVS mode serve"
	if strings.Contains(stderr, holds) != (from == state.OnNFTables) {
		t.Errorf("the way back says %q", stderr)
	}
	l.more(t, 5)
	s.syncAsKubeProxy(t, from == state.OnIPTables)
	l.more(t, 5)
	if from == state.OnNFTables {
		t.Logf("once kube-proxy serves:\n%s", s.mustCleanup(t, "--for-kube-proxy"))
		l.more(t, 5)
	}
	l.end(t)
	s.isKubeProxys(t, before)
}

// steered reports whether a client is led to another virtual server, which kube-proxy does not know.
func steered(c client) bool {
	return strings.Contains(c.to.String(), "203.0.113.2") || strings.Contains(c.to.String(), "2001:db8:1b::2")
}

// isKubeProxys checks that only rows which kube-proxy knows are left, once no connection needs others.
func (s *stage) isKubeProxys(t *testing.T, before state.State) {
	t.Helper()
	s.mustCleanup(t, "--for-kube-proxy", "--drain-timeout", "1s") // IPVS remembers a closed connection for two minutes
	if again := s.mustCleanup(t, "--for-kube-proxy"); again != "nothing to do\n" {
		t.Errorf("once more: %q", again)
	}
	after := s.Kernel(t)
	want := map[state.SetName]bool{"FOREIGN": true}
	for _, f := range families() {
		for _, set := range itsSets() {
			want[state.SetName((&ipvsMode{family: f}).set(set[0]))] = true
		}
	}
	for n := range after.Sets {
		if !want[n] {
			t.Errorf("set %s is left", n)
		}
	}
	for k := range after.Chains {
		own := k.Table == state.Mangle || k.Name == "KUBE-INSIDE" || k.Name == "KUBE-ALL-ENDPOINTS"
		if own && !strings.HasPrefix(k.Name, "KUBE-KUBELET") && k.Name != "KUBE-IPTABLES-HINT" {
			t.Errorf("chain %v is left", k)
		}
	}
	led := map[state.VirtualServerKey]bool{}
	for e, v := range before.Entries {
		if k, leads := e.LeadsTo(v); leads {
			led[k] = true
		}
	}
	for k := range before.VirtualServers {
		if _, there := after.VirtualServers[k]; there == led[k] {
			t.Errorf("virtual server %v is there: %v", k, there)
		}
	}
	for a := range before.Addresses {
		if _, there := after.Addresses[a]; there == state.Inside(a.Addr) {
			t.Errorf("address %v is there: %v", a, there)
		}
	}
}
