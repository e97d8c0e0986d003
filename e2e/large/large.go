// SPDX-License-Identifier: Apache-2.0

// Package large has the objects of large clusters, for those who measure: many Services that are all alike, and a node
// that stays as it is. What an API server adds to objects is not in them.
package large

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kube-ipvs/kube-ipvs/internal/plan"
)

const (
	// nodes is how many nodes the endpoints are spread over.
	nodes = 100
	// teams is how many namespaces the Services are spread over.
	teams = 50
	// Spare is how many more endpoints a Service may get than it has, with addresses of their own.
	Spare = 32
	// sliceLength is how many endpoints the endpoints' controller puts into one slice.
	sliceLength = 100
	// firstNumber leaves room for the addresses that a service network keeps for itself.
	firstNumber = 256
)

// The numbers that Services and endpoints have.
const (
	Port       = 80
	TargetPort = 8080
)

// The second numbers of the networks of IPv4 that Services and pods are in: 10.96.0.0/16 and 10.128.0.0/9.
const (
	serviceNetwork = 96
	podNetwork     = 128
)

// Size is how large a cluster is.
type Size struct {
	Services, Endpoints int // Endpoints are those of each Service
	Families            []corev1.IPFamily
}

// IPv4 is the size of a cluster of one family.
func IPv4(services, endpoints int) Size {
	return Size{services, endpoints, []corev1.IPFamily{corev1.IPv4Protocol}}
}

// DualStack is the size of a cluster whose Services have an address of each family, and for each so many endpoints.
func DualStack(services, endpoints int) Size {
	s := IPv4(services, endpoints)
	s.Families = append(s.Families, corev1.IPv6Protocol)
	return s
}

// String is as in 1000x10, which ParseSize reads.
func (s Size) String() string {
	text := fmt.Sprintf("%dx%d", s.Services, s.Endpoints)
	if len(s.Families) > 1 {
		text += "-dual-stack"
	}
	return text
}

// ParseSize reads a size of one family.
func ParseSize(text string) (Size, error) {
	services, endpoints, ok := strings.Cut(text, "x")
	n, err := strconv.Atoi(services)
	m, err2 := strconv.Atoi(endpoints)
	if !ok || err != nil || err2 != nil || n < 1 || m < 1 {
		return Size{}, fmt.Errorf("parse size %q: want Services x endpoints, as in 1000x10", text)
	}
	return IPv4(n, m), nil
}

// Objects are all Services and their EndpointSlices.
func (s Size) Objects() []plan.Objects {
	list := make([]plan.Objects, s.Services)
	for n := range list {
		list[n] = s.Service(n, 0)
	}
	return list
}

// Service is the Service n, with endpoints from a first one on.
func (s Size) Service(n, first int) plan.Objects {
	meta := metav1.ObjectMeta{
		Namespace:         Namespaces()[n%teams],
		Name:              fmt.Sprintf("service-%05d", n),
		CreationTimestamp: metav1.NewTime(time.Unix(1_700_000_000+int64(n), 0)),
	}
	policy := corev1.IPFamilyPolicySingleStack
	if len(s.Families) > 1 {
		policy = corev1.IPFamilyPolicyRequireDualStack
	}
	o := plan.Objects{Service: &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{
		IPFamilies:     s.Families,
		IPFamilyPolicy: &policy,
		Ports:          []corev1.ServicePort{{Name: "http", Port: Port, Protocol: corev1.ProtocolTCP}},
	}}}
	for _, f := range s.Families {
		spec := &o.Service.Spec
		spec.ClusterIPs = append(spec.ClusterIPs, ServiceAddress(f, n).String())
		spec.ClusterIP = spec.ClusterIPs[0]
		o.Slices = append(o.Slices, s.slices(meta, f, n, first)...)
	}
	return o
}

// slices are those of one family, each as long as it may be but for the last.
func (s Size) slices(of metav1.ObjectMeta, f corev1.IPFamily, n, first int) []*discoveryv1.EndpointSlice {
	var list []*discoveryv1.EndpointSlice
	for from := first; from < first+s.Endpoints; from += sliceLength {
		slice := emptySlice(of, f, len(list))
		for i := from; i < min(from+sliceLength, first+s.Endpoints); i++ {
			slice.Endpoints = append(slice.Endpoints, s.Endpoint(f, n, i))
		}
		list = append(list, slice)
	}
	return list
}

func emptySlice(of metav1.ObjectMeta, f corev1.IPFamily, number int) *discoveryv1.EndpointSlice {
	name, port, protocol := "http", int32(TargetPort), corev1.ProtocolTCP
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: of.Namespace,
			Name:      fmt.Sprintf("%s-%s-%d", of.Name, strings.ToLower(string(f)), number),
			Labels:    map[string]string{discoveryv1.LabelServiceName: of.Name},
		},
		AddressType: discoveryv1.AddressType(f),
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &protocol}},
	}
}

// Endpoint is the i-th of the Service n, which it may have or not.
func (s Size) Endpoint(f corev1.IPFamily, n, i int) discoveryv1.Endpoint {
	pod, ready := n*(s.Endpoints+Spare)+i, true
	on := NodeName(pod % nodes)
	return discoveryv1.Endpoint{
		Addresses:  []string{network(f, podNetwork, pod).String()},
		Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &ready},
		NodeName:   &on,
	}
}

// NodeName is the name of a node.
func NodeName(n int) string { return fmt.Sprintf("node-%02d", n) }

// Namespaces are those that Services are in.
func Namespaces() []string {
	list := make([]string, teams)
	for n := range list {
		list[n] = fmt.Sprintf("team-%02d", n)
	}
	return list
}

// ServiceAddress is the cluster IP of the Service n.
func ServiceAddress(f corev1.IPFamily, n int) netip.Addr {
	return network(f, serviceNetwork, firstNumber+n)
}

// PodNetwork is where the endpoints of IPv4 are.
func PodNetwork() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, podNetwork}), 9)
}

// network is the n-th address of a network of ours.
func network(f corev1.IPFamily, number byte, n int) netip.Addr {
	last := binary.BigEndian.AppendUint32(nil, uint32(n))
	if f == corev1.IPv4Protocol {
		return netip.AddrFrom4([4]byte{10, number + last[1], last[2], last[3]})
	}
	return netip.AddrFrom16([16]byte{0: 0xfd, 3: number, 12: last[0], 13: last[1], 14: last[2], 15: last[3]})
}
