// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/cli"
	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/reconcile"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/takeover"
)

// Cleanup removes what the daemon made from this machine's kernel, or makes of it
// what kube-proxy's IPVS mode can use. It is the daemon with nothing to wish for:
// what is ours, and what goes first, is decided by the same code.
func Cleanup(ctx context.Context, c cli.Cleanup) (done cli.Cleaned, err error) {
	release, err := Hold()
	if errors.Is(err, ErrHeld) {
		return done, errors.New("kube-ipvs runs in this network namespace, and would make again what is removed: stop it first")
	}
	if err != nil {
		return done, err
	}
	defer func() { err = errors.Join(err, release()) }()
	var libraries Libraries
	if _, err := logged(config.Default().Log, &libraries); err != nil {
		return done, err
	}
	m, err := openParts(ctx)
	if err != nil {
		return done, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	if m.servers != nil { // kube-proxy tries its scheduler at the same place
		if err := m.servers.EndTrials(ctx); err != nil {
			return done, err
		}
	}
	x := cleanup{asked: c, parts: m}
	if c.ForKubeProxy {
		err = x.handBack(ctx)
	} else {
		err = x.removeAll(ctx)
	}
	x.done.Left = append(m.missing, x.done.Left...)
	return x.done, errors.Join(err, m.broken)
}

// cleanup is one that is under way.
type cleanup struct {
	asked cli.Cleanup
	parts *parts
	done  cli.Cleaned
}

// longest is a time that nothing here takes.
const longest = 1000 * time.Hour

func (x *cleanup) task(o reconcile.Ownership) reconcile.Task {
	return reconcile.Task{
		Options: reconcile.Options{
			Ownership: o, SyncPeriod: longest, DrainTimeout: x.asked.DrainTimeout,
			DrainCheck: time.Second, AuditPause: time.Second,
		},
		Kernel: reconcile.Kernel{Tables: x.parts.tables, Flusher: x.parts, Connections: x.parts},
		Done:   x.note,
	}
}

// removeAll wishes for nothing.
func (x *cleanup) removeAll(ctx context.Context) error {
	chains, err := x.parts.tables.Chains.List(ctx)
	if err != nil {
		return fmt.Errorf("listing chains: %w", err)
	}
	if families := takeover.Serving(chains); len(families) > 0 {
		if err := x.stopSteering(ctx); err != nil {
			return err
		}
		x.parts.hide(families)
		x.done.Left = append(x.done.Left, fmt.Sprintf("kube-proxy serves by iptables rules (%v): its chains stay", families))
	}
	err = x.task(plan.Ownership{Exclude: x.asked.Exclude}).Run(ctx, reconcile.Local{Addresses: x.parts.local}, reconcile.Synced{})
	x.done.Left = append(x.done.Left, "sysctls stay as they are")
	return errors.Join(err, x.lookBehind(ctx))
}

// stopSteering ends first what leads packets to virtual servers by marks: a mark
// counts also for what kube-proxy's rules have sent on.
func (x *cleanup) stopSteering(ctx context.Context) error {
	t := x.task(backOwnership{})
	t.Kernel.Tables = x.parts.mangle()
	return t.Run(ctx, reconcile.Synced{})
}

// lookBehind says why the device is still there, if it is.
func (x *cleanup) lookBehind(ctx context.Context) error {
	links, err := x.parts.tables.Links.List(ctx)
	if err != nil || len(links) == 0 {
		return err
	}
	addresses, err := x.parts.tables.Addresses.List(ctx)
	if len(addresses) > 0 {
		x.done.Left = append(x.done.Left, fmt.Sprintf("device %s stays: it has %d addresses that are not ours", state.DummyLink, len(addresses)))
	}
	return err
}

// handBack wishes for what kube-proxy can use, in two steps.
func (x *cleanup) handBack(ctx context.Context) error {
	s, err := x.parts.tables.List(ctx)
	if err != nil {
		return err
	}
	back := takeover.ToKubeProxy(s)
	x.parts.leave(back)
	t := x.task(backOwnership{})
	if t.Leave = x.asked.DrainTimeout == 0; t.Leave {
		t.Options.DrainTimeout = longest
	}
	for _, wish := range []state.State{back.First, back.Then} {
		err := t.Run(ctx, reconcile.Local{Addresses: x.parts.local}, reconcile.Upsert{Fragment: state.FragmentOf(wish, nil)}, reconcile.Synced{})
		if err != nil {
			return err
		}
	}
	if len(back.Flows) > 0 {
		_, err = x.parts.Flush(ctx, back.Flows)
	}
	return errors.Join(err, x.countLeft(ctx))
}

// countLeft says what is left to connections.
func (x *cleanup) countLeft(ctx context.Context) error {
	servers, err := x.parts.tables.VirtualServers.List(ctx)
	if err != nil {
		return err
	}
	entries, err := x.parts.tables.Entries.List(ctx)
	left := 0
	for k := range servers {
		proven := false
		for e := range (backOwnership{}).Proofs(k, false) {
			_, there := entries[e]
			proven = proven || there
		}
		if proven || state.OurMark(k.Mark) {
			left++
		}
	}
	if left > 0 {
		x.done.Left = append(x.done.Left, fmt.Sprintf(
			"%d virtual servers that kube-proxy does not know stay for connections through them, and take no new ones: call this again to remove them", left))
	}
	return err
}

// backOwnership is what is ours and not kube-proxy's.
type backOwnership struct{}

var _ reconcile.Ownership = backOwnership{}

func (backOwnership) Set(n state.SetName) bool {
	return plan.OurSet(n) && !takeover.ItsSet(n) || n.Temporary()
}

// Proofs are those by sets that kube-proxy does not know: what its own prove stays.
func (backOwnership) Proofs(k state.VirtualServerKey, local bool) iter.Seq[state.SetEntry] {
	return func(yield func(state.SetEntry) bool) {
		for e := range (plan.Ownership{}).Proofs(k, local) {
			if !takeover.ItsSet(e.Set) && !yield(e) {
				return
			}
		}
	}
}

// AddressProof is one for addresses of no Service: kube-proxy knows all others.
func (backOwnership) AddressProof(a state.Address) state.SetEntry {
	if !state.Inside(a.Addr) {
		return state.SetEntry{}
	}
	return plan.Ownership{}.AddressProof(a)
}
