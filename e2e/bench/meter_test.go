// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"time"

	"github.com/kube-ipvs/kube-ipvs/e2e/floor"
	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// meter counts what is asked of tables, and how long that takes. Unlike that of testkit it leaves chains and jumps
// coupled.
type meter struct {
	lists, rows int
	spent       floor.Laps
}

func (m *meter) tables(t kernel.Tables) kernel.Tables {
	return kernel.Tables{
		Sysctls:        metered(m, floor.Sysctls, t.Sysctls),
		Sets:           metered(m, floor.Sets, t.Sets),
		Entries:        metered(m, floor.Sets, t.Entries),
		Chains:         meteredChains{metered(m, floor.Rules, t.Chains)},
		Jumps:          metered(m, floor.Rules, t.Jumps),
		Links:          metered(m, floor.Addresses, t.Links),
		VirtualServers: metered(m, floor.Servers, t.VirtualServers),
		RealServers:    metered(m, floor.Servers, t.RealServers),
		Addresses:      metered(m, floor.Addresses, t.Addresses),
	}
}

type meteredStore[K, V comparable] struct {
	kernel.Store[K, V]
	meter *meter
	group string
}

func metered[K, V comparable](m *meter, group string, s kernel.Store[K, V]) meteredStore[K, V] {
	return meteredStore[K, V]{s, m, group}
}

func (m *meter) since(start time.Time, group string) { m.spent[group] += time.Since(start) }

func (s meteredStore[K, V]) List(ctx context.Context) (map[K]V, error) {
	s.meter.lists++
	defer s.meter.since(time.Now(), s.group)
	return s.Store.List(ctx)
}

func (s meteredStore[K, V]) Apply(ctx context.Context, d diff.Delta[K, V]) kernel.Result[K] {
	s.meter.rows += d.Len()
	defer s.meter.since(time.Now(), s.group)
	return s.Store.Apply(ctx, d)
}

type meteredChains struct {
	meteredStore[state.ChainKey, state.Chain]
}

func (s meteredChains) SetWith(
	ctx context.Context, d diff.Delta[state.ChainKey, state.Chain], jumps kernel.Jumps, e diff.Delta[state.JumpKey, state.Jump],
) (kernel.Rules, bool) {
	if m, ok := jumps.(meteredStore[state.JumpKey, state.Jump]); ok {
		jumps = m.Store
	}
	s.meter.rows += d.Len() + e.Len()
	defer s.meter.since(time.Now(), s.group)
	return s.Store.(kernel.Coupled).SetWith(ctx, d, jumps, e)
}

// cost is what the kernel was asked to do.
type cost struct {
	Lists, Rows int
	netlink.Traffic
	Forks int
}

func (h *adapters) cost() cost {
	c := cost{Lists: h.meter.lists, Rows: h.meter.rows, Forks: h.kernel.Rules.Forks()}
	for _, t := range []netlink.Traffic{h.kernel.IPVS.Traffic(), h.kernel.Sets.Traffic(), h.kernel.Link.Traffic()} {
		c.Calls += t.Calls
		c.Requests += t.Requests
	}
	return c
}

func (c cost) since(before cost) cost {
	c.Lists -= before.Lists
	c.Rows -= before.Rows
	c.Calls -= before.Calls
	c.Requests -= before.Requests
	c.Forks -= before.Forks
	return c
}
