// SPDX-License-Identifier: Apache-2.0

package ipvs

import (
	"context"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
)

// BenchmarkApply2000x5 writes 2,000 virtual servers with five real servers each into an empty table: through the
// Stores, and as the same messages encoded beforehand, which is the floor.
func BenchmarkApply2000x5(b *testing.B) {
	virtuals, reals := fleet(2000, 5)
	virtualRows, realRows := virtualsOf(virtuals), realsOf(reals)

	b.Run("store", func(b *testing.B) {
		c := connect(b)
		b.ReportAllocs()
		for b.Loop() {
			apply(b, c.VirtualServers(), virtualRows, 0)
			apply(b, c.RealServers(), realRows, 0)
			b.StopTimer()
			flush(b, c)
			b.StartTimer()
		}
	})
	b.Run("floor", func(b *testing.B) {
		c := connect(b)
		var messages netlink.Requests
		for _, r := range virtualRows.Add {
			encodeVirtualServer(&messages, c.family, virtualServerRow{add, r.Key, r.Value})
		}
		for _, r := range realRows.Add {
			encodeRealServer(&messages, c.family, realServerRow{add, r.Key, r.Value})
		}
		b.ReportAllocs()
		for b.Loop() {
			send(b, c, &messages)
			b.StopTimer()
			flush(b, c)
			b.StartTimer()
		}
	})
}

// BenchmarkList2000x5 reads the same rows.
func BenchmarkList2000x5(b *testing.B) {
	virtuals, reals := fleet(2000, 5)
	c := connect(b)
	apply(b, c.VirtualServers(), virtualsOf(virtuals), 0)
	apply(b, c.RealServers(), realsOf(reals), 0)
	b.ReportAllocs()
	for b.Loop() {
		expectLen(b, c, len(virtuals), len(reals))
	}
}

func expectLen(b *testing.B, c *Conn, virtuals, reals int) {
	v, err := c.VirtualServers().List(context.Background())
	if err != nil || len(v) != virtuals {
		b.Fatalf("%d virtual servers, %v", len(v), err)
	}
	r, err := c.RealServers().List(context.Background())
	if err != nil || len(r) != reals {
		b.Fatalf("%d real servers, %v", len(r), err)
	}
}

func flush(b *testing.B, c *Conn) {
	const commandFlush = 17
	var r netlink.Requests
	begin(&r, c.family, commandFlush)
	send(b, c, &r)
}

func send(b *testing.B, c *Conn, r *netlink.Requests) {
	refused, err := c.socket.Do(context.Background(), r)
	if err != nil {
		b.Fatal(err)
	}
	for _, err := range refused {
		if err != nil {
			b.Fatal(err)
		}
	}
}
