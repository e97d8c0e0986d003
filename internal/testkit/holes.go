// SPDX-License-Identifier: Apache-2.0

package testkit

import (
	"context"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Holes returns tables that accept every row and keep none, to measure what is above the kernel.
func Holes() kernel.Tables {
	return kernel.Tables{
		Sysctls:        hole[state.SysctlName, string]{},
		Sets:           hole[state.SetName, state.Set]{},
		Entries:        hole[state.SetEntry, state.Entry]{},
		Chains:         hole[state.ChainKey, state.Chain]{},
		Jumps:          hole[state.JumpKey, state.Jump]{},
		Links:          hole[state.LinkName, state.Link]{},
		VirtualServers: hole[state.VirtualServerKey, state.VirtualServer]{},
		RealServers:    hole[state.RealServerKey, state.RealServer]{},
		Addresses:      hole[state.Address, state.Binding]{},
	}
}

type hole[K, V comparable] struct{}

func (hole[K, V]) List(context.Context) (map[K]V, error) { return map[K]V{}, nil }

func (hole[K, V]) Apply(context.Context, diff.Delta[K, V]) (none kernel.Result[K]) { return none }

// Idle is a kernel without connections: there are none to flush and none to read.
type Idle struct{}

// Flush finds nothing to flush.
func (Idle) Flush(context.Context, []state.Flow) (int, error) { return 0, nil }

// Connections returns none.
func (Idle) Connections(context.Context, []state.VirtualServerKey) (map[state.RealServerKey]state.Connections, error) {
	return nil, nil
}
