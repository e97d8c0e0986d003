// SPDX-License-Identifier: Apache-2.0

package ipvs

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// The text of /proc/net/ip_vs, as ip_vs_info_seq_show writes it:
//
//	IP Virtual Server version 1.2.1 (size=4096)
//	Prot LocalAddress:Port Scheduler Flags
//	  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
//	TCP  0A600001:01BB rr  persistent 1080000 FFFFFFFF
//	  -> C0000201:192B      Masq    1      0          0
//	TCP  [fd00:0000:0000:0000:0000:0000:0000:0001]:0050 rr
//	FWM  0000000A mh ops
//
// Of a virtual server only the key is read: the timeout is in kernel ticks, and most flags are missing.
const (
	listingTitle   = "IP Virtual Server version "
	listingColumns = "Prot LocalAddress:Port Scheduler Flags\n" +
		"  -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n"
	realServerMark = "  -> "
)

// listing is a /proc/net/ip_vs that is being read. It passes on the real servers of each virtual server.
type listing struct {
	keep    keeper
	rows    int                                 // that were passed on
	servers map[state.VirtualServerKey]struct{} // without marks that have no real server: their family is not known
	server  state.VirtualServerKey              // of the current section; a mark has no address here yet
	inside  bool                                // a section has started
	section []listedRealServer
}

// keeper takes in the real servers of a virtual server, at least one. It does not hold on to the slice.
type keeper func(state.VirtualServerKey, []listedRealServer) error

type listedRealServer struct {
	address netip.AddrPort
	seen    seenRealServer
}

// parseListing reads the text of /proc/net/ip_vs. It accepts only what the kernel writes: a row that is read wrong is
// worse than none. The maps get their size from the start, since growing them is most of their cost.
func parseListing(text io.Reader, servers int, keep keeper) (listing, error) {
	lines := bufio.NewReader(text)
	if err := parseHead(lines); err != nil {
		return listing{}, err
	}
	l := listing{keep: keep, servers: make(map[state.VirtualServerKey]struct{}, servers)}
	for number := 4; ; number++ {
		line, err := lines.ReadString('\n')
		if errors.Is(err, io.EOF) && line == "" {
			break
		}
		line, ended := strings.CutSuffix(line, "\n")
		if errors.Is(err, io.EOF) && !ended {
			return listing{}, fmt.Errorf("listing of IPVS: line %d %.80q has no end", number, line)
		}
		if err == nil {
			err = l.line(line)
		}
		if err != nil {
			return listing{}, fmt.Errorf("listing of IPVS: line %d %.80q: %w", number, line, err)
		}
	}
	err := l.endSection()
	return l, err
}

// room is how many rows are expected.
type room struct{ servers, rows int }

// parseHead reads what comes before the first row.
func parseHead(lines *bufio.Reader) error {
	title, err := lines.ReadString('\n')
	columns := make([]byte, len(listingColumns))
	if err == nil {
		_, err = io.ReadFull(lines, columns)
	}
	switch {
	case err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("head of listing of IPVS: %w", err)
	case !strings.HasPrefix(title, listingTitle):
		return fmt.Errorf("listing of IPVS starts with %.60q", strings.TrimSuffix(title, "\n"))
	case string(columns) != listingColumns:
		return fmt.Errorf("listing of IPVS has other columns than %q", listingColumns)
	}
	return nil
}

func (l *listing) line(line string) error {
	if columns, ok := strings.CutPrefix(line, realServerMark); ok {
		if !l.inside {
			return errors.New("real server before any virtual server")
		}
		r, err := parseRealServer(columns)
		l.section = append(l.section, r)
		return err
	}
	if err := l.endSection(); err != nil {
		return err
	}
	var err error
	l.server, err = parseVirtualServer(line)
	l.inside = true
	return err
}

// endSection passes on the real servers of a virtual server, once all are known.
func (l *listing) endSection() error {
	k := l.server
	if k.Mark != 0 {
		k = state.MarkKey(sectionFamily(l.section), k.Mark)
	}
	if l.inside && (len(l.section) > 0 || k.Mark == 0) {
		l.servers[k] = struct{}{}
	}
	section := l.section
	l.section = section[:0]
	return l.keepSection(k, section)
}

func (l *listing) keepSection(k state.VirtualServerKey, section []listedRealServer) error {
	if len(section) == 0 {
		return nil
	}
	l.rows += len(section)
	return l.keep(k, section)
}

// keepRows takes in a virtual server that was read otherwise.
func (l *listing) keepRows(k state.VirtualServerKey, rows map[state.RealServerKey]seenRealServer) error {
	section := make([]listedRealServer, 0, len(rows))
	for r, seen := range rows {
		section = append(section, listedRealServer{r.Address, seen})
	}
	return l.keepSection(k, section)
}

// insertRows adds the real servers of a virtual server to a map. It keeps of each what of returns.
func insertRows[V any](into map[state.RealServerKey]V, of func(seenRealServer) V) keeper {
	return func(k state.VirtualServerKey, section []listedRealServer) error {
		for _, r := range section {
			if err := insert(into, state.RealServerKey{Server: k, Address: r.address}, of(r.seen)); err != nil {
				return err
			}
		}
		return nil
	}
}

// pack adds the real servers of a virtual server to packed.
func pack(packed state.Packed, k state.VirtualServerKey, section []listedRealServer) error {
	rs := make(state.Reals, len(section))
	for i, r := range section {
		rs[i] = state.RealOf(r.address, r.seen.server)
	}
	slices.SortFunc(rs, state.Real.Compare)
	for i := range rs[1:] {
		if rs[i].Compare(rs[i+1]) == 0 {
			return fmt.Errorf("%v appears twice: %w", rs[i].Key(k), netlink.ErrInterrupted)
		}
	}
	return insert(packed, k, rs)
}

// sectionFamily finds the family of a mark, which the kernel does not write. It is that of its real servers, except
// tunnels, which can have another.
func sectionFamily(section []listedRealServer) state.Family {
	family := state.IPv4
	for i, r := range section {
		f := state.FamilyOf(r.address.Addr())
		if r.seen.server.Method != state.Tunnel {
			return f
		}
		if i == 0 {
			family = f
		}
	}
	return family
}

func parseVirtualServer(line string) (state.VirtualServerKey, error) {
	columns := strings.Fields(line)
	if len(columns) < 3 {
		return state.VirtualServerKey{}, fmt.Errorf("virtual server with %d columns", len(columns))
	}
	if err := checkOptions(columns[3:]); err != nil {
		return state.VirtualServerKey{}, err
	}
	if columns[0] == "FWM" {
		mark, err := strconv.ParseUint(columns[1], 16, 32)
		if err != nil || mark == 0 || len(columns[1]) != 8 {
			return state.VirtualServerKey{}, fmt.Errorf("mark %q is not eight hexadecimal digits above 0", columns[1])
		}
		return state.VirtualServerKey{Mark: uint32(mark)}, nil
	}
	p, err := parseProtocol(columns[0])
	if err != nil {
		return state.VirtualServerKey{}, err
	}
	a, err := parseAddressPort(columns[1])
	return state.VirtualServerKey{Address: a, Protocol: p}, err
}

// checkOptions checks what follows the scheduler: [ops] [persistent TICKS MASK].
func checkOptions(columns []string) error {
	if len(columns) > 0 && columns[0] == "ops" {
		columns = columns[1:]
	}
	if len(columns) == 0 {
		return nil
	}
	if len(columns) != 3 || columns[0] != "persistent" {
		return fmt.Errorf("unknown flags %q", columns)
	}
	// The kernel writes the unsigned number of ticks as a signed one.
	if _, err := strconv.ParseInt(columns[1], 10, 32); err != nil {
		return fmt.Errorf("persistence timeout: %w", err)
	}
	if _, err := parseHex(columns[2], 8); err != nil {
		return fmt.Errorf("persistence mask: %w", err)
	}
	return nil
}

// parseProtocol reads the kernel's name of a protocol. It keeps virtual servers of any, and schedules three.
func parseProtocol(s string) (state.Protocol, error) {
	switch s {
	case "TCP", "UDP", "SCTP":
		return state.ParseProtocol(s)
	case "IP":
		return 0, nil
	case "ICMP":
		return unix.IPPROTO_ICMP, nil
	case "ICMPv6":
		return unix.IPPROTO_ICMPV6, nil
	}
	number, ok := strings.CutPrefix(s, "IP_")
	n, err := strconv.ParseUint(number, 10, 8)
	if !ok || err != nil || n == 0 {
		return 0, fmt.Errorf("unknown protocol %q", s)
	}
	return state.Protocol(n), nil
}

func parseRealServer(line string) (listedRealServer, error) {
	var columns [5]string
	if n := fiveColumns(line, &columns); n != len(columns) {
		return listedRealServer{}, fmt.Errorf("real server with %d columns", n)
	}
	a, err := parseAddressPort(columns[0])
	if err != nil {
		return listedRealServer{}, err
	}
	method, err := state.ParseForwardMethod(columns[1])
	if err != nil {
		return listedRealServer{}, err
	}
	weight, err := strconv.ParseUint(columns[2], 10, 31)
	if err != nil {
		return listedRealServer{}, fmt.Errorf("weight: %w", err)
	}
	active, err := strconv.ParseInt(columns[3], 10, 32)
	if err != nil {
		return listedRealServer{}, fmt.Errorf("active connections: %w", err)
	}
	inactive, err := strconv.ParseInt(columns[4], 10, 32)
	if err != nil {
		return listedRealServer{}, fmt.Errorf("inactive connections: %w", err)
	}
	return listedRealServer{address: a, seen: seenRealServer{
		server:      state.RealServer{Weight: uint32(weight), Method: method},
		connections: state.Connections{Active: connections(int32(active)), Inactive: connections(int32(inactive))},
	}}, nil
}

// fiveColumns fills in the columns of a line and returns how many it has, without an allocation.
func fiveColumns(line string, columns *[5]string) (n int) {
	for column := range strings.FieldsSeq(line) {
		if n < len(columns) {
			columns[n] = column
		}
		n++
	}
	return n
}

// connections reads the kernel's count of connections, which is signed and falls below zero in some kernels.
func connections(n int32) uint32 { return uint32(max(n, 0)) }

// parseAddressPort reads "0A600001:01BB" and "[fd00:0000:0000:0000:0000:0000:0000:0001]:01BB".
func parseAddressPort(s string) (netip.AddrPort, error) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return netip.AddrPort{}, fmt.Errorf("address %q has no port", s)
	}
	port, err := parseHex(s[i+1:], 4)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("port: %w", err)
	}
	a, err := parseAddress(s[:i])
	return netip.AddrPortFrom(a, uint16(port)), err
}

func parseAddress(s string) (netip.Addr, error) {
	if !strings.HasPrefix(s, "[") {
		n, err := parseHex(s, 8)
		if err != nil {
			return netip.Addr{}, fmt.Errorf("address: %w", err)
		}
		return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}), nil
	}
	inner, ok := strings.CutSuffix(s[1:], "]")
	a, err := netip.ParseAddr(inner)
	if !ok || err != nil || !a.Is6() || a.Zone() != "" {
		return netip.Addr{}, fmt.Errorf("address %q is not IPv6 in brackets", s)
	}
	return a, nil
}

// parseHex reads a number of exactly so many hexadecimal digits.
func parseHex(s string, digits int) (uint32, error) {
	n, err := strconv.ParseUint(s, 16, 32)
	if err != nil || len(s) != digits {
		return 0, fmt.Errorf("%q is not %d hexadecimal digits", s, digits)
	}
	return uint32(n), nil
}
