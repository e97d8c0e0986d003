// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"net/netip"
	"slices"

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
	s.noteClosed(ns)
	s.noteHealthPort(ns)
	return s
}

func (s service) has(f state.Family) bool {
	return slices.ContainsFunc(s.clusterIPs, func(ip netip.Addr) bool { return state.FamilyOf(ip) == f })
}

// clusterIPs pairs spec.clusterIPs with spec.ipFamilies. API servers older than dual stack set only
// spec.clusterIP.
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
