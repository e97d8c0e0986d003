// SPDX-License-Identifier: Apache-2.0

package ipset

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

// replaced checks that the set is brought to want while rules refer to it, and that its entries and the rules are still
// there.
func replaced(t *testing.T, c *Conn, name state.SetName, want state.Set, table entryTable) {
	t.Helper()
	rules := testkit.Tool(t, "iptables-save", "-t", "filter")
	testkit.Apply(t, c.Sets(), diff.Delta[state.SetName, state.Set]{
		Update: []diff.Change[state.SetName, state.Set]{{Key: name, New: want}},
	}, 0)
	equal(t, c.Sets(), map[state.SetName]state.Set{name: want})
	equal(t, c.Entries(), table)
	if now := testkit.Tool(t, "iptables-save", "-t", "filter"); testkit.RulesOf(now) != testkit.RulesOf(rules) || !strings.Contains(now, string(name)) {
		t.Errorf("rules were\n%sand are now\n%s", rules, now)
	}
}

func TestASetIsReplacedWhileRulesReferToIt(t *testing.T) {
	c := open(t)
	testkit.Tool(t, "ipset", "create", "KUBE-CLUSTER-IP", "hash:ip,port", "maxelem", "65536")
	testkit.Tool(t, "ipset", "add", "KUBE-CLUSTER-IP", "10.96.0.1,tcp:443")
	testkit.Tool(t, "ipset", "add", "KUBE-CLUSTER-IP", "10.96.0.10,udp:53")
	testkit.Tool(t, "iptables", "-A", "FORWARD", "-m", "set", "--match-set", "KUBE-CLUSTER-IP", "dst,dst", "-j", "ACCEPT")
	entry := func(a string, p state.Protocol, port uint16) state.SetEntry {
		return state.SetEntry{Set: "KUBE-CLUSTER-IP", Address: netip.MustParseAddr(a), Protocol: p, Port: port}
	}
	table := entryTable{entry("10.96.0.1", state.TCP, 443): {}, entry("10.96.0.10", state.UDP, 53): {}}
	want := state.Set{Type: state.HashIPPort, Family: state.IPv4, MaxElem: 1 << 20, Comment: true}
	replaced(t, c, "KUBE-CLUSTER-IP", want, table)

	for k := range table {
		table[k] = state.Entry{Comment: "kube-system/dns:" + k.Member()}
	}
	testkit.Apply(t, c.Entries(), diff.Delta[state.SetEntry, state.Entry]{Update: changesTo(table)}, 0)
	want.MaxElem = 99
	replaced(t, c, "KUBE-CLUSTER-IP", want, table)
}

func TestABitmapOfAnotherRangeIsReplaced(t *testing.T) {
	c := open(t)
	testkit.Tool(t, "ipset", "create", "PORTS", "bitmap:port", "range", "30000-32767")
	testkit.Tool(t, "ipset", "add", "PORTS", "30080")
	testkit.Tool(t, "iptables", "-A", "INPUT", "-p", "tcp", "-m", "set", "--match-set", "PORTS", "dst", "-j", "ACCEPT")
	replaced(t, c, "PORTS", state.Set{Type: state.BitmapPort, Comment: true}, entryTable{{Set: "PORTS", Port: 30080}: {}})
}

func TestALeftOverTemporarySetIsReused(t *testing.T) {
	c := open(t)
	temp := string(temporary("S"))
	testkit.Tool(t, "ipset", "create", temp, "hash:net")
	testkit.Tool(t, "ipset", "create", "S", "hash:ip")
	testkit.Tool(t, "ipset", "add", "S", "192.0.2.1")
	if _, ok := testkit.Listed(t, c.Sets())[state.SetName(temp)]; !ok {
		t.Errorf("%s is not listed", temp)
	}
	want := state.Set{Type: state.HashIP, Family: state.IPv4, MaxElem: 65536, Comment: true}
	testkit.Apply(t, c.Sets(), diff.Delta[state.SetName, state.Set]{
		Update: []diff.Change[state.SetName, state.Set]{{Key: "S", New: want}},
	}, 0)
	equal(t, c.Sets(), map[state.SetName]state.Set{"S": want})
}

func TestASetThatCantBeReplacedStaysAsItWas(t *testing.T) {
	c := open(t)
	testkit.Tool(t, "ipset", "create", "S", "hash:ip")
	testkit.Tool(t, "ipset", "add", "S", "192.0.2.1")
	testkit.Tool(t, "ipset", "add", "S", "192.0.2.2")
	before := testkit.Tool(t, "ipset", "save")
	change := func(s state.Set) diff.Delta[state.SetName, state.Set] {
		return diff.Delta[state.SetName, state.Set]{Update: []diff.Change[state.SetName, state.Set]{{Key: "S", New: s}}}
	}
	wantText(t, fails(t, c.Sets(), change(state.Set{Type: state.HashIPPort, Family: state.IPv4, MaxElem: 9}), "S"),
		"making set S", "type hash:ip", "type hash:ip,port")
	wantText(t, fails(t, c.Sets(), change(state.Set{Type: state.HashIP, Family: state.IPv6, MaxElem: 9}), "S"),
		"family IPv4", "family IPv6")
	if after := testkit.Tool(t, "ipset", "save"); after != before {
		t.Errorf("sets were\n%sand are now\n%s", before, after)
	}
}

func TestEntriesThatDoNotFitKeepASetFromBeingReplaced(t *testing.T) {
	c := open(t)
	header := state.Set{Type: state.HashIP, Family: state.IPv4, MaxElem: 65536}
	testkit.AddAll(t, c.Sets(), map[state.SetName]state.Set{"S": header})
	table := many(64)
	testkit.AddAll(t, c.Entries(), table)
	small := header
	small.MaxElem = 2
	err := fails(t, c.Sets(), diff.Delta[state.SetName, state.Set]{
		Update: []diff.Change[state.SetName, state.Set]{{Key: "S", New: small}},
	}, "S")
	wantText(t, err, "its 64 entries", "maxelem 2")
	equal(t, c.Sets(), map[state.SetName]state.Set{"S": header})
	equal(t, c.Entries(), table)
}
