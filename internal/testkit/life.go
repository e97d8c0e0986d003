// SPDX-License-Identifier: Apache-2.0

package testkit

import (
	"context"
	"errors"
	"io/fs"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// table is one of the tables, with rows of all kinds and both families to try it on.
type table[K, V comparable] struct {
	name    string
	store   func(kernel.Tables) kernel.Store[K, V]
	compare func(a, b K) int
	needs   state.State // what the rows refer to

	rows  map[K]V
	other map[K]V // other values of the same rows; the same ones if a row can have no other

	dangling map[K]V // refer to what is not there
	refused  map[K]V // can't be for another reason
}

// step is a change of one table and its result.
type step[K, V comparable] struct {
	what  string
	delta diff.Delta[K, V]
	drift int
	after map[K]V
}

// steps returns the life of the rows, from one state to the next.
func (c table[K, V]) steps() []step[K, V] {
	type d = diff.Delta[K, V]
	rows, other := c.sorted(c.rows), c.sorted(c.other)
	toRows, toOther := updates(rows), updates(other)
	n := len(rows)
	return []step[K, V]{
		{"adding rows", d{Add: rows}, 0, c.rows},
		{"adding equal rows once more", d{Add: rows}, n, c.rows},
		{"adding rows that are there with other values", d{Add: other}, n, c.other},
		{"updating rows", d{Update: toRows}, 0, c.rows},
		{"updating rows to what they are", d{Update: toRows}, 0, c.rows},
		{"an empty delta", d{}, 0, c.rows},
		{"removing rows", d{Remove: rows}, 0, nil},
		{"removing rows that are gone", d{Remove: rows}, n, nil},
		{"updating rows that are gone", d{Update: toRows}, n, c.rows},
		{"removing one, updating one, adding the others over themselves",
			d{Remove: rows[:1], Update: toOther[1:min(2, n)], Add: other[min(2, n):]}, max(0, n-2), tableOf(other[1:])},
		{"removing what is left", d{Remove: rows[1:]}, 0, nil},
	}
}

func (c table[K, V]) sorted(rows map[K]V) []diff.Row[K, V] { return diff.Of(nil, rows, c.compare).Add }

// check runs the cases that are the same for every table.
func check[K, V comparable](t *testing.T, c contract, table table[K, V]) {
	t.Run(table.name+" live", func(t *testing.T) { table.live(c.begin(t, table.needs)) })
	if len(table.dangling)+len(table.refused) > 0 {
		t.Run(table.name+" that can't be harm no others", func(t *testing.T) { table.bad(c.begin(t, table.needs)) })
	}
}

func (c table[K, V]) live(b *bench) {
	store := c.store(b.Tables)
	before := Listed(b, store)
	for _, s := range c.steps() {
		c.expect(b, s.what, store.Apply(context.Background(), s.delta), nil, s.drift)
		lacks(b, s.what, c.name, diff.Of(Listed(b, store), with(before, s.after), c.compare))
		if b.Failed() {
			return
		}
	}
	b.isAsWanted("all that was added is removed")
}

// bad tries refused rows among accepted ones.
func (c table[K, V]) bad(b *bench) {
	store := c.store(b.Tables)
	before := Listed(b, store)
	bad := with(c.dangling, c.refused)
	try := func(what string, d diff.Delta[K, V]) {
		b.Helper()
		r := store.Apply(context.Background(), d)
		// Whether an update of a row that can't be made counts as drift is left open.
		if r.Drift > 0 && r.Drift <= len(bad) && len(d.Update) > 0 {
			r.Drift = 0
		}
		c.expect(b, what, r, bad, 0)
		lacks(b, what, c.name, diff.Of(Listed(b, store), with(before, c.rows), c.compare))
	}
	try("adding bad rows among good ones", diff.Delta[K, V]{Add: c.sorted(with(bad, c.rows))})
	try("updating bad rows among good ones", diff.Delta[K, V]{Update: updates(c.sorted(with(bad, c.rows)))})
	gone := diff.Delta[K, V]{Remove: c.sorted(c.dangling)}
	c.expect(b, "removing rows that refer to nothing", store.Apply(context.Background(), gone), nil, len(c.dangling))
	c.expect(b, "removing good rows", store.Apply(context.Background(), diff.Delta[K, V]{Remove: c.sorted(c.rows)}), nil, 0)
	b.isAsWanted("the good rows are removed")
}

// expect compares a result: which rows failed, and how much drift there was.
func (c table[K, V]) expect(t testing.TB, what string, r kernel.Result[K], bad map[K]V, drift int) {
	t.Helper()
	for k, err := range r.Failed {
		_, dangling := c.dangling[k]
		_, expected := bad[k]
		switch {
		case !expected:
			t.Errorf("%s: %v failed: %v", what, k, err)
		case dangling && !errors.Is(err, fs.ErrNotExist):
			t.Errorf("%s: %v failed without fs.ErrNotExist: %v", what, k, err)
		}
	}
	for k := range bad {
		if r.Failed[k] == nil {
			t.Errorf("%s: %v did not fail", what, k)
		}
	}
	if r.Drift != drift {
		t.Errorf("%s: drift %d, want %d", what, r.Drift, drift)
	}
}

// sysctls differ from all other tables: their rows are always there.
func (c contract) sysctls(t *testing.T) {
	b := c.begin(t, state.New())
	one := map[state.SysctlName]string{"net/ipv4/vs/conntrack": "1", "net/ipv4/ip_forward": "1"}
	none := map[state.SysctlName]string{"net/ipv4/vs/no_such_setting": "1"}
	type d = diff.Delta[state.SysctlName, string]
	cases := table[state.SysctlName, string]{compare: state.SysctlName.Compare, dangling: none}
	rows, bad := cases.sorted(one), cases.sorted(none)
	for _, s := range []struct {
		what  string
		delta d
		bad   map[state.SysctlName]string
		drift int
	}{
		{"updating settings", d{Update: updates(rows)}, nil, 0},
		{"adding settings that are always there", d{Add: rows}, nil, 2},
		{"removing settings, which is to forget them", d{Remove: rows}, nil, 0},
		{"updating a setting that the kernel lacks", d{Update: updates(append(bad, rows...))}, none, 0},
		{"adding a setting that the kernel lacks", d{Add: append(bad, rows...)}, none, 2},
		{"removing a setting that the kernel lacks", d{Remove: bad}, nil, 0},
		{"an empty delta", d{}, nil, 0},
	} {
		cases.expect(t, s.what, b.Sysctls.Apply(context.Background(), s.delta), s.bad, s.drift)
		lacks(t, s.what, "sysctls", diff.Of(Listed(t, b.Sysctls), with(b.want.Sysctls, one), state.SysctlName.Compare))
	}
}

// lacks fails the test if d, the change that would put a table right, is not empty.
func lacks[K, V comparable](t testing.TB, after, table string, d diff.Delta[K, V]) {
	t.Helper()
	if d.Len() == 0 {
		return
	}
	t.Errorf("after %s, the %s lack %d rows, have %d too many, and %d are wrong: %v %v %v", after, table,
		len(d.Add), len(d.Remove), len(d.Update),
		d.Add[:min(shown, len(d.Add))], d.Remove[:min(shown, len(d.Remove))], d.Update[:min(shown, len(d.Update))])
}
