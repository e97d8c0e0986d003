// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// web is a Service with everything that is read.
func web() *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: "web", UID: "5e41ce00-aaaa-4bbb-8ccc-000000000001", CreationTimestamp: metav1.Unix(1_700_000_000, 0),
			Labels:      map[string]string{LabelProxyName: "other"},
			Annotations: map[string]string{"kube-ipvs.io/scheduler": "wrr", "kube-ipvs.io/weights": "node=8"},
		},
		Spec: corev1.ServiceSpec{
			Type: "LoadBalancer", ClusterIP: "10.96.0.1", ClusterIPs: []string{"10.96.0.1", "fd00:96::1"}, IPFamilies: []corev1.IPFamily{"IPv4", "IPv6"},
			Ports: []corev1.ServicePort{
				{Name: "http", Protocol: "TCP", Port: 80, NodePort: 30080},
				{Name: "our-own", Protocol: "UDP", Port: -1, NodePort: 1 << 30},
				{Name: "our-own", Protocol: "?", Port: 1},
			},
			ExternalIPs: []string{"203.0.113.1", "010.0.0.1", "fe80::1%eth0", "::ffff:192.0.2.1", ""}, LoadBalancerSourceRanges: []string{"192.0.2.0/24", " x"},
			SessionAffinity:       "ClientIP",
			SessionAffinityConfig: &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: new(int32(10800))}},
			ExternalTrafficPolicy: "Local", InternalTrafficPolicy: new(corev1.ServiceInternalTrafficPolicyCluster), HealthCheckNodePort: 32000,
		},
		Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{
			{IP: "198.51.100.1", IPMode: new(corev1.LoadBalancerIPModeProxy)}, {IP: "198.51.100.2"},
		}}},
	}
}

// behind is an EndpointSlice with everything that is read.
func behind() *discoveryv1.EndpointSlice {
	yes, no := new(true), new(false)
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-abcde", Labels: map[string]string{
			discoveryv1.LabelServiceName: "web", corev1.IsHeadlessService: "",
		}},
		AddressType: "IPv4",
		Ports: []discoveryv1.EndpointPort{
			{Name: new("http"), Protocol: new(corev1.ProtocolTCP), Port: new(int32(8080))}, {},
			{Name: new(""), Port: new(int32(-8080))},
		},
		Endpoints: []discoveryv1.Endpoint{
			{Addresses: []string{"10.244.1.1", "10.244.1.2"}, NodeName: new("node-1"), Zone: new("a")},
			{Addresses: []string{"fd00::1"}, NodeName: new("node-2"), Zone: new("a"), Conditions: discoveryv1.EndpointConditions{Ready: yes, Serving: no}},
			{NodeName: new("node-1"), Zone: new("b"), Conditions: discoveryv1.EndpointConditions{Ready: no, Serving: yes, Terminating: yes}},
			{Addresses: []string{"no address"}, Hints: &discoveryv1.EndpointHints{
				ForZones: []discoveryv1.ForZone{{Name: "a"}, {Name: "c"}}, ForNodes: []discoveryv1.ForNode{{Name: "node-2"}, {}},
			}},
		},
	}
}

func TestWhatIsReadComesBack(t *testing.T) {
	if d := cmp.Diff(web(), OfService(web()).Object()); d != "" {
		t.Errorf("Service (-want +got):\n%s", d)
	}
	if d := cmp.Diff(behind(), OfSlice(behind()).Object()); d != "" {
		t.Errorf("EndpointSlice (-want +got):\n%s", d)
	}
	if d := cmp.Diff(&corev1.Service{}, OfService(&corev1.Service{}).Object()); d != "" {
		t.Errorf("empty Service (-want +got):\n%s", d)
	}
	if d := cmp.Diff(&discoveryv1.EndpointSlice{}, OfSlice(&discoveryv1.EndpointSlice{}).Object()); d != "" {
		t.Errorf("empty EndpointSlice (-want +got):\n%s", d)
	}
}

func TestNamesAreKnownWithoutTheRest(t *testing.T) {
	key := func(name string) types.NamespacedName { return types.NamespacedName{Namespace: "shop", Name: name} }
	if got := OfService(web()).Key(); got != key("web") {
		t.Errorf("the Service is %v", got)
	}
	for own, owner := range map[string]string{"web-abcde": "web", "we": "web", "mine": "web", "web": "", "": "web"} {
		s := behind()
		s.Name = own
		s.Labels[discoveryv1.LabelServiceName] = owner
		if of, by := OfSlice(s).Names(); of != key(own) || by != key(owner) {
			t.Errorf("%q of %q is %v of %v", own, owner, of, by)
		}
	}
}

func TestThereIsNoneOrOne(t *testing.T) {
	if !(Service{}).IsZero() || !(Slice{}).IsZero() || OfService(&corev1.Service{}).IsZero() || OfSlice(&discoveryv1.EndpointSlice{}).IsZero() {
		t.Error("none is taken for one, or one for none")
	}
	empty := OfSlice(&discoveryv1.EndpointSlice{})
	if !(Slice{}).Same(Slice{}) || empty.Same(Slice{}) || (Slice{}).Same(empty) {
		t.Error("none is the same as one")
	}
}

func TestWhenASliceChangedIsKnownAndNoDifference(t *testing.T) {
	at := func(text string) Slice {
		s := behind()
		s.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: text}
		return OfSlice(s)
	}
	first, later, none := at("2026-01-02T03:04:05.000000006Z"), at("2026-01-02T03:04:06+01:00"), at("today")
	if !first.Same(later) || first == later || !first.Same(none) {
		t.Error("another time is another meaning")
	}
	when, of, ok := first.Trigger()
	if want := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC); !ok || !when.Equal(want) || of != discoveryv1.AddressTypeIPv4 {
		t.Errorf("%v, %v, %v, want %v", when, of, ok, want)
	}
	if when, _, ok := later.Trigger(); !ok || !when.Equal(time.Date(2026, 1, 2, 2, 4, 6, 0, time.UTC)) {
		t.Errorf("the later one is of %v", when)
	}
	if _, _, ok := none.Trigger(); ok {
		t.Error("what is no time is one")
	}
}

func TestWhatIsPackedIsNotChanged(t *testing.T) {
	s, slice := web(), behind()
	OfService(s).Object().Spec.Ports[0].Name = "other"
	*OfSlice(slice).Object().Endpoints[0].Zone = "other"
	if d := cmp.Diff(web(), s) + cmp.Diff(behind(), slice); d != "" {
		t.Error(d)
	}
}

// A field that is kept is one that may be different; one that is not kept is named here. A field that a new Kubernetes
// adds is neither, and fails this test.
func TestEveryFieldIsKeptOrKnownToBeUnread(t *testing.T) {
	unread := map[string]bool{}
	for _, name := range []string{
		"ServiceSpec.Selector", "ServiceSpec.ExternalName", "ServiceSpec.IPFamilyPolicy", "ServiceSpec.LoadBalancerIP", "ServiceSpec.LoadBalancerClass",
		"ServiceSpec.AllocateLoadBalancerNodePorts", "ServiceSpec.PublishNotReadyAddresses", "ServiceSpec.TrafficDistribution",
		"ServicePort.AppProtocol", "ServicePort.TargetPort", "ServiceStatus.Conditions", "LoadBalancerIngress.Hostname", "LoadBalancerIngress.Ports",
		"EndpointSlice.TypeMeta", "Endpoint.Hostname", "Endpoint.TargetRef", "Endpoint.DeprecatedTopology", "EndpointPort.AppProtocol",
	} {
		unread[name] = true
	}
	var service corev1.Service
	var slice discoveryv1.EndpointSlice
	services := func() any { return OfService(&service) }
	all := []struct {
		of   reflect.Value
		pack func() any
	}{
		{reflect.ValueOf(&service.Spec), services},
		{reflect.ValueOf(one(&service.Spec.Ports)), services},
		{reflect.ValueOf(&service.Status), services},
		{reflect.ValueOf(one(&service.Status.LoadBalancer.Ingress)), services},
		{reflect.ValueOf(&slice), func() any { return OfSlice(&slice) }},
		{reflect.ValueOf(one(&slice.Ports)), func() any { return OfSlice(&slice) }},
		{reflect.ValueOf(one(&slice.Endpoints)), func() any { return OfSlice(&slice) }},
		{reflect.ValueOf(&slice.Endpoints[0].Conditions), func() any { return OfSlice(&slice) }},
	}
	for _, c := range all {
		in := c.of.Elem()
		for i := range in.NumField() {
			name := in.Type().Name() + "." + in.Type().Field(i).Name
			was := reflect.New(in.Field(i).Type()).Elem()
			was.Set(in.Field(i))
			before := c.pack()
			fill(in.Field(i))
			if changed := c.pack() != before; changed == unread[name] {
				t.Errorf("%s: that it is kept is %v", name, changed)
			}
			in.Field(i).Set(was)
		}
	}
}

func one[T any](list *[]T) *T {
	*list = make([]T, 1)
	return &(*list)[0]
}

// fill sets all that is below v to something else.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				fill(v.Field(i))
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(1))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.ValueOf("a"), reflect.ValueOf("b"))
	case reflect.String:
		v.SetString("a")
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Uint8, reflect.Uint64:
		v.SetUint(7)
	default:
		v.SetInt(7)
	}
}

// FuzzServices packs what an API server may tell.
func FuzzServices(f *testing.F) {
	add(f, web())
	f.Fuzz(func(t *testing.T, b []byte) {
		var s corev1.Service
		if s.Unmarshal(b) != nil {
			return
		}
		p := OfService(&s)
		o := p.Object()
		if again := OfService(o); again != p || p.Key() != (types.NamespacedName{Namespace: s.Namespace, Name: s.Name}) {
			t.Errorf("%v is not what it was: %v", o, s)
		}
		if d := cmp.Diff(s.Spec.Ports, o.Spec.Ports); d != "" && !hasUnread(&s) {
			t.Error(d)
		}
	})
}

func hasUnread(s *corev1.Service) bool {
	for _, p := range s.Spec.Ports {
		if p.AppProtocol != nil || p.TargetPort.IntVal != 0 || p.TargetPort.StrVal != "" || p.TargetPort.Type != 0 {
			return true
		}
	}
	return len(s.Spec.Ports) == 0
}

// FuzzSlices packs what an API server may tell.
func FuzzSlices(f *testing.F) {
	add(f, behind())
	f.Fuzz(func(t *testing.T, b []byte) {
		var s discoveryv1.EndpointSlice
		if s.Unmarshal(b) != nil {
			return
		}
		p := OfSlice(&s)
		o := p.Object()
		if again := OfSlice(o); !again.Same(p) {
			t.Errorf("%v is not what it was: %v", o, s)
		}
		own, _ := p.Names()
		if _, of, _ := p.Trigger(); own.Name != s.Name || of != s.AddressType || len(o.Endpoints) != len(s.Endpoints) {
			t.Errorf("%v is not what it was: %v", o, s)
		}
	})
}

func add(f *testing.F, o interface{ Marshal() ([]byte, error) }) {
	b, err := o.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
}
