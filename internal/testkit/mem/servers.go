// SPDX-License-Identifier: Apache-2.0

package mem

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// sysctls: every known setting is always there. None is added or removed.
type sysctls struct{ written map[state.SysctlName]string }

func settings() []state.SysctlName {
	return []state.SysctlName{
		state.TCPTimeout, state.TCPFinTimeout, state.UDPTimeout,
		"net/ipv4/vs/conntrack", "net/ipv4/vs/expire_nodest_conn", "net/ipv4/vs/expire_quiescent_template",
		"net/ipv4/vs/conn_reuse_mode", "net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding",
		"net/ipv4/conf/all/arp_ignore", "net/ipv4/conf/all/arp_announce",
		"net/netfilter/nf_conntrack_tcp_timeout_established", "net/netfilter/nf_conntrack_tcp_timeout_close_wait",
		"net/netfilter/nf_conntrack_udp_timeout", "net/netfilter/nf_conntrack_udp_timeout_stream",
		"net/netfilter/nf_conntrack_tcp_be_liberal",
	}
}

func (s sysctls) List(ctx context.Context) (map[state.SysctlName]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	rows := map[state.SysctlName]string{}
	for _, name := range settings() {
		rows[name] = "0"
	}
	maps.Copy(rows, s.written)
	return rows, nil
}

// Apply ignores removed rows and counts every added row as drift.
func (s sysctls) Apply(ctx context.Context, d diff.Delta[state.SysctlName, string]) kernel.Result[state.SysctlName] {
	var r kernel.Result[state.SysctlName]
	if err := ctx.Err(); err != nil {
		d.Remove = nil
		failAll(d, err, &r)
		return r
	}
	for _, c := range d.Update {
		s.write(c.Key, c.New, &r)
	}
	for _, row := range d.Add {
		if s.write(row.Key, row.Value, &r) {
			r.Drift++
		}
	}
	return r
}

func (s sysctls) write(name state.SysctlName, value string, r *kernel.Result[state.SysctlName]) bool {
	if !slices.Contains(settings(), name) {
		r.Fail(name, missing(name, "a kernel that has it"))
		return false
	}
	s.written[name] = value
	return true
}

func checkLink(name state.LinkName, l state.Link) error {
	if name != state.DummyLink || l.Kind != "dummy" {
		return fmt.Errorf("device %s of kind %q: only %s is ours", name, l.Kind, state.DummyLink)
	}
	return nil
}

func (k *Kernel) linkGone(map[state.LinkName]bool) { clear(k.State.Addresses) }

func (k *Kernel) checkAddress(a state.Address, _ state.Binding) error {
	if _, ok := k.State.Links[state.DummyLink]; !ok {
		return missing(a, state.DummyLink)
	}
	if a.Addr.Is6() && (a.Addr.IsMulticast() || a.Addr.IsUnspecified() || a.Addr.IsLoopback()) {
		return fmt.Errorf("address %v can't be on a device", a)
	}
	return nil
}

func checkVirtualServer(k state.VirtualServerKey, v state.VirtualServer) error {
	schedulers := []string{"rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh"}
	if !slices.Contains(schedulers, v.Scheduler) {
		return missing(k, "scheduler "+v.Scheduler)
	}
	return nil
}

func (k *Kernel) checkRealServer(r state.RealServerKey, _ state.RealServer) error {
	if _, ok := k.State.VirtualServers[r.Server]; !ok {
		return missing(r, r.Server)
	}
	if state.FamilyOf(r.Address.Addr()) != r.Server.Family() {
		return fmt.Errorf("%v mixes IP families, which masquerading can't", r)
	}
	return nil
}

func (k *Kernel) virtualServersGone(removed map[state.VirtualServerKey]bool) {
	maps.DeleteFunc(k.State.RealServers, func(r state.RealServerKey, _ state.RealServer) bool { return removed[r.Server] })
	maps.DeleteFunc(k.Connections, func(r state.RealServerKey, _ state.Connections) bool { return removed[r.Server] })
}

func (k *Kernel) realServersGone(removed map[state.RealServerKey]bool) {
	maps.DeleteFunc(k.Connections, func(r state.RealServerKey, _ state.Connections) bool { return removed[r] })
}
