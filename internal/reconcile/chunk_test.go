// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

// chunked is a bench that looks at the kernel after every chunk.
type chunked struct {
	*bench
	t       *testing.T
	largest int
	chunks  int
}

// write writes the next chunk, and says whether there was one. A virtual server that has real servers to send packets
// to has some at any time, and an address something that serves it.
func (b *chunked) write() bool {
	b.t.Helper()
	w := b.core.Ready(b.now)
	if w.Empty() {
		return false
	}
	var o Outcome
	if w.Audit {
		o.Observed, _ = b.tables.List(context.Background())
	}
	bound := maps.Clone(b.kernel.State.Addresses)
	before, alive := map[state.VirtualServerKey]bool{}, b.alive()
	for k := range b.kernel.State.VirtualServers {
		before[k] = alive[k]
	}
	o.Results = b.tables.Apply(context.Background(), w.Delta)
	o.Connections = map[state.RealServerKey]state.Connections{}
	for k := range b.kernel.State.RealServers {
		o.Connections[k] = state.Connections{}
	}
	b.core.Advance(w, o, b.now)
	b.chunks++
	b.largest = max(b.largest, w.Delta.Len())
	b.look(before, bound)
	return true
}

// alive are the virtual servers in the kernel that have a real server which takes new connections.
func (b *chunked) alive() map[state.VirtualServerKey]bool {
	alive := map[state.VirtualServerKey]bool{}
	for k, r := range b.kernel.State.RealServers {
		if r.Weight > 0 {
			alive[k.Server] = true
		}
	}
	return alive
}

func (b *chunked) look(before map[state.VirtualServerKey]bool, bound map[state.Address]state.Binding) {
	b.t.Helper()
	alive, served := b.alive(), map[state.Address]bool{}
	for k := range b.kernel.State.VirtualServers {
		served[state.Address{Addr: k.Address.Addr()}] = true
		wasAlive, wasThere := before[k]
		if len(b.core.desired.RealServers.Of(k)) > 0 && !alive[k] && (wasAlive || !wasThere) {
			b.t.Fatalf("chunk %d leaves %v without real servers", b.chunks, k)
		}
	}
	for a := range b.kernel.State.Addresses {
		_, wasBound := bound[a]
		if !served[a] && !wasBound {
			b.t.Fatalf("chunk %d leaves the address %v without a virtual server", b.chunks, a)
		}
	}
}

func (b *chunked) finish(atMost int) {
	b.t.Helper()
	for range atMost {
		if !b.write() {
			return
		}
	}
	b.t.Fatalf("not done after %d more chunks", atMost)
}

func newChunked(t *testing.T, rows int) *chunked {
	b := &chunked{bench: newBench(nil), t: t}
	b.core.options.Chunk = rows
	return b
}

// TestPacketsFindNoGapBetweenChunks changes Services at random, that fight over addresses, while chunks of a random
// size are written.
func TestPacketsFindNoGapBetweenChunks(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 11))
			b := newChunked(t, 1+random.IntN(40))
			b.step(Synced{})
			for range 300 {
				n := random.IntN(20)
				if random.IntN(4) == 0 {
					b.step(Delete{Owner: owner(n)})
				} else {
					at := random.IntN(12)
					k := server(at, []state.Protocol{state.TCP, state.UDP}[at%2])
					k.Address = netip.AddrPortFrom(k.Address.Addr(), uint16(80+random.IntN(2)))
					b.step(Upsert{
						Owner: owner(n), Created: time.Unix(int64(random.IntN(3)), 0),
						Fragment: service(k, random.IntN(30), random.IntN(30)),
					})
				}
				for range random.IntN(4) {
					b.write()
				}
				if random.IntN(5) == 0 {
					b.now = b.now.Add(time.Second)
				}
			}
			b.finish(5000)
			b.pass(t, 3*time.Minute)
			b.mustEqualDesired(t, "at the end")
			if b.core.queue.size != 0 || b.core.queue.byServer.len()+b.core.queue.byOwner.len()+b.core.queue.byAddress.len() != 0 {
				t.Errorf("%d groups left", b.core.queue.size)
			}
		})
	}
}

func TestADeadEndpointDoesNotWaitForAStart(t *testing.T) {
	const services = 10_000
	b := newBench(nil)
	b.step(Synced{})
	for n := range 2 {
		b.step(Upsert{Owner: owner(n), Fragment: service(server(n, state.TCP), 0, 3)})
	}
	b.settle(t)
	for n := range services - 2 {
		b.step(Upsert{Owner: owner(n + 2), Fragment: service(server(n+2, state.TCP), 0, 10)})
	}
	chunk := func() state.Delta {
		w := b.core.Ready(b.now)
		b.core.Advance(w, Outcome{Results: b.tables.Apply(context.Background(), w.Delta)}, b.now)
		return w.Delta
	}
	chunk()
	chunk()
	b.step(Upsert{Owner: owner(0), Fragment: service(server(0, state.TCP), 1, 2)}) // one is gone
	b.step(Upsert{Owner: owner(1), Fragment: service(server(1, state.TCP), 0, 4)}) // one more
	d := chunk()
	if gone := endpoint(server(0, state.TCP), 0); d.Len() != 1 || len(d.RealServers.Update) != 1 || d.RealServers.Update[0].Key != gone {
		t.Errorf("the next chunk is %d rows, want the one that gives %v weight 0", d.Len(), gone)
	}
	chunk()
	if _, there := b.kernel.State.RealServers[endpoint(server(1, state.TCP), 3)]; !there {
		t.Error("the small change was not in the chunk after it")
	}
	if left := services - len(b.kernel.State.VirtualServers); left < services*8/10 {
		t.Errorf("only %d Services were waiting", left)
	}
	b.pass(t, 2*time.Second)
	b.mustEqualDesired(t, "at the end")
}

func TestALargeChangeIsNotStarvedBySmallOnes(t *testing.T) {
	b := newChunked(t, 20)
	b.step(Synced{})
	for n := range 50 {
		b.step(Upsert{Owner: owner(n), Fragment: service(server(n, state.TCP), 0, 2)})
	}
	b.finish(1000)
	b.step(Upsert{Owner: owner(100), Fragment: service(server(100, state.TCP), 0, 10)})
	for change := range 200 {
		for n := range 50 { // more than a chunk takes, again and again
			b.step(Upsert{Owner: owner(n), Fragment: service(server(n, state.TCP), change%2, 2+change%2)})
		}
		b.write()
	}
	if got := len(realServersOf(b.kernel.State, server(100, state.TCP))); got != 10 {
		t.Errorf("%d of 10 real servers are there", got)
	}
}

func TestAServiceWithVeryManyEndpointsIsWrittenByAndBy(t *testing.T) {
	const endpoints, rows = 2000, 100
	k := server(1, state.TCP)
	address := state.Address{Addr: k.Address.Addr()}
	for name, step := range map[string]struct {
		first, number int
		last          bool // the address comes with the last ones
	}{
		"comes":              {0, endpoints, true},
		"is halved":          {0, endpoints / 2, false},
		"gets all new ones":  {endpoints, endpoints, false},
		"loses all":          {0, 0, false},
		"changes one weight": {0, endpoints, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := newChunked(t, rows)
			b.step(Synced{})
			if !step.last {
				b.step(Upsert{Owner: owner(1), Fragment: service(k, 0, endpoints)})
				b.finish(100)
			}
			b.largest, b.ops = 0, testkit.Operations{}
			f := service(k, step.first, step.number)
			if name == "changes one weight" {
				f.RealServers[7].Value.Weight = 9
			}
			b.step(Upsert{Owner: owner(1), Fragment: f})
			for b.write() {
				_, bound := b.kernel.State.Addresses[address]
				if there := len(b.kernel.State.RealServers); step.last && bound && there < endpoints {
					t.Fatalf("the address is there with %d real servers", there)
				}
			}
			b.pass(t, time.Minute)
			b.mustEqualDesired(t, "at the end")
			if b.largest > rows+5 {
				t.Errorf("a chunk has %d rows, want about %d", b.largest, rows)
			}
		})
	}
}

func TestAServiceWithVeryManyEndpointsGoesByAndBy(t *testing.T) {
	const endpoints, rows = 2000, 100
	k := server(1, state.TCP)
	address := state.Address{Addr: k.Address.Addr()}
	b := newChunked(t, rows)
	b.step(Synced{})
	b.step(Upsert{Owner: owner(1), Fragment: service(k, 0, endpoints)})
	b.finish(100)
	b.largest = 0
	b.step(Delete{Owner: owner(1)})
	for b.write() {
		_, bound := b.kernel.State.Addresses[address]
		if len(b.alive()) == 0 && bound && b.core.drains.book.Len() == 0 {
			t.Fatal("the address outlives the real servers")
		}
	}
	for b.now = b.now.Add(2 * time.Second); b.write(); {
	}
	b.mustEqualDesired(t, "at the end")
	if b.largest > rows+5 {
		t.Errorf("a chunk has %d rows, want about %d", b.largest, rows)
	}
}

// What was held back for want of one table is a whole cluster when that table is there again.
func TestWhatWasHeldBackComesInChunksToo(t *testing.T) {
	b := newChunked(t, 50)
	delete(b.kernel.State.Sets, ourSet)
	broken := true
	b.tables.Entries = unheard[state.SetEntry, state.Entry]{Store: b.tables.Entries, lists: new(bool), changes: &broken}
	b.step(Synced{})
	for n := range 100 {
		b.step(Upsert{Owner: owner(n), Fragment: service(server(n, state.TCP), 0, 5)})
	}
	b.finish(1000)
	if len(b.kernel.State.VirtualServers) != 0 {
		t.Fatal("virtual servers came without proof")
	}
	broken, b.largest = false, 0
	for b.now = b.core.Wake(); b.write(); {
	}
	b.mustEqualDesired(t, "at the end")
	if b.largest > 250 { // the entries are due at once
		t.Errorf("a chunk has %d rows", b.largest)
	}
}
