// SPDX-License-Identifier: Apache-2.0

package world

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Host is one place of a world: a node, a pod or a host outside.
type Host struct {
	Name string
	// Addresses are the host's own, by the topology, without a node's gateway addresses.
	Addresses []netip.Addr

	world *World
	space namespace
	links *netlink.Handle
	ports atomic.Uint32 // the first of its clients; 0: the default
	used  atomic.Uint32 // how many ports it has used
}

// sysctl is a path below /proc/sys and its value.
type sysctl struct{ path, value string }

// defaults returns what every host starts with. New namespaces may inherit other settings from the machine.
func defaults() []sysctl {
	return []sysctl{
		{"net/ipv4/ip_forward", "0"},
		{"net/ipv6/conf/all/forwarding", "0"},
		// Duplicate address detection would delay each address by a second. Either setting turns it on.
		{"net/ipv6/conf/all/accept_dad", "0"},
		{"net/ipv6/conf/default/accept_dad", "0"},
	}
}

func newHost(name string) (*Host, error) {
	h := &Host{Name: name}
	return h, h.boot()
}

// boot gives the host an empty network namespace.
func (h *Host) boot() (err error) {
	if h.space, err = newNamespace(); err != nil {
		return err
	}
	if h.links, err = netlink.NewHandleAt(netns.NsHandle(h.space.file.Fd()), unix.NETLINK_ROUTE); err != nil {
		h.close()
		return fmt.Errorf("open netlink of %s: %w", h.Name, err)
	}
	if err := h.setSysctls(defaults()); err != nil {
		h.close()
		return err
	}
	if err := h.setUp("lo"); err != nil {
		h.close()
		return err
	}
	return nil
}

func (h *Host) close() {
	if h.links != nil {
		h.links.Close()
		h.links = nil
	}
	h.space.file.Close()
}

func (h *Host) setSysctls(list []sysctl) error {
	return h.Do(func() error {
		for _, s := range list {
			// /proc/sys/net shows the namespace of the thread that opens it.
			if err := os.WriteFile(filepath.Join("/proc/sys", s.path), []byte(s.value), 0); err != nil {
				return fmt.Errorf("set sysctl of %s: %w", h.Name, err)
			}
		}
		return nil
	})
}

// Addr returns the host's own address of a family, and the zero Addr if it has none.
func (h *Host) Addr(f state.Family) netip.Addr {
	for _, a := range h.Addresses {
		if state.FamilyOf(a) == f {
			return a
		}
	}
	return netip.Addr{}
}

// Do calls f on a thread of this host: sockets and commands that f starts are the host's. That does not hold for
// goroutines that f starts.
func (h *Host) Do(f func() error) error {
	return h.space.do(f)
}

// DialContext connects from this host, as a client does that is part of the test.
func (h *Host) DialContext(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = h.Do(func() (err error) {
		conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Start starts a command on this host.
func (h *Host) Start(c *exec.Cmd) error {
	return h.Do(c.Start)
}

// Run runs a command on this host and returns its output.
func (h *Host) Run(ctx context.Context, argv ...string) (string, error) {
	c := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var output []byte
	err := h.Do(func() (err error) {
		output, err = c.CombinedOutput()
		return err
	})
	if err != nil {
		return string(output), fmt.Errorf("run %v on %s: %w: %s", argv, h.Name, err, output)
	}
	return string(output), nil
}
