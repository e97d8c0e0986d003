// SPDX-License-Identifier: Apache-2.0

package ipvs

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// fleet returns virtual servers with each real servers each.
func fleet(servers, each int) (map[state.VirtualServerKey]state.VirtualServer, map[state.RealServerKey]state.RealServer) {
	virtuals := map[state.VirtualServerKey]state.VirtualServer{}
	reals := map[state.RealServerKey]state.RealServer{}
	for i := range servers {
		k := state.VirtualServerKey{
			Address:  netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)}), 80),
			Protocol: state.TCP,
		}
		virtuals[k] = state.VirtualServer{Scheduler: "rr", Prefix: 32}
		for j := range each {
			a := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(j), byte(i >> 8), byte(i)}), 8080)
			reals[state.RealServerKey{Server: k, Address: a}] = state.RealServer{Weight: 1}
		}
	}
	return virtuals, reals
}

// someVirtualServers has a row of each kind.
func someVirtualServers() map[state.VirtualServerKey]state.VirtualServer {
	return map[state.VirtualServerKey]state.VirtualServer{
		virtualKey("TCP 10.96.0.1:443"):      {Scheduler: "rr", Prefix: 32},
		virtualKey("UDP 10.96.0.1:53"):       {Scheduler: "lc", Prefix: 32, Flags: state.OnePacket},
		virtualKey("SCTP 10.96.0.2:5000"):    {Scheduler: "sh", Prefix: 32, Flags: state.Sched1 | state.Sched2},
		virtualKey("TCP 10.96.0.3:80"):       {Scheduler: "wlc", Prefix: 32, Flags: state.Persistent, Timeout: 10800},
		virtualKey("TCP 10.96.0.4:80"):       {Scheduler: "wrr", Prefix: 24, Flags: state.Persistent, Timeout: 60},
		virtualKey("TCP 10.96.0.5:80"):       {Scheduler: "mh", Prefix: 0, Flags: state.Persistent | state.Sched2, Timeout: 86400},
		virtualKey("TCP [fd00:96::1]:443"):   {Scheduler: "sed", Prefix: 128},
		virtualKey("UDP [fd00:96::1]:53"):    {Scheduler: "nq", Prefix: 64, Flags: state.Persistent, Timeout: 1},
		virtualKey("SCTP [fd00:96::2]:5000"): {Scheduler: "dh", Prefix: 128},
		virtualKey("FWM 256"):                {Scheduler: "rr", Prefix: 32},
		virtualKey("FWM 4294967295"):         {Scheduler: "rr", Prefix: 32},
		virtualKey("FWM 256 IPv6"):           {Scheduler: "lblc", Prefix: 128, Flags: state.Persistent, Timeout: 7},
		virtualKey("UDP 10.96.0.6:5060"):     {Scheduler: "rr", Prefix: 32, Flags: state.Persistent, Timeout: 9, Engine: "sip"},
	}
}

// someRealServers has a row of each kind, all with a virtual server above.
func someRealServers() map[state.RealServerKey]state.RealServer {
	return map[state.RealServerKey]state.RealServer{
		realKey("TCP 10.96.0.1:443 -> 192.0.2.1:6443"):           {Weight: 1},
		realKey("TCP 10.96.0.1:443 -> 192.0.2.2:6443"):           {Weight: 0},
		realKey("TCP 10.96.0.1:443 -> 127.0.0.1:6443"):           {Weight: 65535},
		realKey("UDP 10.96.0.1:53 -> 10.0.0.9:53"):               {Weight: 1, Method: state.Route},
		realKey("SCTP 10.96.0.2:5000 -> 10.0.0.9:5001"):          {Weight: 3},
		realKey("TCP 10.96.0.3:80 -> 10.0.0.9:80"):               {Weight: 2, Method: state.Tunnel},
		realKey("TCP [fd00:96::1]:443 -> [fd00:1::1]:6443"):      {Weight: 1},
		realKey("SCTP [fd00:96::2]:5000 -> [fd00:1::ffff]:5000"): {Weight: 1},
		realKey("FWM 256 -> 10.0.0.9:8080"):                      {Weight: 1},
		realKey("FWM 4294967295 -> 10.0.0.9:8080"):               {Weight: 5},
		realKey("FWM 256 IPv6 -> [fd00:1::1]:8080"):              {Weight: 1},
		realKey("FWM 256 IPv6 -> [fd00:1::1]:8081"):              {Weight: 0},
	}
}

func TestVirtualServersComeBackAsTheyWereEncoded(t *testing.T) {
	for key, value := range someVirtualServers() {
		for _, v := range []verb{add, update} {
			var b netlink.Requests
			encodeVirtualServer(&b, 30, virtualServerRow{v, key, value})
			k, seen, err := decodeVirtualServer(b.Body(0))
			if err != nil || k != key || seen.server != value {
				t.Errorf("%v %v %+v: %v %+v, %v", v, key, value, k, seen.server, err)
			}
			if got, want := b.Body(0)[0], byte(1+v); got != want {
				t.Errorf("%v: command %d, want %d", v, got, want)
			}
		}
	}
}

func TestRealServersComeBackAsTheyWereEncoded(t *testing.T) {
	rows := someRealServers()
	rows[realKey("TCP 10.96.0.1:443 -> 192.0.2.9:1")] = state.RealServer{Weight: 1, Method: state.Bypass, Upper: 100000, Lower: 5}
	for key, value := range rows {
		for _, v := range []verb{add, update} {
			var b netlink.Requests
			encodeRealServer(&b, 30, realServerRow{v, key, value})
			k, seen, err := decodeRealServer(b.Body(0), key.Server)
			if err != nil || k != key || seen != (seenRealServer{server: value}) {
				t.Errorf("%v %v %+v: %v %+v, %v", v, key, value, k, seen, err)
			}
			f, err := nestedFields(b.Body(0), attrService)
			if err != nil {
				t.Fatal(err)
			}
			if server, err := f.virtualServerKey(); err != nil || server != key.Server {
				t.Errorf("%v is encoded below %v, %v", key, server, err)
			}
			if got, want := b.Body(0)[0], byte(5+v); got != want {
				t.Errorf("%v: command %d, want %d", v, got, want)
			}
		}
	}
}

func TestRemovalNamesTheKeyAlone(t *testing.T) {
	var b netlink.Requests
	k := virtualKey("TCP 10.96.0.1:443")
	encodeVirtualServer(&b, 30, virtualServerRow{remove, k, state.VirtualServer{Scheduler: "rr", Prefix: 32}})
	encodeRealServer(&b, 30, realServerRow{remove, realKey("TCP 10.96.0.1:443 -> 192.0.2.1:6443"), state.RealServer{Weight: 1}})
	if got := [2]byte{b.Body(0)[0], b.Body(1)[0]}; got != [2]byte{3, 7} {
		t.Errorf("commands %v", got)
	}
	server, err := nestedFields(b.Body(0), attrService)
	if err != nil || server.has(serviceScheduler) || server.has(serviceFlags) {
		t.Errorf("%v, %v", server, err)
	}
	inner, err := nestedFields(b.Body(1), attrDest)
	if err != nil || inner.has(destWeight) || !inner.has(destPort) {
		t.Errorf("%v, %v", inner, err)
	}
}

// answer is a body with one nest.
func answer(kind uint16, inside func(b *netlink.Requests)) []byte {
	var b netlink.Requests
	begin(&b, 30, 1)
	b.Nest(kind, func() { inside(&b) })
	return b.Body(0)
}

// putKey and putRest are a virtual server as the kernel writes it.
func putKey(b *netlink.Requests) {
	b.Uint16(serviceFamily, unix.AF_INET)
	b.Uint16(serviceProtocol, 6)
	b.Bytes(serviceAddress, []byte{10, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	b.Port(servicePort, 443)
}

func putRest(b *netlink.Requests, flags, mask uint32) {
	b.String(serviceScheduler, "rr")
	b.Bytes(serviceFlags, binary.NativeEndian.AppendUint32(binary.NativeEndian.AppendUint32(nil, flags), 0xffffffff))
	b.Uint32(serviceTimeout, 0)
	b.BigUint32(serviceNetmask, mask)
}

func putStats(b *netlink.Requests, kind uint16) {
	b.Nest(kind, func() {
		for i := range uint16(10) {
			b.Bytes(i+1, binary.NativeEndian.AppendUint64(nil, uint64(i+1)<<33))
		}
	})
}

var allCounters = state.Counters{
	Connections: 1 << 33, PacketsIn: 2 << 33, PacketsOut: 3 << 33, BytesIn: 4 << 33, BytesOut: 5 << 33,
	ConnectionRate: 6 << 33, PacketRateIn: 7 << 33, PacketRateOut: 8 << 33, ByteRateIn: 9 << 33, ByteRateOut: 10 << 33,
}

func TestDecodeVirtualServerAsTheKernelWritesIt(t *testing.T) {
	for _, c := range []struct {
		name   string
		inside func(b *netlink.Requests)
		want   seenVirtualServer
	}{
		{"the hashed bit is the kernel's own", func(b *netlink.Requests) { putKey(b); putRest(b, 0x2|0x4, 0xffffffff) },
			seenVirtualServer{server: state.VirtualServer{Scheduler: "rr", Flags: state.OnePacket, Prefix: 32}}},
		{"a mask with holes is not 32 bits", func(b *netlink.Requests) { putKey(b); putRest(b, 0x2, 0xff00ffff) },
			seenVirtualServer{server: state.VirtualServer{Scheduler: "rr", Prefix: 8}}},
		{"64-bit counters", func(b *netlink.Requests) { putKey(b); putRest(b, 0x2, 0xffffffff); putStats(b, serviceStats64) },
			seenVirtualServer{server: state.VirtualServer{Scheduler: "rr", Prefix: 32}, counters: allCounters}},
		{"attributes of a newer kernel", func(b *netlink.Requests) { putKey(b); putRest(b, 0x2, 0xffffffff); b.Uint32(13, 1); b.Uint32(99, 1) },
			seenVirtualServer{server: state.VirtualServer{Scheduler: "rr", Prefix: 32}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			k, got, err := decodeVirtualServer(answer(attrService, c.inside))
			if err != nil || k != virtualKey("TCP 10.96.0.1:443") {
				t.Errorf("%v, %v", k, err)
			}
			if d := cmp.Diff(c.want, got, exact); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestDecodeRealServerAsTheKernelWritesIt(t *testing.T) {
	body := answer(attrDest, func(b *netlink.Requests) {
		b.Bytes(destAddress, []byte{10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
		b.Port(destPort, 8080)
		b.Uint16(destFamily, unix.AF_INET)
		b.Uint32(destMethod, 0x103) // with the bit of inactive connections
		b.Uint32(destWeight, 9)
		b.Uint32(destUpper, 10)
		b.Uint32(destLower, 5)
		b.Uint32(destActive, 1)
		b.Uint32(destInactive, 2)
		b.Uint32(destPersistent, 0xffffffff)
		putStats(b, destStats64)
	})
	k, got, err := decodeRealServer(body, virtualKey("FWM 256"))
	if err != nil || k != realKey("FWM 256 -> 10.0.0.1:8080") {
		t.Errorf("%v, %v", k, err)
	}
	want := seenRealServer{
		server:      state.RealServer{Weight: 9, Method: state.Route, Upper: 10, Lower: 5},
		connections: state.Connections{Active: 1, Inactive: 2},
		counters:    allCounters,
	}
	if d := cmp.Diff(want, got, exact); d != "" {
		t.Error(d)
	}
}

func TestDecodeRefusesWhatIsNoRow(t *testing.T) {
	virtual := func(body []byte) error { _, _, err := decodeVirtualServer(body); return err }
	dest := func(body []byte) error { _, _, err := decodeRealServer(body, virtualKey("FWM 1")); return err }
	for _, c := range []struct {
		name   string
		decode func([]byte) error
		body   []byte
		want   string
	}{
		{"nothing", virtual, nil, "message of 0 bytes"},
		{"no virtual server", virtual, answer(attrDest, func(*netlink.Requests) {}), "message without attribute 1"},
		{"garbage in the nest", virtual, answer(attrService, func(b *netlink.Requests) { b.Raw(3, 0, 1, 0) }), "netlink attribute claims 3 bytes of 4"},
		{"no family", virtual, answer(attrService, func(*netlink.Requests) {}), "address family 0"},
		{"neither mark nor protocol", virtual, answer(attrService, func(b *netlink.Requests) { b.Uint16(serviceFamily, unix.AF_INET) }),
			"no mark, and no protocol and port (protocol 0)"},
		{"a short address", virtual, answer(attrService, func(b *netlink.Requests) {
			b.Uint16(serviceFamily, unix.AF_INET6)
			b.Uint16(serviceProtocol, 6)
			b.Port(servicePort, 1)
			b.Bytes(serviceAddress, []byte{10, 96, 0, 1})
		}), "IPv6 address of 4 bytes"},
		{"a key and no more", virtual, answer(attrService, putKey), "no flags, timeout, netmask or scheduler"},
		{"an IPv6 mask of more bits than there are", virtual, answer(attrService, func(b *netlink.Requests) {
			b.Uint16(serviceFamily, unix.AF_INET6)
			b.Uint32(serviceMark, 1)
			putRest(b, 0, 0xffffffff)
		}), "IPv6 netmask of 4294967295 bits"},
		{"garbage for counters", virtual, answer(attrService, func(b *netlink.Requests) {
			putKey(b)
			putRest(b, 0, 0xffffffff)
			b.Bytes(serviceStats64, []byte{1, 0})
		}), "counters: netlink attribute cut off after 2 bytes"},
		{"no real server", dest, answer(attrService, func(*netlink.Requests) {}), "message without attribute 2"},
		{"a real server without a weight", dest, answer(attrDest, func(b *netlink.Requests) { b.Port(destPort, 1) }), "no port, method or weight"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := c.decode(c.body); fmt.Sprint(err) != c.want {
				t.Errorf("%v, want %s", err, c.want)
			}
		})
	}
}

func TestDecodeFamily(t *testing.T) {
	var b netlink.Requests
	begin(&b, 16, 1)
	b.String(unix.CTRL_ATTR_FAMILY_NAME, "IPVS")
	b.Uint16(unix.CTRL_ATTR_FAMILY_ID, 33)
	begin(&b, 16, 1)
	b.String(unix.CTRL_ATTR_FAMILY_NAME, "IPVS")
	if n, err := decodeFamily(b.Body(0)); n != 33 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := decodeFamily(b.Body(1)); fmt.Sprint(err) != "message without a family number" {
		t.Error(err)
	}
	if _, err := decodeFamily(nil); fmt.Sprint(err) != "message of 0 bytes" {
		t.Error(err)
	}
}

func FuzzDecodeVirtualServer(f *testing.F) {
	f.Add(answer(attrService, func(b *netlink.Requests) { putKey(b); putRest(b, 2, 0xffffffff); putStats(b, serviceStats64) }))
	f.Fuzz(func(t *testing.T, body []byte) {
		key, seen, err := decodeVirtualServer(body)
		if err != nil {
			return
		}
		var b netlink.Requests
		encodeVirtualServer(&b, 30, virtualServerRow{add, key, seen.server})
		k, again, err := decodeVirtualServer(b.Body(0))
		if err != nil || k != key || again.server != seen.server {
			t.Errorf("%v %+v became %v %+v, %v", key, seen.server, k, again.server, err)
		}
	})
}

func FuzzDecodeRealServer(f *testing.F) {
	f.Add(answer(attrDest, func(b *netlink.Requests) {
		b.Uint16(destFamily, unix.AF_INET)
		b.Bytes(destAddress, []byte{10, 0, 0, 1})
		b.Port(destPort, 8080)
		b.Uint32(destMethod, 0)
		b.Uint32(destWeight, 9)
	}))
	f.Fuzz(func(t *testing.T, body []byte) {
		key, seen, err := decodeRealServer(body, virtualKey("FWM 1"))
		if err != nil {
			return
		}
		var b netlink.Requests
		encodeRealServer(&b, 30, realServerRow{add, key, seen.server})
		k, again, err := decodeRealServer(b.Body(0), key.Server)
		if err != nil || k != key || again.server != seen.server {
			t.Errorf("%v %+v became %v %+v, %v", key, seen.server, k, again.server, err)
		}
	})
}

func TestEncodingIntoUsedMemoryAllocatesNothing(t *testing.T) {
	virtuals, reals := fleet(10, 5)
	var b netlink.Requests
	encode := func() {
		b.Reset()
		for k, v := range virtuals {
			encodeVirtualServer(&b, 30, virtualServerRow{add, k, v})
		}
		for k, v := range reals {
			encodeRealServer(&b, 30, realServerRow{add, k, v})
		}
	}
	encode()
	if n := testing.AllocsPerRun(10, encode); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzDecodeFamily(f *testing.F) {
	var b netlink.Requests
	b.Begin(unix.GENL_ID_CTRL, 0)
	b.Raw(unix.CTRL_CMD_NEWFAMILY, 1, 0, 0)
	b.Uint16(unix.CTRL_ATTR_FAMILY_ID, 30)
	f.Add(b.Body(0))
	f.Fuzz(func(t *testing.T, body []byte) {
		if family, err := decodeFamily(body); (err == nil) != (family != 0) {
			t.Errorf("family %d, %v", family, err)
		}
	})
}
