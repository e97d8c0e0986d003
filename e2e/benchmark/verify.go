// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// holds is an error unless the kernel is as it has to be once a program has done its work.
func (p program) holds(got, want state.State) error {
	if p.name == ours {
		return exactly(got, want)
	}
	return errors.Join(exactly(bare(got), bare(want)), lookAt(got, clusterIPs))
}

// exactly is an error unless every row is as desired, and no other is there.
func exactly(got, want state.State) error {
	d := state.Diff(got, want)
	return errors.Join(
		differ("sysctls", d.Sysctls), differ("sets", d.Sets), differ("entries", d.Entries),
		differ("chains", d.Chains), differ("jumps", d.Jumps), differ("links", d.Links),
		differ("virtual servers", d.VirtualServers), differ("real servers", d.RealServers), differ("addresses", d.Addresses))
}

// differ counts the rows of a table that are not as desired, and names some.
func differ[K, V comparable](table string, d diff.Delta[K, V]) error {
	if d.Len() == 0 {
		return nil
	}
	const named = 2
	return fmt.Errorf("of the %s %d are missing, %d wrong and %d too many (%v %v %v)", table, len(d.Add), len(d.Update), len(d.Remove),
		d.Add[:min(named, len(d.Add))], d.Update[:min(named, len(d.Update))], d.Remove[:min(named, len(d.Remove))])
}

// clusterIPs is the set that has an entry for each cluster IP and port, of IPv4.
const clusterIPs state.SetName = "KUBE-CLUSTER-IP"

// bare is what any proxy in IPVS mode needs for the objects of package large: virtual servers, real servers that take
// connections, and an entry and an address for every cluster IP. Sets may have other options, and chains other rules.
func bare(s state.State) state.State {
	b := state.New()
	for k := range s.VirtualServers {
		b.VirtualServers[k] = state.VirtualServer{}
	}
	for k, v := range s.RealServers {
		if v.Weight > 0 {
			b.RealServers[k] = state.RealServer{}
		}
	}
	for e := range s.Entries {
		if e.Set == clusterIPs {
			b.Entries[e] = state.Entry{}
		}
	}
	for a := range s.Addresses {
		b.Addresses[a] = state.Binding{}
	}
	return b
}

// lookAt is an error unless a rule looks at the set, in a chain that packets get to.
func lookAt(s state.State, set state.SetName) error {
	for key, chain := range s.Chains {
		if key.Family != state.IPv4 || key.Table != state.NAT || !strings.Contains(strings.Join(chain.Lines(), "\n"), "--match-set "+string(set)+" ") {
			continue
		}
		for j := range s.Jumps {
			if j.Family == key.Family && j.Table == key.Table && j.To == key.Name {
				return nil
			}
		}
	}
	return fmt.Errorf("no rule that packets get to looks at %s", set)
}
