// SPDX-License-Identifier: Apache-2.0

package netlink

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// header is a netlink header in words.
type header struct {
	Length      uint32
	Kind, Flags uint16
	Sequence    uint32
}

func headers(t *testing.T, data []byte) []header {
	t.Helper()
	var all []header
	err := eachMessage(data, func(m message) error {
		all = append(all, header{uint32(unix.NLMSG_HDRLEN + len(m.body)), m.kind, m.flags, m.sequence})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestAttributesComeBackAsTheyWereAppended(t *testing.T) {
	var b Requests
	b.Begin(1, 0)
	b.Uint8(1, 0xab)
	b.Uint16(2, 0xabcd)
	b.Uint32(3, 0xabcdef01)
	b.Port(4, 443)
	b.BigUint32(5, 0xffffff00)
	b.String(6, "wlc")
	b.Bytes(7, []byte{1, 2, 3, 4, 5})
	b.Bytes(8, nil)
	b.Nest(9, func() {
		b.Uint8(1, 1)
		b.Nest(2, func() { b.String(1, "deep") })
	})

	f, err := ParseAttributes(b.Body(0))
	if err != nil {
		t.Fatal(err)
	}
	inner, err := f[8].Nested()
	if err != nil {
		t.Fatal(err)
	}
	deep, err := inner[1].Nested()
	if err != nil {
		t.Fatal(err)
	}
	got := []any{f[0].Uint8(), f[1].Uint16(), f[2].Uint32(), f[3].Port(), f[4].BigUint32(), f[5].String(), f[6].Value,
		len(f[7].Value), inner[0].Uint8(), deep[0].String()}
	want := []any{uint8(0xab), uint16(0xabcd), uint32(0xabcdef01), uint16(443), uint32(0xffffff00), "wlc", []byte{1, 2, 3, 4, 5},
		0, uint8(1), "deep"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	for i, a := range f {
		if int(a.Type) != i+1 {
			t.Errorf("attribute %d has type %d: the nested bit must be gone", i, a.Type)
		}
	}
}

func TestAttributesTooShortForTheirTypeAreZero(t *testing.T) {
	a := Attribute{Value: []byte{}}
	if a.Uint8() != 0 || a.Uint16() != 0 || a.Uint32() != 0 || a.Uint64() != 0 || a.Port() != 0 || a.BigUint32() != 0 || a.String() != "" {
		t.Error("an empty attribute has a value")
	}
	eight := Attribute{Value: binary.NativeEndian.AppendUint64(nil, 1<<40)}
	if eight.Uint64() != 1<<40 {
		t.Error("an attribute of eight bytes is not read")
	}
}

func TestStampNumbersTheRequestsAndMarksTheLast(t *testing.T) {
	var b Requests
	b.Begin(20, 0)
	b.Raw(1, 2, 3) // not aligned
	b.Begin(21, unix.NLM_F_CREATE)
	b.Begin(22, unix.NLM_F_ACK) // only the last of a chunk asks
	b.Uint8(1, 1)

	for _, c := range []struct {
		name     string
		from, to int
		want     []header
	}{
		{"all", 0, 3, []header{
			{19, 20, unix.NLM_F_REQUEST, 7},
			{16, 21, unix.NLM_F_REQUEST | unix.NLM_F_CREATE, 8},
			{24, 22, unix.NLM_F_REQUEST | unix.NLM_F_ACK, 9},
		}},
		{"again, one by one: the first", 0, 1, []header{{19, 20, unix.NLM_F_REQUEST | unix.NLM_F_ACK, 7}}},
		{"and the middle one", 1, 2, []header{{16, 21, unix.NLM_F_REQUEST | unix.NLM_F_CREATE | unix.NLM_F_ACK, 7}}},
		{"and all anew", 0, 3, []header{
			{19, 20, unix.NLM_F_REQUEST, 7},
			{16, 21, unix.NLM_F_REQUEST | unix.NLM_F_CREATE, 8},
			{24, 22, unix.NLM_F_REQUEST | unix.NLM_F_ACK, 9},
		}},
	} {
		got := headers(t, b.stamp(c.from, c.to, 7, unix.NLM_F_ACK))
		for i := range got { // the length of an unaligned request includes its padding
			got[i].Length = min(got[i].Length, c.want[i].Length)
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s: %s", c.name, d)
		}
	}
}

func TestChunksHoldEveryRequestOnceWithinTheirBounds(t *testing.T) {
	for _, c := range []struct {
		name            string
		requests, bytes int
		want            []int // requests a chunk
	}{
		{"none", 0, 0, nil},
		{"one", 1, 8, []int{1}},
		{"as many as fit by number", chunkRequests, 8, []int{chunkRequests}},
		{"one more", chunkRequests + 1, 8, []int{chunkRequests, 1}},
		{"as many as fit by size", 9, 8 << 10, []int{7, 2}},
		{"larger than a chunk", 2, chunkBytes + 100, []int{1, 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b Requests
			for range c.requests {
				b.Begin(1, 0)
				b.Raw(make([]byte, c.bytes)...)
			}
			var got []int
			for from := 0; from < b.Len(); {
				to := b.chunkEnd(from)
				got = append(got, to-from)
				from = to
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestResetKeepsTheMemory(t *testing.T) {
	var b Requests
	fill := func() {
		b.Reset()
		for i := range 100 {
			b.Begin(1, 0)
			b.Raw(1, 1, 0, 0)
			b.Nest(1, func() { b.Uint32(1, uint32(i)) })
		}
	}
	fill()
	if n := testing.AllocsPerRun(10, fill); n != 0 {
		t.Errorf("%v allocations to encode 100 requests into used memory", n)
	}
	if b.Len() != 100 {
		t.Errorf("%d requests", b.Len())
	}
}

func TestParseAttributesRefusesWhatIsCutOff(t *testing.T) {
	for _, c := range []struct {
		data []byte
		want string
	}{
		{[]byte{5, 0, 1}, "netlink attribute cut off after 3 bytes"},
		{[]byte{3, 0, 1, 0}, "netlink attribute claims 3 bytes of 4"},
		{[]byte{9, 0, 1, 0, 1, 2, 3, 4}, "netlink attribute claims 9 bytes of 8"},
	} {
		if _, err := ParseAttributes(c.data); fmt.Sprint(err) != c.want {
			t.Errorf("%v: %v, want %s", c.data, err, c.want)
		}
	}
	// The kernel does not pad the last attribute of a nest.
	if a, err := ParseAttributes([]byte{5, 0, 1, 0, 7}); err != nil || len(a) != 1 || a[0].Uint8() != 7 {
		t.Errorf("unpadded last attribute: %v, %v", a, err)
	}
}

func FuzzParseAttributes(f *testing.F) {
	f.Add([]byte{5, 0, 1, 0, 7, 0, 0, 0, 8, 0, 2, 0x80, 1, 2, 3, 4})
	f.Add([]byte{4, 0, 1, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		attributes, err := ParseAttributes(data)
		if err != nil {
			return
		}
		var b Requests
		b.Begin(1, 0)
		for _, a := range attributes {
			b.Bytes(a.Type, a.Value)
		}
		again, err := ParseAttributes(b.Body(0))
		if err != nil {
			t.Fatal(err)
		}
		same := func(a, b Attribute) bool { return a.Type == b.Type && string(a.Value) == string(b.Value) }
		if d := cmp.Diff(attributes, again, cmp.Comparer(same)); d != "" {
			t.Error(d)
		}
	})
}
