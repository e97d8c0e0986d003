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

// auditReader reads all tables for audits. It also reports which rules of other programs stop packets to
// Services.
type auditReader struct {
	reader   *linux.Reader
	log      *zap.Logger
	events   *events.Recorder
	reported []string
}

// List reads all tables.
func (a *auditReader) List(ctx context.Context) (state.State, error) {
	s, around, err := a.reader.ListAll(ctx)
	if err == nil && around.Err == nil {
		a.report(barriers(s, around.Addresses, around.Rules))
	}
	if around.Err != nil {
		a.log.Warn("could not read the rules of other programs; they may stop packets to Services", zap.Error(around.Err))
	}
	return s, err
}

// report reports barriers that are new, and those that are gone.
func (a *auditReader) report(found []trace.Barrier) {
	var now []string
	for _, b := range found {
		now = append(now, b.By)
		if !slices.Contains(a.reported, b.By) {
			a.log.Warn("a rule of another program stops packets to Services", zap.String("by", b.By), zap.String("rule", b.Rule), zap.Stringer("what", b))
			a.events.Node(corev1.EventTypeWarning, "ServicesStopped", b.String())
		}
	}
	for _, by := range a.reported {
		if !slices.Contains(now, by) {
			a.log.Info("a rule of another program no longer stops packets to Services", zap.String("by", by))
		}
	}
	a.reported = now
}
