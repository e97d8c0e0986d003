// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Notices counts the kernel's notices of addresses, routes and links that come, change and go.
type Notices struct{ socket *nl.NetlinkSocket }

// WatchNotices begins to count in the network namespace of the calling thread.
func WatchNotices() (*Notices, error) {
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
		unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("listen to the kernel's notices: %w", err)
	}
	const buffer = 32 << 20
	rest := unix.NsecToTimeval(time.Millisecond.Nanoseconds())
	return &Notices{socket}, errors.Join(socket.SetReceiveBufferSize(buffer, true), socket.SetReceiveTimeout(&rest))
}

// Close stops counting, and returns how many notices there were. ENOBUFS is that there were more than a program can
// have made in vain.
func (n *Notices) Close() (count int, err error) {
	defer n.socket.Close()
	for !errors.Is(err, unix.EAGAIN) {
		var messages []syscall.NetlinkMessage
		messages, _, err = n.socket.Receive()
		if err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			return count, fmt.Errorf("read the kernel's notices: %w", err)
		}
		count += len(messages)
	}
	return count, nil
}

// Programs counts the programs of the whole machine that end, by name. The kernel reports each (taskstats), so that
// nothing has to stand between a program and those that it runs.
type Programs struct {
	socket *nl.NetlinkSocket

	mutex sync.Mutex
	seen  map[string]Ran
}

// Ran is how often a program ran, and for how long on a processor.
type Ran struct {
	Times int
	CPU   time.Duration
}

// ErrSilent is that the kernel does not report which programs end. It never does in a namespace of processes, users
// or networks.
var ErrSilent = errors.New("the kernel does not report which programs end")

// WatchPrograms begins to count.
func WatchPrograms() (*Programs, error) {
	family, err := netlink.GenlFamilyGet("TASKSTATS")
	if err != nil {
		return nil, errors.Join(ErrSilent, err)
	}
	p := &Programs{seen: map[string]Ran{}}
	if p.socket, err = nl.Subscribe(unix.NETLINK_GENERIC); err != nil {
		return nil, fmt.Errorf("open a socket for taskstats: %w", err)
	}
	if err = p.register(family.ID); err == nil {
		go p.count()
		err = p.try()
	}
	if err != nil {
		p.Close()
		return nil, errors.Join(ErrSilent, err)
	}
	return p, nil
}

// register asks for what ends on any processor that there may ever be.
func (p *Programs) register(family uint16) error {
	const registerMask, version, buffer = 3, 1, 4 << 20 // TASKSTATS_CMD_ATTR_REGISTER_CPUMASK
	processors, err := os.ReadFile("/sys/devices/system/cpu/possible")
	if err != nil {
		return err
	}
	request := nl.NewNetlinkRequest(int(family), unix.NLM_F_ACK)
	request.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_GENERIC: {Socket: p.socket}}
	request.AddData(&nl.Genlmsg{Command: unix.TASKSTATS_CMD_GET, Version: version})
	request.AddData(nl.NewRtAttr(registerMask, nl.ZeroTerminated(strings.TrimSpace(string(processors)))))
	_, err = request.Execute(unix.NETLINK_GENERIC, 0)
	return errors.Join(err, p.socket.SetReceiveBufferSize(buffer, true))
}

// try finds out whether the kernel reports.
func (p *Programs) try() error {
	const program, patience = "true", time.Second
	err := exec.Command(program).Run()
	for end := time.Now().Add(patience); err == nil && p.Seen()[program].Times == 0; time.Sleep(patience / 100) {
		if time.Now().After(end) {
			return ErrSilent
		}
	}
	return err
}

// count counts until the socket is closed. What is lost in a flood is not counted.
func (p *Programs) count() {
	for {
		messages, _, err := p.socket.Receive()
		if errors.Is(err, os.ErrClosed) {
			return
		}
		for _, m := range messages {
			p.add(m.Data)
		}
	}
}

// add counts a thread that ended. The sum of all threads comes only with a program's last one: those that are counted
// here have one thread.
func (p *Programs) add(report []byte) {
	const header, aggregate, stats = 4, 4, 3 // TASKSTATS_TYPE_AGGR_PID and TASKSTATS_TYPE_STATS
	const comm, commLength, user, system, end = 80, 32, 152, 160, 168
	all, err := nl.ParseRouteAttrAsMap(report[min(header, len(report)):])
	inner, err2 := nl.ParseRouteAttrAsMap(all[aggregate].Value)
	s := inner[stats].Value
	if err != nil || err2 != nil || len(s) < end {
		return
	}
	name := unix.ByteSliceToString(s[comm : comm+commLength])
	cpu := binary.NativeEndian.Uint64(s[user:]) + binary.NativeEndian.Uint64(s[system:])
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.seen[name] = Ran{p.seen[name].Times + 1, p.seen[name].CPU + time.Duration(cpu)*time.Microsecond}
}

// Seen returns the programs that have ended so far. Programs that are nil count nothing.
func (p *Programs) Seen() map[string]Ran {
	if p == nil {
		return nil
	}
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return maps.Clone(p.seen)
}

// Since returns the programs that have ended since an earlier look.
func (p *Programs) Since(before map[string]Ran) map[string]Ran {
	now := p.Seen()
	for name, ran := range now {
		now[name] = Ran{ran.Times - before[name].Times, ran.CPU - before[name].CPU}
	}
	maps.DeleteFunc(now, func(_ string, r Ran) bool { return r.Times == 0 })
	return now
}

// Close stops counting.
func (p *Programs) Close() { p.socket.Close() }
