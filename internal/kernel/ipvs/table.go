// SPDX-License-Identifier: Apache-2.0

package ipvs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// table is a kernel.Store: what virtual and real servers have in common.
type table[K, V comparable] struct {
	conn    *Conn
	noun    string
	encode  func(b *netlink.Requests, family uint16, r row[K, V])
	absent  func(verb, unix.Errno) bool // reports whether that answer means that the row itself is not there
	explain func(V, error) error
	list    func(context.Context) (map[K]V, error)
}

// row is one row and what is to happen to it.
type row[K, V comparable] struct {
	verb  verb
	key   K
	value V
}

type (
	virtualServerRow = row[state.VirtualServerKey, state.VirtualServer]
	realServerRow    = row[state.RealServerKey, state.RealServer]
)

// verb is what happens to a row. The values are the distances of the kernel's commands from IPVS_CMD_NEW_SERVICE and
// IPVS_CMD_NEW_DEST.
type verb uint8

const (
	add verb = iota
	update
	remove
)

func (v verb) String() string { return [...]string{"adding", "updating", "removing"}[v] }

// List returns every row in the kernel.
func (t table[K, V]) List(ctx context.Context) (map[K]V, error) { return t.list(ctx) }

// Apply makes the changes of d in as few messages as possible. Rows that were not in the state that d expects are sent
// again, with the right verb.
func (t table[K, V]) Apply(ctx context.Context, d diff.Delta[K, V]) kernel.Result[K] {
	var result kernel.Result[K]
	var again []row[K, V]
	t.send(ctx, d.Len(), func(i int) row[K, V] { return rowAt(d, i) }, func(r row[K, V], err error) {
		second, drift := t.remedy(r.verb, err)
		switch {
		case !drift:
			t.fail(&result, r, err)
			return
		case r.verb != remove:
			again = append(again, row[K, V]{second, r.key, r.value})
		}
		result.Drift++
	})
	t.send(ctx, len(again), func(i int) row[K, V] { return again[i] }, func(r row[K, V], err error) {
		t.fail(&result, r, err)
	})
	return result
}

// rowAt returns the i-th row of d, in the order in which a Store makes changes.
func rowAt[K, V comparable](d diff.Delta[K, V], i int) row[K, V] {
	if i < len(d.Remove) {
		return row[K, V]{remove, d.Remove[i].Key, d.Remove[i].Value}
	}
	i -= len(d.Remove)
	if i < len(d.Update) {
		return row[K, V]{update, d.Update[i].Key, d.Update[i].New}
	}
	i -= len(d.Update)
	return row[K, V]{add, d.Add[i].Key, d.Add[i].Value}
}

// send sends n rows and calls refused for each that the kernel did not accept.
func (t table[K, V]) send(ctx context.Context, n int, at func(int) row[K, V], refused func(row[K, V], error)) {
	b := &t.conn.requests
	answers, err := t.conn.socket.Stream(ctx, b, n, func(i int) { t.encode(b, t.conn.family, at(i)) })
	for i := range n {
		if err := netlink.Outcome(answers, err, i); err != nil {
			refused(at(i), err)
		}
	}
}

// remedy reports whether err only shows that the row was not in the state that the delta expects, and returns what to
// do then. A row to remove needs nothing.
func (t table[K, V]) remedy(v verb, err error) (second verb, drift bool) {
	refusal, ok := errors.AsType[*netlink.Error](err)
	if !ok {
		return 0, false
	}
	switch {
	case v == add && refusal.Errno == unix.EEXIST:
		return update, true
	case v == update && t.absent(v, refusal.Errno):
		return add, true
	}
	return 0, v == remove && t.absent(v, refusal.Errno)
}

func (t table[K, V]) fail(result *kernel.Result[K], r row[K, V], err error) {
	result.Fail(r.key, fmt.Errorf("%v %s %v: %w", r.verb, t.noun, r.key, t.explain(r.value, err)))
}

func explainVirtualServer(v state.VirtualServer, err error) error {
	if !errors.Is(err, unix.ENOENT) {
		return err
	}
	if v.Engine != "" {
		return fmt.Errorf("scheduler %q or persistence engine %q: not in this kernel: %w", v.Scheduler, v.Engine, err)
	}
	return fmt.Errorf("scheduler %q: not in this kernel: %w", v.Scheduler, err)
}

func explainRealServer(_ state.RealServer, err error) error {
	if errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("its virtual server is absent: %w (%w)", fs.ErrNotExist, err)
	}
	return err
}
