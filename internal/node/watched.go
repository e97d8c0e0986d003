// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"net/netip"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel/link"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// watched is what a stream of rtnetlink events has said so far.
type watched struct {
	device    int          // the index of state.DummyLink; 0 if there is none
	up        bool         // whether it is
	stale     bool         // what follows may not be right any more
	lost      bool         // the device went away, or routes with what they need of it; then stale too
	addresses []netip.Addr // as last passed on; nil before the first time
	networks  []netip.Prefix
	gateways  []netip.Addr
	uplinks   []int  // the devices that default routes go through
	mtu       uint32 // as last passed on
	mtus      mtus   // of all devices now
}

// news takes in addresses, next hops and MTUs as they were read, and says whether that is worth an event.
func (w *watched) news(now []netip.Prefix, hops []hop, carried mtus) (Event, bool) {
	first := w.addresses == nil
	addresses, networks, gateways, mtu := Usable(now), Networks(now), gatewaysOf(hops), carried.least()
	e := Event{
		Addresses: slices.Clone(addresses), Networks: slices.Clone(networks), Gateways: slices.Clone(gateways),
		MTU: mtu, LinkLost: w.lost,
	}
	worth := first || w.lost || mtu != w.mtu || !slices.Equal(addresses, w.addresses) ||
		!slices.Equal(networks, w.networks) || !slices.Equal(gateways, w.gateways)
	*w = watched{
		device: w.device, up: w.up, addresses: addresses, networks: networks, gateways: gateways,
		uplinks: linksOf(hops), mtu: mtu, mtus: carried,
	}
	return e, worth
}

// take reads one datagram of events.
func (w *watched) take(datagram []byte) error {
	messages, err := syscall.ParseNetlinkMessage(datagram)
	if err != nil {
		return fmt.Errorf("parsing %d bytes of events: %w", len(datagram), err)
	}
	for _, m := range messages {
		switch m.Header.Type {
		case unix.RTM_NEWADDR, unix.RTM_DELADDR:
			err = w.address(m.Data, m.Header.Type == unix.RTM_DELADDR)
		case unix.RTM_NEWLINK:
			err = w.link(m.Data, true)
		case unix.RTM_DELLINK:
			err = w.link(m.Data, false)
		case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
			err = w.route(m.Data)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// address takes in that a device got or lost an address, or that something else about the address changed.
func (w *watched) address(body []byte, gone bool) error {
	a, err := link.ParseAssigned(body)
	if err != nil {
		return err
	}
	w.stale = w.stale || a.Index != w.device && counts(a.Prefix.Addr())
	if gone && a.Index == w.device && a.Prefix.Addr() == state.Anchor() {
		w.lose()
	}
	return nil
}

func (w *watched) lose() { w.lost, w.stale = true, true }

// route takes in that a route came or went.
func (w *watched) route(body []byte) error {
	_, is, err := parseDefaultRoute(body)
	w.stale = w.stale || is
	return err
}

// link takes in that a device came, changed or went. A device that changed its name or came from another
// namespace may have brought or taken addresses.
func (w *watched) link(body []byte, exists bool) error {
	if len(body) > 0 && body[0] != unix.AF_UNSPEC {
		return nil // a bridge's port, which also goes as RTM_DELLINK when it leaves
	}
	d, err := parseDevice(body)
	if err != nil {
		return err
	}
	// The kernel tells of no IPv4 route that goes with its device.
	up := exists && d.up()
	w.stale = w.stale || !up && slices.Contains(w.uplinks, d.index)
	w.carry(d, exists)
	switch ours := exists && d.name == state.DummyLink; {
	case ours && d.index != w.device:
		w.follow(d.index, up)
	case !ours && d.index == w.device:
		w.follow(0, false)
	case ours:
		w.set(up)
	}
	return nil
}

// carry takes in what a device carries. Most have what others have, or more: then nothing has to be read
// again.
func (w *watched) carry(d device, exists bool) {
	mtu := d.carries()
	switch {
	case !exists || mtu == 0:
		delete(w.mtus, d.index)
	case w.mtus == nil:
		w.mtus = mtus{d.index: mtu}
	default:
		w.mtus[d.index] = mtu
	}
	w.stale = w.stale || w.mtus.least() != w.mtu
}

// follow notes that another device, or none, has the name now.
func (w *watched) follow(device int, up bool) {
	w.lost = w.lost || w.device != 0
	w.stale = true
	w.device, w.up = device, up
}

// set notes whether the device is up. All that IPv6 has of one that is set down, the kernel takes away.
func (w *watched) set(up bool) {
	if w.up && !up {
		w.lose()
	}
	w.up = up
}

// overflow notes that events were lost.
func (w *watched) overflow(device int, up bool) {
	if device != w.device {
		w.follow(device, up)
	}
	w.set(up)
	w.stale = true
}
