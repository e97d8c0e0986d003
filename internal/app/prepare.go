// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/linux"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Prepare does what --init-only asks for: what takes more privileges than
// running does, so that the daemon needs CAP_NET_ADMIN alone afterwards. It
// loads the modules that nothing else loads, and writes the kernel's settings.
// No Service is touched, and it may be done while a daemon runs.
func Prepare(ctx context.Context, c config.Config, log *zap.Logger) (err error) {
	c, err = fitToKernel(c)
	if err != nil {
		return err
	}
	k, err := linux.Open(ctx, ours(c)) // opening loads IPVS, ipset, conntrack and iptables
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, k.Close()) }()
	if _, err := schedulers(ctx, k.IPVS, c.Scheduler); err != nil { // and trying, the schedulers
		return err
	}
	makeRoom(ctx, c, log)
	return writeSettings(ctx, k, c, log)
}

// writeSettings writes those of the base's settings that are not as wished.
func writeSettings(ctx context.Context, k *linux.Kernel, c config.Config, log *zap.Logger) error {
	table := k.Tables().Sysctls
	have, err := table.List(ctx)
	if err != nil {
		return fmt.Errorf("listing sysctls: %w", err)
	}
	d := state.Diff(state.State{Sysctls: have}, state.State{Sysctls: plan.Base(c).State().Sysctls}).Sysctls
	d.Remove = nil
	var failed []error
	for _, err := range table.Apply(ctx, d).Failed {
		failed = append(failed, err)
	}
	log.Info("kernel settings written", zap.Int("written", d.Len()-len(failed)), zap.Int("refused", len(failed)))
	return errors.Join(failed...)
}

// RaiseLimits sets the limits that are this machine's or this process's, once.
// One that can't be set is told of and no more: they are about load.
func RaiseLimits(ctx context.Context, c config.Config, log *zap.Logger) {
	if err := linux.SetOOMScore(c.OOMScoreAdj); err != nil {
		log.Warn("OOM score stays as it is", zap.Error(err))
	}
	makeRoom(ctx, c, log)
}

// makeRoom makes room for tracked connections, for the whole machine.
func makeRoom(ctx context.Context, c config.Config, log *zap.Logger) {
	most := c.Conntrack.Max(linux.Cores())
	if most == 0 {
		return
	}
	was, err := linux.RaiseConntrackMax(ctx, most)
	switch {
	case err != nil:
		log.Warn("room for tracked connections stays as it is", zap.Int("room", was), zap.Int("wanted", most), zap.Error(err))
	case was < most:
		log.Info("room for tracked connections raised", zap.Int("from", was), zap.Int("to", most))
	}
}
