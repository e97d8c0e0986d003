// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// leastMTU is what every IPv4 host accepts. A device with less, such as a CAN bus, leads to no endpoints.
const leastMTU = 576

// device is a network device, as rtnetlink reports it.
type device struct {
	index int
	name  state.LinkName
	flags uint32
	mtu   uint32
}

func (d device) up() bool { return d.flags&unix.IFF_UP != 0 }

// carries returns the MTU of a device by which packets leave the node, and 0 for other devices.
func (d device) carries() uint32 {
	const ready = unix.IFF_UP | unix.IFF_RUNNING
	if d.flags&ready != ready || d.flags&unix.IFF_LOOPBACK != 0 || d.name == state.DummyLink || d.mtu < leastMTU {
		return 0
	}
	return d.mtu
}

// mtus holds the MTUs of the devices by which packets leave the node, by their indexes.
type mtus map[int]uint32

// least returns the smallest MTU; 0 if there are none.
func (m mtus) least() uint32 {
	if len(m) == 0 {
		return 0
	}
	return slices.Min(slices.Collect(maps.Values(m)))
}

// mtus reads the MTUs of all devices.
func (c *Conn) mtus(ctx context.Context) (mtus, error) {
	const withoutCounters = 8 // RTEXT_FILTER_SKIP_STATS
	c.requests.Reset()
	c.requests.Begin(unix.RTM_GETLINK, 0)
	c.requests.Raw(make([]byte, unix.SizeofIfInfomsg)...)
	c.requests.Uint32(unix.IFLA_EXT_MASK, withoutCounters)
	var list mtus
	err := c.routes.Dump(ctx, &c.requests, func() func([]byte) error {
		list = mtus{}
		return func(body []byte) error {
			d, err := parseDevice(body)
			if mtu := d.carries(); err == nil && mtu > 0 {
				list[d.index] = mtu
			}
			return err
		}
	})
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	return list, nil
}

// parseDevice reads the body of an RTM_NEWLINK or RTM_DELLINK message.
func parseDevice(body []byte) (device, error) {
	if len(body) < unix.SizeofIfInfomsg {
		return device{}, fmt.Errorf("link message of %d bytes", len(body))
	}
	attributes, err := netlink.ParseAttributes(body[unix.SizeofIfInfomsg:])
	if err != nil {
		return device{}, fmt.Errorf("link message: %w", err)
	}
	d := device{index: int(int32(binary.NativeEndian.Uint32(body[4:]))), flags: binary.NativeEndian.Uint32(body[8:])}
	for _, a := range attributes {
		switch a.Type {
		case unix.IFLA_IFNAME:
			d.name = state.LinkName(a.String())
		case unix.IFLA_MTU:
			d.mtu = a.Uint32()
		}
	}
	return d, nil
}
