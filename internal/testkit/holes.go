// SPDX-License-Identifier: Apache-2.0

package testkit

import (
	"context"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Holes are tables that take everything and keep nothing, for those who measure
// what is above the kernel.
func Holes() kernel.Tables { return kernel.Absent(nil) }

// Idle is a kernel without connections: there are none to flush, and none to look
// at.
type Idle struct{}

// Flush finds nothing to flush.
func (Idle) Flush(context.Context, []state.Flow) (int, error) { return 0, nil }

// Connections are none.
func (Idle) Connections(context.Context, []state.VirtualServerKey) (map[state.RealServerKey]state.Connections, error) {
	return nil, nil
}
