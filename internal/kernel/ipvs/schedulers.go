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

// Schedulers are tried at an address for documentation, as by kube-proxy, and at the first of these ports that is free.
// By its timeout, the trial that a killed process leaves behind is known as ours.
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

// Schedulers returns those of names that the kernel has, in their order. It tries each with a virtual server that it
// adds and removes: the kernel has no list of them, and most are modules that only the attempt loads. First it removes
// what an earlier process left of that.
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
		err := c.change(ctx, virtualServerRow{add, k, v})
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
	return false, fmt.Errorf("all %d virtual servers for trials exist already", trialPorts)
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
			return fmt.Errorf("removing old trials of schedulers: %w", err)
		}
	}
	return nil
}

func (c *Conn) endTrial(ctx context.Context, k state.VirtualServerKey) error {
	err := c.change(ctx, virtualServerRow{verb: remove, key: k})
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("removing virtual server %v: %w", k, err)
	}
	return nil
}

// virtualServer reads one virtual server.
func (c *Conn) virtualServer(ctx context.Context, k state.VirtualServerKey) (v state.VirtualServer, there bool, err error) {
	c.requests.Reset()
	encodeGet(&c.requests, c.family, commandGetService, k)
	err = c.socket.Ask(ctx, &c.requests, func(body []byte) error {
		_, seen, err := decodeVirtualServer(body)
		v, there = seen.server, err == nil
		return err
	})
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return state.VirtualServer{}, false, fmt.Errorf("asking for virtual server %v: %w", k, err)
	}
	return v, there, nil
}

// change makes one change, and does not retry it if the row is not as expected.
func (c *Conn) change(ctx context.Context, r virtualServerRow) error {
	c.requests.Reset()
	encodeVirtualServer(&c.requests, c.family, r)
	return c.socket.Ask(ctx, &c.requests, nil)
}
