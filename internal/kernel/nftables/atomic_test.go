// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

func TestARefusedTransactionChangesNothing(t *testing.T) {
	c, want := open(t), served()
	changes(t, c, "nothing", state.New(), want)
	l := layoutOf(chainDelta{Add: []chainRow{{
		Key:   state.ChainKey{Family: state.IPv4, Table: "nft-nat", Name: "KUBE-NEW"},
		Value: state.ChainOf("-j KUBE-NOWHERE"),
	}}}, jumpDelta{})
	err := c.transactIf(t.Context(), func() error {
		c.makeSet("KUBE-NEW", headerOf(state.IPv4, state.HashIP))
		for _, f := range c.families {
			for k := range want.Chains {
				if k.Family == f {
					c.emptyChain(f, chainName(k.Table, k.Name))
				}
			}
		}
		x := writing{c: c, headers: want.Sets}
		x.lists(unix.NFT_MSG_DELSETELEM, 0, slices.Collect(kernel.EachWork(state.Diff(want, baseRows(config.Default())).Entries)), func(entryWork) bool { return true })
		return rewriting{c: c, headers: want.Sets}.requests(l)
	})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the transaction returned %v, want what a missing chain gives", err)
	}
	holds(t, c, "a refused transaction", want)
}

// thousands returns entries of a set of each kind.
func thousands(n int) map[state.SetEntry]state.Entry {
	rows := map[state.SetEntry]state.Entry{}
	for i := range n {
		a := netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)})
		e := state.SetEntry{Set: state.SetClusterIP.On(state.OnNFTables), Address: a, Protocol: state.TCP, Port: 80}
		v := state.Entry{Comment: fmt.Sprintf("shop/web-%d:http", i)}
		rows[e] = v
		e.Set = state.SetLoadBalancerSourceCIDR.On(state.OnNFTables)
		e.Source = netip.MustParsePrefix("10.0.0.0/8")
		rows[e] = v
	}
	return rows
}

// The kernel says which request is refused, but not which of its elements.
func TestBadRowsAmongThousandsFailAlone(t *testing.T) {
	c, want := open(t), baseRows(config.Default())
	changes(t, c, "nothing", state.New(), want)
	want.Entries = thousands(5000)
	d := state.Diff(state.New(), want).Entries
	var bad []state.SetEntry
	for i, r := range d.Add {
		if r.Key.Source.IsValid() && i%1500 == 7 {
			r.Key.Source = netip.MustParsePrefix("10.1.0.0/16")
			bad = append(bad, r.Key)
			d.Add = append(d.Add, r)
		}
	}
	there := 3 // were added meanwhile
	testkit.Apply(t, c.Entries(), entryDelta{Add: d.Add[:there]}, 0)
	d.Sort(state.SetEntry.Compare)
	r := c.Entries().Apply(t.Context(), d)
	if len(bad) == 0 || len(r.Failed) != len(bad) || r.Drift != there {
		t.Errorf("%d rows failed, want %d; drift %d, want %d", len(r.Failed), len(bad), r.Drift, there)
	}
	for _, e := range bad {
		if err := r.Failed[e]; err == nil || !strings.Contains(err.Error(), "overlaps that of another entry") {
			t.Errorf("%v failed with %v, want what an overlap gives", e, err)
		}
	}
	holds(t, c, "bad rows", want)
}

func TestABadChainAmongGoodOnesFailsAlone(t *testing.T) {
	c, want := open(t), baseRows(config.Default())
	all := baseRows(config.Default())
	long := state.ChainKey{Family: state.IPv6, Table: "nft-nat", Name: "KUBE-LONG"}
	text := "-m comment --comment " + strings.Repeat("x", longestText-len("-m comment --comment  -j RETURN")) + " -j RETURN"
	want.Chains[long], all.Chains[long] = state.ChainOf(text), state.ChainOf(text)
	long.Name = "KUBE-LONGER"
	all.Chains[long] = state.ChainOf(strings.Replace(text, "x", "xx", 1))
	r := c.tables().Apply(t.Context(), state.Diff(state.New(), all))
	if failed := r.Chains.Failed; len(failed) != 1 || failed[long] == nil {
		t.Errorf("failed: %v, want the chain with the long rule", failed)
	}
	if n := len(r.Jumps.Failed) + len(r.Sets.Failed) + r.Drift(); n > 0 {
		t.Errorf("and %d others: %+v", n, r)
	}
	holds(t, c, "a bad chain", want)
}

// A core that gets fs.ErrNotExist reads all tables again.
func TestAFlushBeneathUsIsAnAnswer(t *testing.T) {
	c, want := open(t), served()
	changes(t, c, "nothing", state.New(), want)
	d := state.Diff(state.New(), want)
	d.Sets.Add = nil
	d.Chains.Add = slices.DeleteFunc(d.Chains.Add, func(r chainRow) bool { return r.Key.Name != state.ChainServices })
	gone := state.Delta{Entries: entryDelta{Remove: d.Entries.Add}}
	for _, script := range []string{"flush ruleset", "delete table ip kube-ipvs\ndelete table ip6 kube-ipvs"} {
		testkit.Feed(t, script, "nft", "-f", "-")
		if r := c.tables().Apply(t.Context(), gone); r.Drift() != gone.Len() {
			t.Errorf("after %s, removing entries: drift %d, want %d", script, r.Drift(), gone.Len())
		}
		r := c.tables().Apply(t.Context(), d)
		failures, n := r.Failures(d.Len())
		if n != d.Len() {
			t.Errorf("after %s, %d rows failed, want all %d", script, n, d.Len())
		}
		for _, err := range failures {
			if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("after %s: %v", script, err)
			}
		}
		changes(t, c, script, listed(t, c), want)
	}
}

// A table with the flag owner can be changed by the socket alone that made it, and goes with it.
func TestATableOfAnotherOwner(t *testing.T) {
	c, want := open(t), served()
	owner, err := Open(state.IPv4, state.IPv6)
	if err != nil {
		t.Fatal(err)
	}
	err = owner.transact(t.Context(), func() {
		for _, f := range owner.families {
			owner.begin(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, f)
			owner.requests.String(unix.NFTA_TABLE_NAME, owner.table)
			owner.requests.BigUint32(unix.NFTA_TABLE_FLAGS, 2) // NFT_TABLE_F_OWNER
		}
		for n, v := range want.Sets {
			owner.makeSet(n, v)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	d := state.Diff(listed(t, c), want)
	before := generation(t, c)
	r := c.tables().Apply(t.Context(), d)
	failures, n := r.Failures(d.Len())
	if n != d.Len() {
		t.Errorf("%d rows failed, want all %d", n, d.Len())
	}
	for _, err := range failures {
		if !errors.Is(err, fs.ErrPermission) {
			t.Errorf("a row failed with %v", err)
		}
	}
	if generation(t, c) != before {
		t.Error("something was changed")
	}
	if err := owner.Close(); err != nil {
		t.Fatal(err)
	}
	changes(t, c, "the owner is gone", listed(t, c), want)
}

// inNamespace is set in the process that has no rights on the machine.
const inNamespace = "NFTABLES_TEST_IN_USER_NAMESPACE"

// Without CAP_NET_ADMIN on the machine a socket's buffer stays small: a transaction has to be made in parts.
func TestManyRowsWithoutRightsOnTheMachine(t *testing.T) {
	if os.Getenv(inNamespace) == "" {
		again := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		again.Env = append(os.Environ(), inNamespace+"=1")
		again.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET,
			UidMappings: []syscall.SysProcIDMap{{Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{Size: 1}},
		}
		if out, err := again.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	c, want := connect(t), baseRows(config.Default())
	changes(t, c, "nothing", state.New(), want)
	rows := thousands(3000)
	testkit.AddAll(t, c.Entries(), rows)
	want.Entries = rows
	holds(t, c, "adding many rows", want)
	all := slices.Collect(kernel.EachWork(state.Diff(state.New(), want).Entries))
	if err := (&writing{c: c, headers: want.Sets}).send(context.Background(), all); !errors.Is(err, unix.EMSGSIZE) {
		t.Errorf("sending all at once returned %v: the test shows nothing", err)
	}
}

// A set that is replaced is written whole in one transaction, with the longest comments.
func TestASetOfManyElementsIsReplacedAtOnce(t *testing.T) {
	c, want := open(t), state.New()
	n := state.SetInside.For(state.IPv6).On(state.OnNFTables)
	want.Sets[n] = headerOf(n.Family(), state.MapIPPortToPort)
	for i := range 3000 {
		a := netip.AddrFrom16([16]byte{0xfd, 14: byte(i >> 8), 15: byte(i)})
		want.Entries[state.SetEntry{Set: n, Address: a, Protocol: state.TCP, Port: 8080}] = state.Entry{Comment: fmt.Sprintf("%0*d", maxComment, i)}
	}
	changes(t, c, "nothing", state.New(), want)
	before := generation(t, c)
	want.Sets[n] = headerOf(n.Family(), state.HashIPPort)
	changes(t, c, "another type", listed(t, c), want)
	if made := generation(t, c) - before; made != 1 {
		t.Errorf("replacing a set took %d transactions", made)
	}
}

// Such a set may be larger than what a socket sends at once.
func TestATransactionLargerThanTheBuffer(t *testing.T) {
	c := open(t)
	junk := make([]byte, 60<<10)
	const requests = 200 // 12 MiB
	err := c.transact(t.Context(), func() {
		for range requests {
			c.makeTable(state.IPv4)
			c.requests.Bytes(1000, junk) // of a type that the kernel does not know, and passes over
		}
	})
	if err != nil {
		t.Error(err)
	}
	if out := testkit.Tool(t, "nft", "list", "tables"); out != "table ip kube-ipvs\n" {
		t.Errorf("there is %q", out)
	}
}
