// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	moby "github.com/moby/ipvs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kube-ipvs/kube-ipvs/e2e/large"
	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/config/proxyconfig"
	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/linux"
	"github.com/kube-ipvs/kube-ipvs/internal/node"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

func readConfiguration(text string) config.Config {
	pair := proxyconfig.Default()
	must(pair.ReadConfig([]byte(text)))
	c, _, err := pair.Config()
	check(err)
	c.Kernel = must(config.ParseKernel(kernelRelease()))
	return plan.Settle(c, nil, serviceNetworks())
}

func kernelRelease() string {
	var name unix.Utsname
	_ = unix.Uname(&name) // it takes a bad address to fail
	return unix.ByteSliceToString(name.Release[:])
}

// rows are what the node's kernel holds when all objects are served: those of the size, and the API server's own
// Service, to which it adds its endpoint only some time after its start.
func (r *runner) rows(ctx context.Context) state.State {
	const namespace, name = metav1.NamespaceDefault, "kubernetes"
	n := plan.NodeOf(nodeName(), r.self, nil)
	r.onNode(func() {
		c := must(node.Open())
		now := must(c.Now(ctx))
		n.Addresses, n.Networks, n.MTU = now.Addresses, now.Networks, now.MTU
		check(c.Close())
	})
	own := plan.Objects{Service: must(r.api.CoreV1().Services(namespace).Get(ctx, name, metav1.GetOptions{}))}
	check(poll(ctx, often, func() bool {
		slice := must(r.api.DiscoveryV1().EndpointSlices(namespace).Get(ctx, name, metav1.GetOptions{}))
		own.Slices = []*discoveryv1.EndpointSlice{slice}
		return len(slice.Endpoints) > 0
	}))
	return large.Rows(r.config, n, append(r.size.Objects(), own))
}

// kernel is all that the node's kernel holds, whatever program made it.
func (r *runner) kernel(ctx context.Context) (got state.State) {
	everything := linux.Ours{
		Set:      func(state.SetName) bool { return true },
		Chain:    func(string) bool { return true },
		Families: r.config.Families,
	}
	for _, row := range plan.Base(r.config).Sysctls {
		everything.Sysctls = append(everything.Sysctls, row.Key)
	}
	r.onNode(func() {
		k := must(linux.Open(ctx, everything))
		got = must(k.Tables().List(ctx))
		check(k.Close())
	})
	return got
}

// wipe takes the large tables out of the kernel of the calling thread.
func wipe() {
	c := must(moby.New(""))
	defer c.Close()
	check(c.Flush())
	if l, err := netlink.LinkByName(string(state.DummyLink)); err == nil {
		check(netlink.LinkDel(l))
	}
}

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
