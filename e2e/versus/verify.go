// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/e2e/versus/report"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// holds is an error unless the kernel is as it has to be once a program has done its work.
func (p program) holds(got, want state.State) error {
	if p.name == report.Ours {
		return exactly(got, want)
	}
	return atLeast(got, want)
}

// exactly is an error unless every row is as wished, and no other is there.
func exactly(got, want state.State) error {
	d := state.Diff(got, want)
	if d.Len() == 0 {
		return nil
	}
	return errors.Join(
		differ("sysctls", got.Sysctls, want.Sysctls), differ("sets", got.Sets, want.Sets), differ("entries", got.Entries, want.Entries),
		differ("chains", got.Chains, want.Chains), differ("jumps", got.Jumps, want.Jumps), differ("links", got.Links, want.Links),
		differ("virtual servers", got.VirtualServers, want.VirtualServers), differ("real servers", got.RealServers, want.RealServers),
		differ("addresses", got.Addresses, want.Addresses))
}

// atLeast is for those who do the same by other rows where they may: sets have other options, chains other rules. What any
// proxy in IPVS mode needs for the objects of package large is there: all virtual and real servers and no others, an entry
// and an address for every cluster IP, and rules that look at the entries.
func atLeast(got, want state.State) error {
	return errors.Join(
		differ("virtual servers", keys(got.VirtualServers), keys(want.VirtualServers)),
		differ("real servers", weights(got.RealServers), weights(want.RealServers)),
		differ("addresses", keys(got.Addresses), keys(want.Addresses)),
		differ("entries of "+string(clusterIPs), entriesOf(got, clusterIPs), entriesOf(want, clusterIPs)),
		lookAt(got, clusterIPs))
}

// clusterIPs is the set that has an entry for each cluster IP and port, of IPv4.
const clusterIPs = state.SetClusterIP

// keys are a table without its values.
func keys[K comparable, V any](table map[K]V) map[K]struct{} {
	bare := make(map[K]struct{}, len(table))
	for k := range table {
		bare[k] = struct{}{}
	}
	return bare
}

// weights are the real servers that take connections, without whatever else they are.
func weights(table map[state.RealServerKey]state.RealServer) map[state.RealServerKey]bool {
	bare := make(map[state.RealServerKey]bool, len(table))
	for k, v := range table {
		if v.Weight > 0 {
			bare[k] = true
		}
	}
	return bare
}

func entriesOf(s state.State, set state.SetName) map[state.SetEntry]struct{} {
	bare := map[state.SetEntry]struct{}{}
	for e := range s.Entries {
		if e.Set == set {
			bare[e] = struct{}{}
		}
	}
	return bare
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

// named is how many rows of a table an error names.
const named = 3

// differ says which rows of a table are not as they have to be.
func differ[K, V comparable](table string, got, want map[K]V) error {
	missing, wrong, many := 0, 0, 0
	var some []string
	name := func(why string, k K) {
		if len(some) < named {
			some = append(some, fmt.Sprintf("%s %v", why, k))
		}
	}
	for k, w := range want {
		switch g, ok := got[k]; {
		case !ok:
			missing++
			name("no", k)
		case g != w:
			wrong++
			name("wrong:", k)
		}
	}
	for k := range got {
		if _, ok := want[k]; !ok {
			many++
			name("nobody's:", k)
		}
	}
	if missing+wrong+many == 0 {
		return nil
	}
	return fmt.Errorf("of the %s %d are missing, %d wrong and %d too many (%s)", table, missing, wrong, many, strings.Join(some, ", "))
}
