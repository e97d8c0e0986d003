// SPDX-License-Identifier: Apache-2.0

// Package memory measures how much memory the program needs for a cluster of many Services, and limits it: live bytes
// of each Service and endpoint, by stage, in this process, and the resident memory of the real program, in the lab. It
// holds tests only.
//
// Its API server implements just what a reflector uses. It makes each object when it sends it, so that its own memory
// is not measured.
package memory

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const (
	nodes   = 100
	perNode = nodes
	here    = "ip-10-0-0-0.eu-central-1.compute.internal" // the node that is planned for
	zones   = 3
)

// size is how large a cluster is.
type size struct{ services, endpoints int }

func (s size) String() string { return fmt.Sprintf("%dx%d", s.services, s.endpoints) }

func (s size) all() int { return s.services * s.endpoints }

// meta returns the metadata of an object that kubectl or a controller made.
func meta(prefix string, n int) metav1.ObjectMeta {
	written := metav1.Unix(1_700_000_000+int64(n), 0)
	fields := `{"f:metadata":{"f:annotations":{".":{},"f:kubectl.kubernetes.io/last-applied-configuration":{}},"f:labels":{".":{},"f:app":{}}},"f:spec":{"f:internalTrafficPolicy":{},"f:ports":{".":{},"k:{\"port\":80,\"protocol\":\"TCP\"}":{".":{},"f:name":{},"f:port":{},"f:protocol":{},"f:targetPort":{}}},"f:selector":{},"f:sessionAffinity":{},"f:type":{}}}`
	return metav1.ObjectMeta{
		Namespace:         fmt.Sprintf("team-%02d", n%50),
		Name:              name(n),
		UID:               uid(prefix, n),
		ResourceVersion:   fmt.Sprint(100_000 + n),
		CreationTimestamp: written,
		Labels:            map[string]string{"app": name(n), "app.kubernetes.io/managed-by": "Helm", "team": fmt.Sprintf("team-%02d", n%50)},
		ManagedFields: []metav1.ManagedFieldsEntry{{
			Manager: "kubectl-client-side-apply", Operation: "Update", APIVersion: "v1", Time: &written, FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(fields),
		}},
	}
}

func name(n int) string { return fmt.Sprintf("service-%05d", n) }

func uid(prefix string, n int) types.UID {
	return types.UID(fmt.Sprintf("%s-aaaa-4bbb-8ccc-%012x", prefix, n))
}

// service returns the Service n as an API server sends it.
func service(n int) *corev1.Service {
	m, ip, single, inside := meta("5e41ce00", n), address(96, n).String(), corev1.IPFamilyPolicySingleStack, corev1.ServiceInternalTrafficPolicyCluster
	m.Annotations = map[string]string{corev1.LastAppliedConfigAnnotation: `{"apiVersion":"v1","kind":"Service","metadata":{"annotations":{},"labels":{"app":"` + m.Name +
		`"},"name":"` + m.Name + `","namespace":"` + m.Namespace + `"},"spec":{"ports":[{"name":"http","port":80,"targetPort":8080}],"selector":{"app":"` + m.Name + `"}}}`}
	return &corev1.Service{ObjectMeta: m, Spec: corev1.ServiceSpec{
		Type: corev1.ServiceTypeClusterIP, ClusterIP: ip, ClusterIPs: []string{ip}, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}, IPFamilyPolicy: &single,
		Ports:    []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt32(8080)}},
		Selector: map[string]string{"app": m.Name}, SessionAffinity: corev1.ServiceAffinityNone, InternalTrafficPolicy: &inside,
	}}
}

// slice returns a part of the EndpointSlices of the Service n; age counts how often it changed.
func (s size) slice(n, part, age int) *discoveryv1.EndpointSlice {
	m, port, protocol, portName, yes := meta("51ice000", n), int32(8080), corev1.ProtocolTCP, "http", true
	m.Labels[discoveryv1.LabelServiceName], m.Labels[discoveryv1.LabelManagedBy] = name(n), "endpointslice-controller.k8s.io"
	m.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: time.Unix(1_700_000_000+int64(n+age), 0).UTC().Format(time.RFC3339Nano)}
	m.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Service", Name: name(n), UID: uid("5e41ce00", n), Controller: &yes, BlockOwnerDeletion: &yes}}
	m.GenerateName, m.Name = name(n)+"-", fmt.Sprintf("%s-%05x", name(n), part)
	all := &discoveryv1.EndpointSlice{
		ObjectMeta: m, AddressType: discoveryv1.AddressTypeIPv4,
		Ports: []discoveryv1.EndpointPort{{Name: &portName, Port: &port, Protocol: &protocol}},
	}
	for i := part * perSlice; i < min(s.endpoints, (part+1)*perSlice); i++ {
		all.Endpoints = append(all.Endpoints, s.endpoint(n, i+age))
	}
	return all
}

// perSlice is how many endpoints the EndpointSlice controller puts into a slice.
const perSlice = 100

func (s size) parts() int { return (s.endpoints + perSlice - 1) / perSlice }

func (s size) endpoint(n, i int) discoveryv1.Endpoint {
	yes, no, pod := true, false, n*s.endpoints+i
	node, zone := fmt.Sprintf("ip-10-0-0-%d.eu-central-1.compute.internal", pod%nodes), fmt.Sprintf("eu-central-1%c", 'a'+pod%zones)
	return discoveryv1.Endpoint{
		Addresses:  []string{address(128, pod).String()},
		Conditions: discoveryv1.EndpointConditions{Ready: &yes, Serving: &yes, Terminating: &no},
		NodeName:   &node, Zone: &zone,
		TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: fmt.Sprintf("team-%02d", n%50), Name: fmt.Sprintf("%s-6d4b75cb6d-%05x", name(n), i), UID: uid("90d00000", pod)},
	}
}

// address returns the n-th address of a network.
func address(network byte, n int) netip.Addr {
	last := binary.BigEndian.AppendUint32(nil, uint32(n+1))
	return netip.AddrFrom4([4]byte{10, network + last[1], last[2], last[3]})
}

func thisNode() *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: here, ResourceVersion: "1", Labels: map[string]string{corev1.LabelTopologyZone: "eu-central-1a"}},
		Spec:       corev1.NodeSpec{PodCIDRs: []string{"10.128.0.0/24"}},
		Status:     corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.1"}}},
	}
}
