// SPDX-License-Identifier: Apache-2.0

package live

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/cli"
	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/config/watch"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/ipvs"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/linux"
	"github.com/kube-ipvs/kube-ipvs/internal/logging"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/presence"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/takeover"
)

// Run is the daemon on this machine's kernel: it holds the network namespace and
// works until ctx ends, anew with each changed configuration. It logs to standard
// error.
func Run(ctx context.Context, d cli.Daemon) (err error) {
	log, err := logged(d.Config.Log)
	if err != nil {
		return err
	}
	if d.InitOnly {
		return Prepare(ctx, d.Config, log)
	}
	release, err := presence.Hold()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	for last, why := d, started; ; {
		if log, err = logged(d.Config.Log); err != nil {
			return err
		}
		next, err := runUntilChanged(ctx, d, why, log)
		switch {
		case ctx.Err() != nil || err != nil && why != changed:
			return err
		case err != nil:
			log.Error("changed configuration does not work here; going on with the one before", zap.Error(err))
			d, why = last, wentBack
		default:
			last, d, why = d, next, changed
		}
	}
}

// cause is why the daemon begins.
type cause uint8

const (
	started  cause = iota
	changed        // the configuration
	wentBack       // to the configuration before one that did not work
)

// logged is where is logged to, by us and by client-go.
func logged(c config.Log) (*zap.Logger, error) {
	log := logging.New(c, os.Stderr)
	return log, logging.TakeKlog(c, log)
}

// runUntilChanged works until ctx ends or the configuration is another one, which
// it returns. Stopping costs no connection and starting again writes nothing that
// is right, so that this is all that a change of the configuration takes.
func runUntilChanged(ctx context.Context, d cli.Daemon, why cause, log *zap.Logger) (next cli.Daemon, err error) {
	for _, w := range d.Warnings {
		log.Warn("configuration", zap.String("warning", w))
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	s := serving{asked: d, log: log}
	if err := s.open(ctx); err != nil {
		return next, errors.Join(err, s.close())
	}
	s.count(why)
	var watching sync.WaitGroup
	watching.Go(func() {
		watch.Watch(ctx, d.Files, func() {
			d, err := d.Reload()
			if err != nil {
				s.refuse(err)
				return
			}
			log.Info("configuration changed; starting anew with it")
			next = d
			stop()
		})
	})
	err = s.run(ctx)
	stop()
	watching.Wait()
	return next, errors.Join(err, s.close())
}

// fitToKernel completes c with what the kernel is and has, and checks it.
func fitToKernel(c config.Config) (config.Config, error) {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return c, fmt.Errorf("asking for the kernel's version: %w", err)
	}
	var err error
	if c.Kernel, err = config.ParseKernel(unix.ByteSliceToString(uts.Release[:])); err != nil {
		return c, err
	}
	c.Families = linux.Families()
	return c, c.Validate()
}

// schedulers are those that the kernel has. Without the default one nothing
// could be served.
func schedulers(ctx context.Context, k *ipvs.Conn, standard string) ([]string, error) {
	names := plan.Schedulers()
	if !slices.Contains(names, standard) { // one that only this kernel knows
		names = append(names, standard)
	}
	has, err := k.Schedulers(ctx, names...)
	if err == nil && !slices.Contains(has, standard) {
		err = fmt.Errorf("--ipvs-scheduler: this kernel has no scheduler %q; it has %s", standard, strings.Join(has, ", "))
	}
	return has, err
}

// ours is what belongs to us in the kernel by its name, and what kube-proxy left
// of its other modes, which goes.
func ours(c config.Config) linux.Ours {
	var sysctls []state.SysctlName
	for _, row := range plan.Base(c).Sysctls {
		sysctls = append(sysctls, row.Key)
	}
	chain := func(name string) bool { return plan.OurChain(name) || takeover.OnlyIts(name) }
	return linux.Ours{
		Set: plan.OurSet, Chain: chain, Tables: []string{takeover.NFTable}, Sysctls: sysctls, Families: c.Families,
	}
}
