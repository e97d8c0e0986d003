// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

// served are the base rows with entries in sets of all types.
func served() state.State {
	s := baseRows(config.Default())
	for _, f := range []state.Family{state.IPv4, state.IPv6} {
		service, pod, network := netip.MustParseAddr("10.96.0.1"), netip.MustParsePrefix("10.244.0.1/32"), netip.MustParsePrefix("192.0.2.0/24")
		if f == state.IPv6 {
			service, pod, network = netip.MustParseAddr("fd00:96::1"), netip.MustParsePrefix("fd00:244::1/128"), netip.MustParsePrefix("2001:db8::/32")
		}
		add := func(n state.SetName, e state.SetEntry) {
			e.Set = n.For(f).On(state.OnNFTables)
			s.Entries[e] = state.Entry{Comment: "shop/web:http"}
		}
		front := state.SetEntry{Address: service, Protocol: state.TCP, Port: 80}
		for _, n := range []state.SetName{state.SetClusterIP, state.SetInside, state.SetAllPorts, state.SetNodePortSCTP} {
			add(n, front)
		}
		add(state.SetIPVSIPs, state.SetEntry{Address: service})
		add(state.SetNodePortTCP, state.SetEntry{Port: 30080})
		front.Source = pod
		add(state.SetLoopBack, front)
		front.Source = network
		add(state.SetLoadBalancerSourceCIDR, front)
	}
	return s
}

// drift is what another program does to our tables.
type drift struct {
	name   string
	script string                  // for nft
	do     func(*testing.T, *Conn) // instead of the script
	shows  []state.Table           // which tables are not as they should be then
	writes uint32                  // how many transactions put it right
}

func drifts() []drift {
	const ip, ip6 = "ip kube-ipvs ", "ip6 kube-ipvs "
	rules, entries := []state.Table{state.Chains}, []state.Table{state.Entries}
	jumps := []state.Table{state.Jumps}
	return []drift{
		{name: "a rule behind ours", script: "add rule " + ip + "nat-KUBE-MARK-MASQ counter accept", shows: rules, writes: 1},
		{name: "a rule before ours", script: "insert rule " + ip6 + "filter-KUBE-FORWARD accept", shows: rules, writes: 1},
		{name: "a chain without rules", script: "flush chain " + ip + "nat-KUBE-POSTROUTING", shows: rules, writes: 1},
		{name: "a rule changed in place, with its text", do: changeInPlace, shows: rules, writes: 1},
		{name: "a rule in a base chain", script: "insert rule " + ip6 + "nat-PREROUTING counter", shows: jumps, writes: 1},
		{name: "a base chain without a jump", script: "flush chain " + ip + "nat-OUTPUT", shows: jumps, writes: 1},
		{name: "a jump twice", do: jumpTwice, shows: jumps, writes: 1},
		{name: "no base chain", script: "flush chain " + ip + "nat-OUTPUT\ndelete chain " + ip + "nat-OUTPUT", shows: jumps, writes: 1},
		{name: "another policy", script: "add chain " + ip + "filter-FORWARD { policy drop; }", shows: jumps, writes: 1},
		{name: "another priority", do: anotherPriority, shows: jumps, writes: 1},
		{name: "a table that is asleep", script: "add table " + ip + "{ flags dormant; }", shows: jumps, writes: 1},
		{name: "a chain of ours that packets enter", shows: []state.Table{state.Chains, state.Jumps}, writes: 1,
			script: "flush table " + ip + "\ndelete chain " + ip + "nat-KUBE-MARK-MASQ\n" +
				"add chain " + ip + "nat-KUBE-MARK-MASQ { type filter hook input priority 0; }"},
		{name: "a base chain that packets do not enter", shows: jumps, writes: 1,
			script: "flush chain " + ip + "nat-OUTPUT\ndelete chain " + ip + "nat-OUTPUT\n" +
				"add chain " + ip + "nat-OUTPUT\nadd rule " + ip + "nat-OUTPUT jump nat-KUBE-SERVICES"},

		{name: "no element", script: "delete element " + ip + "KUBE-CLUSTER-IP { 10.96.0.1 . tcp . 80 }", shows: entries, writes: 1},
		{name: "an element too many", script: "add element " + ip6 + "KUBE-6-CLUSTER-IP { fd00:96::2 . udp . 53 }", shows: entries, writes: 1},
		{name: "an element without its comment", shows: entries, writes: 1,
			script: "delete element " + ip + "KUBE-NODE-PORT-TCP { 30080 }\nadd element " + ip + "KUBE-NODE-PORT-TCP { 30080 }"},
		{name: "an element with another comment", shows: entries, writes: 1,
			script: "delete element " + ip + "KUBE-IPVS-IPS { 10.96.0.1 }\nadd element " + ip + `KUBE-IPVS-IPS { 10.96.0.1 comment "mine" }`},
		{name: "an element that leads elsewhere", shows: entries, writes: 1,
			script: "delete element " + ip + "KUBE-INSIDE { 10.96.0.1 . tcp . 80 }\n" +
				"add element " + ip + `KUBE-INSIDE { 10.96.0.1 . tcp . 80 comment "shop/web:http" : 22 }`},
		{name: "an element for all", script: "add element " + ip + "KUBE-CLUSTER-IP { * }", shows: entries, writes: 1},
		{name: "elements of ranges that are no networks", shows: entries, writes: 1,
			script: "add element " + ip + "KUBE-LOAD-BALANCER-SOURCE-CIDR { 10.96.0.1 . tcp . 80 . 10.0.0.1-10.0.0.9, " +
				"10.96.0.1-10.96.0.9 . tcp . 81-90 . 10.0.0.0/8, * }"},
		{name: "an element of protocol 0 and one of a port of another", shows: entries, writes: 1,
			script: "add element " + ip + "KUBE-CLUSTER-IP { 10.96.0.1 . 0 . 80, 10.96.0.1 . 47 . 0 }\n" +
				"add element " + ip + "KUBE-NODE-PORT-TCP { 0 }"},
		{name: "an element that a larger one took the place of", shows: entries, writes: 1,
			script: "delete element " + ip + "KUBE-LOAD-BALANCER-SOURCE-CIDR { 10.96.0.1 . tcp . 80 . 192.0.2.0/24 }\n" +
				"add element " + ip + "KUBE-LOAD-BALANCER-SOURCE-CIDR { 10.96.0.1 . tcp . 80 . 192.0.0.0/16 }"},
		{name: "a set without elements", script: "flush set " + ip + "KUBE-LOAD-BALANCER-SOURCE-CIDR", shows: entries, writes: 1},

		{name: "a set of another type", script: remade("type ipv4_addr . inet_service; flags dynamic;"), writes: 3,
			shows: []state.Table{state.Sets, state.Entries, state.Chains, state.Jumps}},
		{name: "a set with room for few", script: remade("typeof ip daddr . ip protocol . th dport; size 5;"), writes: 3,
			shows: []state.Table{state.Sets, state.Entries, state.Chains, state.Jumps}},
		{name: "no table", script: "delete table " + ip, writes: 5, // sets, entries in their three turns, rules
			shows: []state.Table{state.Sets, state.Entries, state.Chains, state.Jumps}},
		{name: "no rules at all", script: "flush ruleset", writes: 5,
			shows: []state.Table{state.Sets, state.Entries, state.Chains, state.Jumps}},
	}
}

// remade makes a set anew, of which the rules have to go first.
func remade(header string) string {
	const set = "set ip kube-ipvs KUBE-NODE-PORT-SCTP-HASH"
	return "flush table ip kube-ipvs\ndelete " + set + "\nadd " + set + " { " + header + " }"
}

// changeInPlace replaces a rule by one that does something else and says that it does the same.
func changeInPlace(t *testing.T, c *Conn) {
	at := chainID{state.IPv4, "nat-KUBE-MARK-MASQ"}
	handle, r := firstRule(t, c, at)
	var b netlink.Requests
	b.Begin(0, 0)
	encoder{expressions: expressions{&b}, family: at.family}.plain(0)
	err := c.transact(t.Context(), func() {
		c.begin(unix.NFT_MSG_NEWRULE, unix.NLM_F_REPLACE, at.family)
		c.requests.String(unix.NFTA_RULE_TABLE, c.table)
		c.requests.String(unix.NFTA_RULE_CHAIN, at.name)
		c.requests.BigUint64(unix.NFTA_RULE_HANDLE, handle)
		ruleAt{expressions: b.Body(0), userData: r.userData}.append(&c.requests)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func jumpTwice(t *testing.T, c *Conn) {
	at := chainID{state.IPv6, "filter-INPUT"}
	_, r := firstRule(t, c, at)
	if err := c.transact(t.Context(), func() { c.ruleRequest(at.family, at.name, r.append) }); err != nil {
		t.Fatal(err)
	}
}

// anotherPriority leaves a base chain as it was, but for when packets enter it.
func anotherPriority(t *testing.T, c *Conn) {
	at := chainID{state.IPv6, "nat-PREROUTING"}
	_, r := firstRule(t, c, at)
	late, _ := hookOf("nft-nat", "PREROUTING")
	late.priority = -50
	err := c.transact(t.Context(), func() {
		c.emptyChain(at.family, at.name)
		c.deleteChain(at.family, at.name)
		c.makeChain(at.family, at.name, &late)
		c.ruleRequest(at.family, at.name, r.append)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// firstRule returns the first rule of a chain, with its handle.
func firstRule(t *testing.T, c *Conn, at chainID) (handle uint64, r ruleAt) {
	t.Helper()
	err := c.dumpOf(t.Context(), unix.NFT_MSG_GETRULE, unix.NFTA_RULE_TABLE, netlink.FamilyNumber(at.family), func() func(state.Family, netlink.Attributes) error {
		handle = 0
		return func(_ state.Family, a netlink.Attributes) error {
			if handle == 0 && a.Get(unix.NFTA_RULE_CHAIN).String() == at.name {
				handle = a.Get(unix.NFTA_RULE_HANDLE).BigUint64()
				r = ruleAt{slices.Clone(a.Get(unix.NFTA_RULE_EXPRESSIONS).Value), slices.Clone(a.Get(unix.NFTA_RULE_USERDATA).Value)}
			}
			return nil
		}
	})
	if err != nil || handle == 0 {
		t.Fatalf("no rule in %v: %v", at, err)
	}
	return handle, r
}

// generation is the number of transactions that the kernel has made in this namespace.
func generation(t testing.TB, c *Conn) (n uint32) {
	t.Helper()
	c.requests.Reset()
	c.begin(unix.NFT_MSG_GETGEN, 0, 0)
	err := c.socket.Ask(t.Context(), &c.requests, func(body []byte) error {
		a, err := netlink.ParseBody(body, header)
		n = a.Get(unix.NFTA_GEN_ID).BigUint32()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestWhatAnotherProgramChangesIsSeenAndRepaired(t *testing.T) {
	c, want := open(t), served()
	other := connect(t)
	changes(t, c, "nothing", state.New(), want)
	for _, d := range drifts() {
		if d.do != nil {
			d.do(t, other)
		} else {
			testkit.Feed(t, d.script, "nft", "-f", "-")
		}
		repair := state.Diff(listed(t, c), want)
		if shown := differing(repair); !slices.Equal(shown, d.shows) {
			t.Errorf("%s shows in %v, want %v: %.2000s", d.name, shown, d.shows, testkit.Differ(listed(t, c), want, 2))
		}
		before := generation(t, c)
		r := c.tables().Apply(t.Context(), repair)
		if failures, n := r.Failures(5); n > 0 || r.Drift() > 0 {
			t.Errorf("%s: %d failures, drift %d: %v", d.name, n, r.Drift(), failures)
		}
		if n := generation(t, c) - before; n != d.writes {
			t.Errorf("%s took %d transactions, want %d", d.name, n, d.writes)
		}
		holds(t, c, d.name, want)
	}
}

// differing are the tables that a delta changes.
func differing(d state.Delta) (list []state.Table) {
	for t, n := range map[state.Table]int{
		state.Sets: d.Sets.Len(), state.Entries: d.Entries.Len(), state.Chains: d.Chains.Len(), state.Jumps: d.Jumps.Len(),
	} {
		if n > 0 {
			list = append(list, t)
		}
	}
	slices.Sort(list)
	return list
}

// The tool shows what we write as an operator would write it, and makes the same sets of it. It can't
// read what it prints of a rule that looks into a map.
func TestTheToolPrintsTheSame(t *testing.T) {
	c := open(t)
	changes(t, c, "nothing", state.New(), served())
	out := testkit.Tool(t, "nft", "list", "ruleset")
	for _, line := range []string{
		"type nat hook prerouting priority dstnat - 1; policy accept;",
		"jump nat-KUBE-SERVICES",
		`elements = { 10.96.0.1 . tcp . 80 comment "shop/web:http" }`,
		`elements = { 10.96.0.1 . tcp . 80 . 192.0.2.0/24 comment "shop/web:http" }`,
		`elements = { 10.96.0.1 . tcp . 80 comment "shop/web:http" : 250.96.0.1 }`,
		`elements = { 30080 comment "shop/web:http" }`,
	} {
		if !strings.Contains(out, line) {
			t.Errorf("nft does not print %q", line)
		}
	}
	if t.Failed() {
		t.Log(out)
	}
	sets := testkit.Tool(t, "nft", "list", "sets") + testkit.Tool(t, "nft", "list", "maps")
	testkit.Feed(t, "flush ruleset\n"+sets, "nft", "-f", "-")
	have, want := listed(t, c), served()
	have.Chains, have.Jumps, want.Chains, want.Jumps = nil, nil, nil, nil
	if err := testkit.Differ(have, want, 5); err != nil {
		t.Errorf("after the tool has read what it printed: %v", err)
	}
}
