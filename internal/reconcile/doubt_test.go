// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

var errLost = errors.New("answer lost")

// unheard is a table that makes its changes, but whose answers get lost while the flags say so.
type unheard[K, V comparable] struct {
	kernel.Store[K, V]
	lists, changes *bool
}

func (s unheard[K, V]) List(ctx context.Context) (map[K]V, error) {
	if *s.lists {
		return nil, errLost
	}
	return s.Store.List(ctx)
}

func (s unheard[K, V]) Apply(ctx context.Context, d diff.Delta[K, V]) kernel.Result[K] {
	r := s.Store.Apply(ctx, d)
	if *s.changes {
		for _, row := range d.Add {
			r.Fail(row.Key, errLost)
		}
		for _, row := range d.Remove {
			r.Fail(row.Key, errLost)
		}
	}
	return r
}

// deaf is a bench on which the answers of two tables can get lost.
type deaf struct {
	*bench
	servers, entries, serverLists, entryLists bool
}

func newDeaf() *deaf {
	var b deaf
	b.bench = newBench(func(k kernelTables) kernelTables {
		k.VirtualServers = unheard[state.VirtualServerKey, state.VirtualServer]{k.VirtualServers, &b.serverLists, &b.servers}
		k.Entries = unheard[state.SetEntry, state.Entry]{k.Entries, &b.entryLists, &b.entries}
		return k
	})
	return &b
}

func TestAVirtualServerThatWasMadeUnheardLeavesWithItsService(t *testing.T) {
	b := newDeaf()
	b.step(Synced{})
	b.settle(t)
	b.servers = true
	b.step(Upsert{Owner: owner(1), Fragment: service(server(1, state.TCP), 0, 2)})
	b.settle(t)
	if len(b.kernel.State.VirtualServers) != 1 {
		t.Fatal("the virtual server was not made")
	}
	b.servers = false
	b.step(Delete{Owner: owner(1)})
	b.settle(t)
	b.restart(nil) // knows only what the kernel can prove
	b.pass(t, time.Minute)
	b.mustEqualDesired(t, "after the Service is gone")
}

func TestAnEntryThatLeftUnheardIsThereAgainBeforeItsVirtualServer(t *testing.T) {
	b := newDeaf()
	b.step(Synced{})
	b.step(Upsert{Owner: owner(1), Fragment: service(server(1, state.TCP), 0, 2)})
	b.settle(t)
	b.entries = true
	b.step(Delete{Owner: owner(1)})
	b.settle(t)
	b.entries = false
	b.step(Upsert{Owner: owner(1), Fragment: service(server(1, state.TCP), 0, 2)})
	b.settle(t)
	b.mustEqualDesired(t, "after the Service is back")
	b.restart(nil)
	b.pass(t, time.Minute)
	b.mustEqualDesired(t, "after the Service is gone, unseen by the new daemon")
}

// The two tables that belong together are never read in the same audit.
func TestEvidenceStaysUntilAllThatItProvesHasBeenListed(t *testing.T) {
	for name, hide := range map[string]func(b *deaf, audit int){
		"virtual servers first": func(b *deaf, n int) { b.serverLists, b.entryLists = n == 1, n == 0 },
		"entries first":         func(b *deaf, n int) { b.serverLists, b.entryLists = n == 0, n == 1 },
	} {
		t.Run(name, func(t *testing.T) {
			b := newDeaf()
			b.step(Synced{})
			b.step(Upsert{Owner: owner(1), Fragment: service(server(1, state.TCP), 0, 2)})
			b.settle(t)
			hide(b, 0)
			b.restart(nil)
			b.settle(t)
			hide(b, 1)
			b.pass(t, time.Second)
			hide(b, 2)
			b.pass(t, time.Minute)
			b.mustEqualDesired(t, "after the audits")
		})
	}
}
