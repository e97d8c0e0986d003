// SPDX-License-Identifier: Apache-2.0

// Package floor is the least that rows can cost: all of them encoded beforehand, to be sent in full batches, without a
// look at what is there or at what became of a row. It is encoded here a second time, on its own, so that no detour of
// the adapters is in it.
package floor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	vnl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Laps is the time that each group of tables took.
type Laps map[string]time.Duration

// The groups of tables that are written together.
const (
	Sysctls   = "sysctls"
	Sets      = "sets"
	Rules     = "rules"
	Servers   = "servers"
	Addresses = "addresses"
)

// Groups are all groups, in the order in which they are written.
func Groups() []string { return []string{Sysctls, Sets, Rules, Servers, Addresses} }

// Sum is the time that all took together.
func (l Laps) Sum() time.Duration {
	var all time.Duration
	for _, one := range l {
		all += one
	}
	return all
}

// Floor is rows, encoded, and the sockets that they are sent over, which belong to the network namespace of the thread
// that prepared it.
type Floor struct {
	over      *sockets
	sysctls   []diff.Row[state.SysctlName, string]
	timeout   *netlink.Requests
	sets      *netlink.Requests // and their entries
	rules     map[state.Family]string
	servers   *netlink.Requests // virtual and real
	addresses *netlink.Requests // and their device
}

// restore is the tool that writes the rules of a family.
func restore(f state.Family) string {
	if f == state.IPv6 {
		return "ip6tables-restore"
	}
	return "iptables-restore"
}

// Prepare does all that can be done before the rows are sent: it encodes them and opens what they are sent over.
func Prepare(want state.State) (Floor, error) {
	f, err := encode(want)
	if err != nil {
		return Floor{}, err
	}
	f.over, err = open()
	return f, err
}

func encode(want state.State) (Floor, error) {
	ipvs, err := vnl.GenlFamilyGet("IPVS")
	if err != nil {
		return Floor{}, fmt.Errorf("find IPVS: %w", err)
	}
	all := state.FragmentOf(want, nil)
	f := Floor{
		sysctls:   slices.DeleteFunc(slices.Clone(all.Sysctls), isTimeout),
		sets:      encodeSets(all.Sets, all.Entries),
		rules:     map[state.Family]string{},
		servers:   encodeServers(ipvs.ID, all.VirtualServers, all.RealServers),
		addresses: encodeAddresses(all.Addresses),
	}
	if f.timeout, err = encodeTimeout(ipvs.ID, want.Sysctls[state.TCPTimeout]); err != nil {
		return Floor{}, err
	}
	for _, family := range []state.Family{state.IPv4, state.IPv6} {
		f.rules[family] = script(family, all.Chains, all.Jumps)
	}
	return f, nil
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

// Forks is how many tools are run for it.
func (f Floor) Forks() int { return len(f.rules) }

// Traffic is what was sent over all sockets.
func (f Floor) Traffic() netlink.Traffic { return f.over.traffic() }

// Close closes the sockets.
func (f Floor) Close() error { return f.over.close() }

// Send writes all rows in the order of kernel.Tables.Apply, and returns how long each group of tables took.
func (f Floor) Send(ctx context.Context) (Laps, error) {
	spent, last := Laps{}, time.Now()
	for _, step := range []struct {
		group string
		write func() error
	}{
		{Sysctls, func() error { return f.writeSysctls(ctx) }},
		{Sets, func() error { return do(ctx, f.over.netfilter, f.sets) }},
		{Rules, func() error { return f.writeRules(ctx) }},
		{Servers, func() error { return do(ctx, f.over.generic, f.servers) }},
		{Addresses, func() error { return do(ctx, f.over.route, f.addresses) }},
	} {
		if err := step.write(); err != nil {
			return spent, fmt.Errorf("write %s: %w", step.group, err)
		}
		now := time.Now()
		spent[step.group] = now.Sub(last)
		last = now
	}
	return spent, nil
}

func (f Floor) writeSysctls(ctx context.Context) error {
	for _, s := range f.sysctls {
		if err := os.WriteFile("/proc/sys/"+string(s.Key), []byte(s.Value), 0); err != nil {
			return err
		}
	}
	return do(ctx, f.over.generic, f.timeout)
}

func (f Floor) writeRules(ctx context.Context) error {
	for family, text := range f.rules {
		c := exec.CommandContext(ctx, restore(family), "--noflush", "-w", "5")
		c.Stdin = strings.NewReader(text)
		if out, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("run %s: %w: %s", restore(family), err, out)
		}
	}
	return nil
}

// do sends requests of which none may be refused.
func do(ctx context.Context, s *netlink.Socket, r *netlink.Requests) error {
	refused, err := s.Do(ctx, r)
	if err != nil {
		return err
	}
	for i, err := range refused {
		if err != nil {
			return fmt.Errorf("request %d of %d: %w", i, r.Len(), err)
		}
	}
	return nil
}

type sockets struct{ netfilter, generic, route *netlink.Socket }

func open() (*sockets, error) {
	s := &sockets{}
	for _, one := range []struct {
		into     **netlink.Socket
		protocol int
	}{{&s.netfilter, unix.NETLINK_NETFILTER}, {&s.generic, unix.NETLINK_GENERIC}, {&s.route, unix.NETLINK_ROUTE}} {
		opened, err := netlink.Open(one.protocol)
		if err != nil {
			return nil, errors.Join(err, s.close())
		}
		*one.into = opened
	}
	return s, nil
}

// all are those that are open.
func (s *sockets) all() []*netlink.Socket {
	return slices.DeleteFunc([]*netlink.Socket{s.netfilter, s.generic, s.route}, func(one *netlink.Socket) bool { return one == nil })
}

func (s *sockets) close() error {
	var err error
	for _, one := range s.all() {
		err = errors.Join(err, one.Close())
	}
	return err
}

func (s *sockets) traffic() netlink.Traffic {
	var sum netlink.Traffic
	for _, one := range s.all() {
		sum.Calls += one.Traffic().Calls
		sum.Requests += one.Traffic().Requests
	}
	return sum
}
