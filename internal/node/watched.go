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

// watched is the state according to a stream of rtnetlink events.
type watched struct {
	device  int   // the index of state.DummyLink; 0: there is none
	up      bool  // it is up
	stale   bool  // the rest may be outdated
	lost    bool  // the device went away, or routes with what they need of it; then stale too
	known   bool  // something was passed on
	last    Event // as passed on
	uplinks []int // the devices of default routes
	mtus    mtus  // of all devices now
}

// news takes in what was read, and reports whether it is worth an event.
func (w *watched) news(now []netip.Prefix, hops []hop, carried mtus) (Event, bool) {
	e := Event{Usable(now), Networks(now), gatewaysOf(hops), carried.least(), w.lost}
	worth := !w.known || w.lost || e.MTU != w.last.MTU || !slices.Equal(e.Addresses, w.last.Addresses) ||
		!slices.Equal(e.Networks, w.last.Networks) || !slices.Equal(e.Gateways, w.last.Gateways)
	*w = watched{device: w.device, up: w.up, known: true, last: e, uplinks: linksOf(hops), mtus: carried}
	return e, worth
}

// take reads one datagram of events.
func (w *watched) take(datagram []byte) error {
	messages, err := syscall.ParseNetlinkMessage(datagram)
	if err != nil {
		return fmt.Errorf("parse %d bytes of events: %w", len(datagram), err)
	}
	for _, m := range messages {
		switch m.Header.Type {
		case unix.RTM_NEWADDR, unix.RTM_DELADDR:
			err = w.address(m.Data, m.Header.Type == unix.RTM_DELADDR)
		case unix.RTM_NEWLINK, unix.RTM_DELLINK:
			err = w.link(m.Data, m.Header.Type == unix.RTM_NEWLINK)
		case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
			err = w.route(m.Data)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// address takes in that an address came, changed or went.
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

func (w *watched) route(body []byte) error {
	_, is, err := parseDefaultRoute(body)
	w.stale = w.stale || is
	return err
}

// link takes in that a device came, changed or went. One that is renamed may bring or take addresses.
func (w *watched) link(body []byte, exists bool) error {
	if len(body) > 0 && body[0] != unix.AF_UNSPEC {
		return nil // a bridge's port, which also sends RTM_DELLINK when it leaves
	}
	d, err := parseDevice(body)
	if err != nil {
		return err
	}
	// The kernel does not report IPv4 routes that go with their device.
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

// carry takes in the MTU of a device. Most change nothing: others carry less.
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
	w.stale = w.stale || w.mtus.least() != w.last.MTU
}

// follow notes that another device, or none, has the name now.
func (w *watched) follow(device int, up bool) {
	w.lost = w.lost || w.device != 0
	w.stale = true
	w.device, w.up = device, up
}

// set notes whether the device is up. The kernel removes all IPv6 state of one that is set down.
func (w *watched) set(up bool) {
	if w.up && !up {
		w.lose()
	}
	w.up = up
}

func (w *watched) overflow(device int, up bool) {
	if device != w.device {
		w.follow(device, up)
	}
	w.set(up)
	w.stale = true
}
