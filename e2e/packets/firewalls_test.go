// SPDX-License-Identifier: Apache-2.0

package packets

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
)

// The fates are the same on a node whose firewall lets in only what it must, like that of ufw and firewalld.
func TestEveryPacketPassesAFirewallThatDropsTheRestInIPTables(t *testing.T) {
	beside(t, firewall)
}

// In nftables a table accepts packets for itself alone: what the firewall of ufw or firewalld drops is dropped. So
// kube-ipvs reports it, with the place of the rule.
func TestAFirewallThatDropsServicesIsReportedInNFTables(t *testing.T) {
	s := newStage(t, podsByAddress, audited)
	s.offer(t, service(1, "web", rig.Pod("pod-a")))
	s.restore(t, firewall)
	s.daemon.AwaitLog(t, "a rule of another program stops packets to Services", "INPUT", "policy DROP")
	const shown = "INPUT, policy DROP stops packets to Services, such as "
	if wide := s.run(t, "node-1", s.Command("dump", "-o", "wide")...); !strings.Contains(wide, shown) {
		t.Errorf("dump -o wide does not say %q:\n%s", shown, wide)
	}
	for _, tool := range tools() {
		s.run(t, "node-1", tool, "-P", "INPUT", "ACCEPT")
	}
	s.daemon.AwaitLog(t, "a rule of another program no longer stops packets to Services")
}

// The fates are the same on a node of Calico. Felix marks what IPVS forwards as soon as it sees kube-ipvs0.
func TestEveryPacketPassesTheRulesOfFelix(t *testing.T) {
	beside(t, felix)
}

// beside runs the largest matrix on a node with another program's rules.
func beside(t *testing.T, rules func(tool string) string) {
	m := matrices()[0]
	m.join = func(t *testing.T, s *stage) { s.restore(t, rules) }
	m.run(t)
}

// firewall drops what comes to the node, except what firewalls usually let in and the host's port of the tests.
func firewall(tool string) string {
	icmp := map[string]string{"iptables": "icmp", "ip6tables": "ipv6-icmp"}[tool]
	return fmt.Sprintf(`*filter
:INPUT DROP [0:0]
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -i lo -j ACCEPT
-A INPUT -p %s -j ACCEPT
-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT
-A INPUT -p tcp -m tcp --dport %[2]d -j ACCEPT
-A INPUT -p udp -m udp --dport %[2]d -j ACCEPT
-A INPUT -p sctp -m sctp --dport %[2]d -j ACCEPT
COMMIT
`, icmp, hostPort)
}

// Felix marks packets in INPUT before we accept them: otherwise it would not apply pods' policies in OUTPUT.
func TestNetworkPoliciesAreAskedBeforeServicesAreAcceptedInIPTables(t *testing.T) {
	s := prepare(t, podsByAddress)
	s.restore(t, felix)
	s.begin(t, s.Argv()...)
	s.write(t, service(1, "web", rig.Pods("pod-a")...))
	s.daemon.AwaitStart(t)
	for _, tool := range tools() {
		rules := strings.Split(s.run(t, "node-1", tool, "-S", "INPUT"), "\n")
		if len(rules) < 3 || rules[1] != "-A INPUT -j cali-INPUT" || !strings.Contains(rules[2], "-j KUBE-") {
			t.Errorf("%s: Felix' jump does not lead INPUT:\n%s", tool, strings.Join(rules, "\n"))
		}
	}
}

func tools() []string { return []string{"iptables", "ip6tables"} }

// restore adds rules and sets policies on node-1.
func (s *stage) restore(t *testing.T, rules func(tool string) string) {
	t.Helper()
	for _, tool := range tools() {
		file := filepath.Join(t.TempDir(), tool)
		if err := os.WriteFile(file, []byte(rules(tool)), 0o600); err != nil {
			t.Fatal(err)
		}
		s.run(t, "node-1", tool+"-restore", "--noflush", "--wait=5", file)
	}
}

// felix returns the rules that Felix writes for a node with IPVS, with its own marks: bit 0x10000 for what a policy
// lets pass, and 0xfff00000 for the endpoint that sent a packet which IPVS forwards. It sets the endpoint's mark in
// INPUT, checks it in OUTPUT, and drops packets with an unknown one there. Every pod may send and receive everything.
func felix(tool string) string {
	var rules strings.Builder
	add := func(format string, args ...any) { fmt.Fprintf(&rules, format+"\n", args...) }
	add("*filter")
	for _, chain := range []string{
		"INPUT", "FORWARD", "OUTPUT", "forward-check", "set-endpoint-mark", "from-endpoint-mark", "forward-endpoint-mark",
		"wl-to-host", "from-wl-dispatch", "to-wl-dispatch", "from-host-endpoint", "to-host-endpoint", "to-hep-forward",
	} {
		add(":cali-%s - [0:0]", chain)
	}
	for _, pod := range felixPods() {
		add(":cali-sm-%[1]s - [0:0]\n:cali-fw-%[1]s - [0:0]\n:cali-tw-%[1]s - [0:0]", pod)
	}
	add("-I INPUT 1 -j cali-INPUT\n-I FORWARD 1 -j cali-FORWARD\n-I OUTPUT 1 -j cali-OUTPUT")
	felixHost(add, tool)
	felixEndpoints(add)
	add("-A cali-set-endpoint-mark -i veth-+ -j DROP")
	add("-A cali-set-endpoint-mark -j MARK --set-xmark 0x100000/0xfff00000")
	add("-A cali-from-endpoint-mark -j DROP\n-A cali-from-wl-dispatch -j DROP\n-A cali-to-wl-dispatch -j DROP")
	add("COMMIT\n*nat\n:cali-POSTROUTING - [0:0]\n:cali-nat-outgoing - [0:0]\n-I POSTROUTING 1 -j cali-POSTROUTING")
	add("-A cali-POSTROUTING -j cali-nat-outgoing\nCOMMIT")
	add("*mangle\n:cali-PREROUTING - [0:0]\n-I PREROUTING 1 -j cali-PREROUTING")
	add("-A cali-PREROUTING -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")
	add("-A cali-PREROUTING -m mark --mark 0x10000/0x10000 -j ACCEPT\nCOMMIT")
	add("*raw\n:cali-PREROUTING - [0:0]\n:cali-OUTPUT - [0:0]\n-I PREROUTING 1 -j cali-PREROUTING\n-I OUTPUT 1 -j cali-OUTPUT")
	add("-A cali-PREROUTING -j MARK --set-xmark 0x0/0xf0000\n-A cali-OUTPUT -j MARK --set-xmark 0x0/0xf0000\nCOMMIT")
	return rules.String()
}

func felixPods() []string { return []string{"a", "b", "client", "c"} }

// felixHost adds the rules for packets to and from the node itself.
func felixHost(add func(string, ...any), tool string) {
	nodes := map[string]string{"iptables": "192.0.2.1,10.244.1.1", "ip6tables": "2001:db8:1::1,fd00:10:244:1::1"}[tool]
	add("-A cali-INPUT -j MARK --set-xmark 0x0/0xfff00000")
	add("-A cali-INPUT -j cali-forward-check")
	add("-A cali-INPUT -m mark ! --mark 0x0/0xfff00000 -j RETURN")
	add("-A cali-INPUT -i veth-+ -g cali-wl-to-host")
	add("-A cali-INPUT -m mark --mark 0x10000/0x10000 -j ACCEPT")
	add("-A cali-INPUT -j MARK --set-xmark 0x0/0xf0000")
	add("-A cali-INPUT -j cali-from-host-endpoint")
	add("-A cali-INPUT -m mark --mark 0x10000/0x10000 -j ACCEPT")
	add("-A cali-forward-check -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN")
	for _, protocol := range []string{"tcp", "udp"} {
		for node := range strings.SplitSeq(nodes, ",") {
			add("-A cali-forward-check -d %s -p %s -m multiport --dports 30000:32767 -g cali-set-endpoint-mark", node, protocol)
		}
	}
	for node := range strings.SplitSeq(nodes, ",") { // a set of Felix's has them
		add("-A cali-forward-check -d %s -j RETURN", node)
	}
	add("-A cali-forward-check -j cali-set-endpoint-mark")
	add("-A cali-wl-to-host -j cali-from-wl-dispatch")
	add("-A cali-wl-to-host -j ACCEPT")
	add("-A cali-OUTPUT -m mark --mark 0x10000/0x10000 -j ACCEPT")
	add("-A cali-OUTPUT -m mark ! --mark 0x0/0xfff00000 -g cali-forward-endpoint-mark")
	add("-A cali-OUTPUT -o veth-+ -j RETURN")
	add("-A cali-OUTPUT -j MARK --set-xmark 0x0/0xf0000")
	add("-A cali-OUTPUT -m conntrack ! --ctstate DNAT -j cali-to-host-endpoint")
	add("-A cali-OUTPUT -m mark --mark 0x10000/0x10000 -j ACCEPT")
	add("-A cali-forward-endpoint-mark -m mark ! --mark 0x100000/0xfff00000 -j cali-from-endpoint-mark")
	add("-A cali-forward-endpoint-mark -o veth-+ -j cali-to-wl-dispatch")
	add("-A cali-forward-endpoint-mark -j cali-to-hep-forward")
	add("-A cali-forward-endpoint-mark -j MARK --set-xmark 0x0/0xfff00000")
	add("-A cali-forward-endpoint-mark -m mark --mark 0x10000/0x10000 -j ACCEPT")
	add("-A cali-FORWARD -j MARK --set-xmark 0x0/0xe0000")
	add("-A cali-FORWARD -i veth-+ -j cali-from-wl-dispatch")
	add("-A cali-FORWARD -o veth-+ -j cali-to-wl-dispatch")
	add("-A cali-FORWARD -j cali-to-hep-forward")
}

// felixEndpoints adds the rules for each pod.
func felixEndpoints(add func(string, ...any)) {
	for i, pod := range felixPods() {
		mark, link := fmt.Sprintf("%#x/0xfff00000", (i+2)<<20), "veth-pod-"+pod
		add("-A cali-set-endpoint-mark -i %s -g cali-sm-%s", link, pod)
		add("-A cali-sm-%s -j MARK --set-xmark %s", pod, mark)
		add("-A cali-from-endpoint-mark -m mark --mark %s -g cali-fw-%s", mark, pod)
		add("-A cali-from-wl-dispatch -i %s -g cali-fw-%s", link, pod)
		add("-A cali-to-wl-dispatch -o %s -g cali-tw-%s", link, pod)
		for _, chain := range []string{"cali-fw-" + pod, "cali-tw-" + pod} {
			add("-A %s -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", chain)
			add("-A %s -m conntrack --ctstate INVALID -j DROP", chain)
			add("-A %s -j MARK --set-xmark 0x10000/0x10000", chain)
		}
	}
}
