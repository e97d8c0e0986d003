// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"slices"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"

	"github.com/kube-ipvs/kube-ipvs/internal/events"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/linux"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/trace"
)

// watchman reads all tables for audits, and tells which rules of others stop what is
// to come to Services. That nothing stops them any more is told too.
type watchman struct {
	reader *linux.Reader
	log    *zap.Logger
	events *events.Recorder
	told   []string
}

// List reads all tables.
func (w *watchman) List(ctx context.Context) (state.State, error) {
	s, all, err := w.reader.ListAll(ctx)
	if err == nil && all.Err == nil {
		w.tell(barriers(s, all.Addresses, all.Rules))
	}
	if all.Err != nil {
		w.log.Warn("rules of others could not be read; whether they stop Services is not known", zap.Error(all.Err))
	}
	return s, err
}

// tell tells of what is there now and was not before.
func (w *watchman) tell(found []trace.Barrier) {
	var now []string
	for _, b := range found {
		now = append(now, b.By)
		if !slices.Contains(w.told, b.By) {
			w.log.Warn("a rule of others stops packets to Services", zap.String("by", b.By), zap.String("rule", b.Rule), zap.Stringer("what", b))
			w.events.Node(corev1.EventTypeWarning, "ServicesStopped", b.String())
		}
	}
	for _, by := range w.told {
		if !slices.Contains(now, by) {
			w.log.Info("a rule of others stops packets to Services no longer", zap.String("by", by))
		}
	}
	w.told = now
}
