// SPDX-License-Identifier: Apache-2.0

package app

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
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/iptables"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/ipvs"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/linux"
	"github.com/kube-ipvs/kube-ipvs/internal/metrics"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/takeover"
)

// Run is the daemon on this machine's kernel: it holds the network namespace and
// works until ctx ends, anew with each changed configuration. It logs to standard
// error.
func Run(ctx context.Context, d cli.Daemon) (err error) {
	var libraries Libraries
	log, err := logged(d.Config.Log, &libraries)
	if err != nil {
		return err
	}
	if d.InitOnly {
		return Prepare(ctx, d.Config, log)
	}
	release, err := Hold()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	limitGarbage()
	lasting := metrics.Begin()
	for last, changed := d, false; ; {
		if log, err = logged(d.Config.Log, &libraries); err != nil {
			return err
		}
		s := &serving{asked: d, log: log, lasting: lasting}
		switch err := s.open(ctx); {
		case err == nil:
		case errors.Is(err, context.Canceled):
			return s.close() // asked to end before it began
		case !changed:
			return errors.Join(err, s.close())
		default:
			s.refuse(err)
			last.Files = d.Files // or else they would seem to be changed again
			d, changed = last, false
			if err := s.close(); err != nil {
				return err
			}
			continue
		}
		if changed {
			lasting.Reloaded(nil)
		}
		next, err := s.runUntilChanged(ctx)
		if err = errors.Join(err, s.close()); err != nil || ctx.Err() != nil {
			return err
		}
		last, d, changed = d, next, true
	}
}

// logged is where is logged to, by us and by libraries.
func logged(c config.Log, libraries *Libraries) (*zap.Logger, error) {
	log := NewLog(c, os.Stderr)
	return log, libraries.LogTo(c, log)
}

// runUntilChanged works until ctx ends or the configuration is another one, which
// it returns. Stopping costs no connection and starting again writes nothing that
// is right, so that this is all that a change of the configuration takes.
func (s *serving) runUntilChanged(ctx context.Context) (next cli.Daemon, err error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var watching sync.WaitGroup
	watching.Go(func() {
		WatchFiles(ctx, s.asked.Files, func() {
			d, err := s.asked.Reload()
			if err != nil {
				s.refuse(err)
				return
			}
			s.log.Info("configuration changed; starting anew with it")
			next = d
			stop()
		})
	})
	err = s.run(ctx)
	stop()
	watching.Wait()
	return next, err
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

// lacksNetmap reports whether a family can't have what is needed for one affinity over
// all ports: few others need that module.
func lacksNetmap(ctx context.Context, rules *iptables.Conn, c config.Config) (bool, error) {
	for _, f := range c.Families {
		if has, err := rules.Takes(ctx, f, state.ChainTrial, plan.NetmapRule(f)); err != nil || !has {
			return true, err
		}
	}
	return false, nil
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
