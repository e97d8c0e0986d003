// SPDX-License-Identifier: Apache-2.0

package ipset

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

type entryTable = map[state.SetEntry]state.Entry

// open is a connection in a new network namespace where all sets are ours but those that begin with FOREIGN, and
// temporary ones.
func open(t *testing.T) *Conn {
	t.Helper()
	testkit.Namespace(t)
	c, err := Open(func(n state.SetName) bool {
		return !strings.HasPrefix(string(n), "FOREIGN") && !n.Temporary()
	})
	if err != nil {
		t.Fatal(err)
	}
	testkit.CloseAtEnd(t, c)
	return c
}

func equal[K, V comparable](t *testing.T, s kernel.Store[K, V], want map[K]V) {
	t.Helper()
	if d := cmp.Diff(want, testkit.Listed(t, s), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); d != "" {
		t.Errorf("rows differ (-want +got):\n%s", d)
	}
}

// commented are the samples, each with a comment if its set has comments.
func commented() entryTable {
	table := entryTable{}
	for k := range samples() {
		table[k] = state.Entry{}
		if headersOf()[k.Set].Comment {
			table[k] = state.Entry{Comment: "default/web:" + k.Member()}
		}
	}
	return table
}

func TestAllTypesAndFamiliesComeBackAsMade(t *testing.T) {
	c := open(t)
	testkit.AddAll(t, c.Sets(), headersOf())
	equal(t, c.Sets(), headersOf())
	testkit.AddAll(t, c.Entries(), commented())
	equal(t, c.Entries(), commented())
}

func TestTheToolPrintsTheSameEntries(t *testing.T) {
	c := open(t)
	testkit.AddAll(t, c.Sets(), headersOf())
	testkit.AddAll(t, c.Entries(), commented())

	var want []string
	for k, v := range commented() {
		line := "add " + k.String()
		if v.Comment != "" {
			line += fmt.Sprintf(" comment %q", v.Comment)
		}
		want = append(want, line)
	}
	var got []string
	for line := range strings.Lines(testkit.Tool(t, "ipset", "save")) {
		if strings.HasPrefix(line, "add ") {
			got = append(got, strings.TrimSpace(line))
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("ipset save differs (-want +got):\n%s", d)
	}
}

func TestTheToolsSetsAreReadAsTheyAre(t *testing.T) {
	c := open(t)
	for _, create := range []string{
		"KUBE-CLUSTER-IP hash:ip,port family inet hashsize 1024 maxelem 65536",
		"KUBE-6-IPVS-IPS hash:ip family inet6 hashsize 1024 maxelem 65536 comment",
		"KUBE-NODE-PORT-TCP bitmap:port range 0-65535",
		"A bitmap:port range 5-1023 comment counters",
		"B hash:ip family inet timeout 300 skbinfo",
		"FOREIGN-NET hash:net family inet6 maxelem 9",
		"FOREIGN-LIST list:set",
	} {
		testkit.Tool(t, append([]string{"ipset", "create"}, strings.Fields(create)...)...)
	}
	equal(t, c.Sets(), map[state.SetName]state.Set{
		"KUBE-CLUSTER-IP":    {Type: state.HashIPPort, Family: state.IPv4, MaxElem: 65536},
		"KUBE-6-IPVS-IPS":    {Type: state.HashIP, Family: state.IPv6, MaxElem: 65536, Comment: true},
		"KUBE-NODE-PORT-TCP": {Type: state.BitmapPort},
		"A":                  {Type: "bitmap:port counters range 5-1023", Comment: true},
		"B":                  {Type: "hash:ip timeout 300", Family: state.IPv4, MaxElem: 65536, Marks: true},
		"FOREIGN-NET":        {Type: "hash:net", Family: state.IPv6, MaxElem: 9},
		"FOREIGN-LIST":       {Type: "list:set"},
	})
}

func TestForeignSetsAreLeftAlone(t *testing.T) {
	c := open(t)
	testkit.Tool(t, "ipset", "create", "FOREIGN", "hash:ip")
	testkit.Tool(t, "ipset", "add", "FOREIGN", "192.0.2.1")
	testkit.Tool(t, "ipset", "create", "FOREIGN-NET", "hash:net")
	testkit.Tool(t, "ipset", "add", "FOREIGN-NET", "192.0.2.0/24")
	before := testkit.Tool(t, "ipset", "save")

	testkit.AddAll(t, c.Sets(), headersOf())
	testkit.AddAll(t, c.Entries(), commented())
	equal(t, c.Entries(), commented())
	testkit.Apply(t, c.Entries(), diff.Delta[state.SetEntry, state.Entry]{Remove: testkit.Rows(commented())}, 0)
	equal(t, c.Entries(), entryTable{})
	testkit.Apply(t, c.Sets(), diff.Delta[state.SetName, state.Set]{Remove: testkit.Rows(headersOf())}, 0)

	if after := testkit.Tool(t, "ipset", "save"); after != before {
		t.Errorf("foreign sets were\n%sand are now\n%s", before, after)
	}
}

func TestDriftIsCountedAndRepaired(t *testing.T) {
	c := open(t)
	header := headersOf()["port4"]
	k := state.SetEntry{Set: "port4", Address: v4, Protocol: state.TCP, Port: 443}
	old, desired := state.Entry{Comment: "default/old:http"}, state.Entry{Comment: "default/new:http"}
	row := []diff.Row[state.SetEntry, state.Entry]{{Key: k, Value: desired}}
	change := []diff.Change[state.SetEntry, state.Entry]{{Key: k, Old: old, New: desired}}
	setRow := []diff.Row[state.SetName, state.Set]{{Key: "port4", Value: header}}
	type delta = diff.Delta[state.SetEntry, state.Entry]
	type setDelta = diff.Delta[state.SetName, state.Set]

	testkit.Apply(t, c.Sets(), setDelta{Update: []diff.Change[state.SetName, state.Set]{{Key: "port4", New: header}}}, 1)
	testkit.Apply(t, c.Sets(), setDelta{Add: setRow}, 1)
	testkit.AddAll(t, c.Entries(), entryTable{k: old})
	testkit.Apply(t, c.Entries(), delta{Add: row}, 1) // there already, with another comment
	equal(t, c.Entries(), entryTable{k: desired})
	testkit.Apply(t, c.Entries(), delta{Remove: row}, 0)
	testkit.Apply(t, c.Entries(), delta{Remove: row}, 1)
	testkit.Apply(t, c.Entries(), delta{Update: change}, 1)
	testkit.Apply(t, c.Entries(), delta{Update: change}, 0)
	equal(t, c.Entries(), entryTable{k: desired})
	testkit.Apply(t, c.Sets(), setDelta{Remove: setRow}, 0)
	testkit.Apply(t, c.Sets(), setDelta{Remove: setRow}, 1)
	testkit.Apply(t, c.Entries(), delta{Remove: row}, 1) // the set is gone, and the entry with it
}

func TestBitmapCommentsAreChanged(t *testing.T) {
	c := open(t)
	testkit.AddAll(t, c.Sets(), map[state.SetName]state.Set{"bits": headersOf()["bits"]})
	k := state.SetEntry{Set: "bits", Port: 30080}
	testkit.AddAll(t, c.Entries(), entryTable{k: {Comment: "a/a:a"}})
	testkit.Apply(t, c.Entries(), diff.Delta[state.SetEntry, state.Entry]{
		Update: []diff.Change[state.SetEntry, state.Entry]{{Key: k, New: state.Entry{Comment: "b/b:b"}}},
	}, 0)
	equal(t, c.Entries(), entryTable{k: {Comment: "b/b:b"}})
}

func changesTo(table entryTable) []diff.Change[state.SetEntry, state.Entry] {
	var changes []diff.Change[state.SetEntry, state.Entry]
	for k, v := range table {
		changes = append(changes, diff.Change[state.SetEntry, state.Entry]{Key: k, New: v})
	}
	return changes
}

// fails applies d and returns the one error of the row k.
func fails[K, V comparable](t *testing.T, s kernel.Store[K, V], d diff.Delta[K, V], k K) error {
	t.Helper()
	r := s.Apply(context.Background(), d)
	if len(r.Failed) != 1 || r.Failed[k] == nil {
		t.Fatalf("failed: %v, want only %v", r.Failed, k)
	}
	return r.Failed[k]
}

func wantText(t *testing.T, err error, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not say %q", err, w)
		}
	}
}

func TestASetInUseIsNotDestroyed(t *testing.T) {
	c := open(t)
	header := headersOf()["ip4"]
	testkit.AddAll(t, c.Sets(), map[state.SetName]state.Set{"ip4": header})
	testkit.Tool(t, "iptables", "-A", "FORWARD", "-m", "set", "--match-set", "ip4", "dst", "-j", "ACCEPT")
	err := fails(t, c.Sets(), diff.Delta[state.SetName, state.Set]{Remove: []diff.Row[state.SetName, state.Set]{{Key: "ip4", Value: header}}}, "ip4")
	wantText(t, err, "destroying set ip4", "in use by an iptables rule")
}

func TestASetWithoutANameDestroysNothing(t *testing.T) {
	c := open(t)
	testkit.AddAll(t, c.Sets(), headersOf())
	fails(t, c.Sets(), diff.Delta[state.SetName, state.Set]{Remove: []diff.Row[state.SetName, state.Set]{{}}}, "")
	equal(t, c.Sets(), headersOf())
}

func TestBadEntriesDoNotHarmTheOthers(t *testing.T) {
	c := open(t)
	testkit.AddAll(t, c.Sets(), headersOf())
	missing := state.SetEntry{Set: "NOPE", Address: v4}
	family := state.SetEntry{Set: "ip4", Address: v6}
	silent := state.SetEntry{Set: "ip4ip", Address: v4, Protocol: state.TCP, Port: 1, Source: host(v4)}
	long := state.SetEntry{Set: "port4", Address: v4, Protocol: state.TCP, Port: 1}
	typed := state.SetEntry{Set: "bits", Address: v4}
	want := map[state.SetEntry]string{
		missing: "the set does not exist",
		family:  "IP family does not take",
		silent:  "carry no comments",
		long:    "longer than the kernel's 255",
		typed:   "set entry bits 10.96.0.10: ",
	}
	table := commented()
	bad := entryTable{missing: {}, family: {}, silent: {Comment: "x"}, long: {Comment: strings.Repeat("x", 256)}, typed: {}}
	maps.Copy(table, bad)

	r := c.Entries().Apply(context.Background(), diff.Delta[state.SetEntry, state.Entry]{Add: testkit.Rows(table)})
	if len(r.Failed) != len(bad) || r.Drift != 0 {
		t.Errorf("%d rows failed, want %d; drift %d, want 0", len(r.Failed), len(bad), r.Drift)
	}
	for k, words := range want {
		if r.Failed[k] == nil {
			t.Errorf("%v did not fail", k)
			continue
		}
		wantText(t, r.Failed[k], words)
		if errors.Is(r.Failed[k], fs.ErrNotExist) != (k == missing) {
			t.Errorf("%v: fs.ErrNotExist in %v", k, r.Failed[k])
		}
	}
	equal(t, c.Entries(), commented())
}

func TestAFullSetSaysHowMuchItTakes(t *testing.T) {
	c := open(t)
	testkit.AddAll(t, c.Sets(), map[state.SetName]state.Set{"small": {Type: state.HashIPPort, Family: state.IPv4, MaxElem: 3, Comment: true}})
	table := entryTable{}
	for port := range uint16(8) {
		table[state.SetEntry{Set: "small", Address: v4, Protocol: state.TCP, Port: port + 1}] = state.Entry{}
	}
	r := c.Entries().Apply(context.Background(), diff.Delta[state.SetEntry, state.Entry]{Add: testkit.Rows(table)})
	for k, err := range r.Failed {
		wantText(t, err, "adding set entry small 10.96.0.10,tcp:"+fmt.Sprint(k.Port), "set small is full", "at most 3 entries")
		delete(table, k)
	}
	if len(r.Failed) == 0 {
		t.Error("nothing failed")
	}
	equal(t, c.Entries(), table)
}

// many are n entries of the hash:ip set S.
func many(n int) entryTable {
	table := entryTable{}
	for i := range n {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		table[state.SetEntry{Set: "S", Address: a.Next()}] = state.Entry{}
	}
	return table
}

func TestTwentyThousandEntriesTakeFewSystemCalls(t *testing.T) {
	c := open(t)
	testkit.AddAll(t, c.Sets(), map[state.SetName]state.Set{"S": {Type: state.HashIP, Family: state.IPv4, MaxElem: 1 << 20, Comment: true}})
	table := many(20000)
	for k := range table {
		table[k] = state.Entry{Comment: "default/" + k.Address.String() + ":http"}
	}
	before := c.Traffic()
	testkit.AddAll(t, c.Entries(), table)
	after := c.Traffic()
	if calls, sent := after.Calls-before.Calls, after.Requests-before.Requests; sent != 20000 || calls > 60 {
		t.Errorf("%d requests in %d calls, want 20000 in at most 60", sent, calls)
	}
	if got := testkit.Listed(t, c.Entries()); !maps.Equal(got, table) {
		t.Errorf("%d entries listed, want the %d that were added", len(got), len(table))
	}
	if calls := c.Traffic().Calls - after.Calls; calls != 2 {
		t.Errorf("%d dumps for a list of one set, want 2", calls)
	}
}

func TestEntriesCanBePutBackAfterAFlush(t *testing.T) {
	c := open(t)
	testkit.AddAll(t, c.Sets(), headersOf())
	testkit.AddAll(t, c.Entries(), commented())
	testkit.Tool(t, "ipset", "flush")
	have := testkit.Listed(t, c.Entries())
	if len(have) != 0 {
		t.Fatalf("%d entries after a flush", len(have))
	}
	testkit.Apply(t, c.Entries(), diff.Of(have, commented(), state.SetEntry.Compare), 0)
	equal(t, c.Entries(), commented())
}

func TestNomatchIsSeenAndRepaired(t *testing.T) {
	c := open(t)
	testkit.AddAll(t, c.Sets(), map[state.SetName]state.Set{"net4": headersOf()["net4"]})
	testkit.Tool(t, "ipset", "add", "net4", "10.96.0.10,tcp:80,10.0.0.0/8", "nomatch", "comment", "x")
	k := state.SetEntry{Set: "net4", Address: v4, Protocol: state.TCP, Port: 80, Source: netip.MustParsePrefix("10.0.0.0/8")}
	equal(t, c.Entries(), entryTable{k: {Comment: "nomatch x"}})
	testkit.Apply(t, c.Entries(), diff.Delta[state.SetEntry, state.Entry]{Update: changesTo(entryTable{k: {Comment: "x"}})}, 0)
	equal(t, c.Entries(), entryTable{k: {Comment: "x"}})
}

func TestACancelledContextFailsAllRows(t *testing.T) {
	c := open(t)
	testkit.AddAll(t, c.Sets(), headersOf())
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	r := c.Entries().Apply(ctx, diff.Delta[state.SetEntry, state.Entry]{Add: testkit.Rows(commented())})
	if len(r.Failed) != len(commented()) {
		t.Errorf("%d rows failed, want %d", len(r.Failed), len(commented()))
	}
	if _, err := c.Entries().List(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("list: %v", err)
	}
}
