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
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/reconcile"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/takeover"
)

// Cleanup removes the daemon's rows from the kernel, or keeps those that kube-proxy's IPVS mode can use. It runs the
// daemon's reconcile loop without Services, so the same code decides what is ours and what goes first.
func Cleanup(ctx context.Context, c cli.Cleanup) (done cli.Cleaned, err error) {
	release, err := Hold()
	if errors.Is(err, ErrHeld) {
		return done, errors.New("kube-ipvs runs in this network namespace and would restore what is removed: stop it first")
	}
	if err != nil {
		return done, err
	}
	defer func() { err = errors.Join(err, release()) }()
	if _, err := openLog(config.Default().Log, &libraryLogs{}); err != nil {
		return done, err
	}
	m, err := openCleanupTables(ctx)
	if err != nil {
		return done, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	if m.servers != nil { // kube-proxy probes for its scheduler at the same virtual server
		if err := m.servers.EndTrials(ctx); err != nil {
			return done, err
		}
	}
	x := cleanup{options: c, kernel: m}
	if c.ForKubeProxy {
		err = x.handBack(ctx)
	} else {
		err = x.removeAll(ctx)
	}
	x.done.Left = append(m.missing, x.done.Left...)
	return x.done, errors.Join(err, m.broken)
}

type cleanup struct {
	options cli.Cleanup
	kernel  *cleanupTables
	done    cli.Cleaned
}

// never is longer than any cleanup takes.
const never = 1000 * time.Hour

func (x *cleanup) task(o reconcile.Ownership) reconcile.Task {
	return reconcile.Task{
		Options: reconcile.Options{
			Ownership: o, SyncPeriod: never, DrainTimeout: x.options.DrainTimeout,
			DrainCheck: time.Second, AuditPause: time.Second,
		},
		Kernel: reconcile.Kernel{Tables: x.kernel.tables, Flusher: x.kernel, Connections: x.kernel},
		Done:   x.note,
	}
}

// note records the changes that a delta made, in the order of removal.
func (x *cleanup) note(d state.Delta, r kernel.Results) {
	r.Written(d, func(t state.Table, verb string, key any) {
		x.done.Changes = append(x.done.Changes, cli.Change{Verb: verb, Table: t.Title(), Row: fmt.Sprint(key)})
	})
}

// leave adds a sentence about something that is left in the kernel.
func (x *cleanup) leave(format string, args ...any) {
	x.done.Left = append(x.done.Left, fmt.Sprintf(format, args...))
}

// removeAll removes everything that is ours.
func (x *cleanup) removeAll(ctx context.Context) error {
	chains, err := x.kernel.tables.Chains.List(ctx)
	if err != nil {
		return fmt.Errorf("listing chains: %w", err)
	}
	families := takeover.Serving(chains)
	if err := x.removeEarly(ctx, chains, len(families) > 0); err != nil {
		return err
	}
	if len(families) > 0 {
		x.kernel.hide(families)
		x.leave("kube-proxy serves by iptables rules (%v): its chains stay", families)
	}
	err = x.task(plan.Ownership{Exclude: x.options.Exclude}).Run(ctx, reconcile.Local{Addresses: x.kernel.local}, reconcile.Synced{})
	x.leave("sysctls stay as they are")
	return errors.Join(err, x.explainLink(ctx))
}

// removeEarly removes the chains that come before the rules of another proxy. Ours of nftables translate connections
// first, and so alone. Where rules of kube-proxy serve, marks of an older version's also match what those forwarded.
func (x *cleanup) removeEarly(ctx context.Context, chains map[state.ChainKey]state.Chain, served bool) error {
	early := func(k state.ChainKey) bool {
		ahead := k.Table.Firewall() == state.OnNFTables && k.Table.Bare() != state.Filter
		return ahead || served && k.Table == state.Mangle
	}
	for k := range chains {
		if early(k) {
			t := x.task(backOwnership{})
			t.Kernel.Tables = kernel.Absent(errors.ErrUnsupported)
			t.Kernel.Tables.Chains, t.Kernel.Tables.Jumps = x.kernel.only(early)
			return t.Run(ctx, reconcile.Synced{})
		}
	}
	return nil
}

// explainLink says why the dummy device is still there, if it is.
func (x *cleanup) explainLink(ctx context.Context) error {
	links, err := x.kernel.tables.Links.List(ctx)
	if err != nil || len(links) == 0 {
		return err
	}
	addresses, err := x.kernel.tables.Addresses.List(ctx)
	if len(addresses) > 0 {
		x.leave("device %s stays: it has %d addresses that are not ours", state.DummyLink, len(addresses))
	}
	return err
}

// handBack keeps what kube-proxy can use, in two steps.
func (x *cleanup) handBack(ctx context.Context) error {
	s, err := x.kernel.tables.List(ctx)
	if err != nil {
		return err
	}
	back := takeover.ToKubeProxy(s)
	x.kernel.showOnly(back)
	t := x.task(backOwnership{})
	if t.Leave = x.options.DrainTimeout == 0; t.Leave {
		t.Options.DrainTimeout = never
	}
	for _, want := range []state.State{back.First, back.Then} {
		err := t.Run(ctx, reconcile.Local{Addresses: x.kernel.local}, reconcile.Upsert{Fragment: state.FragmentOf(want, nil)}, reconcile.Synced{})
		if err != nil {
			return err
		}
	}
	if len(back.Flows) > 0 {
		_, err = x.kernel.Flush(ctx, back.Flows)
	}
	if back.Holds {
		x.leave("table %s of nftables stays until rules of kube-proxy's IPVS mode serve: run this again once kube-proxy is ready, as that table knows no new Service", state.NFTable)
	}
	return errors.Join(err, x.countLeft(ctx))
}

// countLeft counts the virtual servers that are left for their connections.
func (x *cleanup) countLeft(ctx context.Context) error {
	servers, err := x.kernel.tables.VirtualServers.List(ctx)
	if err != nil {
		return err
	}
	entries, err := x.kernel.tables.Entries.List(ctx)
	left := 0
	for k := range servers {
		ours := state.OurMark(k.Mark)
		for e := range (backOwnership{}).Proofs(k, false) {
			_, proven := entries[e]
			ours = ours || proven
		}
		if ours {
			left++
		}
	}
	if left > 0 {
		x.leave("%d virtual servers that kube-proxy does not know stay for their connections and take no new ones: run this again to remove them", left)
	}
	return err
}

// backOwnership covers what is ours and not kube-proxy's.
type backOwnership struct{}

func (backOwnership) Set(n state.SetName) bool {
	return plan.OurSet(n) && !takeover.ItsSet(n) || n.Temporary()
}

// Proofs yields proofs by sets that kube-proxy does not know: what its own sets prove stays, and also what those of the
// same names in nftables prove.
func (backOwnership) Proofs(k state.VirtualServerKey, local bool) iter.Seq[state.SetEntry] {
	return func(yield func(state.SetEntry) bool) {
		for e := range (plan.Ownership{}).Proofs(k, local) {
			if !takeover.ItsSet(e.Set.Bare()) && !yield(e) {
				return
			}
		}
	}
}

// AddressProofs proves only addresses that belong to no Service: kube-proxy knows all others.
func (backOwnership) AddressProofs(a state.Address) iter.Seq[state.SetEntry] {
	if !state.Inside(a.Addr) {
		return func(func(state.SetEntry) bool) {}
	}
	return plan.Ownership{}.AddressProofs(a)
}
