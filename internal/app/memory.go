// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"os"
	"runtime/debug"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel/ipvs"
	"github.com/kube-ipvs/kube-ipvs/internal/reconcile"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

const (
	// garbage is how much of it there may be before it is collected, in percent of
	// what is in use. That is the cluster, which stays as it is: as much again would
	// be memory for nothing, and a change makes a thousandth of it garbage.
	garbage = 50
	// quiet is how long nothing that takes much memory happened before what it took
	// is given back.
	quiet = 2 * time.Second
)

// limitGarbage sets how much garbage there may be, unless the operator did.
func limitGarbage() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbage)
	}
}

// tidy is a witness that gives memory back to the machine after the start, each
// audit, and each read of the kernel's counters. They hold for a moment much more
// than is kept, and the Go runtime would keep room for that until the next one.
type tidy struct{ due *time.Timer }

func newTidy() tidy {
	due := time.AfterFunc(time.Hour, debug.FreeOSMemory)
	due.Stop()
	return tidy{due}
}

// Received tells nothing.
func (tidy) Received(reconcile.Change) {}

// Acted makes it due.
func (t tidy) Acted(a reconcile.Act) {
	if a.Work.Audit || a.Cause == reconcile.CauseStart {
		t.due.Reset(quiet)
	}
}

// Settled tells nothing.
func (tidy) Settled(reconcile.Balance) {}

// counters are the kernel's, after which there is something to tidy.
type counters struct {
	kernel *ipvs.Conn
	tidy   tidy
}

// Loads reads the counters of all virtual servers.
func (c counters) Loads(ctx context.Context) (map[state.VirtualServerKey]state.Load, error) {
	defer c.tidy.due.Reset(quiet)
	return c.kernel.Loads(ctx)
}
