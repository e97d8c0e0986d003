// SPDX-License-Identifier: Apache-2.0

// Package iptables is our chains of iptables and ip6tables and the jumps to
// them, through the tools iptables-save and iptables-restore.
//
// All chains of a family and table that change together are written by one
// iptables-restore, which is atomic for packets and leaves every other chain
// alone. The same goes for jumps, which is why they are not made rule by rule.
// The rules of a chain are compared as text, so a wish has to be in
// iptables-save's spelling: canonical_test.go lists it.
//
// Reading makes no table: one that does not exist has no rows. Writing makes
// what it needs.
//
// A row of the table of jumps is all rules that go from one built-in chain to
// one chain of ours. There should be one, on top when it is made; where others
// put rules above it later, it stays where it is. Identical copies count as
// one, and rules that differ are listed as lines of one row, so that they equal
// no wish; an update makes one of them, a removal takes all away.
//
// Where rules come from is somebody else's knowledge.
package iptables

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"

	goiptables "github.com/coreos/go-iptables/iptables"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Conn runs the tools in the network namespace of the calling thread. It and
// its stores are used by one goroutine at a time.
type Conn struct {
	ours     func(chain string) bool
	families []state.Family
	tools    map[state.Family]tools
	forks    int
}

// tools are the paths of a family's commands.
type tools struct{ save, restore string }

// Open finds the tools of the families. ours says which chains are ours, by
// name: no other chain is listed or changed.
func Open(ctx context.Context, ours func(chain string) bool, families ...state.Family) (*Conn, error) {
	c := &Conn{ours: ours, families: families, tools: map[state.Family]tools{}}
	for _, f := range families {
		if err := c.open(ctx, f); err != nil {
			return nil, fmt.Errorf("opening iptables for %v: %w", f, err)
		}
	}
	return c, nil
}

func (c *Conn) open(ctx context.Context, f state.Family) error {
	name, protocol := "iptables", goiptables.ProtocolIPv4
	if f == state.IPv6 {
		name, protocol = "ip6tables", goiptables.ProtocolIPv6
	}
	c.forks++
	tool, err := goiptables.New(goiptables.IPFamily(protocol))
	if err != nil {
		return fmt.Errorf("finding the command %s: %w", name, err)
	}
	// iptables-restore has had -w since the version that --random-fully came in.
	if !tool.HasRandomFully() {
		major, minor, patch := tool.GetIptablesVersion()
		return fmt.Errorf("%s is of version %d.%d.%d, 1.6.2 or newer is needed", name, major, minor, patch)
	}
	var t tools
	var missing error
	t.save, err = exec.LookPath(name + "-save")
	missing = errors.Join(missing, err)
	t.restore, err = exec.LookPath(name + "-restore")
	if missing = errors.Join(missing, err); missing != nil {
		return missing
	}
	c.tools[f] = t
	// The filter table is in every kernel that has iptables at all, and does
	// nothing as long as it is empty.
	if _, err := c.run(ctx, t.save, "", "-t", "filter"); err != nil {
		return fmt.Errorf("asking the kernel for the filter table: %w", err)
	}
	return nil
}

// Chains is the table of our chains in nat, filter and mangle.
func (c *Conn) Chains() kernel.Store[state.ChainKey, state.Chain] { return chains{c} }

// Jumps is the table of the jumps from built-in chains of nat, filter and
// mangle to chains of ours.
func (c *Conn) Jumps() kernel.Store[state.JumpKey, state.Jump] { return jumps{c} }

// Forks is how many times a tool has been run.
func (c *Conn) Forks() int { return c.forks }

func ruleTables() []state.RuleTable {
	return []state.RuleTable{state.NAT, state.Filter, state.Mangle}
}

// place is where one iptables-restore writes.
type place struct {
	family state.Family
	table  state.RuleTable
}

// seen are the tables of a change as they were before it, read once a family.
type seen map[state.Family]snapshot

func (s seen) at(ctx context.Context, c *Conn, p place) (t saved, exists bool, err error) {
	if _, ok := s[p.family]; !ok {
		tables, err := c.save(ctx, p.family)
		if err != nil {
			return saved{}, false, err
		}
		s[p.family] = tables
	}
	t, exists = s[p.family][p.table]
	return t, exists, nil
}

// commit writes the blocks, all at once if none is bad. It returns what became
// of each. A bad block does not keep the others from being written.
func (c *Conn) commit(ctx context.Context, p place, blocks []block) []error {
	results := make([]error, len(blocks))
	rest := make([]int, len(blocks))
	for i := range rest {
		rest[i] = i
	}
	for len(rest) > 0 {
		s := scriptOf(string(p.table), pick(blocks, rest))
		err := c.restore(ctx, p.family, s)
		if err == nil {
			return results
		}
		refused, ok := errors.AsType[*toolError](err)
		if !ok || refused.exit == exitBusy || len(rest) == 1 {
			for _, i := range rest {
				results[i] = err
			}
			return results
		}
		bad := s.owner(refused.line)
		if bad < 0 {
			c.oneByOne(ctx, p, blocks, rest, results)
			return results
		}
		results[rest[bad]] = err
		rest = slices.Delete(rest, bad, bad+1)
	}
	return results
}

// oneByOne writes each block by itself, as often as that brings one further: a
// chain can be written only when those that it goes to are there.
func (c *Conn) oneByOne(ctx context.Context, p place, blocks []block, rest []int, results []error) {
	for progress := true; progress && len(rest) > 0; {
		progress = false
		rest = slices.DeleteFunc(rest, func(i int) bool {
			results[i] = c.restore(ctx, p.family, scriptOf(string(p.table), blocks[i:i+1]))
			progress = progress || results[i] == nil
			return results[i] == nil
		})
	}
}

func pick(blocks []block, indexes []int) []block {
	picked := make([]block, len(indexes))
	for i, index := range indexes {
		picked[i] = blocks[index]
	}
	return picked
}
