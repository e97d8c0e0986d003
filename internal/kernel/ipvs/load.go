// SPDX-License-Identifier: Apache-2.0

package ipvs

import (
	"context"
	"fmt"
	"maps"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Loads reads the load of every virtual server, at the cost of one dump and one read of /proc, however many
// there are. That a real server is missing in it is as possible as in Connections.
func (c *Conn) Loads(ctx context.Context) (map[state.VirtualServerKey]state.Load, error) {
	servers, err := dumpVirtualServers(ctx, c, countersOf)
	if err != nil {
		return nil, fmt.Errorf("reading counters: %w", err)
	}
	ctx = kernel.NewRound(ctx)
	c.dumpedIn(kernel.RoundOf(ctx), maps.Keys(servers))
	rows, err := readRealServers(ctx, c, connectionsOf)
	if err != nil {
		return nil, fmt.Errorf("counting connections: %w", err)
	}
	loads := make(map[state.VirtualServerKey]state.Load, len(servers))
	for k, v := range servers {
		loads[k] = state.Load{Counters: v}
	}
	for k, r := range rows {
		if l, there := loads[k.Server]; there {
			l.Connections.Active += r.Active
			l.Connections.Inactive += r.Inactive
			loads[k.Server] = l
		}
	}
	return loads, nil
}
