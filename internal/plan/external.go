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

// What a Service says of clients from outside the cluster.

// located is an address and where the Service has it.
type located struct {
	netip.Addr
	field string
}

// maxAddresses and maxRanges bound the lists that the API server does not.
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

// loadBalancers are the addresses that a load balancer gave the Service, but for those of load balancers that
// deliver by themselves (ipMode Proxy): what this node sends to them must go through them.
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

// ranges are, by family, the networks from which clients may come to the load balancer's addresses. Of a
// family that is not in it everybody may: so it is if one of them is all addresses, or if all that were given
// are of the other family or none were. From a family that is in it without any network nobody may: some of
// what was given can't be read, so whom it lets in is not known.
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

// noteClosed tells of the families that nobody may come over.
func (s service) noteClosed(ns *notes) {
	for _, ip := range s.clusterIPs {
		f := state.FamilyOf(ip)
		if list, guarded := s.ranges[f]; guarded && len(list) == 0 {
			ns.add(state.InvalidRange, "spec.loadBalancerSourceRanges", "no network of %v can be used, and not all of the list could be read: nobody may come over %v", f, f)
		}
	}
}

// outsideLocal says whether externalTrafficPolicy Local counts: only for what is meant for clients from
// outside, which other types of Services are not.
func outsideLocal(spec *corev1.ServiceSpec, ns *notes) bool {
	accessible := spec.Type == corev1.ServiceTypeLoadBalancer || spec.Type == corev1.ServiceTypeNodePort ||
		len(spec.ExternalIPs) > 0
	switch spec.ExternalTrafficPolicy {
	case corev1.ServiceExternalTrafficPolicyLocal:
		return accessible
	case corev1.ServiceExternalTrafficPolicyCluster, "":
	default:
		ns.add(state.InvalidPolicy, "spec.externalTrafficPolicy", "%.64q is neither Cluster nor Local; using Cluster", spec.ExternalTrafficPolicy)
	}
	return false
}

func insideLocal(spec *corev1.ServiceSpec, ns *notes) bool {
	switch policy := orZero(spec.InternalTrafficPolicy); policy {
	case corev1.ServiceInternalTrafficPolicyLocal:
		return true
	case corev1.ServiceInternalTrafficPolicyCluster, "":
	default:
		ns.add(state.InvalidPolicy, "spec.internalTrafficPolicy", "%.64q is neither Cluster nor Local; using Cluster", policy)
	}
	return false
}

// healthPort is where a load balancer asks whether this node has endpoints, which it needs to know only with
// externalTrafficPolicy Local.
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

// noteHealthPort tells of a NodePort of the Service at which its load balancer asks. That one may be another
// Service's, package desired tells.
func (s service) noteHealthPort(ns *notes) {
	for _, p := range s.ports {
		if s.healthPort != 0 && p.protocol == state.TCP && p.nodePort == s.healthPort {
			ns.add(state.InvalidPort, "spec.healthCheckNodePort", "%d is the Service's own %s.nodePort too: load balancers that ask there are sent to its endpoints", s.healthPort, p.field)
		}
	}
}
