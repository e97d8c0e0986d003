// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// dice fill objects from few values that mean something somewhere.
type dice struct{ *rand.Rand }

func (d dice) text() string {
	all := []string{
		"", "web", "shop", "TCP", "UDP", "IPv4", "IPv6", "10.96.0.1", "192.0.2.1", "192.0.2.0/24", "fd00::1", "Local", "Cluster", "VIP", "Proxy",
		"ClientIP", "None", "LoadBalancer", "NodePort", "ClusterIP", "node-1", "zone-1", "InternalIP", "wrr", "node=8", "90s", "service", "x",
	}
	return all[d.IntN(len(all))]
}

func (d dice) key() string {
	all := []string{
		cluster.LabelProxyName, corev1.IsHeadlessService, discoveryv1.LabelServiceName, corev1.LabelTopologyZone, cluster.TaintLeaving, "app", "x",
		"kube-ipvs.io/scheduler", "kube-ipvs.io/weights", "kube-ipvs.io/drain-timeout", "kube-ipvs.io/affinity", corev1.LastAppliedConfigAnnotation,
		corev1.EndpointsLastChangeTriggerTime,
	}
	return all[d.IntN(len(all))]
}

// fill sets all fields below v, those that are set already one time in six.
func (d dice) fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Field(i); f.CanSet() {
				d.fill(f)
			}
		}
		return
	case reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		d.fill(v.Elem())
		return
	case reflect.Slice:
		if v.Len() == 0 {
			v.Set(reflect.MakeSlice(v.Type(), 1+d.IntN(2), 2))
		}
		for i := range v.Len() {
			d.fill(v.Index(i))
		}
		return
	}
	if !v.IsZero() && d.IntN(6) > 0 {
		return
	}
	switch v.Kind() {
	case reflect.Map:
		m := reflect.MakeMap(v.Type())
		for range d.IntN(4) {
			value := reflect.New(v.Type().Elem()).Elem()
			d.fill(value)
			m.SetMapIndex(reflect.ValueOf(d.key()).Convert(v.Type().Key()), value)
		}
		v.Set(m)
	case reflect.String:
		v.SetString(d.text())
	case reflect.Bool:
		v.SetBool(d.IntN(2) == 0)
	case reflect.Int32, reflect.Int64:
		v.SetInt([]int64{1, 80, 8080, 30080, 30443}[d.IntN(5)])
	case reflect.Uint8:
		v.SetUint(1)
	}
}

// objects are a Service that is served, and what else is around it, with every other field set to something.
func (d dice) objects() (*corev1.Service, *discoveryv1.EndpointSlice, *corev1.Node) {
	meta := metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "1", ResourceVersion: "5"}
	s := &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{
		Type: "LoadBalancer", ClusterIP: "10.96.0.1", ClusterIPs: []string{"10.96.0.1", "fd00:96::1"}, IPFamilies: []corev1.IPFamily{"IPv4", "IPv6"},
		Ports: []corev1.ServicePort{{Name: "http", Protocol: "TCP", Port: 80, NodePort: 30080}}, SessionAffinity: "None",
	}}
	slice := &discoveryv1.EndpointSlice{ObjectMeta: meta, AddressType: "IPv4", Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.244.1.1"}}, {Addresses: []string{"10.244.1.2"}}},
		Ports: []discoveryv1.EndpointPort{{Name: new("http"), Protocol: new(corev1.ProtocolTCP), Port: new(int32(8080))}}}
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}, Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: "InternalIP", Address: "192.0.2.9"}}}}
	d.fill(reflect.ValueOf(s).Elem())
	d.fill(reflect.ValueOf(slice).Elem())
	d.fill(reflect.ValueOf(n).Elem())
	delete(s.Labels, cluster.LabelProxyName)
	if d.IntN(8) > 0 {
		delete(slice.Labels, corev1.IsHeadlessService)
		slice.Namespace = s.Namespace
		slice.Labels = map[string]string{discoveryv1.LabelServiceName: s.Name, "app": "x"}
	}
	return s, slice, n
}

func planned(s *corev1.Service, slice *discoveryv1.EndpointSlice, n *corev1.Node) plan.Fragment {
	c := config.Default()
	c.Families = []state.Family{state.IPv4, state.IPv6}
	node := plan.NodeOf("node-1", n, nil)
	node.Addresses = []netip.Addr{netip.MustParseAddr("192.0.2.9")}
	o := plan.Objects{Service: s}
	if s.Name != "" && slice.Namespace == s.Namespace && slice.Labels[discoveryv1.LabelServiceName] == s.Name { // as an Index has it
		o.Slices = append(o.Slices, slice)
	}
	return plan.Service(o, node, plan.Settle(c, n, nil))
}

func TestAStrippedObjectMeansTheSame(t *testing.T) {
	d := dice{rand.New(rand.NewPCG(1, 2))}
	served := 0
	for i := range 5_000 {
		s, slice, n := d.objects()
		want := planned(s, slice, n)
		keptSlice, keptN := slice.DeepCopy(), n.DeepCopy()
		stripSlice(keptSlice, "node-1")
		stripNode(keptN)
		keptS := cluster.OfService(s).Object()
		got := planned(keptS, cluster.OfSlice(keptSlice).Object(), keptN)
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("round %d: the plan of stripped objects is\n%+v\nthat of the full ones\n%+v\n%+v", i, got, want, s)
		}
		if len(want.RealServers) > 0 {
			served++
		}
		if keptS.UID != s.UID || !keptS.CreationTimestamp.Equal(&s.CreationTimestamp) {
			t.Fatal("the identity is lost")
		}
		if keptS.ManagedFields != nil || keptS.OwnerReferences != nil || keptS.Spec.Selector != nil || keptN.Status.Images != nil || keptN.Status.Conditions != nil {
			t.Fatal("something of no use was kept")
		}
	}
	if served < 500 {
		t.Errorf("only %d Services had an endpoint: the dice are bad", served)
	}
}

// What a plan or a Place depends on must still be seen to change.
func TestAChangeThatMeansSomethingIsSeenInStrippedObjects(t *testing.T) {
	d := dice{rand.New(rand.NewPCG(3, 4))}
	seen := 0
	for range 5_000 {
		s, slice, n := d.objects()
		s2, slice2, n2 := s.DeepCopy(), slice.DeepCopy(), n.DeepCopy()
		switch d.IntN(3) {
		case 0:
			d.fill(reflect.ValueOf(s2).Elem())
		case 1:
			d.fill(reflect.ValueOf(slice2).Elem())
		case 2:
			d.fill(reflect.ValueOf(n2).Elem())
		}
		s2.Namespace, s2.Name, slice2.Namespace, slice2.Name, n2.Name = s.Namespace, s.Name, slice.Namespace, slice.Name, n.Name
		different := !reflect.DeepEqual(planned(s, slice, n), planned(s2, slice2, n2))
		x := cluster.NewIndex()
		for _, o := range []*discoveryv1.EndpointSlice{slice, slice2} {
			stripSlice(o, "node-1")
		}
		for _, o := range []*corev1.Node{n, n2} {
			stripNode(o)
		}
		x.SetService(cluster.OfService(s))
		x.SetSlice(cluster.OfSlice(slice))
		x.SetNode(n)
		changed := len(x.SetService(cluster.OfService(s2))) + len(x.SetSlice(cluster.OfSlice(slice2)))
		if place := x.SetNode(n2); different && changed == 0 && !place {
			t.Fatalf("a change is not seen:\n%+v\n%+v", planned(s, slice, n), planned(s2, slice2, n2))
		}
		if different {
			seen++
		}
	}
	if seen < 500 {
		t.Errorf("only %d changes meant something: the dice are bad", seen)
	}
}

func TestOfANodeWhatIsReadIsKept(t *testing.T) {
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "node-1", Labels: map[string]string{corev1.LabelTopologyZone: "a", "x": "y"}, Annotations: map[string]string{"x": "y"}},
		Spec:       corev1.NodeSpec{PodCIDR: "10.244.1.0/24", PodCIDRs: []string{"10.244.1.0/24"}, ProviderID: "x", Taints: []corev1.Taint{{Key: "x"}, {Key: cluster.TaintLeaving}}},
		Status:     corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: "InternalIP", Address: "192.0.2.1"}}, Images: make([]corev1.ContainerImage, 50)},
	}
	stripNode(n)
	want := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "node-1", Labels: map[string]string{corev1.LabelTopologyZone: "a"}},
		Spec:       corev1.NodeSpec{PodCIDRs: []string{"10.244.1.0/24"}, Taints: []corev1.Taint{{Key: cluster.TaintLeaving}}},
		Status:     corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: "InternalIP", Address: "192.0.2.1"}}},
	}
	if d := cmp.Diff(want, n); d != "" {
		t.Error(d)
	}
	c := serviceCIDR("10.96.0.0/16")
	c.Status = networkingv1.ServiceCIDRStatus{Conditions: make([]metav1.Condition, 1)}
	c.Finalizers = []string{"x"}
	stripServiceCIDR(c)
	if d := cmp.Diff(serviceCIDR("10.96.0.0/16"), c); d != "" {
		t.Error(d)
	}
}

// Objects come stripped from every way they can come: a streaming list, a list, a watch.
func TestObjectsAreStrippedBeforeTheyAreKept(t *testing.T) {
	for _, streams := range []bool{true, false} {
		s := newServer(t)
		s.noStreams = !streams
		fat := func(name string) *corev1.Service {
			o := service(name, "10.96.0.1")
			o.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubectl"}}
			o.Annotations = map[string]string{corev1.LastAppliedConfigAnnotation: "x", "kube-ipvs.io/scheduler": "wrr"}
			return o
		}
		s.put(nodeObject("192.0.2.1"), fat("listed"))
		var kept []*corev1.Service
		watch := func(o *corev1.Service) { kept = append(kept, o) }
		f := followWith(t, s, nil, &sink{services: map[string]string{}, each: watch})
		f.want(t, "listed", "10.96.0.1")
		s.put(fat("watched"))
		f.want(t, "watched", "10.96.0.1")
		f.stop()
		for _, o := range kept {
			if o.ManagedFields != nil || fmt.Sprint(o.Annotations) != "map[kube-ipvs.io/scheduler:wrr]" {
				t.Errorf("streaming %v: %s has %v and %v", streams, o.Name, o.ManagedFields, o.Annotations)
			}
		}
	}
}

// A list may be all that there is, and what came of it is not to be kept.
func TestAStreamingListIsPackedAsItComes(t *testing.T) {
	for _, k := range kinds(newServer(t).client(), "node-1") {
		f := feed{kind: k}
		came, err := f.Transformer()(k.object.DeepCopyObject())
		if err != nil {
			t.Fatal(err)
		}
		switch kept := came.(item).kept.(type) {
		case cluster.Service, cluster.Slice, *corev1.Node, *networkingv1.ServiceCIDR:
		default:
			t.Errorf("of %s a %T is kept", k.resource, kept)
		}
	}
}

func TestOfOtherNodesOnlyThatTheyAreOthersIsKept(t *testing.T) {
	hints := func(names ...string) *discoveryv1.EndpointHints {
		h := &discoveryv1.EndpointHints{}
		for _, name := range names {
			h.ForNodes = append(h.ForNodes, discoveryv1.ForNode{Name: name})
		}
		return h
	}
	s := &discoveryv1.EndpointSlice{Endpoints: []discoveryv1.Endpoint{
		{NodeName: new("node-1"), Hints: hints("node-2", "node-1")}, {NodeName: new("node-2"), Hints: hints("node-2", "node-3")}, {Hints: hints()}, {},
	}}
	stripSlice(s, "node-1")
	want := &discoveryv1.EndpointSlice{Endpoints: []discoveryv1.Endpoint{
		{NodeName: new("node-1"), Hints: hints("node-1")}, {Hints: hints("")}, {Hints: hints()}, {},
	}}
	if d := cmp.Diff(want, s); d != "" {
		t.Error(d)
	}
}
