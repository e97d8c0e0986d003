// SPDX-License-Identifier: Apache-2.0

package look

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	vnl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
)

// Ended counts the programs of the whole machine that end, by name: the kernel tells of each (taskstats). Who runs others
// cannot hide it, and nothing has to be put between the two.
type Ended struct {
	socket int
	done   chan struct{}

	mutex sync.Mutex
	seen  map[string]Ran
}

// Ran is how often a program ran, and for how long on a processor.
type Ran struct {
	Times int
	CPU   time.Duration
}

// possible lists all processors that there may ever be.
const possible = "/sys/devices/system/cpu/possible"

// ErrUntold says that the kernel does not tell who ended: it tells nobody in a namespace of processes, users or networks.
var ErrUntold = errors.New("the kernel does not tell which programs end")

// WatchEnded begins to count.
func WatchEnded() (*Ended, error) {
	family, err := vnl.GenlFamilyGet("TASKSTATS")
	if err != nil {
		return nil, errors.Join(ErrUntold, fmt.Errorf("find taskstats: %w", err))
	}
	socket, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_GENERIC)
	if err != nil {
		return nil, fmt.Errorf("open a socket for taskstats: %w", err)
	}
	e := &Ended{socket: socket, done: make(chan struct{}), seen: map[string]Ran{}}
	if err := e.register(family.ID); err != nil {
		return nil, errors.Join(ErrUntold, fmt.Errorf("ask for taskstats: %w", err), unix.Close(socket))
	}
	go e.run()
	if err := e.try(); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

// try finds out whether the kernel tells.
func (e *Ended) try() error {
	const program, pause = "true", 10 * time.Millisecond
	before := e.Seen()
	if err := exec.Command(program).Run(); err != nil {
		return fmt.Errorf("run %s: %w", program, err)
	}
	for end := time.Now().Add(time.Second); e.Since(before)[program].Times == 0; time.Sleep(pause) {
		if time.Now().After(end) {
			return ErrUntold
		}
	}
	return nil
}

// patience is how often who waits for the kernel's word looks whether it is to go on.
const patience = 200 * time.Millisecond

func (e *Ended) register(family uint16) error {
	if err := unix.Bind(e.socket, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	const buffer = 4 << 20
	if err := unix.SetsockoptInt(e.socket, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer); err != nil {
		return err
	}
	timeout := unix.NsecToTimeval(patience.Nanoseconds())
	if err := unix.SetsockoptTimeval(e.socket, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return err
	}
	text, err := os.ReadFile(possible)
	if err != nil {
		return err
	}
	processors := strings.TrimSpace(string(text))
	const registerMask = 3 // TASKSTATS_CMD_ATTR_REGISTER_CPUMASK
	request := []byte{unix.TASKSTATS_CMD_GET, 1, 0, 0}
	request = binary.NativeEndian.AppendUint16(request, uint16(4+len(processors)+1))
	request = binary.NativeEndian.AppendUint16(request, registerMask)
	request = append(append(request, processors...), 0)
	header := binary.NativeEndian.AppendUint32(nil, uint32(unix.NLMSG_HDRLEN+len(request)))
	header = binary.NativeEndian.AppendUint16(header, family)
	header = binary.NativeEndian.AppendUint16(header, unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	header = append(header, make([]byte, 8)...)
	if err := unix.Sendto(e.socket, append(header, request...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	answer := make([]byte, 4<<10)
	n, _, err := unix.Recvfrom(e.socket, answer, 0)
	if err != nil {
		return err
	}
	if n >= unix.NLMSG_HDRLEN+4 && binary.NativeEndian.Uint16(answer[4:]) == unix.NLMSG_ERROR {
		if code := int32(binary.NativeEndian.Uint32(answer[unix.NLMSG_HDRLEN:])); code != 0 {
			return unix.Errno(-code)
		}
	}
	return nil
}

func (e *Ended) run() {
	buffer := make([]byte, 64<<10)
	for {
		select {
		case <-e.done:
			return
		default:
		}
		n, _, err := unix.Recvfrom(e.socket, buffer, 0)
		if err != nil { // mostly the timeout; what is lost in a flood is not counted
			continue
		}
		name, ran, err := parseEnded(buffer[:n])
		if err != nil {
			continue
		}
		e.mutex.Lock()
		sum := e.seen[name]
		sum.Times += ran.Times
		sum.CPU += ran.CPU
		e.seen[name] = sum
		e.mutex.Unlock()
	}
}

// parseEnded reads what the kernel says of one thread that ended. Only the last thread of a program that had others comes
// with the sum of all, but a name is told of each: the programs that are counted have one thread.
func parseEnded(message []byte) (name string, ran Ran, err error) {
	const headers, aggregate, stats = unix.NLMSG_HDRLEN + 4, 4, 3
	const comm, commLength, user, system = 80, 32, 152, 160
	if len(message) < headers {
		return "", Ran{}, fmt.Errorf("a message of %d bytes", len(message))
	}
	all, err := netlink.ParseAttributes(message[headers:])
	if err != nil {
		return "", Ran{}, err
	}
	for _, a := range all {
		if a.Type != aggregate {
			continue
		}
		inner, err := a.Nested()
		if err != nil {
			return "", Ran{}, err
		}
		for _, i := range inner {
			if i.Type == stats && len(i.Value) >= system+8 {
				cpu := binary.NativeEndian.Uint64(i.Value[user:]) + binary.NativeEndian.Uint64(i.Value[system:])
				return unix.ByteSliceToString(i.Value[comm : comm+commLength]), Ran{1, time.Duration(cpu) * time.Microsecond}, nil
			}
		}
	}
	return "", Ran{}, errors.New("a message without the statistics of a thread")
}

// Seen are the programs that have ended so far.
func (e *Ended) Seen() map[string]Ran {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	return maps.Clone(e.seen)
}

// Since are the programs that have ended since an earlier look.
func (e *Ended) Since(before map[string]Ran) map[string]Ran {
	now := e.Seen()
	for name, ran := range now {
		ran.Times -= before[name].Times
		ran.CPU -= before[name].CPU
		now[name] = ran
	}
	maps.DeleteFunc(now, func(_ string, r Ran) bool { return r.Times == 0 })
	return now
}

// Close stops counting.
func (e *Ended) Close() error {
	close(e.done)
	return unix.Close(e.socket)
}
