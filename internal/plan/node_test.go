// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"maps"
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kube-ipvs/kube-ipvs/internal/plan"
)

// nodeObject is a Node with addresses, each a type and what it says.
func nodeObject(name string, addresses ...string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelTopologyZone: "zone of " + name}}}
	for pair := range slices.Chunk(addresses, 2) {
		n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeAddressType(pair[0]), Address: pair[1]})
	}
	return n
}

func addresses(list ...string) []netip.Addr {
	var parsed []netip.Addr
	for _, s := range list {
		parsed = append(parsed, netip.MustParseAddr(s))
	}
	return parsed
}

func TestTheNodesOwnAddressesAreTheFirstOfEachFamilyInternalOnesFirst(t *testing.T) {
	for name, c := range map[string]struct{ have, want []string }{
		"none":                     {nil, nil},
		"two of a family":          {[]string{"InternalIP", "10.0.0.2", "InternalIP", "10.0.0.1"}, []string{"10.0.0.2"}},
		"external before internal": {[]string{"ExternalIP", "203.0.113.1", "InternalIP", "10.0.0.1"}, []string{"10.0.0.1"}},
		"external for want":        {[]string{"InternalIP", "10.0.0.1", "ExternalIP", "2001:db8::1"}, []string{"10.0.0.1", "2001:db8::1"}},
		"IPv6 first":               {[]string{"InternalIP", "fd00::1", "InternalIP", "10.0.0.1"}, []string{"fd00::1", "10.0.0.1"}},
		"IPv4 in IPv6 form":        {[]string{"InternalIP", "::ffff:10.0.0.1"}, []string{"10.0.0.1"}},
		"garbage":                  {[]string{"InternalIP", "x", "InternalIP", "", "InternalIP", "fe80::1%eth0", "InternalIP", "10.0.0.01"}, []string{"10.0.0.1"}},
		"host names":               {[]string{"Hostname", "10.0.0.1", "InternalDNS", "10.0.0.2", "", "10.0.0.3"}, nil},
	} {
		n := plan.NodeOf("n1", nodeObject("n1", c.have...), nil)
		if !slices.Equal(n.IPs, addresses(c.want...)) || n.Zone != "zone of n1" || n.Name != "n1" || n.Others != nil {
			t.Errorf("%s: %+v, want %v", name, n, c.want)
		}
	}
}

func TestAddressesOfOtherNodesAreTheirs(t *testing.T) {
	n := plan.NodeOf("n1", nodeObject("n1", "InternalIP", "10.0.0.1"), []*corev1.Node{
		nodeObject("n2", "InternalIP", "10.0.0.2", "ExternalIP", "203.0.113.2", "InternalIP", "x"),
		nodeObject("n3", "InternalIP", "10.0.0.1", "Hostname", "n3"),
	})
	want := map[netip.Addr]string{netip.MustParseAddr("10.0.0.2"): "node n2", netip.MustParseAddr("203.0.113.2"): "node n2"}
	if !maps.Equal(n.Others, want) {
		t.Errorf("others are %v, want %v", n.Others, want)
	}
	more := n.Protecting("a gateway", netip.MustParseAddr("10.0.0.254"))
	if len(more.Others) != 3 || len(n.Others) != 2 || more.Equal(n) || !more.Equal(n.Protecting("a gateway", addresses("10.0.0.254")...)) {
		t.Errorf("with a gateway: %v, without: %v", more.Others, n.Others)
	}
}

func TestWithoutANodeObjectNothingIsKnown(t *testing.T) {
	if n := plan.NodeOf("n1", nil, nil); !n.Equal(plan.Node{Name: "n1"}) {
		t.Errorf("%+v", n)
	}
}
