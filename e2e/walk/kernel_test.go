// SPDX-License-Identifier: Apache-2.0

package walk

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"os/exec"
	"strings"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/linux"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit/mem"
)

var (
	only  = flag.Uint64("seed", 0, "make only the walk of this seed")
	steps = flag.Int("steps", 0, "so many instead of the usual number")
)

// walks makes the walks of some seeds, or that of -seed.
func walks(t *testing.T, seeds uint64, usual int, open func(testing.TB) ground) {
	first, last := uint64(1), seeds
	if *only > 0 {
		first, last = *only, *only
	}
	if *steps > 0 {
		usual = *steps
	}
	for seed := first; seed <= last; seed++ {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { walk(t, open(t), seed, usual) })
	}
}

func TestAWalkInMemoryEndsAtTheDesiredRows(t *testing.T) {
	walks(t, 12, 500, func(testing.TB) ground {
		k := mem.New()
		all := k.Tables()
		ours := all
		ours.Chains = named[state.ChainKey, state.Chain]{all.Chains, func(c state.ChainKey) bool { return plan.OurChain(c.Name) }}
		ours.Jumps = named[state.JumpKey, state.Jump]{all.Jumps, func(j state.JumpKey) bool { return plan.OurChain(j.To) }}
		return ground{tables: ours, all: all, flusher: testkit.Idle{}, observer: mem.Observer{Kernel: k}}
	})
}

// named lists what is ours by name, as the adapters of rules do.
type named[K, V comparable] struct {
	kernel.Store[K, V]
	ours func(K) bool
}

func (n named[K, V]) List(ctx context.Context) (map[K]V, error) {
	rows, err := n.Store.List(ctx)
	maps.DeleteFunc(rows, func(k K, _ V) bool { return !n.ours(k) })
	return rows, err
}

func TestAWalkOnTheRealKernelEndsAtTheDesiredRows(t *testing.T) {
	walks(t, 1, 160, func(t testing.TB) ground {
		testkit.Namespace(t)
		var settings []state.SysctlName
		for _, row := range plan.Base(config.Default()).Sysctls {
			settings = append(settings, row.Key)
		}
		daemon := open(t, linux.Ours{Set: plan.OurSet, Chain: plan.OurChain, Sysctls: settings})
		all := open(t, linux.Ours{
			Set:     func(state.SetName) bool { return true },
			Chain:   func(string) bool { return true },
			Sysctls: settings,
		})
		return ground{
			tables: daemon.Tables(), all: all.Tables(), flusher: daemon, observer: daemon,
			breakages: []func(){
				run(t, "iptables -t nat -F"),
				run(t, "ip6tables -t nat -F"),
				run(t, "iptables -t filter -F"),
				run(t, "iptables -t nat -A PREROUTING -j KUBE-SERVICES"),
				run(t, "ip6tables -t filter -I KUBE-FORWARD -p tcp -j DROP"),
			},
		}
	})
}

func open(t testing.TB, o linux.Ours) *linux.Kernel {
	t.Helper()
	o.Families = []state.Family{state.IPv4, state.IPv6}
	k, err := linux.Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	return k
}

// run runs a command in the test's namespace. It may fail where what it breaks is broken already.
func run(t testing.TB, command string) func() {
	words := strings.Fields(command)
	return func() {
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			t.Logf("%s: %v: %s", command, err, out)
		}
	}
}
