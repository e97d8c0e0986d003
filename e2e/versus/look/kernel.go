// SPDX-License-Identifier: Apache-2.0

// Package look watches a node's kernel and the programs on it while something else is measured: each look is cheap, for
// there may be one processor for all. It changes nothing.
package look

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"strconv"

	vnl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/e2e/floor"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Kernel is the kernel of the network namespace of the thread that opened it. Its looks can be taken on any thread.
type Kernel struct {
	ipvs   uint16
	reals  *netlink.Socket
	sets   *netlink.Socket
	routes *netlink.Socket
	tries  *os.File
}

// Open opens the kernel.
func Open() (*Kernel, error) {
	family, err := vnl.GenlFamilyGet("IPVS")
	if err != nil {
		return nil, fmt.Errorf("find IPVS: %w", err)
	}
	k := &Kernel{ipvs: family.ID}
	if err := k.open(); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	return k, nil
}

func (k *Kernel) open() (err error) {
	if k.reals, err = netlink.Open(unix.NETLINK_GENERIC); err != nil {
		return err
	}
	if k.sets, err = netlink.Open(unix.NETLINK_NETFILTER); err != nil {
		return err
	}
	if k.routes, err = netlink.Open(unix.NETLINK_ROUTE); err != nil {
		return err
	}
	// It stays one of the namespace of who opened it.
	k.tries, err = os.Open("/proc/thread-self/net/fib_triestat")
	return err
}

// Close closes the kernel.
func (k *Kernel) Close() error {
	var err error
	for _, s := range []*netlink.Socket{k.reals, k.sets, k.routes} {
		if s != nil {
			err = errors.Join(err, s.Close())
		}
	}
	if k.tries != nil {
		err = errors.Join(err, k.tries.Close())
	}
	return err
}

// localPrefixes finds how many there are in the table local.
var localPrefixes = regexp.MustCompile(`(?s)\nLocal:\n.*?\tPrefixes: +(\d+)\n`)

// Locals is how many addresses of IPv4 are this node's by the kernel's routes. Every address that is assigned is one, and
// every one that a local route leads to.
func (k *Kernel) Locals() (int, error) {
	text := make([]byte, 16<<10)
	n, err := k.tries.ReadAt(text, 0)
	if n == 0 {
		return 0, fmt.Errorf("read %s: %w", k.tries.Name(), err)
	}
	return parseLocals(text[:n])
}

func parseLocals(text []byte) (int, error) {
	m := localPrefixes.FindSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("find the table local in %q", text)
	}
	return strconv.Atoi(string(m[1]))
}

// The numbers of linux/netfilter/ipset/ip_set.h and linux/ip_vs.h.
const (
	setList     = 6<<8 | 7 // NFNL_SUBSYS_IPSET
	setTest     = 6<<8 | 11
	setHeader   = 1 << 2 // without the entries
	setElements = 24

	getServer = 4
	getReal   = 8
)

// Entries is how many entries a set has; none if there is no such set.
func (k *Kernel) Entries(ctx context.Context, set state.SetName) (int, error) {
	b := &netlink.Requests{}
	floor.BeginSet(b, setList, 0, set)
	b.BigUint32(6|unix.NLA_F_NET_BYTEORDER, setHeader)
	entries := 0
	err := k.sets.Dump(ctx, b, func() func([]byte) error {
		return func(body []byte) (err error) {
			entries, err = parseElements(body)
			return err
		}
	})
	if errors.Is(err, unix.ENOENT) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("count the entries of %s: %w", set, err)
	}
	return entries, nil
}

func parseElements(body []byte) (int, error) {
	const header, content = 4, 7
	if len(body) < header {
		return 0, fmt.Errorf("a set of %d bytes", len(body))
	}
	all, err := netlink.ParseAttributes(body[header:])
	if err != nil {
		return 0, err
	}
	for _, a := range all {
		if a.Type != content {
			continue
		}
		inner, err := a.Nested()
		if err != nil {
			return 0, err
		}
		for _, i := range inner {
			if i.Type == setElements {
				return int(i.BigUint32()), nil
			}
		}
	}
	return 0, errors.New("a set that does not say how many entries it has")
}

// Has reports whether an entry is in its set.
func (k *Kernel) Has(ctx context.Context, e state.SetEntry) (bool, error) {
	b := &netlink.Requests{}
	floor.BeginSet(b, setTest, 0, e.Set)
	floor.PutEntry(b, e)
	refused, err := k.sets.Do(ctx, b)
	if err != nil {
		return false, fmt.Errorf("look for %v: %w", e, err)
	}
	const absent = unix.Errno(4103) // IPSET_ERR_EXIST
	switch err := refused[0]; {
	case err == nil:
		return true, nil
	case errors.Is(err, absent), errors.Is(err, unix.ENOENT):
		return false, nil
	default:
		return false, fmt.Errorf("look for %v: %w", e, err)
	}
}

// Served reports whether there is a virtual server.
func (k *Kernel) Served(ctx context.Context, server state.VirtualServerKey) (bool, error) {
	b := k.about(getServer, server)
	err := k.reals.Ask(ctx, b, func([]byte) error { return nil })
	if errors.Is(err, unix.ESRCH) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for %v: %w", server, err)
	}
	return true, nil
}

func (k *Kernel) about(command uint8, server state.VirtualServerKey) *netlink.Requests {
	b := &netlink.Requests{}
	b.Begin(k.ipvs, 0)
	b.Raw(command, 1, 0, 0)
	b.Nest(1, func() { floor.PutServer(b, server) })
	return b
}

// Weights are those of a virtual server's real servers; none if there is no such virtual server.
func (k *Kernel) Weights(ctx context.Context, server state.VirtualServerKey) (map[netip.AddrPort]uint32, error) {
	b := k.about(getReal, server)
	var weights map[netip.AddrPort]uint32
	err := k.reals.Dump(ctx, b, func() func([]byte) error {
		weights = map[netip.AddrPort]uint32{}
		return func(body []byte) error {
			address, weight, err := parseReal(body, server.Family())
			weights[address] = weight
			return err
		}
	})
	if err != nil {
		return nil, fmt.Errorf("list the real servers of %v: %w", server, err)
	}
	return weights, nil
}

func parseReal(body []byte, f state.Family) (address netip.AddrPort, weight uint32, err error) {
	const header, length = 4, 4
	if len(body) < header {
		return address, 0, fmt.Errorf("a real server of %d bytes", len(body))
	}
	all, err := netlink.ParseAttributes(body[header:])
	if err != nil || len(all) != 1 {
		return address, 0, errors.Join(err, fmt.Errorf("a real server of %d attributes", len(all)))
	}
	fields, err := all[0].Nested()
	if err != nil {
		return address, 0, err
	}
	var ip netip.Addr
	var port uint16
	for _, a := range fields {
		switch a.Type {
		case 1:
			raw := a.Value
			if f == state.IPv4 && len(raw) > length {
				raw = raw[:length]
			}
			ip, _ = netip.AddrFromSlice(raw)
		case 2:
			port = a.Port()
		case 4:
			weight = a.Uint32()
		}
	}
	if !ip.IsValid() {
		return address, 0, errors.New("a real server without an address")
	}
	return netip.AddrPortFrom(ip, port), weight, nil
}

// Local reports whether packets to an address are this node's.
func (k *Kernel) Local(ctx context.Context, a netip.Addr) (bool, error) {
	b := &netlink.Requests{}
	b.Begin(unix.RTM_GETROUTE, 0)
	header := make([]byte, unix.SizeofRtMsg)
	header[0], header[1] = netlink.FamilyNumber(state.FamilyOf(a)), byte(a.BitLen())
	b.Raw(header...)
	b.Bytes(unix.RTA_DST, a.AsSlice())
	local := false
	err := k.routes.Ask(ctx, b, func(body []byte) error {
		if len(body) < unix.SizeofRtMsg {
			return fmt.Errorf("a route of %d bytes", len(body))
		}
		local = body[7] == unix.RTN_LOCAL
		return nil
	})
	if errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look up the route to %v: %w", a, err)
	}
	return local, nil
}
