// SPDX-License-Identifier: Apache-2.0

package ipvs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"time"

	moby "github.com/moby/ipvs"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Timeouts is the table of the three times for which IPVS keeps a silent
// connection, in seconds. The kernel always has them all.
func (c *Conn) Timeouts() kernel.Store[state.SysctlName, string] { return timeouts{c} }

type timeouts struct{ conn *Conn }

// List returns the three rows.
func (t timeouts) List(ctx context.Context) (map[state.SysctlName]string, error) {
	rows := map[state.SysctlName]string{}
	err := t.conn.withMoby(ctx, func(h *moby.Handle) error {
		config, err := h.GetConfig()
		if err != nil {
			return err
		}
		for name, field := range timeoutsOf(config) {
			rows[name] = strconv.FormatInt(int64(*field/time.Second), 10)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading IPVS timeouts: %w", err)
	}
	return rows, nil
}

// Apply writes what is added or updated in one request: the kernel leaves what
// that has as 0. Like a sysctl, a timeout can't be removed.
func (t timeouts) Apply(ctx context.Context, d diff.Delta[state.SysctlName, string]) kernel.Result[state.SysctlName] {
	r := kernel.Result[state.SysctlName]{Drift: len(d.Add)}
	var config moby.Config
	wished := timeoutsOf(&config)
	var names []state.SysctlName
	write := func(name state.SysctlName, value string) {
		field, err := wished[name], error(nil)
		if field == nil {
			err = fmt.Errorf("IPVS has no timeout %s: %w", name, fs.ErrNotExist)
		} else {
			*field, err = parseSeconds(value)
		}
		if err != nil {
			r.Fail(name, fmt.Errorf("setting %s: %w", name, err))
			return
		}
		names = append(names, name)
	}
	for _, change := range d.Update {
		write(change.Key, change.New)
	}
	for _, row := range d.Add {
		write(row.Key, row.Value)
	}
	if len(names) == 0 {
		return r
	}
	if err := t.conn.withMoby(ctx, func(h *moby.Handle) error { return h.SetConfig(&config) }); err != nil {
		for _, name := range names {
			r.Fail(name, fmt.Errorf("setting %s: %w", name, err))
		}
	}
	return r
}

func timeoutsOf(c *moby.Config) map[state.SysctlName]*time.Duration {
	return map[state.SysctlName]*time.Duration{
		state.TCPTimeout: &c.TimeoutTCP, state.TCPFinTimeout: &c.TimeoutTCPFin, state.UDPTimeout: &c.TimeoutUDP,
	}
}

// parseSeconds refuses 0, which would leave the timeout as it is.
func parseSeconds(s string) (time.Duration, error) {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is not a number of seconds above 0", s)
	}
	return time.Duration(n) * time.Second, nil
}

// withMoby runs one call of moby/ipvs.
//
// Its handle is made for the call and not in Open, because making the first one
// runs modprobe in any case, and complains on standard error where there is no
// modprobe. A call waits for ever if an answer is lost; closing the handle is
// what ends it, after the three seconds for which it listens at a time.
func (c *Conn) withMoby(ctx context.Context, call func(*moby.Handle) error) error {
	here, err := os.Readlink(namespacePath)
	if err != nil {
		return err
	}
	if here != c.namespace {
		return errors.New("called in another network namespace than the connection was opened in")
	}
	h, err := moby.New("")
	if err != nil {
		return err
	}
	defer h.Close()
	done := make(chan error, 1)
	go func() { done <- call(h) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
