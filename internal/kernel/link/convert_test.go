// SPDX-License-Identifier: Apache-2.0

package link

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// message is the body of an address message, as the kernel would write it.
func message(bits, device int, attributes ...[]byte) []byte {
	body := header(unix.AF_UNSPEC, bits, 0, device)
	for _, a := range attributes {
		body = append(body, a...)
	}
	return body
}

func attribute(kind uint16, value []byte) []byte {
	a := binary.NativeEndian.AppendUint16(nil, uint16(unix.SizeofNlAttr+len(value)))
	a = binary.NativeEndian.AppendUint16(a, kind)
	a = append(a, value...)
	for len(a)%unix.NLMSG_ALIGNTO != 0 {
		a = append(a, 0)
	}
	return a
}

func addr(s string) []byte { return netip.MustParseAddr(s).AsSlice() }

func TestParseAssigned(t *testing.T) {
	label := attribute(unix.IFA_LABEL, []byte("eth0\x00"))
	for _, c := range []struct {
		name string
		body []byte
		want Assigned
	}{
		{
			"IPv4 with both attributes",
			message(32, 7, attribute(unix.IFA_ADDRESS, addr("10.96.0.1")), attribute(unix.IFA_LOCAL, addr("10.96.0.1")), label),
			Assigned{7, netip.MustParsePrefix("10.96.0.1/32")},
		},
		{
			"the local address counts and not the peer, whatever comes first",
			message(30, 7, attribute(unix.IFA_LOCAL, addr("192.0.2.1")), attribute(unix.IFA_ADDRESS, addr("192.0.2.2"))),
			Assigned{7, netip.MustParsePrefix("192.0.2.1/30")},
		},
		{
			"IPv6 has an address alone",
			message(64, 1<<30, attribute(unix.IFA_ADDRESS, addr("fd00:96::1"))),
			Assigned{1 << 30, netip.MustParsePrefix("fd00:96::1/64")},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ParseAssigned(c.body)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestParseAssignedRefusesNonsense(t *testing.T) {
	for name, body := range map[string][]byte{
		"too short":           {1, 2, 3},
		"no address":          message(32, 7, attribute(unix.IFA_LABEL, []byte("eth0\x00"))),
		"five bytes":          message(32, 7, attribute(unix.IFA_ADDRESS, []byte{1, 2, 3, 4, 5})),
		"too long a prefix":   message(33, 7, attribute(unix.IFA_ADDRESS, addr("192.0.2.1"))),
		"attribute cut short": message(32, 7, attribute(unix.IFA_ADDRESS, addr("192.0.2.1"))[:6]),
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := ParseAssigned(body); err == nil {
				t.Errorf("got %v, want an error", got)
			}
		})
	}
}

func TestBoundAddressesAreHostPrefixesThatWereAssigned(t *testing.T) {
	for prefix, want := range map[string]bool{
		"10.96.0.1/32":    true,
		"10.96.0.1/24":    false,
		"169.254.20.1/32": true, // IPv4 link-local: nodelocaldns is there
		"fd00:96::1/128":  true,
		"fd00:96::1/64":   false,
		"fe80::1/128":     false,
		"fe80::1/64":      false,
	} {
		if got := bound(netip.MustParsePrefix(prefix)); got != want {
			t.Errorf("bound(%s) = %v, want %v", prefix, got, want)
		}
	}
}

func FuzzParseAssigned(f *testing.F) {
	f.Add(message(32, 7, attribute(unix.IFA_ADDRESS, addr("10.96.0.1")), attribute(unix.IFA_LOCAL, addr("10.96.0.1"))))
	f.Add(message(128, 7, attribute(unix.IFA_ADDRESS, addr("fd00:96::1"))))
	f.Fuzz(func(t *testing.T, body []byte) {
		a, err := ParseAssigned(body)
		if err != nil {
			return
		}
		again := message(a.Prefix.Bits(), a.Index, attribute(unix.IFA_LOCAL, a.Prefix.Addr().AsSlice()))
		if b, err := ParseAssigned(again); err != nil || a != b {
			t.Errorf("%v became %v, %v", a, b, err)
		}
	})
}
