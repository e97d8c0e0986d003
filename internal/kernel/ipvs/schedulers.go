// SPDX-License-Identifier: Apache-2.0

package ipvs

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Where schedulers are tried: at an address for documentation, which kube-proxy takes too, and at the first
// of these ports that nobody has taken there. A process that is killed leaves its trial behind. By the time
// for which that keeps clients at a real server, of which it has none, it is known to be one of ours.
const (
	trialPort    = 20000
	trialPorts   = 16
	trialTimeout = 19851
)

func trialKey(n uint16) state.VirtualServerKey {
	address := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, 0}), trialPort+n)
	return state.VirtualServerKey{Address: address, Protocol: state.TCP}
}

func trial(scheduler string) state.VirtualServer {
	return state.VirtualServer{
		Scheduler: scheduler, Prefix: uint8(state.IPv4.Bits()), Flags: state.Persistent, Timeout: trialTimeout,
	}
}

// Schedulers are those of names that the kernel has, in the order of names. It is asked for each by a virtual
// server that is added and removed again: there is no list of them, and most are modules that only the
// attempt loads. What an earlier process left of that is removed before.
func (c *Conn) Schedulers(ctx context.Context, names ...string) ([]string, error) {
	if err := c.EndTrials(ctx); err != nil {
		return nil, err
	}
	var has []string
	for _, name := range names {
		ok, err := c.try(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("trying scheduler %q: %w", name, err)
		}
		if ok {
			has = append(has, name)
		}
	}
	return has, nil
}

func (c *Conn) try(ctx context.Context, scheduler string) (bool, error) {
	v := trial(scheduler)
	for n := range uint16(trialPorts) {
		k := trialKey(n)
		err := c.change(ctx, row[state.VirtualServerKey, state.VirtualServer]{add, k, v})
		switch {
		case errors.Is(err, unix.EEXIST): // not ours to touch
			continue
		case errors.Is(err, unix.ENOENT):
			return false, nil
		case err != nil:
			return false, fmt.Errorf("adding virtual server %v: %w", k, err)
		}
		return true, c.endTrial(ctx, k)
	}
	return false, fmt.Errorf("all of the %d virtual servers that are for that are there already", trialPorts)
}

// EndTrials removes the virtual servers at which a killed process tried schedulers.
func (c *Conn) EndTrials(ctx context.Context) error {
	for n := range uint16(trialPorts) {
		k := trialKey(n)
		v, there, err := c.virtualServer(ctx, k)
		if err == nil && there && v == trial(v.Scheduler) {
			err = c.endTrial(ctx, k)
		}
		if err != nil {
			return fmt.Errorf("looking for what is left of trying schedulers: %w", err)
		}
	}
	return nil
}

func (c *Conn) endTrial(ctx context.Context, k state.VirtualServerKey) error {
	err := c.change(ctx, row[state.VirtualServerKey, state.VirtualServer]{verb: remove, key: k})
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("removing virtual server %v: %w", k, err)
	}
	return nil
}

// virtualServer asks for one.
func (c *Conn) virtualServer(ctx context.Context, k state.VirtualServerKey) (v state.VirtualServer, there bool, err error) {
	c.requests.Reset()
	encodeGetService(&c.requests, c.family, k)
	err = c.socket.Ask(ctx, &c.requests, func(body []byte) error {
		_, seen, err := decodeVirtualServer(body)
		v, there = seen.server, err == nil
		return err
	})
	if errors.Is(err, unix.ESRCH) {
		return state.VirtualServer{}, false, nil
	}
	if err != nil {
		return state.VirtualServer{}, false, fmt.Errorf("asking for virtual server %v: %w", k, err)
	}
	return v, there, nil
}

// change makes one change, without another try if the row is not as expected.
func (c *Conn) change(ctx context.Context, r row[state.VirtualServerKey, state.VirtualServer]) error {
	c.requests.Reset()
	encodeVirtualServer(&c.requests, c.family, r)
	refused, err := c.socket.Do(ctx, &c.requests)
	if err != nil {
		return err
	}
	return refused[0]
}
