// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"fmt"
	"net/netip"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Conflict says that two owners claim one virtual server, or one port of the node.
type Conflict struct {
	Key           state.VirtualServerKey // at the unspecified address: the port, at all of the node's
	Winner, Loser Owner

	// WinnerRank and LoserRank are by what right they claim it.
	WinnerRank, LoserRank state.Rank

	// HealthCheck: what is claimed is the winner's NodePort, and where load balancers ask for the health of the
	// loser.
	HealthCheck bool
}

// String says who has it, and why.
func (c Conflict) String() string {
	switch {
	case c.HealthCheck:
		return fmt.Sprintf("spec.healthCheckNodePort: %d is a NodePort of %v: load balancers that ask there are sent to that one's endpoints", c.Key.Address.Port(), c.Winner)
	case c.WinnerRank == c.LoserRank:
		return fmt.Sprintf("%v is served by %v, which is older or comes first by name", c.Key, c.Winner)
	}
	return fmt.Sprintf("%v is served by %v: that one's %v comes before this one's %v", c.Key, c.Winner, c.WinnerRank, c.LoserRank)
}

// conflictOf is the one that c's claim to k makes, if it makes one: with who has it, or with who had it.
func (d *Desired) conflictOf(k state.VirtualServerKey, c *claimant) []Conflict {
	all := d.VirtualServers.foremost(k)
	switch {
	case len(all) < 2:
		return nil
	case all[0] == c:
		return []Conflict{conflict(k, c, all[1])}
	}
	return []Conflict{conflict(k, all[0], c)}
}

func conflict(k state.VirtualServerKey, winner, loser *claimant) Conflict {
	return Conflict{
		Key: k, Winner: winner.owner, Loser: loser.owner,
		WinnerRank: winner.rankOf(k), LoserRank: loser.rankOf(k),
	}
}

// portConflicts are those that c's claim to e makes, if e is a NodePort or a port of health checks. IPVS takes
// packets before a program on the node can, so it is always the NodePort that has them.
func (d *Desired) portConflicts(e state.SetEntry, c *claimant) []Conflict {
	rival, is := e.Rival()
	if !is {
		return nil
	}
	k := state.VirtualServerKey{Protocol: state.TCP, Address: netip.AddrPortFrom(e.Set.Family().Unspecified(), e.Port)}
	var all []Conflict
	for _, other := range d.Entries.claims.claimants(rival) {
		switch {
		case other == c:
		case e.Set.HealthChecks():
			return append(all, Conflict{Key: k, Winner: other.owner, Loser: c.owner, HealthCheck: true})
		default:
			all = append(all, Conflict{Key: k, Winner: c.owner, Loser: other.owner, HealthCheck: true})
		}
	}
	return all
}
