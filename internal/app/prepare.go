// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/iptables"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/ipvs"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/linux"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/takeover"
)

// Prepare is run --init-only. It does what needs more than CAP_NET_ADMIN, so that the daemon does not: it loads modules
// and writes sysctls. It may run beside a daemon.
func Prepare(ctx context.Context, c config.Config, log *zap.Logger) (err error) {
	c, err = completeConfig(c)
	if err != nil {
		return err
	}
	if c.Firewall, err = chooseFirewall(ctx, c, log); err != nil {
		return err
	}
	k, err := linux.Open(ctx, ours(c)) // loads the modules of IPVS, conntrack and the firewall
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, k.Close()) }()
	if _, err := schedulers(ctx, k.IPVS, c.Scheduler); err != nil { // loads those of the schedulers
		return err
	}
	raiseConntrackMax(ctx, c, log)
	return writeSysctls(ctx, k, c, log)
}

// writeSysctls writes the sysctls that differ from the desired ones.
func writeSysctls(ctx context.Context, k *linux.Kernel, c config.Config, log *zap.Logger) error {
	table := k.Tables().Sysctls
	have, err := table.List(ctx)
	if err != nil {
		return fmt.Errorf("listing sysctls: %w", err)
	}
	d := state.Diff(state.State{Sysctls: have}, state.State{Sysctls: plan.Base(c).State().Sysctls}).Sysctls
	d.Remove = nil
	failed := slices.Collect(maps.Values(table.Apply(ctx, d).Failed))
	log.Info("kernel settings written", zap.Int("written", d.Len()-len(failed)), zap.Int("refused", len(failed)))
	return errors.Join(failed...)
}

// raiseConntrackMax raises the machine's limit of tracked connections. It is about load: a failure is only logged.
func raiseConntrackMax(ctx context.Context, c config.Config, log *zap.Logger) {
	most := c.Conntrack.Max(linux.Cores())
	if most == 0 {
		return
	}
	was, err := linux.RaiseConntrackMax(ctx, most)
	switch {
	case err != nil:
		log.Warn("could not raise nf_conntrack_max", zap.Int("is", was), zap.Int("wanted", most), zap.Error(err))
	case was < most:
		log.Info("raised nf_conntrack_max", zap.Int("from", was), zap.Int("to", most))
	}
}

// completeConfig adds the kernel's version and IP families to c, and checks it.
func completeConfig(c config.Config) (config.Config, error) {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return c, fmt.Errorf("reading the kernel's version: %w", err)
	}
	var err error
	if c.Kernel, err = config.ParseKernel(unix.ByteSliceToString(uts.Release[:])); err != nil {
		return c, err
	}
	c.Families = linux.Families()
	return c, c.Validate()
}

// lacksNetmap reports whether a family lacks NETMAP, which session affinity over all ports needs.
func lacksNetmap(ctx context.Context, rules *iptables.Conn, c config.Config) (bool, error) {
	for _, f := range c.Families {
		if has, err := rules.Takes(ctx, f, state.ChainTrial, plan.NetmapRule(f)); err != nil || !has {
			return true, err
		}
	}
	return false, nil
}

// schedulers returns the schedulers that the kernel has. The chosen one must be among them.
func schedulers(ctx context.Context, k *ipvs.Conn, chosen string) ([]string, error) {
	names := plan.Schedulers()
	if !slices.Contains(names, chosen) { // one that only this kernel knows
		names = append(names, chosen)
	}
	has, err := k.Schedulers(ctx, names...)
	if err == nil && !slices.Contains(has, chosen) {
		err = fmt.Errorf("--ipvs-scheduler: this kernel has no scheduler %q; it has %s", chosen, strings.Join(has, ", "))
	}
	return has, err
}

// ours names what is ours in the kernel, and what kube-proxy's other modes left behind, which is removed.
func ours(c config.Config) linux.Ours {
	var sysctls []state.SysctlName
	for _, row := range plan.Base(c).Sysctls {
		sysctls = append(sysctls, row.Key)
	}
	return linux.Ours{
		Firewall: c.Firewall,
		Set:      plan.OurSet, Chain: ourChain, Tables: []string{takeover.NFTable}, Sysctls: sysctls, Families: c.Families,
	}
}

func ourChain(name string) bool { return plan.OurChain(name) || takeover.OnlyIts(name) }
