// SPDX-License-Identifier: Apache-2.0

package trace_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/trace"
)

// small returns a State with sets of all types, and one chain that all packets to the node meet in filter INPUT.
func small(lines ...string) state.State {
	s := state.New()
	set := func(name state.SetName, t state.SetType, entries ...string) {
		s.Sets[name] = state.Set{Type: t, Family: state.IPv4}
		if t == state.BitmapPort {
			s.Sets[name] = state.Set{Type: t}
		}
		for _, e := range entries {
			k, err := state.ParseSetEntry(string(name) + " " + e)
			if err != nil {
				panic(err)
			}
			s.Entries[k] = state.Entry{}
		}
	}
	set("IPS", state.HashIP, "192.0.2.1")
	set("PORTS", state.BitmapPort, "80", "8")
	set("IP-PORTS", state.HashIPPort, "192.0.2.1,tcp:80", "192.0.2.1,1:2048")
	set("LOOPS", state.HashIPPortIP, "192.0.2.1,tcp:80,192.0.2.200")
	set("NETS", state.HashIPPortNet, "192.0.2.1,tcp:80,192.0.2.0/24", "192.0.2.1,tcp:80,198.51.100.0/25")
	set("ODD", "hash:mac")
	s.Jumps[state.JumpKey{Family: state.IPv4, Table: state.Filter, From: "INPUT", To: "TEST"}] = state.Jump{Rule: "-j TEST"}
	s.Chains[state.ChainKey{Family: state.IPv4, Table: state.Filter, Name: "TEST"}] = state.ChainOf(lines...)
	s.Chains[state.ChainKey{Family: state.IPv4, Table: state.Filter, Name: "ROUND"}] = state.ChainOf("-j TEST")
	s.Chains[state.ChainKey{Family: state.IPv4, Table: state.Filter, Name: "BACK"}] = state.ChainOf("-j RETURN", "-j DROP")
	return s
}

// hello returns a packet from 192.0.2.200 by eth0 to port 80 of the node.
func hello(s state.State) trace.Verdict {
	w := where()
	w.Interface = "eth0"
	return trace.Of(s, packet(tcp, outside, nodeIP, 80), w)
}

func TestMatchesMatchAsInTheKernel(t *testing.T) {
	for match, want := range map[string]bool{
		`-s 192.0.2.0/24`:               true,
		`-s 192.0.2.200/32`:             true,
		`-s 192.0.2.200`:                true,
		`! -s 192.0.2.0/24`:             false,
		`! -s 10.0.0.0/8`:               true,
		`-d 192.0.2.1/32`:               true,
		`! -d 192.0.2.1/32`:             false,
		`-s 192.0.2.0/24 -d 10.0.0.0/8`: false,
		`-i eth0`:                       true,
		`-i eth+`:                       true,
		`-i eth`:                        false,
		`! -i eth0`:                     false,
		`! -i cni0`:                     true,
		`-p tcp`:                        true,
		`-p 6`:                          true,
		`-p udp`:                        false,
		`! -p udp`:                      true,
		`-p tcp -m tcp --dport 80`:      true,
		`-p tcp -m tcp --dport 79:81`:   true,
		`-p tcp -m tcp --dport :79`:     false,
		`-p tcp -m tcp ! --dport 80`:    false,
		`-p icmp -m icmp --icmp-type 8`: false,
		`-m comment --comment "-j DROP \"this\" ! "`:      true,
		`-m comment --comment word`:                       true,
		`-m mark --mark 0x0`:                              true,
		`-m mark --mark 0x4000/0x4000`:                    false,
		`-m mark ! --mark 0x4000/0x4000`:                  true,
		`-m conntrack --ctstate NEW`:                      true,
		`-m conntrack --ctstate RELATED,ESTABLISHED`:      false,
		`-m conntrack ! --ctstate RELATED`:                true,
		`-m addrtype --dst-type LOCAL`:                    true,
		`-m addrtype --src-type LOCAL`:                    false,
		`-m addrtype ! --src-type LOCAL`:                  true,
		`-m set --match-set IPS dst`:                      true,
		`-m set --match-set IPS src`:                      false,
		`-m set ! --match-set IPS dst`:                    false,
		`-m set ! --match-set IPS src`:                    true,
		`-m set --match-set PORTS dst`:                    true,
		`-m set --match-set PORTS dst,dst`:                true,
		`-m set --match-set IP-PORTS dst,dst`:             true,
		`-m set --match-set IP-PORTS dst`:                 false, // too few: the kernel says no
		`-m set --match-set IP-PORTS src,dst`:             false,
		`-m set --match-set LOOPS dst,dst,src`:            true,
		`-m set --match-set LOOPS dst,dst,dst`:            false,
		`-m set --match-set NETS dst,dst,src`:             true,
		`-m set --match-set NETS dst,dst,dst`:             true,
		`-m ipvs --ipvs`:                                  false,
		`-m ipvs ! --ipvs`:                                true,
		`-m ipvs --vproto 6 --vaddr 192.0.2.1 --vport 80`: false, // IPVS did not take it
	} {
		v := hello(small(match + " -j DROP"))
		if got := v.Fate == trace.Dropped; got != want || len(v.Doubts) > 0 {
			t.Errorf("%s: %v, doubts %q", match, v.Fate, v.Doubts)
		}
	}
}

func TestRulesThatAreNotUnderstoodDoNotMatchAndAreTold(t *testing.T) {
	for rule, why := range map[string]string{
		`-m physdev ! --physdev-is-in -j DROP`:                `-m physdev, ! --physdev-is-in`,
		`-m limit --limit 5/sec -j DROP`:                      `-m limit, --limit 5/sec`,
		`-s 192.0.2.0/255.0.255.0 -j DROP`:                    `-s 192.0.2.0/255.0.255.0`,
		`-p nonsense -j DROP`:                                 `-p nonsense`,
		`-m addrtype --dst-type MULTICAST -j DROP`:            `--dst-type MULTICAST`,
		`-m conntrack --ctdir ORIGINAL -j DROP`:               `--ctdir ORIGINAL`,
		`-m conntrack --ctstate NEW,ASSURED -j DROP`:          `--ctstate NEW,ASSURED`,
		`-m mark --mark x -j DROP`:                            `--mark x`,
		`-p tcp -m tcp --dport http -j DROP`:                  `--dport http`,
		`-p tcp -m tcp --sport 80 -j DROP`:                    `the source port is not known`,
		`-m set --match-set NOWHERE dst -j DROP`:              `set NOWHERE is not known`,
		`-m set --match-set ODD dst -j DROP`:                  `set ODD is of type hash:mac`,
		`-m set --match-set IP-PORTS dst,src -j DROP`:         `the source port is not known`,
		`-m set --match-set IPS dst --return-nomatch -j DROP`: `--return-nomatch`,
		`-j SET --add-set IPS src`:                            `--add-set IPS src, -j SET without --map-mark`,
		`! -j DROP`:                                           `! -j DROP`,
	} {
		v := hello(small(rule))
		want := "filter TEST 1 is not understood, and counts as not matching (" + why + "): " + rule
		if v.Fate != trace.Host || strings.Join(v.Doubts, "\n") != want {
			t.Errorf("%s: %v, doubts %q, want %q", rule, v.Fate, v.Doubts, want)
		}
	}
}

func TestARuleThatCannotMatchAnywayIsNotDoubted(t *testing.T) {
	for _, rule := range []string{
		`-p udp -m limit --limit 5/sec -j DROP`,
		`-m physdev ! --physdev-is-in -m set --match-set IPS src -j ACCEPT`,
		`-s 10.0.0.0/8 -j NOWHERE`,
	} {
		if v := hello(small(rule)); v.Fate != trace.Host || len(v.Doubts) > 0 {
			t.Errorf("%s: %v, doubts %q", rule, v.Fate, v.Doubts)
		}
	}
}

func TestChainsGoOnWhereTheKernelDoes(t *testing.T) {
	for _, c := range []struct {
		want  string
		rules []string
	}{
		{"dropped by filter TEST 2", []string{"-j BACK", "-j DROP"}},
		{"host by routing", []string{"-g BACK", "-j DROP"}},
		{"host by routing", []string{"-j RETURN", "-j DROP"}},
		{"host by routing", []string{"-j ACCEPT", "-j DROP"}},
		{"refused by filter TEST 2", []string{"-m comment --comment counts", "-j REJECT --reject-with tcp-reset"}},
		{"dropped by filter TEST 2", []string{"-j MARK --set-xmark 0x100/0xffffffff", "-m mark --mark 0x100 -j DROP"}},
		{"dropped by filter TEST 3", []string{"-j MARK --set-xmark 0x3/0x3", "-j MARK --set-xmark 0x1/0x0", "-m mark --mark 0x2 -j DROP"}},
	} {
		if v := hello(small(c.rules...)); fate(v) != c.want || len(v.Doubts) > 0 {
			t.Errorf("%q: %s, doubts %q, want %s", c.rules, fate(v), v.Doubts, c.want)
		}
	}
}

func TestChainsInACircleAndChainsThatAreNotThereAreTold(t *testing.T) {
	for rule, want := range map[string]string{
		"-j TEST":    "filter TEST 1 goes in a circle to TEST, and counts as not matching",
		"-j ROUND":   "filter ROUND 1 goes in a circle to TEST, and counts as not matching",
		"-g TEST":    "filter TEST 1 goes in a circle to TEST, and counts as not matching",
		"-j NOWHERE": "filter TEST 1 goes to NOWHERE, which is neither a chain of the rows nor a target that is understood; it counts as not matching",
	} {
		v := hello(small(rule, "-j DROP"))
		if fate(v) != "dropped by filter TEST 2" || strings.Join(v.Doubts, "\n") != want {
			t.Errorf("%s: %s, doubts %q", rule, fate(v), v.Doubts)
		}
	}
}

func TestChainsThatMultiplyEnd(t *testing.T) {
	s := small("-j C0", "-j C0")
	for i := range 40 {
		s = withChain(s, state.IPv4, state.Filter, fmt.Sprintf("C%d", i), fmt.Sprintf("-j C%d", i+1), fmt.Sprintf("-j C%d", i+1))
	}
	s = withChain(s, state.IPv4, state.Filter, "C40", "-m comment --comment end")
	if v := hello(s); len(v.Doubts) != 1 || !strings.HasPrefix(v.Doubts[0], "there are too many rules") {
		t.Errorf("doubts %q", v.Doubts)
	}
}

func TestTheOrderOfJumpsIsDoubtedOnlyWhereItDecides(t *testing.T) {
	s := withChain(small("-j DROP"), state.IPv4, state.Filter, "OTHER", "-p udp -j ACCEPT")
	s.Jumps[state.JumpKey{Family: state.IPv4, Table: state.Filter, From: "INPUT", To: "OTHER"}] = state.Jump{Rule: "-j OTHER"}
	if v := hello(s); fate(v) != "dropped by filter TEST 1" || len(v.Doubts) > 0 {
		t.Errorf("%s, doubts %q", fate(v), v.Doubts)
	}
	s = withChain(s, state.IPv4, state.Filter, "OTHER", "-p tcp -j ACCEPT")
	want := "filter INPUT: that TEST comes before OTHER decides here, and the rows do not have their order"
	if v := hello(s); fate(v) != "dropped by filter TEST 1" || strings.Join(v.Doubts, "\n") != want {
		t.Errorf("%s, doubts %q", fate(v), v.Doubts)
	}
}

// Rules of kube-proxy's IPVS mode that differ from ours.
func TestKubeProxysOwnRulesAreUnderstood(t *testing.T) {
	s := rows(t, cidrs(), both())
	vip := netip.MustParseAddr(balancer)
	s = withChain(s, state.IPv4, state.Filter, "KUBE-IPVS-OUT-FILTER",
		fmt.Sprintf("-s %s/32 -m ipvs --vproto 6 --vaddr %s --vport 80 -j DROP", vip, vip))
	const masqueraded = "served 10.244.1.5:8080! 10.244.2.6:8080!"
	if v := trace.Of(s, packet(tcp, "", balancer, port), fromNode()); v.Fate != trace.Dropped || v.By != "filter KUBE-IPVS-OUT-FILTER 1" {
		t.Errorf("%s\n%s", fate(v), text(t, v))
	}
	if v := trace.Of(s, packet(tcp, nodeIP, balancer, port), fromNode()); fate(v) != masqueraded {
		t.Errorf("%s\n%s", fate(v), text(t, v))
	}
	s = withChain(s, state.IPv4, state.NAT, "KUBE-POSTROUTING",
		"-m set --match-set KUBE-IPVS-IPS src -m ipvs --ipvs -j MASQUERADE --random-fully",
		"-m mark ! --mark 0x4000/0x4000 -j RETURN", "-j MARK --set-xmark 0x4000/0x0", "-j MASQUERADE")
	if v := trace.Of(s, packet(tcp, "", clusterIP, port), fromNode()); fate(v) != masqueraded {
		t.Errorf("%s\n%s", fate(v), text(t, v))
	}
}
