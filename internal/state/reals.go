// SPDX-License-Identifier: Apache-2.0

package state

import (
	"bytes"
	"cmp"
	"iter"
	"net/netip"
	"slices"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
)

// Real is a real server within its virtual server: 32 bytes without a pointer, where a row of the table takes 88 with
// two. A large cluster has hundreds of thousands of them, which stay small so, and which the garbage collector need not
// look through.
type Real struct {
	address [16]byte // IPv4 ones in IPv6 form
	port    uint16
	family  Family
	method  ForwardMethod
	weight  uint32
	upper   uint32
	lower   uint32
}

// RealOf packs the real server at an address.
func RealOf(a netip.AddrPort, v RealServer) Real {
	return Real{
		address: a.Addr().As16(), port: a.Port(), family: FamilyOf(a.Addr()),
		method: v.Method, weight: v.Weight, upper: v.Upper, lower: v.Lower,
	}
}

// Address is where the real server is.
func (r Real) Address() netip.AddrPort {
	a := netip.AddrFrom16(r.address)
	if r.family == IPv4 {
		a = a.Unmap()
	}
	return netip.AddrPortFrom(a, r.port)
}

// Value is the value of the row.
func (r Real) Value() RealServer {
	return RealServer{Weight: r.weight, Method: r.method, Upper: r.upper, Lower: r.lower}
}

// Weight is the Value's.
func (r Real) Weight() uint32 { return r.weight }

// Weightless is r without new connections, as it looks while it drains.
func (r Real) Weightless() Real {
	r.weight = 0
	return r
}

// Key is that of the row that r is as a real server of k.
func (r Real) Key(k VirtualServerKey) RealServerKey {
	return RealServerKey{Server: k, Address: r.Address()}
}

// Compare orders by address, as RealServerKey.Compare does.
func (r Real) Compare(o Real) int {
	return cmp.Or(cmp.Compare(r.family, o.family), bytes.Compare(r.address[:], o.address[:]), cmp.Compare(r.port, o.port))
}

// Reals are the real servers of one virtual server, in the order of Compare and none twice. They are never changed in
// place.
type Reals []Real

// Find returns the real server at an address.
func (rs Reals) Find(a netip.AddrPort) (RealServer, bool) {
	i, found := slices.BinarySearchFunc(rs, RealOf(a, RealServer{}), Real.Compare)
	if !found {
		return RealServer{}, false
	}
	return rs[i].Value(), true
}

// RealsOf packs the real servers of each of the virtual servers: the two lists are sorted, and a real server of none of
// them is left out.
func RealsOf(servers []diff.Row[VirtualServerKey, VirtualServer], rows []diff.Row[RealServerKey, RealServer]) []Reals {
	if len(servers) == 0 {
		return nil
	}
	all, packed := make([]Reals, len(servers)), make(Reals, 0, len(rows))
	for i, s := range servers {
		for len(rows) > 0 && rows[0].Key.Server != s.Key && rows[0].Key.Server.Compare(s.Key) < 0 {
			rows = rows[1:]
		}
		from := len(packed)
		for len(rows) > 0 && rows[0].Key.Server == s.Key {
			packed = append(packed, RealOf(rows[0].Key.Address, rows[0].Value))
			rows = rows[1:]
		}
		all[i] = packed[from:len(packed):len(packed)]
	}
	return all
}

// Packed is a table of real servers, by their virtual servers.
type Packed map[VirtualServerKey]Reals

// PackReals packs a table of real servers.
func PackReals(rows map[RealServerKey]RealServer) Packed {
	counts := map[VirtualServerKey]int{}
	for k := range rows {
		counts[k.Server]++
	}
	packed, room := make(Packed, len(counts)), make(Reals, len(rows))
	for k, n := range counts {
		packed[k], room = room[:0:n], room[n:]
	}
	for k, r := range rows {
		packed[k.Server] = append(packed[k.Server], RealOf(k.Address, r))
	}
	for _, rs := range packed {
		slices.SortFunc(rs, Real.Compare)
	}
	return packed
}

// Both walks through two lists together: each address comes once, with what each list has there, nil if it has nothing.
func Both(a, b Reals) iter.Seq2[*Real, *Real] {
	return func(yield func(a, b *Real) bool) {
		for len(a) > 0 || len(b) > 0 {
			var x, y *Real
			order := first(a, b)
			if order <= 0 {
				x, a = &a[0], a[1:]
			}
			if order >= 0 {
				y, b = &b[0], b[1:]
			}
			if !yield(x, y) {
				return
			}
		}
	}
}

// first says which of two lists, not both empty, has the first address.
func first(a, b Reals) int {
	switch {
	case len(a) == 0:
		return 1
	case len(b) == 0:
		return -1
	}
	return a[0].Compare(b[0])
}
