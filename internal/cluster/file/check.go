// SPDX-License-Identifier: Apache-2.0

package file

import (
	"fmt"
	"slices"

	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// check finds what an API server would refuse, and what would have no effect. The rest is judged in plan.
func (p *parser) check(n *yaml.Node, o object) {
	c := checker{p.decoder, n}
	if o.id.name.Name == "" {
		c.fail("is missing", "metadata", "name")
	}
	switch {
	case o.service != nil:
		c.service(&o.service.Spec)
	case o.slice != nil:
		c.slice(o.slice)
	}
}

// checker reports problems of fields, which it names by their path in a tree.
type checker struct {
	decoder *decoder
	root    *yaml.Node
}

func (c checker) service(spec *corev1.ServiceSpec) {
	oneOf(c, spec.Type, []corev1.ServiceType{corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort,
		corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeExternalName}, "spec", "type")
	oneOf(c, spec.SessionAffinity, []corev1.ServiceAffinity{corev1.ServiceAffinityNone,
		corev1.ServiceAffinityClientIP}, "spec", "sessionAffinity")
	if len(spec.ClusterIPs) > 0 && spec.ClusterIPs[0] != spec.ClusterIP {
		c.fail(fmt.Sprintf("%q is not spec.clusterIP, which is %q", spec.ClusterIPs[0], spec.ClusterIP),
			"spec", "clusterIPs", 0)
	}
	for i, port := range spec.Ports {
		c.protocol(port.Protocol, "spec", "ports", i, "protocol")
		c.port(port.Port, "spec", "ports", i, "port")
		if port.NodePort != 0 {
			c.port(port.NodePort, "spec", "ports", i, "nodePort")
		}
	}
}

func (c checker) slice(s *discoveryv1.EndpointSlice) {
	oneOf(c, s.AddressType, []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6,
		discoveryv1.AddressTypeFQDN}, "addressType")
	for i, port := range s.Ports {
		c.protocol(*port.Protocol, "ports", i, "protocol")
		if port.Port != nil {
			c.port(*port.Port, "ports", i, "port")
		}
	}
	if s.Labels[discoveryv1.LabelServiceName] == "" {
		n, field := c.at("metadata", "labels")
		c.decoder.note(n, field, "%s is missing: the endpoints belong to no Service", discoveryv1.LabelServiceName)
	}
}

func (c checker) protocol(got corev1.Protocol, path ...any) {
	oneOf(c, got, []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP}, path...)
}

func (c checker) port(got int32, path ...any) {
	if got < 1 || got > 65535 {
		c.fail(fmt.Sprintf("expected number from 1 to 65535, got %d", got), path...)
	}
}

func oneOf[T ~string](c checker, got T, known []T, path ...any) {
	if !slices.Contains(known, got) {
		c.fail(fmt.Sprintf("expected one of %v, got %q", known, got), path...)
	}
}

func (c checker) fail(text string, path ...any) {
	n, field := c.at(path...)
	c.decoder.fail(n, field, "%s", text)
}

// at returns the value at a path of names and indexes, or the last one on the way that is there.
func (c checker) at(path ...any) (*yaml.Node, string) {
	n, field, lost := c.root, "", false
	for _, step := range path {
		var next *yaml.Node
		switch step := step.(type) {
		case int:
			field = fmt.Sprintf("%s[%d]", field, step)
			if n.Kind == yaml.SequenceNode && step < len(n.Content) {
				next = resolve(n.Content[step])
			}
		case string:
			field = join(field, step)
			next = lookup(n, step)
		}
		if lost = lost || next == nil; !lost {
			n = next
		}
	}
	return n, field
}
