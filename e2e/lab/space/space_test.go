// SPDX-License-Identifier: Apache-2.0

package space

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseModules(t *testing.T) {
	text := "ip_vs_rr 16384 1 - Live 0x0000000000000000\nip_vs 180224 3 ip_vs_rr, Live 0x0 (O)\n"
	got, err := parseModules(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if want := map[string]int{"ip_vs_rr": 1, "ip_vs": 3}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got, err := parseModules(strings.NewReader("ip_vs\n")); err == nil {
		t.Errorf("a short line: got %v, want an error", got)
	}
}

func TestRemovable(t *testing.T) {
	before := map[string]int{"ip_vs": 0, "xt_set": 0}
	now := map[string]int{
		"ip_vs": 1, "xt_set": 0, // were there
		"ip_vs_rr": 0, "ip_set_hash_ip": 2, "nf_conntrack": 1, // ours
		"iptable_nat": 0, "ip6table_filter": 0, "dummy": 0, "veth": 0, "bridge": 0, // would take others' rows along
		"ext4": 0, // not our business
	}
	got := removable(before, now)
	slices.Sort(got)
	if want := []string{"ip_set_hash_ip", "ip_vs_rr", "nf_conntrack"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAttributePads(t *testing.T) {
	// Netlink is in the machine's byte order; the sizes below differ in either.
	for size, want := range map[int]int{0: 4, 1: 8, 3: 8, 4: 8, 5: 12} {
		b := attribute(7, bytes.Repeat([]byte{0xff}, size))
		if len(b) != want {
			t.Errorf("%d bytes: got %d, want %d", size, len(b), want)
		}
		if v := findAttribute(b, 7); len(v) != size {
			t.Errorf("%d bytes: read back as %d", size, len(v))
		}
	}
}

func TestParseAnswer(t *testing.T) {
	answer := request(42, 1, append(attribute16(1, 5), attribute16(2, 6)...))
	ack := acknowledgement(0)
	for _, c := range []struct {
		name  string
		bytes []byte
		value []byte
		acked bool
		err   error
	}{
		{"an answer", answer, answer[len(answer)-4 : len(answer)-2], false, nil},
		{"an acknowledgement", ack, nil, true, nil},
		{"both", append(slices.Clone(answer), ack...), answer[len(answer)-4 : len(answer)-2], true, nil},
		{"an error", acknowledgement(unix.ENOENT), nil, true, unix.ENOENT},
		{"nothing", nil, nil, false, nil},
	} {
		value, acked, err := parseAnswer(c.bytes, 2)
		if !bytes.Equal(value, c.value) || acked != c.acked || !errors.Is(err, c.err) {
			t.Errorf("%s: got %v, %v, %v; want %v, %v, %v", c.name, value, acked, err, c.value, c.acked, c.err)
		}
	}
}

func TestParseAnswerRejectsWrongLengths(t *testing.T) {
	whole := request(42, 1, attribute16(2, 6))
	if _, _, err := parseAnswer(whole[:len(whole)-4], 2); err == nil {
		t.Error("a cut message was accepted")
	}
	if _, _, err := parseAnswer(make([]byte, unix.SizeofNlMsghdr), 2); err == nil {
		t.Error("a message of length zero was accepted")
	}
}

func FuzzParseAnswer(f *testing.F) {
	f.Add(request(42, 1, probeService()), uint16(1))
	f.Add(acknowledgement(unix.EPERM), uint16(2))
	f.Fuzz(func(_ *testing.T, b []byte, want uint16) {
		_, _, _ = parseAnswer(b, want)
	})
}

// acknowledgement returns the kernel's answer: struct nlmsgerr with the negative error number.
func acknowledgement(code unix.Errno) []byte {
	b := request(unix.NLMSG_ERROR, 0, make([]byte, 16))
	copy(b[unix.SizeofNlMsghdr:], attribute32(0, uint32(-int32(code)))[unix.SizeofRtAttr:])
	return b
}

func TestProbeServiceIsComplete(t *testing.T) {
	service := findAttribute(probeService(), ipvsAttrService|unix.NLA_F_NESTED)
	for name, kind := range map[string]uint16{
		"family": ipvsServiceFamily, "protocol": ipvsServiceProtocol, "address": ipvsServiceAddress,
		"port": ipvsServicePort, "scheduler": ipvsServiceSched, "flags": ipvsServiceFlags,
		"timeout": ipvsServiceTimeout, "netmask": ipvsServiceNetmask,
	} {
		if findAttribute(service, kind) == nil {
			t.Errorf("the service has no %s", name)
		}
	}
}

func FuzzParseModules(f *testing.F) {
	f.Add("ip_vs 192512 3 ip_vs_rr, Live 0x0\nveth 40960 0 - Live 0x0\n")
	f.Fuzz(func(t *testing.T, text string) {
		modules, err := parseModules(strings.NewReader(text))
		if err == nil && len(modules) > strings.Count(text, "\n")+1 {
			t.Errorf("%q has %d modules", text, len(modules))
		}
	})
}
