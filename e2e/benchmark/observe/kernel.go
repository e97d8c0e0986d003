// SPDX-License-Identifier: Apache-2.0

// Package observe watches a node's kernel and the programs on it while something else is measured. Each look is
// cheap, as there may be one processor for all. It changes nothing.
package observe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"strconv"

	moby "github.com/moby/ipvs"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Kernel is the kernel of the network namespace of the thread that opened it. It can be used on any thread.
type Kernel struct {
	ipvs   *moby.Handle
	net    *netlink.Handle
	sets   nl.SocketHandle
	routes *os.File
}

// Open opens the kernel.
func Open() (*Kernel, error) {
	k, failed := &Kernel{}, [4]error{}
	k.ipvs, failed[0] = moby.New("")
	k.net, failed[1] = netlink.NewHandle(unix.NETLINK_ROUTE, unix.NETLINK_NETFILTER)
	k.sets.Socket, failed[2] = nl.GetNetlinkSocketAt(netns.None(), netns.None(), unix.NETLINK_NETFILTER)
	// The file stays one of the namespace in which it was opened.
	k.routes, failed[3] = os.Open("/proc/thread-self/net/fib_triestat")
	return k, errors.Join(failed[:]...)
}

// Close closes the kernel.
func (k *Kernel) Close() {
	k.ipvs.Close()
	k.net.Close()
	k.sets.Close()
	k.routes.Close()
}

// localLeaves finds how many addresses and networks the table local has routes to.
var localLeaves = regexp.MustCompile(`(?s)\nLocal:\n.*?\tLeaves: +(\d+)\n`)

// Locals is how many IPv4 addresses are this node's: each that is assigned, and each that a local route leads to,
// however many routes do.
func (k *Kernel) Locals() (int, error) {
	text := make([]byte, 16<<10)
	n, err := k.routes.ReadAt(text, 0)
	m := localLeaves.FindSubmatch(text[:n])
	if m == nil {
		return 0, errors.Join(fmt.Errorf("find the table local in %q", text[:n]), err)
	}
	return strconv.Atoi(string(m[1]))
}

// Entries is how many entries a set has; 0 if there is no such set. The kernel is asked for the set without its
// entries.
func (k *Kernel) Entries(set state.SetName) (int, error) {
	const command, header, withoutEntries = unix.NFNL_SUBSYS_IPSET<<8 | nl.IPSET_CMD_LIST, 4, 1 << 2
	request := nl.NewNetlinkRequest(command, nl.GetIpsetFlags(nl.IPSET_CMD_LIST))
	request.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_NETFILTER: &k.sets}
	request.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_NETLINK, Version: nl.NFNETLINK_V0})
	request.AddData(nl.NewRtAttr(nl.IPSET_ATTR_PROTOCOL, nl.Uint8Attr(nl.IPSET_PROTOCOL)))
	request.AddData(nl.NewRtAttr(nl.IPSET_ATTR_SETNAME, nl.ZeroTerminated(string(set))))
	request.AddData(&nl.Uint32Attribute{Type: nl.IPSET_ATTR_FLAGS | nl.NLA_F_NET_BYTEORDER, Value: withoutEntries})
	answers, err := request.Execute(unix.NETLINK_NETFILTER, 0)
	if errors.Is(err, unix.ENOENT) {
		return 0, nil
	}
	if err != nil || len(answers) == 0 || len(answers[0]) < header {
		return 0, errors.Join(fmt.Errorf("ask for the set %s", set), err)
	}
	all, err := nl.ParseRouteAttrAsMap(answers[0][header:])
	inner, err2 := nl.ParseRouteAttrAsMap(all[nl.IPSET_ATTR_DATA|unix.NLA_F_NESTED].Value)
	count := inner[nl.IPSET_ATTR_ELEMENTS|unix.NLA_F_NET_BYTEORDER].Value
	if err := errors.Join(err, err2); err != nil || len(count) < header {
		return 0, errors.Join(fmt.Errorf("find the number of entries of %s", set), err)
	}
	return int(binary.BigEndian.Uint32(count)), nil
}

// Has reports whether an entry is in its set.
func (k *Kernel) Has(e state.SetEntry) (bool, error) {
	protocol := uint8(e.Protocol)
	has, err := k.net.IpsetTest(string(e.Set), &netlink.IPSetEntry{IP: e.Address.AsSlice(), Port: &e.Port, Protocol: &protocol})
	return found(has, err, e, unix.ENOENT)
}

// found is an answer of the kernel, of which some errors say that there is none.
func found(is bool, err error, what any, absent ...error) (bool, error) {
	for _, a := range absent {
		if errors.Is(err, a) {
			return false, nil
		}
	}
	if err != nil {
		return false, fmt.Errorf("look for %v: %w", what, err)
	}
	return is, nil
}

func service(k state.VirtualServerKey) *moby.Service {
	return &moby.Service{AddressFamily: nl.FAMILY_V4, Protocol: uint16(k.Protocol), Address: k.Address.Addr().AsSlice(), Port: k.Address.Port()}
}

// Served reports whether there is a virtual server, of IPv4.
func (k *Kernel) Served(server state.VirtualServerKey) (bool, error) {
	_, err := k.ipvs.GetService(service(server))
	return found(true, err, server, unix.ESRCH)
}

// Weights returns those of the real servers of a virtual server of IPv4; none if there is no such virtual server.
func (k *Kernel) Weights(server state.VirtualServerKey) (map[netip.AddrPort]int, error) {
	list, err := k.ipvs.GetDestinations(service(server))
	if err != nil {
		return nil, fmt.Errorf("list the real servers of %v: %w", server, err)
	}
	weights := map[netip.AddrPort]int{}
	for _, d := range list {
		address, _ := netip.AddrFromSlice(d.Address)
		weights[netip.AddrPortFrom(address.Unmap(), d.Port)] = d.Weight
	}
	return weights, nil
}

// Local reports whether packets to an address are this node's.
func (k *Kernel) Local(a netip.Addr) (bool, error) {
	routes, err := k.net.RouteGet(a.AsSlice())
	return found(len(routes) > 0 && routes[0].Type == unix.RTN_LOCAL, err, a, unix.ENETUNREACH, unix.EHOSTUNREACH)
}
