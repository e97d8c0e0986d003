// SPDX-License-Identifier: Apache-2.0

package live

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/cli"
	"github.com/kube-ipvs/kube-ipvs/internal/cluster/file"
	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/daemon"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/ipvs"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/linux"
	"github.com/kube-ipvs/kube-ipvs/internal/node"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/presence"
	"github.com/kube-ipvs/kube-ipvs/internal/reconcile"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Run is the daemon on this machine's kernel: it holds the network namespace,
// opens the kernel, and works until ctx ends. It logs to standard error.
func Run(ctx context.Context, d cli.Daemon) (err error) {
	log, err := logger(d.Verbose)
	if err != nil {
		return err
	}
	name, err := node.Name(d.Hostname)
	if err != nil {
		return err
	}
	c, err := fitToKernel(d.Config)
	if err != nil {
		return err
	}
	release, err := presence.Hold()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	k, err := linux.Open(ctx, ours(c))
	if errors.Is(err, context.Canceled) {
		return nil // asked to end before it began
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, k.Close()) }()
	if c.Schedulers, err = schedulers(ctx, k.IPVS, c.Scheduler); err != nil {
		return err
	}
	addresses, err := node.Open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, addresses.Close()) }()

	tables := k.Tables()
	tables.RealServers = kernel.Spread(tables.RealServers, name)
	ports := daemon.Listen(c, log)
	defer ports.Close()
	log.Info("starting", zap.String("node", name), zap.String("manifests", d.Manifests), zap.Stringers("families", c.Families))
	err = daemon.Daemon{
		Config:    c,
		NodeName:  name,
		Source:    file.Source{Dir: d.Manifests, Node: name, Report: file.Log(log)},
		Addresses: addresses,
		Kernel:    reconcile.Kernel{Tables: tables, Flusher: k, Observer: k},
		Ports:     ports,
		Log:       log,
	}.Run(ctx)
	log.Info("stopping; the kernel goes on forwarding as it is")
	return err
}

// logger writes lines of a fixed message and JSON fields, for eyes and for grep.
func logger(verbose bool) (*zap.Logger, error) {
	c := zap.NewProductionConfig()
	c.Encoding = "console"
	c.EncoderConfig.EncodeTime = zapcore.ISO8601TimeEncoder
	c.EncoderConfig.EncodeDuration = zapcore.StringDurationEncoder
	c.Sampling = nil // each line is about another Service
	c.DisableCaller = true
	c.DisableStacktrace = true
	if verbose {
		c.Level.SetLevel(zap.DebugLevel)
	}
	log, err := c.Build()
	if err != nil {
		return nil, fmt.Errorf("opening the log: %w", err)
	}
	return log, nil
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

// ours is what belongs to us in the kernel by its name.
func ours(c config.Config) linux.Ours {
	var sysctls []state.SysctlName
	for _, row := range plan.Base(c).Sysctls {
		sysctls = append(sysctls, row.Key)
	}
	return linux.Ours{Set: plan.OurSet, Chain: plan.OurChain, Sysctls: sysctls, Families: c.Families}
}
