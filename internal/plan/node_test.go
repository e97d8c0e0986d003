// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"maps"
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
)

// nodeObject returns a Node with addresses, each a type and a text.
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

// The combinations of bindAddress and the Node object's addresses for which kube-proxy has tests. Where it takes
// 127.0.0.1 or ::1 for want of an address there is none here: nothing could be served at either.
func TestAnAddressThatTheOperatorChoseComesBeforeTheNodeObjects(t *testing.T) {
	for name, c := range map[string]struct {
		object []string // internal IPs
		chosen string
		want   []string // the primary family's first
	}{
		"IPv4 and no Node object":                 {nil, "10.0.0.1", []string{"10.0.0.1"}},
		"IPv6 and no Node object":                 {nil, "fd00:4321::2", []string{"fd00:4321::2"}},
		"neither":                                 {nil, "", nil},
		"unspecified and no Node object":          {nil, "0.0.0.0", nil},
		"unspecified, and the Node's IPv4":        {[]string{"192.168.1.1"}, "0.0.0.0", []string{"192.168.1.1"}},
		"unspecified IPv6, and the Node's IPv4":   {[]string{"192.168.1.1"}, "::", []string{"192.168.1.1"}},
		"unspecified, and the Node's IPv6":        {[]string{"fd00:1234::1"}, "0.0.0.0", []string{"fd00:1234::1"}},
		"unspecified IPv6, and the Node's IPv6":   {[]string{"fd00:1234::1"}, "::", []string{"fd00:1234::1"}},
		"dual stack, IPv4 first":                  {[]string{"90.90.90.90", "2001:db8::2"}, "::", []string{"90.90.90.90", "2001:db8::2"}},
		"dual stack, IPv6 first":                  {[]string{"2001:db8::2", "90.90.90.90"}, "0.0.0.0", []string{"2001:db8::2", "90.90.90.90"}},
		"dual stack, another IPv4":                {[]string{"2001:db8::2", "90.90.90.90"}, "80.80.80.80", []string{"80.80.80.80", "2001:db8::2"}},
		"dual stack, another IPv6":                {[]string{"90.90.90.90", "2001:db8::2"}, "2001:db8::555", []string{"2001:db8::555", "90.90.90.90"}},
		"dual stack, IPv4 loopback":               {[]string{"90.90.90.90", "2001:db8::2"}, "127.0.0.1", []string{"127.0.0.1", "2001:db8::2"}},
		"dual stack, IPv6 loopback":               {[]string{"90.90.90.90", "2001:db8::2"}, "::1", []string{"::1", "90.90.90.90"}},
		"the Node's own":                          {[]string{"90.90.90.90"}, "90.90.90.90", []string{"90.90.90.90"}},
		"IPv4 in IPv6 form":                       {[]string{"2001:db8::2"}, "::ffff:10.0.0.1", []string{"10.0.0.1", "2001:db8::2"}},
		"unspecified IPv4 in IPv6 form":           {[]string{"2001:db8::2"}, "::ffff:0.0.0.0", []string{"2001:db8::2"}},
		"only the other family is the operator's": {[]string{"90.90.90.90"}, "2001:db8::1", []string{"2001:db8::1", "90.90.90.90"}},
	} {
		var typed []string
		for _, a := range c.object {
			typed = append(typed, "InternalIP", a)
		}
		var chosen netip.Addr
		if c.chosen != "" {
			chosen = netip.MustParseAddr(c.chosen)
		}
		bare := plan.NodeOf("n1", nodeObject("n1", typed...), nil)
		if n := bare.At(chosen); !slices.Equal(n.IPs, addresses(c.want...)) {
			t.Errorf("%s: %v, want %v", name, n.IPs, c.want)
		}
		if !slices.Equal(bare.IPs, addresses(c.object...)) {
			t.Errorf("%s: the node that was asked has %v now, and had %v", name, bare.IPs, c.object)
		}
	}
}

// kube-proxy serves NodePorts on all addresses if it knows none of the node, or only a loopback one.
func TestPrimaryNodePortsAreNeverAtLoopbackAddressesNorEverywhere(t *testing.T) {
	service := corev1.Service{Spec: corev1.ServiceSpec{
		ClusterIP: "10.96.0.10", ClusterIPs: []string{"10.96.0.10", "fd00:96::10"},
		IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol},
		Ports:      []corev1.ServicePort{{Port: 80, NodePort: 30080}},
	}}
	c := config.Default()
	c.NodePortPrimary = true
	for name, x := range map[string]struct {
		object       []string
		chosen       string
		wantNodePort []string
	}{
		"nothing known":         {nil, "0.0.0.0", nil},
		"IPv4 loopback":         {[]string{"InternalIP", "192.0.2.1", "InternalIP", "2001:db8::1"}, "127.0.0.1", []string{"[2001:db8::1]:30080"}},
		"IPv6 loopback":         {[]string{"InternalIP", "192.0.2.1"}, "::1", []string{"192.0.2.1:30080"}},
		"loopback alone":        {nil, "127.0.0.1", nil},
		"an address of the two": {[]string{"InternalIP", "192.0.2.1"}, "192.0.2.77", []string{"192.0.2.77:30080"}},
		"not on any interface":  {[]string{"InternalIP", "192.0.2.1"}, "192.0.2.99", nil},
	} {
		n := plan.NodeOf("n1", nodeObject("n1", x.object...), nil).At(netip.MustParseAddr(x.chosen))
		n.Addresses = addresses("127.0.0.1", "192.0.2.1", "192.0.2.77", "::1", "2001:db8::1")
		var got []string
		for _, row := range plan.Service(plan.Objects{Service: &service}, n, c).VirtualServers {
			if row.Key.Address.Port() == 30080 {
				got = append(got, row.Key.Address.String())
			}
		}
		if !slices.Equal(got, x.wantNodePort) {
			t.Errorf("%s: NodePorts at %v, want %v", name, got, x.wantNodePort)
		}
	}
}
