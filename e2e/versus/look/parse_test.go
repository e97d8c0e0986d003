// SPDX-License-Identifier: Apache-2.0

package look

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

const tries = `Basic info: size of leaf: 48 bytes, size of tnode: 40 bytes.
Main:
	Aver depth:     1.66
	Leaves:         3
	Prefixes:       7
Local:
	Aver depth:     1.66
	Leaves:         3
	Prefixes:       1003
	Internal nodes: 2
`

func TestTheAddressesOfTheTableLocalAreCounted(t *testing.T) {
	if n, err := parseLocals([]byte(tries)); n != 1003 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := parseLocals([]byte("Main:\n\tPrefixes:       7\n")); err == nil {
		t.Errorf("%d of a kernel without the table", n)
	}
}

func TestCPUTimeIsThatOfTheChildrenToo(t *testing.T) {
	const stat = "12 (a (b) c) S 1 12 12 0 -1 4194560 100 0 0 0 150 50 20 5 20 0 1 0 100 1000 10"
	if got, err := parseCPU([]byte(stat)); got != 2250*time.Millisecond || err != nil {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "12 (a) S 1", "12 (a) S 1 12 12 0 -1 4194560 100 0 0 0 x 50 20 5 20"} {
		if got, err := parseCPU([]byte(bad)); err == nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
}

func TestMemoryIsRead(t *testing.T) {
	const status = "Name:\tx\nVmHWM:\t   84992 kB\nVmRSS:\t   41984 kB\n"
	if got, err := parseKiB([]byte(status), "VmRSS:"); got != 41<<20 || err != nil {
		t.Errorf("%d, %v", got, err)
	}
	if got, err := parseKiB([]byte("Name:\tx\n"), "VmRSS:"); err == nil {
		t.Errorf("%d of nothing", got)
	}
}

func TestARealServerIsRead(t *testing.T) {
	b := &netlink.Requests{}
	b.Begin(1, 0)
	b.Raw(8, 1, 0, 0)
	b.Nest(2, func() {
		b.Uint16(11, unix.AF_INET)
		b.Bytes(1, append([]byte{10, 128, 0, 7}, make([]byte, 12)...))
		b.Port(2, 8080)
		b.Uint32(4, 3)
	})
	at, weight, err := parseReal(b.Body(0), state.IPv4)
	if at != netip.MustParseAddrPort("10.128.0.7:8080") || weight != 3 || err != nil {
		t.Errorf("%v of weight %d, %v", at, weight, err)
	}
}

func TestTheSizeOfASetIsRead(t *testing.T) {
	b := &netlink.Requests{}
	b.Begin(1, 0)
	b.Raw(2, 0, 0, 0)
	b.String(2, "KUBE-CLUSTER-IP")
	b.Nest(7, func() { b.BigUint32(setElements|unix.NLA_F_NET_BYTEORDER, 10001) })
	if n, err := parseElements(b.Body(0)); n != 10001 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

func TestWhoEndedIsRead(t *testing.T) {
	stats := make([]byte, 200)
	copy(stats[80:], "ipset")
	binary.NativeEndian.PutUint64(stats[152:], 1500)
	binary.NativeEndian.PutUint64(stats[160:], 500)
	b := &netlink.Requests{}
	b.Begin(1, 0)
	b.Raw(2, 1, 0, 0)
	b.Nest(4, func() {
		b.Uint32(1, 4711)
		b.Bytes(3, stats)
	})
	message := append(make([]byte, unix.NLMSG_HDRLEN), b.Body(0)...)
	name, ran, err := parseEnded(message)
	if name != "ipset" || ran != (Ran{1, 2 * time.Millisecond}) || err != nil {
		t.Errorf("%q ran %+v, %v", name, ran, err)
	}
}

// FuzzKernelsWords gives bytes to all that reads the kernel's words. None may fall over, whatever they are.
func FuzzKernelsWords(f *testing.F) {
	f.Add([]byte(tries))
	f.Add([]byte("12 (a) S 1 12 12 0 -1 4194560 100 0 0 0 150 50 20 5 20"))
	f.Add([]byte{2, 0, 0, 0, 12, 0, 7, 128, 8, 0, 24, 64, 0, 0, 0, 5})
	f.Fuzz(func(t *testing.T, text []byte) {
		if n, err := parseLocals(text); err == nil && n < 0 {
			t.Errorf("%d addresses", n)
		}
		if cpu, err := parseCPU(text); err == nil && len(text) == 0 {
			t.Errorf("%v of nothing", cpu)
		}
		if at, _, err := parseReal(text, state.IPv4); err == nil && !at.Addr().IsValid() {
			t.Errorf("a real server at %v", at)
		}
		if n, err := parseElements(text); err == nil && n < 0 {
			t.Errorf("%d entries", n)
		}
		if name, ran, err := parseEnded(text); err == nil && ran.Times != 1 {
			t.Errorf("%q ran %d times", name, ran.Times)
		}
		if n := countMessages(text); n > len(text)/unix.NLMSG_HDRLEN {
			t.Errorf("%d messages in %d bytes", n, len(text))
		}
	})
}
