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

// Where schedulers are tried: at an address for documentation, which kube-proxy
// takes too, and at the first of these ports that nobody has taken there.
const (
	trialPort  = 20000
	trialPorts = 16
)

// Schedulers are those of names that the kernel has, in the order of names. It
// is asked for each by a virtual server that is added and removed again: there
// is no list of them, and most are modules that only the attempt loads.
func (c *Conn) Schedulers(ctx context.Context, names ...string) ([]string, error) {
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
	v := state.VirtualServer{Scheduler: scheduler, Prefix: uint8(state.IPv4.Bits())}
	for port := range uint16(trialPorts) {
		address := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, 0}), trialPort+port)
		k := state.VirtualServerKey{Address: address, Protocol: state.TCP}
		err := c.change(ctx, row[state.VirtualServerKey, state.VirtualServer]{add, k, v})
		switch {
		case errors.Is(err, unix.EEXIST): // not ours to touch
			continue
		case errors.Is(err, unix.ENOENT):
			return false, nil
		case err != nil:
			return false, fmt.Errorf("adding virtual server %v: %w", k, err)
		}
		if err := c.change(ctx, row[state.VirtualServerKey, state.VirtualServer]{remove, k, v}); err != nil {
			return false, fmt.Errorf("removing virtual server %v: %w", k, err)
		}
		return true, nil
	}
	return false, fmt.Errorf("all of the %d virtual servers that are for that are there already", trialPorts)
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
