// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"sync"
	"time"

	moby "github.com/moby/ipvs"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// look looks into the kernel of the network namespace in which it was made. Each look is cheap, and changes nothing.
type look struct {
	ipvs   *moby.Handle
	net    *netlink.Handle
	routes *os.File
}

// newLook opens the kernel. The file stays one of the namespace in which it was opened.
func newLook() *look {
	return &look{
		ipvs:   must(moby.New("")),
		net:    must(netlink.NewHandle(unix.NETLINK_ROUTE, unix.NETLINK_NETFILTER)),
		routes: must(os.Open("/proc/thread-self/net/fib_triestat")),
	}
}

func (k *look) close() {
	k.ipvs.Close()
	k.net.Close()
	k.routes.Close()
}

// locals is how many IPv4 addresses are this node's, assigned to it or by a local route.
func (k *look) locals() int {
	text := make([]byte, 16<<10)
	n, _ := k.routes.ReadAt(text, 0) // it ends before the buffer does
	leaves := regexp.MustCompile(`(?s)\nLocal:\n.*?\tLeaves: +(\d+)\n`).FindSubmatch(text[:n])
	if leaves == nil {
		check(errors.New("the kernel does not say how large its table local is"))
	}
	return must(strconv.Atoi(string(leaves[1])))
}

func (k *look) has(e state.SetEntry) bool {
	protocol := uint8(e.Protocol)
	has, err := k.net.IpsetTest(string(e.Set), &netlink.IPSetEntry{IP: e.Address.AsSlice(), Port: &e.Port, Protocol: &protocol})
	return there(err, unix.ENOENT) && has
}

// there reports whether the kernel knows what it was asked for. Some errors say that it does not.
func there(err error, absent ...error) bool {
	for _, a := range absent {
		if errors.Is(err, a) {
			return false
		}
	}
	check(err)
	return true
}

func service(k state.VirtualServerKey) *moby.Service {
	return &moby.Service{AddressFamily: nl.FAMILY_V4, Protocol: uint16(k.Protocol), Address: k.Address.Addr().AsSlice(), Port: k.Address.Port()}
}

func (k *look) served(server state.VirtualServerKey) bool {
	_, err := k.ipvs.GetService(service(server))
	return there(err, unix.ESRCH)
}

// weights are those of the real servers of a virtual server of IPv4; none if there is no such virtual server.
func (k *look) weights(server state.VirtualServerKey) map[netip.AddrPort]int {
	weights := map[netip.AddrPort]int{}
	for _, d := range must(k.ipvs.GetDestinations(service(server))) {
		address, _ := netip.AddrFromSlice(d.Address)
		weights[netip.AddrPortFrom(address.Unmap(), d.Port)] = d.Weight
	}
	return weights
}

func (k *look) local(a netip.Addr) bool {
	routes, err := k.net.RouteGet(a.AsSlice())
	return there(err, unix.ENETUNREACH, unix.EHOSTUNREACH) && routes[0].Type == unix.RTN_LOCAL
}

// listen lets the kernel of the calling thread send its notices of addresses, routes and links that come, change and
// go.
func listen() *nl.NetlinkSocket {
	const buffer = 32 << 20
	socket := must(nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
		unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE))
	rest := unix.NsecToTimeval((100 * time.Millisecond).Nanoseconds())
	check(errors.Join(socket.SetReceiveBufferSize(buffer, true), socket.SetReceiveTimeout(&rest)))
	return socket
}

// count is how many notices there are. ENOBUFS is that there were more than a program can have made in vain.
func count(notices *nl.NetlinkSocket) (n int) {
	for {
		messages, _, err := notices.Receive()
		if errors.Is(err, unix.EAGAIN) {
			return n
		}
		if !errors.Is(err, unix.EINTR) {
			check(err)
		}
		n += len(messages)
	}
}

// programs counts the programs of the whole machine that end, as the kernel reports them (taskstats), by name.
type programs struct {
	mutex sync.Mutex
	times map[string]int
	cpu   map[string]float64 // seconds
}

// watchPrograms is an error if the kernel reports no program that ends, as in a namespace of processes, users or
// networks.
func watchPrograms() (p *programs, err error) {
	const version, buffer = 1, 4 << 20
	err = attempt(func() {
		family, socket := must(netlink.GenlFamilyGet("TASKSTATS")), must(nl.Subscribe(unix.NETLINK_GENERIC))
		request := nl.NewNetlinkRequest(int(family.ID), unix.NLM_F_ACK)
		request.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_GENERIC: {Socket: socket}}
		request.AddData(&nl.Genlmsg{Command: unix.TASKSTATS_CMD_GET, Version: version})
		processors := nl.ZeroTerminated(field("/sys/devices/system/cpu/possible", `(.*)`))
		request.AddData(nl.NewRtAttr(unix.TASKSTATS_CMD_ATTR_REGISTER_CPUMASK, processors))
		must(request.Execute(unix.NETLINK_GENERIC, 0))
		second := unix.NsecToTimeval(time.Second.Nanoseconds())
		check(errors.Join(socket.SetReceiveBufferSize(buffer, true), socket.SetReceiveTimeout(&second), exec.Command("true").Run()))
		_, _, silent := socket.Receive()
		check(silent)
		p = &programs{times: map[string]int{}, cpu: map[string]float64{}}
		go p.count(socket)
	})
	return p, err
}

// count counts threads that end, as long as the benchmark runs. The programs that are counted have one: the sum of many
// would come with the last alone. What is lost in a flood is not counted.
func (p *programs) count(socket *nl.NetlinkSocket) {
	const header, comm, commLength, user, system, end = 4, 80, 32, 152, 160, 168
	for {
		messages, _, _ := socket.Receive()
		for _, m := range messages {
			all, err := nl.ParseRouteAttrAsMap(m.Data[min(header, len(m.Data)):])
			inner, err2 := nl.ParseRouteAttrAsMap(all[unix.TASKSTATS_TYPE_AGGR_PID].Value)
			s := inner[unix.TASKSTATS_TYPE_STATS].Value
			if err != nil || err2 != nil || len(s) < end {
				continue
			}
			name := unix.ByteSliceToString(s[comm : comm+commLength])
			microseconds := binary.NativeEndian.Uint64(s[user:]) + binary.NativeEndian.Uint64(s[system:])
			p.mutex.Lock()
			p.times[name]++
			p.cpu[name] += float64(microseconds) / 1e6
			p.mutex.Unlock()
		}
	}
}

// take returns the programs that have ended since it was last asked, and forgets them: how often each ran, and for how
// long.
func (p *programs) take() (times map[string]int, cpu map[string]float64) {
	times, cpu = map[string]int{}, map[string]float64{}
	if p != nil {
		p.mutex.Lock()
		defer p.mutex.Unlock()
		times, p.times = p.times, times
		cpu, p.cpu = p.cpu, cpu
	}
	return times, cpu
}
