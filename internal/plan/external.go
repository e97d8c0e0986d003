// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// located is an address and its place in the Service.
type located struct {
	netip.Addr
	field string
}

// maxAddresses and maxRanges bound the lists that the API server does not bound.
const (
	maxAddresses = 256
	maxRanges    = 1024
)

func externals(spec *corev1.ServiceSpec, c config.Config, ns *notes) []located {
	if c.IgnoreExternalIPs {
		if len(spec.ExternalIPs) > 0 {
			ns.add(state.IgnoredAddress, "spec.externalIPs", "external IPs are turned off in this cluster (AllowServiceExternalIPs)")
		}
		return nil
	}
	var list []located
	for i, text := range bounded(spec.ExternalIPs, maxAddresses, "spec.externalIPs", ns) {
		if strings.TrimSpace(text) == "" {
			continue
		}
		field := fmt.Sprintf("spec.externalIPs[%d]", i)
		a, ok := serviceAddress(text, field, ns)
		if _, in := networkOf(c.ExternalIPCIDRs, a); ok && len(c.ExternalIPCIDRs) > 0 && !in {
			ns.add(state.IgnoredAddress, field, "%v is in none of the networks that external IPs may be of (externalIPCIDRs)", a)
			continue
		}
		if ok {
			list = append(list, located{a, field})
		}
	}
	return list
}

// loadBalancers returns the addresses that load balancers gave the Service. Those with ipMode Proxy are left
// out: packets to them must go through the load balancer.
func loadBalancers(status *corev1.ServiceStatus, ns *notes) []located {
	const field = "status.loadBalancer.ingress"
	var list []located
	for i, in := range bounded(status.LoadBalancer.Ingress, maxAddresses, field, ns) {
		if in.IP == "" || in.IPMode != nil && *in.IPMode != corev1.LoadBalancerIPModeVIP {
			continue
		}
		at := fmt.Sprintf("%s[%d].ip", field, i)
		if a, ok := serviceAddress(in.IP, at, ns); ok {
			list = append(list, located{a, at})
		}
	}
	return list
}

func bounded[T any](list []T, most int, field string, ns *notes) []T {
	if len(list) <= most {
		return list
	}
	ns.add(state.TooLong, field, "%d elements; only the first %d count", len(list), most)
	return list[:most]
}

// ranges returns, by family, the networks from which clients may come to the load balancer's addresses. A
// family that is missing in it is open to all: one of its networks is all addresses, all networks are of the
// other family, or there are none. A family without any network in it is closed: some of the list cannot be
// read, so nobody knows whom it would let in.
func ranges(spec *corev1.ServiceSpec, ns *notes) map[state.Family][]netip.Prefix {
	const field = "spec.loadBalancerSourceRanges"
	if len(spec.LoadBalancerSourceRanges) == 0 {
		return nil
	}
	byFamily := map[state.Family][]netip.Prefix{}
	all := map[state.Family]bool{}
	unread := len(spec.LoadBalancerSourceRanges) > maxRanges
	for i, text := range bounded(spec.LoadBalancerSourceRanges, maxRanges, field, ns) {
		p, err := parsePrefix(text)
		if err != nil {
			ns.add(state.InvalidRange, fmt.Sprintf("%s[%d]", field, i), "%v", err)
			unread = true
			continue
		}
		f := state.FamilyOf(p.Addr())
		all[f] = all[f] || p.Bits() == 0
		if !slices.Contains(byFamily[f], p) {
			byFamily[f] = append(byFamily[f], p)
		}
	}
	for _, f := range []state.Family{state.IPv4, state.IPv6} {
		if all[f] {
			delete(byFamily, f)
		} else if unread && len(byFamily[f]) == 0 {
			byFamily[f] = []netip.Prefix{}
		}
	}
	return byFamily
}

// noteClosed notes the families that ranges closes.
func (s service) noteClosed(ns *notes) {
	for _, ip := range s.clusterIPs {
		f := state.FamilyOf(ip)
		if list, guarded := s.ranges[f]; guarded && len(list) == 0 {
			ns.add(state.InvalidRange, "spec.loadBalancerSourceRanges", "no network of %v can be used, and some of the list cannot be read: no client may come over %v", f, f)
		}
	}
}

// outsideLocal reports whether externalTrafficPolicy Local counts: only Services for clients from outside have one.
func outsideLocal(spec *corev1.ServiceSpec, ns *notes) bool {
	return isLocal(string(spec.ExternalTrafficPolicy), "spec.externalTrafficPolicy", ns) &&
		(spec.Type == corev1.ServiceTypeLoadBalancer || spec.Type == corev1.ServiceTypeNodePort || len(spec.ExternalIPs) > 0)
}

// isLocal reports whether a traffic policy is Local. The default is Cluster.
func isLocal(policy, field string, ns *notes) bool {
	switch policy {
	case "Local":
		return true
	case "Cluster", "":
	default:
		ns.add(state.InvalidPolicy, field, "%.64q is neither Cluster nor Local; using Cluster", policy)
	}
	return false
}

// healthPort returns where a load balancer asks whether this node has endpoints. Only externalTrafficPolicy
// Local needs that.
func healthPort(spec *corev1.ServiceSpec, local bool, ns *notes) uint16 {
	if spec.Type != corev1.ServiceTypeLoadBalancer || !local {
		return 0
	}
	number, ok := parsePort(spec.HealthCheckNodePort)
	if !ok {
		ns.add(state.InvalidPort, "spec.healthCheckNodePort", "%d is not in 1..65535", spec.HealthCheckNodePort)
	}
	return number
}

// noteHealthPort notes that the health check port is a NodePort of the same Service. Package desired notes
// one of another Service.
func (s service) noteHealthPort(ns *notes) {
	for _, p := range s.ports {
		if s.healthPort != 0 && p.protocol == state.TCP && p.nodePort == s.healthPort {
			ns.add(state.InvalidPort, "spec.healthCheckNodePort", "%d is the Service's own %s.nodePort too: load balancers that ask there are sent to its endpoints", s.healthPort, p.field)
		}
	}
}
