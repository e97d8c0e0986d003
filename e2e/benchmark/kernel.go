// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"

	moby "github.com/moby/ipvs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kube-ipvs/kube-ipvs/e2e/large"
	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/config/proxyconfig"
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

// rows are what the node's kernel holds when all objects are served: those of the size, and the API server's own Service, to
// which it adds its endpoint only some time after its start.
func (r *runner) rows(ctx context.Context) state.State {
	const namespace, name = metav1.NamespaceDefault, "kubernetes"
	n := plan.NodeOf(nodeName(), r.self, nil)
	check(r.node().Do(func() error {
		c, err := node.Open()
		if err != nil {
			return err
		}
		now, err := c.Now(ctx)
		n.Addresses, n.Networks, n.MTU = now.Addresses, now.Networks, now.MTU
		return errors.Join(err, c.Close())
	}))
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
	check(r.node().Do(func() error {
		k, err := linux.Open(ctx, everything)
		if err != nil {
			return err
		}
		got, err = k.Tables().List(ctx)
		return errors.Join(err, k.Close())
	}))
	return got
}

// wipe takes the large tables out of the kernel of the calling thread.
func wipe() error {
	c, err := moby.New("")
	if err != nil {
		return fmt.Errorf("open IPVS: %w", err)
	}
	defer c.Close()
	if err := c.Flush(); err != nil {
		return fmt.Errorf("empty IPVS: %w", err)
	}
	err = netlink.LinkDel(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: string(state.DummyLink)}})
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EINVAL) {
		return nil
	}
	return err
}
