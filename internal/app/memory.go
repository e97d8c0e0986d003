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
	// gcPercent is less than Go's 100: most memory holds the cluster, and a change makes little garbage.
	gcPercent = 50
	// releaseAfter is how long after the last expensive work its memory is given back.
	releaseAfter = 2 * time.Second
)

// setGCPercent limits garbage, unless the operator set GOGC.
func setGCPercent() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}

// memoryReleaser gives memory back to the machine soon after work that needs much more than is kept: the start, audits
// and reads of the traffic counters.
type memoryReleaser struct{ due *time.Timer }

func newMemoryReleaser() memoryReleaser {
	due := time.AfterFunc(time.Hour, debug.FreeOSMemory)
	due.Stop()
	return memoryReleaser{due}
}

// Received does nothing.
func (memoryReleaser) Received(reconcile.Change) {}

// Acted releases memory after the start and audits.
func (m memoryReleaser) Acted(a reconcile.Act) {
	if a.Work.Audit || a.Cause == reconcile.CauseStart {
		m.due.Reset(releaseAfter)
	}
}

// Settled does nothing.
func (memoryReleaser) Settled(reconcile.Balance) {}

// releasingLoads reads traffic counters, and releases memory soon after.
type releasingLoads struct {
	kernel   *ipvs.Conn
	releaser memoryReleaser
}

// Loads reads the counters of all virtual servers.
func (r releasingLoads) Loads(ctx context.Context) (map[state.VirtualServerKey]state.Load, error) {
	defer r.releaser.due.Reset(releaseAfter)
	return r.kernel.Loads(ctx)
}
