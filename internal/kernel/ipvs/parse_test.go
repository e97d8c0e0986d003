// SPDX-License-Identifier: Apache-2.0

package ipvs

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

const listingHead = "IP Virtual Server version 1.2.1 (size=4096)\n" + listingColumns

// captured is what Linux 6.1 wrote for virtual servers made with ipvsadm.
const captured = listingHead +
	"SCTP  0A000002:0063 sh  persistent 1080000 FFFFFF00\n" +
	"  -> 0A010003:0063      Route   1      0          0         \n" +
	"UDP  0A000001:13C4 rr  persistent 1000 FFFFFFFF\n" +
	"TCP  0A090001:0050 rr  \n" +
	"  -> [fd00:0000:0000:0000:0000:0000:0000:0009]:0050      Tunnel  1      0          0         \n" +
	"TCP  [fd00:0000:0000:0000:0000:0000:0000:0001]:0050 rr persistent 6000 40000000\n" +
	"  -> [fd00:0000:0000:0000:0000:0000:0000:0002]:0050      Masq    1      7          1234567   \n" +
	"TCP  0A000001:0050 rr  \n" +
	"  -> 7F000001:1F90      Masq    65535  0          0         \n" +
	"  -> 0A010001:1F90      Masq    1      0          0         \n" +
	"UDP  0A000001:0035 lc ops  persistent 6000 FFFFFFFF\n" +
	"  -> 0A010001:0035      Tunnel  1      0          0         \n" +
	"IP_47  0A000001:0050 rr  \n" +
	"ICMPv6  0A000001:0050 none  \n" +
	"FWM  0000000A wrr persistent 10000 80000000\n" +
	"  -> [fd00:0000:0000:0000:0000:0000:0000:0007]:0051      Masq    1      0          0         \n" +
	"FWM  0000000A mh ops \n" +
	"  -> 0A000101:0000      Masq    0      0          12        \n" +
	"FWM  0000000B wrr \n"

func virtualKey(s string) state.VirtualServerKey {
	k, err := state.ParseVirtualServerKey(s)
	if err != nil {
		panic(err)
	}
	return k
}

func realKey(s string) state.RealServerKey {
	k, err := state.ParseRealServerKey(s)
	if err != nil {
		panic(err)
	}
	return k
}

// listed is a row without thresholds and counters, as a listing has it.
func listed(m state.ForwardMethod, weight, active, inactive uint32) seenRealServer {
	return seenRealServer{
		server:      state.RealServer{Weight: weight, Method: m},
		connections: state.Connections{Active: active, Inactive: inactive},
	}
}

// exact compares values of this package field by field.
var exact = cmp.Options{
	cmp.AllowUnexported(seenRealServer{}, seenVirtualServer{}),
	cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
}

func TestParseListingReadsWhatAKernelWrote(t *testing.T) {
	got, err := rowsIn(captured)
	if err != nil {
		t.Fatal(err)
	}
	want := map[state.RealServerKey]seenRealServer{
		realKey("SCTP 10.0.0.2:99 -> 10.1.0.3:99"):   listed(state.Route, 1, 0, 0),
		realKey("TCP 10.9.0.1:80 -> [fd00::9]:80"):   listed(state.Tunnel, 1, 0, 0),
		realKey("TCP [fd00::1]:80 -> [fd00::2]:80"):  listed(state.Masquerade, 1, 7, 1234567),
		realKey("TCP 10.0.0.1:80 -> 127.0.0.1:8080"): listed(state.Masquerade, 65535, 0, 0),
		realKey("TCP 10.0.0.1:80 -> 10.1.0.1:8080"):  listed(state.Masquerade, 1, 0, 0),
		realKey("UDP 10.0.0.1:53 -> 10.1.0.1:53"):    listed(state.Tunnel, 1, 0, 0),
		realKey("FWM 10 IPv6 -> [fd00::7]:81"):       listed(state.Masquerade, 1, 0, 0),
		realKey("FWM 10 -> 10.0.1.1:0"):              listed(state.Masquerade, 0, 0, 12),
	}
	if d := cmp.Diff(want, got, exact); d != "" {
		t.Error(d)
	}
}

func TestParseListingOfAnEmptyTable(t *testing.T) {
	if rows, err := rowsIn(listingHead); err != nil || len(rows) != 0 {
		t.Errorf("%v, %v", rows, err)
	}
}

func TestParseListingFindsTheFamilyOfAMark(t *testing.T) {
	const (
		mark     = "FWM  00000100 rr \n"
		v4       = "  -> 0A000101:0050      Masq    1      0          0         \n"
		v6Tunnel = "  -> [fd00:0000:0000:0000:0000:0000:0000:0007]:0050      Tunnel  1      0          0         \n"
	)
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"tunnels to another family first", mark + v6Tunnel + v4, []string{"FWM 256 -> 10.0.1.1:80", "FWM 256 -> [fd00::7]:80"}},
		{"and last", mark + v4 + v6Tunnel, []string{"FWM 256 -> 10.0.1.1:80", "FWM 256 -> [fd00::7]:80"}},
		{"tunnels only", mark + v6Tunnel, []string{"FWM 256 IPv6 -> [fd00::7]:80"}},
		{"both families", mark + v4 + mark + v6Tunnel, []string{"FWM 256 -> 10.0.1.1:80", "FWM 256 IPv6 -> [fd00::7]:80"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			rows, err := rowsIn(listingHead + c.text)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for k := range rows {
				got = append(got, k.String())
			}
			slices.Sort(got)
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestCountsBelowZeroAreNoConnections(t *testing.T) {
	rows, err := rowsIn(listingHead + "TCP  0A000001:0050 rr  \n  -> 0A010001:1F90      Masq    1      -1         -2         \n")
	if err != nil {
		t.Fatal(err)
	}
	want := map[state.RealServerKey]seenRealServer{realKey("TCP 10.0.0.1:80 -> 10.1.0.1:8080"): listed(state.Masquerade, 1, 0, 0)}
	if d := cmp.Diff(want, rows, exact); d != "" {
		t.Error(d)
	}
}

func TestParseListingRefusesWhatItDoesNotKnow(t *testing.T) {
	const server = "TCP  0A000001:0050 rr  \n"
	for _, c := range []struct{ name, text, want string }{
		{"nothing", "", `listing of IPVS starts with ""`},
		{"another file", "sockets: used 5\n", `listing of IPVS starts with "sockets: used 5"`},
		{"other columns", "IP Virtual Server version 1.2.1 (size=4096)\nProt\n", `listing of IPVS has other columns than`},
		{"cut off in a line", listingHead + "TCP  0A0000", "line 4 \"TCP  0A0000\" has no end"},
		{"an empty line", listingHead + server + "\n", "line 5 \"\": virtual server with 0 columns"},
		{"a real server without a virtual one", listingHead + "  -> 0A010001:1F90      Masq    1      0          0\n", "real server before any virtual server"},
		{"an unknown protocol", listingHead + "DCCP  0A000001:0050 rr  \n", `unknown protocol "DCCP"`},
		{"a protocol number in words that has a name of its own", listingHead + "IP_0  0A000001:0050 rr  \n", `unknown protocol "IP_0"`},
		{"unknown flags", listingHead + "TCP  0A000001:0050 rr turbo \n", `unknown flags ["turbo"]`},
		{"flags out of order", listingHead + "TCP  0A000001:0050 rr persistent 1 FFFFFFFF ops\n", "unknown flags"},
		{"a timeout that is no number", listingHead + "TCP  0A000001:0050 rr persistent x FFFFFFFF\n", "persistence timeout"},
		{"a short mask", listingHead + "TCP  0A000001:0050 rr persistent 1 FFFF\n", `persistence mask: "FFFF" is not 8 hexadecimal digits`},
		{"mark 0", listingHead + "FWM  00000000 rr \n", `mark "00000000" is not eight`},
		{"a short mark", listingHead + "FWM  A rr \n", `mark "A" is not eight`},
		{"a short address", listingHead + "TCP  A000001:0050 rr  \n", `"A000001" is not 8 hexadecimal digits`},
		{"an address without a port", listingHead + "TCP  0A000001 rr  \n", `address "0A000001" has no port`},
		{"a port with a sign", listingHead + "TCP  0A000001:+050 rr  \n", `port: "+050" is not 4 hexadecimal digits`},
		{"IPv6 without a bracket", listingHead + "TCP  [fd00::1:0050 rr  \n", `is not IPv6 in brackets`},
		{"IPv4 in brackets", listingHead + "TCP  [10.0.0.1]:0050 rr  \n", `is not IPv6 in brackets`},
		{"IPv6 with a zone", listingHead + "TCP  [fe80::1%eth0]:0050 rr  \n", `is not IPv6 in brackets`},
		{"an unknown method", listingHead + server + "  -> 0A010001:1F90      Magic   1      0          0         \n", `forwarding method "Magic"`},
		{"a weight below zero", listingHead + server + "  -> 0A010001:1F90      Masq    -1     0          0         \n", "weight"},
		{"connections that are no number", listingHead + server + "  -> 0A010001:1F90      Masq    1      x          0         \n", "active connections"},
		{"inactive ones neither", listingHead + server + "  -> 0A010001:1F90      Masq    1      0          x         \n", "inactive connections"},
		{"a column less", listingHead + server + "  -> 0A010001:1F90      Masq    1      0\n", "real server with 4 columns"},
		{"a column more", listingHead + server + "  -> 0A010001:1F90      Masq    1      0          0   0\n", "real server with 6 columns"},
	} {
		t.Run(c.name, func(t *testing.T) {
			rows, err := rowsIn(c.text)
			if !strings.Contains(fmt.Sprint(err), c.want) {
				t.Errorf("%v, want %s", err, c.want)
			}
			if len(rows) != 0 {
				t.Errorf("rows beside the error: %v", rows)
			}
		})
	}
}

func TestARowTwiceIsAnInterruptedListing(t *testing.T) {
	const section = "TCP  0A000001:0050 rr  \n  -> 0A010001:1F90      Masq    1      0          0         \n"
	_, err := rowsIn(listingHead + section + section)
	if !errors.Is(err, netlink.ErrInterrupted) || !strings.Contains(err.Error(), "TCP 10.0.0.1:80 -> 10.1.0.1:8080 appears twice") {
		t.Errorf("%v", err)
	}
}

// renderListing writes rows as the kernel does, a section for each.
func renderListing(rows map[state.RealServerKey]seenRealServer) string {
	text := listingHead
	for k, r := range rows {
		server := fmt.Sprintf("IP_%d  %s rr  \n", k.Server.Protocol, renderAddress(k.Server.Address))
		switch {
		case k.Server.Mark != 0:
			server = fmt.Sprintf("FWM  %08X rr \n", k.Server.Mark)
		case k.Server.Protocol == 0:
			server = fmt.Sprintf("IP  %s rr  \n", renderAddress(k.Server.Address))
		}
		text += server + fmt.Sprintf("  -> %s      %-7s %-6d %-10d %-10d\n", renderAddress(k.Address), r.server.Method,
			r.server.Weight, r.connections.Active, r.connections.Inactive)
	}
	return text
}

func renderAddress(a netip.AddrPort) string {
	if a.Addr().Is4() {
		return fmt.Sprintf("%08X:%04X", a.Addr().As4(), a.Port())
	}
	return fmt.Sprintf("[%s]:%04X", a.Addr().WithZone("").StringExpanded(), a.Port())
}

func FuzzParseListing(f *testing.F) {
	f.Add(captured)
	f.Add(listingHead)
	f.Fuzz(func(t *testing.T, text string) {
		rows, err := rowsIn(text)
		if err != nil {
			return
		}
		for k := range rows { // a section for each row loses the hint to the family of a mark
			if k.Server.Mark != 0 && k.Server.Family() != state.FamilyOf(k.Address.Addr()) {
				return
			}
		}
		again, err := rowsIn(renderListing(rows))
		if err != nil {
			t.Fatalf("%v\n%s", err, renderListing(rows))
		}
		if d := cmp.Diff(rows, again, exact); d != "" {
			t.Error(d)
		}
	})
}

func BenchmarkParseListing2000x5(b *testing.B) {
	rows := map[state.RealServerKey]seenRealServer{}
	_, reals := fleet(2000, 5)
	for k, v := range reals {
		rows[k] = seenRealServer{server: v}
	}
	text := renderListing(rows)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := rowsIn(text); err != nil {
			b.Fatal(err)
		}
	}
}

func rowsIn(text string) (map[state.RealServerKey]seenRealServer, error) {
	rows := map[state.RealServerKey]seenRealServer{}
	_, err := parseListing(strings.NewReader(text), 0, insertRows(rows, func(r seenRealServer) seenRealServer { return r }))
	if err != nil {
		return nil, err
	}
	return rows, nil
}
