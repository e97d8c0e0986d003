// SPDX-License-Identifier: Apache-2.0

package state

import "fmt"

// Rank is by what right an owner claims the address of a virtual server. The lower wins.
type Rank uint8

// The ranks. The zero one is that of what the API server itself gives to one Service at a time.
const (
	Allocated Rank = iota // a cluster IP or a NodePort
	Balanced              // a load balancer's address: who may write the status of Services gave it
	External              // an external IP: who may write the Service named it
	Derived               // where clients in the cluster get all endpoints: no object names it
)

// String says what the address is to its owner.
func (r Rank) String() string {
	switch r {
	case Allocated:
		return "cluster IP or NodePort"
	case Balanced:
		return "load balancer's address"
	case External:
		return "external IP"
	case Derived:
		return "way for clients in the cluster"
	}
	return fmt.Sprintf("Rank%d", uint8(r))
}
