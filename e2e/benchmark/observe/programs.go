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

// Programs counts the programs of the whole machine that end, by name. The kernel reports each (taskstats), so that nothing
// has to stand between a program and those that it runs.
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

// ErrSilent is that the kernel does not report which programs end. It never does in a namespace of processes, users or networks.
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
	if err := p.register(family.ID); err != nil {
		p.socket.Close()
		return nil, err
	}
	go p.count()
	if err := p.try(); err != nil {
		p.socket.Close()
		return nil, err
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
	request.AddData(&nl.Genlmsg{Command: unix.TASKSTATS_CMD_GET, Version: version})
	request.AddData(nl.NewRtAttr(registerMask, nl.ZeroTerminated(strings.TrimSpace(string(processors)))))
	if err := errors.Join(p.socket.SetReceiveBufferSize(buffer, true), p.socket.Send(request)); err != nil {
		return err
	}
	answers, _, err := p.socket.Receive()
	if err != nil || len(answers) == 0 {
		return errors.Join(ErrSilent, err)
	}
	if a := answers[0]; a.Header.Type == unix.NLMSG_ERROR && len(a.Data) >= 4 {
		if code := int32(binary.NativeEndian.Uint32(a.Data)); code != 0 {
			return errors.Join(ErrSilent, unix.Errno(-code))
		}
	}
	return nil
}

// try finds out whether the kernel reports.
func (p *Programs) try() error {
	const program, pause = "true", 10 * time.Millisecond
	before := p.Seen()
	if err := exec.Command(program).Run(); err != nil {
		return fmt.Errorf("run %s: %w", program, err)
	}
	for end := time.Now().Add(time.Second); p.Since(before)[program].Times == 0; time.Sleep(pause) {
		if time.Now().After(end) {
			return ErrSilent
		}
	}
	return nil
}

// count counts until the socket is closed. What is lost in a flood is not counted.
func (p *Programs) count() {
	for {
		messages, _, err := p.socket.Receive()
		if errors.Is(err, os.ErrClosed) {
			return
		}
		for _, m := range messages {
			p.add(m)
		}
	}
}

// add counts a thread that ended. The sum of all threads comes only with a program's last one: those that are counted here
// have one thread.
func (p *Programs) add(m syscall.NetlinkMessage) {
	const aggregate, stats, version = 4, 3, 4 // TASKSTATS_TYPE_AGGR_PID and TASKSTATS_TYPE_STATS
	const comm, commLength, user, system = 80, 32, 152, 160
	if len(m.Data) < version {
		return
	}
	all, err := nl.ParseRouteAttrAsMap(m.Data[version:])
	if err != nil {
		return
	}
	inner, err := nl.ParseRouteAttrAsMap(all[aggregate].Value)
	s := inner[stats].Value
	if err != nil || len(s) < system+8 {
		return
	}
	cpu := binary.NativeEndian.Uint64(s[user:]) + binary.NativeEndian.Uint64(s[system:])
	p.mutex.Lock()
	defer p.mutex.Unlock()
	name := unix.ByteSliceToString(s[comm : comm+commLength])
	ran := p.seen[name]
	p.seen[name] = Ran{ran.Times + 1, ran.CPU + time.Duration(cpu)*time.Microsecond}
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
