// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"context"
	"errors"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/iptables"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

// The kernel of the lab has no nftables for IPv4 and IPv6 by themselves, so these are tables of bridges. The requests
// differ by one byte.

func open(t *testing.T, names ...string) *Conn {
	t.Helper()
	testkit.Namespace(t)
	c, err := Open(names...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func (c *Conn) mustMake(t *testing.T, tables ...table) {
	t.Helper()
	c.requests.Reset()
	for _, made := range tables {
		c.requests.Begin(subsystem|unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
		c.requests.Raw(made.family, unix.NFNETLINK_V0, 0, 0)
		c.requests.String(unix.NFTA_TABLE_NAME, made.name)
	}
	if err := c.socket.Transaction(t.Context(), &c.requests, unix.NFNL_SUBSYS_NFTABLES); err != nil {
		t.Fatalf("making %v: %v", tables, err)
	}
}

func (c *Conn) mustList(t *testing.T, want ...table) {
	t.Helper()
	got, err := c.tables(t.Context())
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("tables %v, want %v (%v)", got, want, err)
	}
}

func TestATableIsRemovedAndOthersStay(t *testing.T) {
	c := open(t, "kube-proxy")
	c.mustList(t)
	ours, others := table{unix.NFPROTO_BRIDGE, "kube-proxy"}, table{unix.NFPROTO_BRIDGE, "another"}
	c.mustMake(t, ours, others)
	c.mustList(t, ours)
	if met, err := c.remove(t.Context(), ours); err != nil || !met {
		t.Errorf("removing: met %v, %v", met, err)
	}
	c.mustList(t)
	if met, err := c.remove(t.Context(), ours); err != nil || met {
		t.Errorf("removing again: met %v, %v, want nothing met", met, err)
	}
	c.names = []string{"another"}
	c.mustList(t, others)
}

func TestATransactionIsDoneWholeOrNotAtAll(t *testing.T) {
	c := open(t, "one", "two")
	one, two := table{unix.NFPROTO_BRIDGE, "one"}, table{unix.NFPROTO_BRIDGE, "two"}
	c.mustMake(t, one, two)
	c.requests.Reset()
	deleteTable(&c.requests, one)
	deleteTable(&c.requests, table{unix.NFPROTO_BRIDGE, "three"})
	deleteTable(&c.requests, two)
	err := c.socket.Transaction(t.Context(), &c.requests, unix.NFNL_SUBSYS_NFTABLES)
	if !errors.Is(err, unix.ENOENT) {
		t.Errorf("a missing table: %v, want ENOENT", err)
	}
	c.mustList(t, one, two)
	c.requests.Reset()
	deleteTable(&c.requests, one)
	deleteTable(&c.requests, two)
	if err := c.socket.Transaction(t.Context(), &c.requests, unix.NFNL_SUBSYS_NFTABLES); err != nil {
		t.Error(err)
	}
	c.mustList(t)
}

func TestASubsystemThatIsNotThereRefusesTheWhole(t *testing.T) {
	c := open(t)
	c.requests.Reset()
	deleteTable(&c.requests, table{unix.NFPROTO_BRIDGE, "one"})
	const none = 200
	if err := c.socket.Transaction(t.Context(), &c.requests, none); err == nil {
		t.Error("a transaction of no subsystem succeeded")
	}
	c.mustList(t) // what comes next is understood
}

func TestTablesStandAmongTheChains(t *testing.T) {
	c := open(t, "kube-proxy")
	rules, err := iptables.Open(t.Context(), func(name string) bool { return name == "KUBE-A" }, state.IPv4)
	if err != nil {
		t.Fatal(err)
	}
	chains := c.Beside(rules.Chains())
	k := state.ChainKey{Family: state.IPv4, Table: state.Filter, Name: "KUBE-A"}
	gone := state.ChainKey{Family: state.IPv6, Table: state.NFTables, Name: "kube-proxy"}
	r := chains.Apply(context.Background(), chainDelta{
		Add:    []diff.Row[state.ChainKey, state.Chain]{{Key: k, Value: state.ChainOf("-j ACCEPT")}},
		Remove: []diff.Row[state.ChainKey, state.Chain]{{Key: gone}},
	})
	if len(r.Failed) > 0 || r.Drift != 1 {
		t.Errorf("%+v, want no failure, and drift for the table that was gone", r)
	}
	rows, err := chains.List(t.Context())
	if err != nil || len(rows) != 1 || rows[k] != state.ChainOf("-j ACCEPT") {
		t.Errorf("rows %v, %v", rows, err)
	}
	if r := chains.Apply(context.Background(), chainDelta{Add: []diff.Row[state.ChainKey, state.Chain]{{Key: gone}}}); len(r.Failed) != 1 {
		t.Errorf("a table of nftables was made: %+v", r)
	}
}

func TestATableIsParsedAsItWasEncoded(t *testing.T) {
	var b netlink.Requests
	deleteTable(&b, table{unix.NFPROTO_IPV6, "kube-proxy"}) // has the form of an answer
	got, err := parseTable(b.Body(0))
	if err != nil || got != (table{unix.NFPROTO_IPV6, "kube-proxy"}) || netlink.FamilyOf(uint16(got.family)) != state.IPv6 || netlink.FamilyNumber(state.IPv6) != got.family {
		t.Errorf("%+v, %v", got, err)
	}
	if f := netlink.FamilyOf(unix.NFPROTO_BRIDGE); f != 0 {
		t.Errorf("a table of bridges counts as one of %v", f)
	}
}

func FuzzParseTable(f *testing.F) {
	var b netlink.Requests
	deleteTable(&b, table{unix.NFPROTO_IPV4, "kube-proxy"})
	f.Add(b.Body(0))
	f.Fuzz(func(t *testing.T, body []byte) {
		parsed, err := parseTable(body)
		if err != nil {
			return
		}
		b.Reset()
		deleteTable(&b, parsed)
		if again, err := parseTable(b.Body(0)); err != nil || again != parsed {
			t.Errorf("%+v became %+v, %v", parsed, again, err)
		}
	})
}
