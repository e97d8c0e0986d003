// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/config/proxyconfig"
	"github.com/kube-ipvs/kube-ipvs/internal/desired"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/linux"
	"github.com/kube-ipvs/kube-ipvs/internal/node"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// wish is what a node's kernel holds when all objects of the API server are served as a configuration says.
func (s *site) wish(ctx context.Context, text string) (state.State, error) {
	c, err := readConfiguration(text)
	if err != nil {
		return state.State{}, err
	}
	all, err := s.objects(ctx)
	if err != nil {
		return state.State{}, err
	}
	n, err := s.planNode(ctx)
	if err != nil {
		return state.State{}, err
	}
	networks, err := s.serviceNetworks(ctx)
	if err != nil {
		return state.State{}, err
	}
	d := desired.New()
	c = plan.Settle(c, nil, networks)
	d.Upsert(desired.Owner{}, time.Time{}, plan.Base(c))
	for key, o := range all {
		if o.Service != nil {
			owner := desired.Owner{Namespace: key.Namespace, Name: key.Name}
			d.Upsert(owner, o.Service.CreationTimestamp.Time, plan.Service(o, n, c))
		}
	}
	return d.State(), nil
}

// serviceNetworks are where the API server takes cluster IPs from.
func (s *site) serviceNetworks(ctx context.Context) ([]netip.Prefix, error) {
	list, err := s.api.NetworkingV1().ServiceCIDRs().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list ServiceCIDRs: %w", err)
	}
	var networks []netip.Prefix
	for _, one := range list.Items {
		for _, text := range one.Spec.CIDRs {
			p, err := netip.ParsePrefix(text)
			if err != nil {
				return nil, fmt.Errorf("read ServiceCIDR %s: %w", one.Name, err)
			}
			networks = append(networks, p)
		}
	}
	return networks, nil
}

func readConfiguration(text string) (config.Config, error) {
	pair := proxyconfig.Default()
	if _, err := pair.ReadConfig([]byte(text)); err != nil {
		return config.Config{}, fmt.Errorf("read the configuration: %w", err)
	}
	c, _, err := pair.Config()
	if err != nil {
		return c, fmt.Errorf("read the configuration: %w", err)
	}
	c.Kernel, err = config.ParseKernel(kernelRelease())
	return c, err
}

func kernelRelease() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "" // it takes a bad address to fail
	}
	return unix.ByteSliceToString(name.Release[:])
}

// planNode is the node as its own object, and its kernel, tell of it.
func (s *site) planNode(ctx context.Context) (plan.Node, error) {
	self, err := s.api.CoreV1().Nodes().Get(ctx, nodeName(), metav1.GetOptions{})
	if err != nil {
		return plan.Node{}, fmt.Errorf("ask for the node: %w", err)
	}
	n := plan.NodeOf(nodeName(), self, nil)
	err = s.node().Do(func() error {
		c, err := node.Open()
		if err != nil {
			return err
		}
		now, err := c.Now(ctx)
		n.Addresses, n.Networks, n.MTU = now.Addresses, now.Networks, now.MTU
		return errors.Join(err, c.Close())
	})
	return n, err
}

// page is how many objects are asked for at once.
const page = 2000

// objects are all that the API server has.
func (s *site) objects(ctx context.Context) (map[types.NamespacedName]plan.Objects, error) {
	all := map[types.NamespacedName]plan.Objects{}
	err := pages(func(o metav1.ListOptions) (string, error) {
		list, err := s.api.CoreV1().Services("").List(ctx, o)
		if err != nil {
			return "", fmt.Errorf("list Services: %w", err)
		}
		for i := range list.Items {
			one := &list.Items[i]
			all[types.NamespacedName{Namespace: one.Namespace, Name: one.Name}] = plan.Objects{Service: one}
		}
		return list.Continue, nil
	})
	if err != nil {
		return nil, err
	}
	err = pages(func(o metav1.ListOptions) (string, error) {
		list, err := s.api.DiscoveryV1().EndpointSlices("").List(ctx, o)
		if err != nil {
			return "", fmt.Errorf("list EndpointSlices: %w", err)
		}
		for i := range list.Items {
			one := &list.Items[i]
			key := types.NamespacedName{Namespace: one.Namespace, Name: one.Labels[discoveryv1.LabelServiceName]}
			of := all[key]
			of.Slices = append(of.Slices, one)
			all[key] = of
		}
		return list.Continue, nil
	})
	for _, o := range all {
		slices.SortFunc(o.Slices, func(a, b *discoveryv1.EndpointSlice) int { return strings.Compare(a.Name, b.Name) })
	}
	return all, err
}

// pages calls list until it returns no place to go on from.
func pages(list func(metav1.ListOptions) (next string, err error)) error {
	o := metav1.ListOptions{Limit: page}
	for {
		next, err := list(o)
		if err != nil || next == "" {
			return err
		}
		o.Continue = next
	}
}

// kernel is all that the node's kernel holds, whoever made it.
func (s *site) kernel(ctx context.Context, text string) (state.State, error) {
	c, err := readConfiguration(text)
	if err != nil {
		return state.State{}, err
	}
	everything := linux.Ours{
		Set:      func(state.SetName) bool { return true },
		Chain:    func(string) bool { return true },
		Families: c.Families,
	}
	for _, row := range plan.Base(c).Sysctls {
		everything.Sysctls = append(everything.Sysctls, row.Key)
	}
	var got state.State
	err = s.node().Do(func() error {
		k, err := linux.Open(ctx, everything)
		if err != nil {
			return err
		}
		got, err = k.Tables().List(ctx)
		return errors.Join(err, k.Close())
	})
	if err != nil {
		return got, fmt.Errorf("list the kernel: %w", err)
	}
	return got, nil
}
