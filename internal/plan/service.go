// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// service is a parsed Service; all its fields are in range.
type service struct {
	namespace, name string
	clusterIPs      []netip.Addr // at most one of a family
	ports           []port
	affinity        uint32 // seconds for which a client keeps its endpoint; 0: it does not
	joined          bool   // the affinity is one over all ports
	scheduling      scheduling

	loadBalancers, externals     []located
	ranges                       map[state.Family][]netip.Prefix // of clients of load balancers; a missing family is open
	internalLocal, externalLocal bool                            // traffic policy Local
	healthPort                   uint16                          // 0: none
}

// portName matches a port of a Service with one of an EndpointSlice.
type portName struct {
	name     string // empty: the only port, without a name
	protocol state.Protocol
}

type port struct {
	portName
	field    string // "spec.ports[0]"
	comment  string // of its set entries
	number   uint16
	nodePort uint16 // 0: none
}

func parseService(o *corev1.Service, c config.Config, ns *notes) service {
	local := outsideLocal(&o.Spec, ns)
	s := service{
		namespace:     o.Namespace,
		name:          o.Name,
		clusterIPs:    clusterIPs(&o.Spec, ns),
		ports:         servicePorts(o, ns),
		affinity:      affinity(&o.Spec, ns),
		joined:        joined(o.Annotations, ns),
		scheduling:    newScheduling(o.Annotations, c, ns),
		loadBalancers: loadBalancers(&o.Status, ns),
		externals:     externals(&o.Spec, c, ns),
		ranges:        ranges(&o.Spec, ns),
		internalLocal: isLocal(string(orZero(o.Spec.InternalTrafficPolicy)), "spec.internalTrafficPolicy", ns),
		externalLocal: local,
		healthPort:    healthPort(&o.Spec, local, ns),
	}
	s.note(ns)
	return s
}

func (s service) has(f state.Family) bool {
	return slices.ContainsFunc(s.clusterIPs, func(ip netip.Addr) bool { return state.FamilyOf(ip) == f })
}

// clusterIPs pairs spec.clusterIPs with spec.ipFamilies. API servers older than dual stack set only spec.clusterIP.
func clusterIPs(spec *corev1.ServiceSpec, ns *notes) []netip.Addr {
	if len(spec.IPFamilies) == 0 {
		ip, ok := serviceAddress(spec.ClusterIP, "spec.clusterIP", ns)
		if !ok {
			return nil
		}
		return []netip.Addr{ip}
	}
	var ips []netip.Addr
	seen := map[state.Family]bool{}
	for i, text := range spec.ClusterIPs {
		field := fmt.Sprintf("spec.clusterIPs[%d]", i)
		ip, ok := serviceAddress(text, field, ns)
		switch f := state.FamilyOf(ip); {
		case !ok:
		case i >= len(spec.IPFamilies) || string(spec.IPFamilies[i]) != f.String():
			ns.add(state.InvalidAddress, field, "%v is not of the family that spec.ipFamilies[%d] says", ip, i)
		case seen[f]:
			ns.add(state.InvalidAddress, field, "%v is the second one of its family", ip)
		default:
			seen[f] = true
			ips = append(ips, ip)
		}
	}
	if len(spec.ClusterIPs) < len(spec.IPFamilies) {
		field := fmt.Sprintf("spec.ipFamilies[%d]", len(spec.ClusterIPs))
		ns.add(state.InvalidAddress, field, "no cluster IP of this family")
	}
	return ips
}

func serviceAddress(text, field string, ns *notes) (netip.Addr, bool) {
	ip, err := parseAddr(text)
	if err == nil {
		err = checkFrontend(ip)
	}
	if err != nil {
		ns.add(state.InvalidAddress, field, "%v", err)
	}
	return ip, err == nil
}

func servicePorts(o *corev1.Service, ns *notes) []port {
	var ports []port
	type slot struct {
		protocol state.Protocol
		number   uint16
	}
	numbers, nodePorts, names := map[slot]bool{}, map[slot]bool{}, map[portName]bool{}
	for i := range o.Spec.Ports {
		p, ok := servicePort(o, i, ns)
		if !ok {
			continue
		}
		number, nodePort := slot{p.protocol, p.number}, slot{p.protocol, p.nodePort}
		if numbers[number] || names[p.portName] {
			ns.add(state.InvalidPort, p.field, "another port has this name or number")
			continue
		}
		if p.nodePort != 0 && nodePorts[nodePort] {
			ns.add(state.InvalidPort, p.field+".nodePort", "%d is another port's", p.nodePort)
			p.nodePort = 0
		}
		numbers[number], nodePorts[nodePort], names[p.portName] = true, true, true
		ports = append(ports, p)
	}
	return ports
}

func servicePort(o *corev1.Service, i int, ns *notes) (port, bool) {
	in := &o.Spec.Ports[i]
	field := fmt.Sprintf("spec.ports[%d]", i)
	protocol, err := parseProtocol(in.Protocol)
	if err != nil {
		ns.add(state.InvalidProtocol, field+".protocol", "%v", err)
		return port{}, false
	}
	number, ok := parsePort(in.Port)
	if !ok {
		ns.add(state.InvalidPort, field+".port", "%d is not in 1..65535", in.Port)
		return port{}, false
	}
	nodePort, ok := parsePort(in.NodePort)
	if !ok && in.NodePort != 0 {
		ns.add(state.InvalidPort, field+".nodePort", "%d is not in 1..65535", in.NodePort)
	}
	return port{
		portName: portName{name: in.Name, protocol: protocol},
		field:    field,
		comment:  comment(o.Namespace, o.Name, in.Name),
		number:   number,
		nodePort: nodePort,
	}, true
}

// The API server's bounds and default for the affinity time.
const (
	maxAffinity     = 86400
	defaultAffinity = corev1.DefaultClientIPServiceAffinitySeconds
)

func affinity(spec *corev1.ServiceSpec, ns *notes) uint32 {
	switch spec.SessionAffinity {
	case corev1.ServiceAffinityClientIP:
	case corev1.ServiceAffinityNone, "":
		return 0
	default:
		ns.add(state.InvalidAffinity, "spec.sessionAffinity", "%.64q is not known", spec.SessionAffinity)
		return 0
	}
	c := spec.SessionAffinityConfig
	if c == nil || c.ClientIP == nil || c.ClientIP.TimeoutSeconds == nil {
		return uint32(defaultAffinity)
	}
	seconds := *c.ClientIP.TimeoutSeconds
	if seconds < 1 || seconds > maxAffinity {
		ns.add(state.InvalidAffinity, "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
			"%d is not in 1..%d; using %d", seconds, maxAffinity, defaultAffinity)
		return uint32(defaultAffinity)
	}
	return uint32(seconds)
}

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

// loadBalancers returns the addresses that load balancers gave the Service. Those with ipMode Proxy are left out:
// packets to them must go through the load balancer.
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

// ranges returns, by family, the networks from which clients may come to the load balancer's addresses. A family that
// is missing in it is open to all: one of its networks is all addresses, all networks are of the other family, or there
// are none. A family without any network in it is closed: some of the list cannot be read, so its meaning is unknown.
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
		byFamily[f] = append(byFamily[f], p)
	}
	for _, f := range []state.Family{state.IPv4, state.IPv6} {
		switch list := byFamily[f]; {
		case all[f]:
			delete(byFamily, f)
		case len(list) > 0:
			byFamily[f] = outermost(list)
		case unread:
			byFamily[f] = []netip.Prefix{}
		}
	}
	return byFamily
}

// outermost leaves out what is inside of another network of the list: it lets no one else in, and nftables refuses
// networks that overlap.
func outermost(list []netip.Prefix) []netip.Prefix {
	slices.SortFunc(list, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	var kept []netip.Prefix
	for _, p := range list { // one that another contains comes behind it, before any that it does not
		if len(kept) == 0 || !kept[len(kept)-1].Contains(p.Addr()) {
			kept = append(kept, p)
		}
	}
	return kept
}

// note notes the families that ranges closes, and a health check port that is a NodePort of the same Service. Package
// desired notes one of another Service.
func (s service) note(ns *notes) {
	for _, ip := range s.clusterIPs {
		f := state.FamilyOf(ip)
		if list, guarded := s.ranges[f]; guarded && len(list) == 0 {
			ns.add(state.InvalidRange, "spec.loadBalancerSourceRanges", "no network of %v can be used, and some of the list cannot be read: no client may come over %v", f, f)
		}
	}
	for _, p := range s.ports {
		if s.healthPort != 0 && p.protocol == state.TCP && p.nodePort == s.healthPort {
			ns.add(state.InvalidPort, "spec.healthCheckNodePort", "%d is the Service's own %s.nodePort too: load balancers that ask there are sent to its endpoints", s.healthPort, p.field)
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

// healthPort returns where a load balancer asks whether this node has endpoints. Only externalTrafficPolicy Local needs
// that.
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
