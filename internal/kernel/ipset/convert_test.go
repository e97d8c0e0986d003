// SPDX-License-Identifier: Apache-2.0

package ipset

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

var (
	v4 = netip.MustParseAddr("10.96.0.10")
	v6 = netip.MustParseAddr("fd00:10:96::a")
)

func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// samples are entries of every type and family with their set type.
func samples() map[state.SetEntry]state.SetType {
	return map[state.SetEntry]state.SetType{
		{Set: "ip4", Address: v4}:                                                                                 state.HashIP,
		{Set: "ip6", Address: v6}:                                                                                 state.HashIP,
		{Set: "port4", Address: v4, Protocol: state.TCP, Port: 443}:                                               state.HashIPPort,
		{Set: "port4", Address: v4, Protocol: state.UDP, Port: 53}:                                                state.HashIPPort,
		{Set: "port4", Address: v4, Protocol: state.SCTP, Port: 65535}:                                            state.HashIPPort,
		{Set: "port6", Address: v6, Protocol: state.TCP, Port: 443}:                                               state.HashIPPort,
		{Set: "port6", Address: v6, Protocol: state.SCTP, Port: 1}:                                                state.HashIPPort,
		{Set: "ip4ip", Address: v4, Protocol: state.TCP, Port: 80, Source: host(v4)}:                              state.HashIPPortIP,
		{Set: "ip6ip", Address: v6, Protocol: state.UDP, Port: 80, Source: host(v6)}:                              state.HashIPPortIP,
		{Set: "net4", Address: v4, Protocol: state.TCP, Port: 80, Source: netip.MustParsePrefix("0.0.0.0/1")}:     state.HashIPPortNet,
		{Set: "net4", Address: v4, Protocol: state.TCP, Port: 80, Source: netip.MustParsePrefix("10.0.0.0/8")}:    state.HashIPPortNet,
		{Set: "net4", Address: v4, Protocol: state.TCP, Port: 80, Source: host(v4)}:                               state.HashIPPortNet,
		{Set: "net6", Address: v6, Protocol: state.TCP, Port: 80, Source: netip.MustParsePrefix("2001:db8::/32")}: state.HashIPPortNet,
		{Set: "net6", Address: v6, Protocol: state.TCP, Port: 80, Source: netip.MustParsePrefix("8000::/1")}:      state.HashIPPortNet,
		{Set: "net6", Address: v6, Protocol: state.TCP, Port: 80, Source: host(v6)}:                               state.HashIPPortNet,
		{Set: "bits", Port: 30080}: state.BitmapPort,
		{Set: "bits", Port: 0}:     state.BitmapPort,
	}
}

// headersOf are the sets that samples are in.
func headersOf() map[state.SetName]state.Set {
	return map[state.SetName]state.Set{
		"ip4":   {Type: state.HashIP, Family: state.IPv4, MaxElem: 65536, Comment: true},
		"ip6":   {Type: state.HashIP, Family: state.IPv6, MaxElem: 65536, Comment: true},
		"port4": {Type: state.HashIPPort, Family: state.IPv4, MaxElem: 1 << 20, Comment: true},
		"port6": {Type: state.HashIPPort, Family: state.IPv6, MaxElem: 7, Comment: true},
		"ip4ip": {Type: state.HashIPPortIP, Family: state.IPv4, MaxElem: 65536},
		"ip6ip": {Type: state.HashIPPortIP, Family: state.IPv6, MaxElem: 65536},
		"net4":  {Type: state.HashIPPortNet, Family: state.IPv4, MaxElem: 65536, Comment: true},
		"net6":  {Type: state.HashIPPortNet, Family: state.IPv6, MaxElem: 65536, Comment: true},
		"bits":  {Type: state.BitmapPort, Comment: true},
	}
}

// reread decodes what an add request carries.
func reread(k state.SetEntry, kind state.SetType, v state.Entry) (state.SetEntry, state.Entry, error) {
	b := requests{protocol: newestProtocol}
	b.add(0, k, v)
	attributes, err := netlink.ParseBody(b.Body(0), headerSize)
	if err != nil {
		return state.SetEntry{}, state.Entry{}, err
	}
	return parseEntry(k.Set, kind, attributes[len(attributes)-1])
}

func TestAnEntrySurvivesEncodingAndDecoding(t *testing.T) {
	for want, kind := range samples() {
		for _, comment := range []string{"", "default/web:http", strings.Repeat("x", maxCommentLength)} {
			k, v, err := reread(want, kind, state.Entry{Comment: comment})
			if err != nil || k != want || v.Comment != comment {
				t.Errorf("%v %q came back as %v %q, error %v", want, comment, k, v.Comment, err)
			}
			if err := checkEntry(want, v); err != nil {
				t.Errorf("%v is refused: %v", want, err)
			}
		}
	}
}

func TestAHeaderSurvivesEncodingAndDecoding(t *testing.T) {
	for name, want := range headersOf() {
		b := requests{protocol: newestProtocol}
		b.create(name, want, 3)
		p, err := parsePart(b.Body(0))
		if err != nil || p.name != name || p.header == nil || *p.header != want {
			t.Errorf("%s %+v came back as %+v, error %v", name, want, p, err)
		}
	}
}

func TestAnEntryOfAnotherTypeIsRefused(t *testing.T) {
	types := []state.SetType{state.HashIP, state.HashIPPort, state.HashIPPortIP, state.HashIPPortNet, state.BitmapPort}
	for k, kind := range samples() {
		for _, other := range types {
			hostSource := k.Source.IsValid() && k.Source.IsSingleIP()
			same := other == kind || hostSource && (other == state.HashIPPortIP || other == state.HashIPPortNet)
			if _, _, err := reread(k, other, state.Entry{}); (err == nil) != same {
				t.Errorf("%v of type %s decoded as type %s: error %v", k, kind, other, err)
			}
		}
	}
}

func TestEntriesThatTheKernelWouldAlterAreRefused(t *testing.T) {
	port := state.SetEntry{Set: "s", Address: v4, Protocol: state.TCP, Port: 80}
	source := func(p string) state.SetEntry {
		k := port
		k.Source = netip.MustParsePrefix(p)
		return k
	}
	named := func(n state.SetName) state.SetEntry {
		k := port
		k.Set = n
		return k
	}
	for want, row := range map[string]struct {
		key     state.SetEntry
		comment string
	}{
		"longer than the kernel's":  {port, strings.Repeat("x", maxCommentLength+1)},
		"comment \"a\\x00b\" holds": {port, "a\x00b"},
		"all addresses (/0)":        {source("0.0.0.0/0"), ""},
		"bits outside":              {source("10.1.2.3/8"), ""},
		"different IP families":     {source("2001:db8::/32"), ""},
		"no address":                {state.SetEntry{Set: "s", Port: 1, Protocol: state.TCP}, ""},
		"zone":                      {state.SetEntry{Set: "s", Address: netip.MustParseAddr("fe80::1%eth0")}, ""},
		"is empty":                  {named(""), ""},
		"longer than 31 bytes":      {named("KUBE-6-LOAD-BALANCER-SOURCE-CIDR"), ""},
	} {
		err := checkEntry(row.key, state.Entry{Comment: row.comment})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: error %v, want one with %q", row.key, err, want)
		}
	}
}

func TestHeadersThatMakeNoSenseAreRefused(t *testing.T) {
	for _, s := range []state.Set{
		{Type: "hash:net", Family: state.IPv4, MaxElem: 1},
		{Type: state.HashIP, Family: state.IPv4},
		{Type: state.HashIP, MaxElem: 1},
		{Type: state.BitmapPort, MaxElem: 1},
		{Type: state.BitmapPort, Family: state.IPv6},
	} {
		if err := checkSet("s", s); err == nil {
			t.Errorf("%+v is accepted", s)
		}
	}
}

func TestTemporaryNamesAreShortAndDistinct(t *testing.T) {
	seen := map[state.SetName]bool{}
	for name := range headersOf() {
		temp := temporary(name)
		if err := checkName(temp); err != nil || !temp.Temporary() || seen[temp] {
			t.Errorf("temporary name %q of %q (%v)", temp, name, err)
		}
		seen[temp] = true
	}
}

func TestOldKernelsSpeakOneProtocol(t *testing.T) {
	for _, c := range []struct {
		oldest, newest uint8 // as sent; 0: not
		want           [2]uint8
	}{{6, 7, [2]uint8{6, 7}}, {0, 6, [2]uint8{6, 6}}} {
		b := requests{protocol: c.newest}
		b.begin(commandProtocol, 0)
		if c.oldest != 0 {
			b.Uint8(attrProtocolMin, c.oldest)
		}
		oldest, newest, err := parseProtocol(b.Body(0))
		if got := [2]uint8{oldest, newest}; err != nil || got != c.want {
			t.Errorf("protocols %v, want %v (%v)", got, c.want, err)
		}
	}
}

func FuzzParsePart(f *testing.F) {
	for name, s := range headersOf() {
		b := requests{protocol: newestProtocol}
		b.create(name, s, 1)
		f.Add(b.Body(0), uint8(0))
	}
	for k, kind := range samples() {
		b := requests{protocol: newestProtocol}
		b.beginSet(commandList, 0, k.Set)
		b.Nest(attrEntries, func() {
			b.Nest(attrContent, func() { b.member(k) })
			b.Nest(attrContent, func() {
				b.member(k)
				b.BigUint32(attrBits|networkOrder, bitNoMatch)
				b.String(attrComment, "a/b:c")
			})
		})
		f.Add(b.Body(0), uint8(len(kind)))
	}
	types := []state.SetType{state.HashIP, state.HashIPPort, state.HashIPPortIP, state.HashIPPortNet, state.BitmapPort}
	f.Fuzz(func(t *testing.T, body []byte, which uint8) {
		p, err := parsePart(body)
		if err != nil {
			return
		}
		kind := types[int(which)%len(types)]
		for _, a := range p.entries {
			checkReread(t, p.name, kind, a)
		}
	})
}

// checkReread reports an error if what could be decoded is not encoded to the same again.
func checkReread(t *testing.T, name state.SetName, kind state.SetType, a netlink.Attribute) {
	k, v, err := parseEntry(name, kind, a)
	if err != nil {
		return
	}
	again, value, err := reread(k, kind, v)
	if err != nil || again != k || value != v {
		t.Errorf("%v %+v came back as %v %+v: %v", k, v, again, value, err)
	}
	if err := checkEntry(k, v); err != nil && checkName(name) == nil && len(v.Comment) <= maxCommentLength {
		t.Errorf("%v decoded, but is refused: %v", k, err)
	}
}

func TestPrivateErrorsHaveWords(t *testing.T) {
	for _, c := range []struct {
		number unix.Errno
		bitmap bool
		want   string
	}{
		{errHashFull, false, "the set is full"},
		{errBitmapRange, true, "the port is outside the set's range"},
		{errBusy, false, "in use"},
		{errTypeMismatch, false, "different types"},
		{errComment, true, "no comments"},
		{unix.ENOENT, false, "does not exist"},
	} {
		err := explain(&netlink.Error{Errno: c.number}, c.bitmap)
		if !strings.Contains(err.Error(), c.want) {
			t.Errorf("errno %d reads %q, want %q", c.number, err, c.want)
		}
	}
}

func FuzzParseVersions(f *testing.F) {
	b := requests{protocol: newestProtocol}
	b.begin(commandProtocol, 0)
	b.Uint8(attrRevision, 5)
	b.Uint8(attrProtocolMin, oldestProtocol)
	f.Add(b.Body(0))
	f.Fuzz(func(t *testing.T, body []byte) {
		if oldest, newest, err := parseProtocol(body); err == nil && oldest == 0 && newest != 0 {
			t.Errorf("protocols %d to %d", oldest, newest)
		}
		if revision, err := parseRevision(body); err == nil && !bytes.Contains(body, []byte{revision}) {
			t.Errorf("revision %d is not in % x", revision, body)
		}
	})
}
