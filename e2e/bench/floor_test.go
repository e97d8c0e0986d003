// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/batch"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// floor is the least that the rows of a wish can cost: all of them encoded
// beforehand, to be sent in full batches, without a look at what is there or
// at what became of a row. It is encoded here a second time, on its own, so
// that no detour of the adapters is in it.
type floor struct {
	sysctls   []diff.Row[state.SysctlName, string]
	timeout   *batch.Requests
	sets      *batch.Requests // and their entries
	rules     map[state.Family]string
	servers   *batch.Requests // virtual and real
	addresses *batch.Requests // and their device
}

// restores are the tools that write rules.
var restores = map[state.Family]string{state.IPv4: "iptables-restore", state.IPv6: "ip6tables-restore"}

func prepare(t testing.TB, want state.State) floor {
	t.Helper()
	ipvs, err := netlink.GenlFamilyGet("IPVS")
	if err != nil {
		t.Fatal(err)
	}
	all := state.FragmentOf(want, nil)
	f := floor{
		sysctls:   slices.DeleteFunc(slices.Clone(all.Sysctls), isTimeout),
		timeout:   encodeTimeout(ipvs.ID, want.Sysctls[state.TCPTimeout]),
		sets:      encodeSets(all.Sets, all.Entries),
		rules:     map[state.Family]string{},
		servers:   encodeServers(ipvs.ID, all.VirtualServers, all.RealServers),
		addresses: encodeAddresses(all.Addresses),
	}
	for family := range restores {
		f.rules[family] = script(family, all.Chains, all.Jumps)
	}
	return f
}

func isTimeout(r diff.Row[state.SysctlName, string]) bool { return r.Key == state.TCPTimeout }

// script is the input of one iptables-restore.
func script(f state.Family, chains []diff.Row[state.ChainKey, state.Chain], jumps []diff.Row[state.JumpKey, state.Jump]) string {
	var text strings.Builder
	for _, table := range []state.RuleTable{state.NAT, state.Filter, state.Mangle} {
		text.WriteString("*" + string(table) + "\n")
		var rules strings.Builder
		for _, c := range chains {
			if c.Key.Family != f || c.Key.Table != table {
				continue
			}
			text.WriteString(":" + c.Key.Name + " - [0:0]\n")
			for _, rule := range c.Value.Lines() {
				rules.WriteString("-A " + c.Key.Name + " " + rule + "\n")
			}
		}
		for _, j := range slices.Backward(jumps) {
			if j.Key.Family == f && j.Key.Table == table {
				rules.WriteString("-I " + j.Key.From + " 1 " + j.Value.Rule + "\n")
			}
		}
		text.WriteString(rules.String() + "COMMIT\n")
	}
	return text.String()
}

// sockets are those that a floor is sent over.
type sockets struct{ netfilter, generic, route *batch.Socket }

func openSockets(t testing.TB) sockets {
	t.Helper()
	return sockets{socket(t, unix.NETLINK_NETFILTER), socket(t, unix.NETLINK_GENERIC), socket(t, unix.NETLINK_ROUTE)}
}

func socket(t testing.TB, protocol int) *batch.Socket {
	t.Helper()
	s, err := batch.Open(protocol)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s sockets) close(t testing.TB) {
	t.Helper()
	for _, one := range []*batch.Socket{s.netfilter, s.generic, s.route} {
		if err := one.Close(); err != nil {
			t.Error(err)
		}
	}
}

// send writes all rows in the order of kernel.Tables.Apply, and tells how long
// each group of tables took.
func (f floor) send(t testing.TB, over sockets) laps {
	t.Helper()
	spent, last := laps{}, time.Now()
	lap := func(group string) {
		now := time.Now()
		spent[group] += now.Sub(last)
		last = now
	}
	for _, s := range f.sysctls {
		if err := os.WriteFile("/proc/sys/"+string(s.Key), []byte(s.Value), 0); err != nil {
			t.Fatal(err)
		}
	}
	do(t, over.generic, f.timeout)
	lap("sysctls")
	do(t, over.netfilter, f.sets)
	lap("sets")
	for family, text := range f.rules {
		c := exec.Command(restores[family], "--noflush", "-w", "5")
		c.Stdin = strings.NewReader(text)
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", restores[family], err, out)
		}
	}
	lap("rules")
	do(t, over.generic, f.servers)
	lap("servers")
	do(t, over.route, f.addresses)
	lap("addresses")
	return spent
}

// cost is what sending a floor asks of the kernel.
func (s sockets) cost(f floor) cost {
	c := cost{Forks: len(f.rules)}
	for _, one := range []*batch.Socket{s.netfilter, s.generic, s.route} {
		c.Calls += one.Traffic().Calls
		c.Requests += one.Traffic().Requests
	}
	return c
}

func do(t testing.TB, s *batch.Socket, r *batch.Requests) {
	t.Helper()
	refused, err := s.Do(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	for i, err := range refused {
		if err != nil {
			t.Fatalf("request %d of %d: %v", i, r.Len(), err)
		}
	}
}
