// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

const (
	// syncPeriod is the time between two audits.
	syncPeriod = 2 * time.Second
	// drainCheck is the time between two checks of draining real servers' connections.
	drainCheck = time.Second
)

// sharedNode is a node where kube-ipvs works and another program has rows of its own.
type sharedNode struct {
	*rig.Rig
	daemon *rig.Daemon
	want   state.State // our rows and theirs
	// reading is the longest time that reading all tables took.
	reading time.Duration
}

func newSharedNode(t *testing.T) *sharedNode {
	t.Helper()
	r := rig.New(t, func(c *config.Config) {
		c.SyncPeriod = syncPeriod
		// The client outside gets its answers from pods of another node by way of this one.
		c.LocalDetector = config.LocalDetector{Kind: config.DetectCIDR, CIDRs: []netip.Prefix{
			netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:10:244::/48")}}
	})
	serve(t, r, "pod-a", "pod-b", "pod-d")
	r.Write(t, "web", web())
	r.Write(t, "sticky", sticky())
	mustShell(t, r, theirDevice+spell(perFamily(theirAddress))) // before the start: they get NodePorts
	s := &sharedNode{Rig: r, daemon: r.Start(t)}
	ours := r.Settle(t)
	mustShell(t, r, spell(perFamily(theirServers+theirSet+theirEntry+theirMark+theirChains+onOurs)))
	s.want = s.look(t)
	if d := state.Diff(ours, s.want); len(d.VirtualServers.Add) != 4 || len(d.Addresses.Add) != 2 || len(d.Chains.Add) != 6 || len(d.Sets.Add) != 2 {
		t.Fatalf("the other program's rows: %+v", d)
	}
	return s
}

// look reads the kernel and records how long that takes here and now: a machine may be slower for a while.
func (s *sharedNode) look(t *testing.T) state.State {
	t.Helper()
	began := time.Now()
	have := s.Kernel(t)
	s.reading = max(s.reading, time.Since(began))
	return have
}

// suffer does the damage and returns how long the repair took after it.
func (s *sharedNode) suffer(t *testing.T, b breakage) time.Duration {
	t.Helper()
	written := len(s.daemon.Writes(t))
	mustShell(t, s.Rig, spell(b.script()))
	broken := time.Now()
	var repaired rig.Line
	amiss := errors.New("kube-ipvs has not repaired anything")
	rig.Until(t, rig.Patience, func() error {
		lines := s.daemon.Writes(t)
		if len(lines) == written {
			return amiss
		}
		written, repaired = len(lines), lines[len(lines)-1]
		if b.replaced != "" {
			mustShell(t, s.Rig, spell(perFamily(b.replaced)))
			b.replaced = ""
		}
		amiss = rig.Differ(s.look(t), s.want)
		return amiss
	})
	return max(0, repaired.Time.Sub(broken))
}

// limit is a sync period and the time of an audit: as long as the slowest of our own readings, and as much again for
// the write, which begins by reading the rules once more.
func (s *sharedNode) limit(b breakage) time.Duration {
	limit := syncPeriod + 2*s.reading
	if b.drains {
		limit += drainCheck
	}
	return limit
}

func TestBrokenRowsAreRepairedWithinASyncPeriodAndForeignRowsStay(t *testing.T) {
	s := newSharedNode(t)
	all := slices.Concat(serverBreakages(), setBreakages(), ruleBreakages(), linkBreakages(), sysctlBreakages(), wipes())
	var slowest time.Duration
	for _, b := range all {
		t.Run(b.name, func(t *testing.T) {
			took := s.suffer(t, b)
			t.Logf("%s: repaired after %v", b.name, took.Round(time.Millisecond))
			if limit := s.limit(b); took > limit {
				t.Errorf("repaired after %v, want at most %v", took, limit)
			}
			if !b.drains {
				slowest = max(slowest, took)
			}
		})
	}
	t.Logf("%d breakages; the slowest repair took %v: a sync period is %v, reading all tables took up to %v",
		len(all), slowest.Round(time.Millisecond), syncPeriod, s.reading.Round(time.Millisecond))
	s.mustStand(t)
}

// mustStand checks what no table of ours shows: the other program's addresses on other devices, and that packets still
// get through.
func (s *sharedNode) mustStand(t *testing.T) {
	t.Helper()
	have, err := s.Node.Run(t.Context(), "ip", "-o", "addr")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"theirs    inet 198.51.100.7/32", "lo    inet 198.51.100.8/32", "theirs    inet6 2001:db8:51::7/128", "lo    inet6 2001:db8:51::8/128"} {
		if !strings.Contains(have, want) {
			t.Errorf("no address %q any more, but\n%s", want, have)
		}
	}
	for range len(web().Endpoints) {
		for _, c := range dial(t, s.Rig, web()) {
			if _, err := c.Ask(t.Context()); err != nil {
				t.Error(fmt.Errorf("after all that: %w", err))
			}
		}
	}
}
