// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func service(name string, change ...func(*corev1.Service)) Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: "1", ResourceVersion: "1"},
		Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.1", Ports: []corev1.ServicePort{
			{Port: 80, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt32(8080)},
		}},
	}
	for _, c := range change {
		c(s)
	}
	return OfService(s)
}

func slice(name, owner string, change ...func(*discoveryv1.EndpointSlice)) Slice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: name, ResourceVersion: "1",
			Labels: map[string]string{discoveryv1.LabelServiceName: owner},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{"10.244.1.10"}}},
	}
	for _, c := range change {
		c(s)
	}
	return OfSlice(s)
}

func keys(names ...string) []types.NamespacedName {
	var all []types.NamespacedName
	for _, name := range names {
		all = append(all, types.NamespacedName{Namespace: "shop", Name: name})
	}
	return all
}

func wantChanged(t *testing.T, what string, got, want []types.NamespacedName) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s: changed Services (-want +got):\n%s", what, d)
	}
}

func sliceNames(o *Objects) []string {
	var names []string
	for _, s := range o.Slices {
		own, _ := s.Names()
		names = append(names, own.Name)
	}
	return names
}

func TestSlicesThatComeBeforeTheirServiceAreKept(t *testing.T) {
	x := NewIndex()
	wantChanged(t, "slice without Service", x.SetSlice(slice("web-b", "web")), nil)
	wantChanged(t, "slice without Service", x.SetSlice(slice("web-a", "web")), nil)
	if o := x.Objects(keys("web")[0]); o != nil {
		t.Errorf("objects of a Service that is not there: %v", o)
	}
	wantChanged(t, "Service", x.SetService(service("web")), keys("web"))
	if o := x.Objects(keys("web")[0]); !slices.Equal(sliceNames(o), []string{"web-a", "web-b"}) {
		t.Errorf("slices are %v", sliceNames(o))
	}
}

func TestSlicesStayWhenTheirServiceGoesAndComes(t *testing.T) {
	x := NewIndex()
	x.SetService(service("web"))
	x.SetSlice(slice("web-a", "web"))
	wantChanged(t, "delete", x.DeleteService(keys("web")[0]), keys("web"))
	wantChanged(t, "delete again", x.DeleteService(keys("web")[0]), nil)
	wantChanged(t, "come back", x.SetService(service("web")), keys("web"))
	if o := x.Objects(keys("web")[0]); len(o.Slices) != 1 {
		t.Errorf("slices are %v", sliceNames(o))
	}
}

func TestSliceThatMovesChangesBothServices(t *testing.T) {
	x := NewIndex()
	x.SetService(service("web"))
	x.SetService(service("api"))
	x.SetSlice(slice("a", "web"))
	wantChanged(t, "move", x.SetSlice(slice("a", "api")), keys("web", "api"))
	wantChanged(t, "unlabel", x.SetSlice(slice("a", "")), keys("api"))
	wantChanged(t, "label", x.SetSlice(slice("a", "api")), keys("api"))
	wantChanged(t, "delete", x.DeleteSlice(types.NamespacedName{Namespace: "shop", Name: "a"}), keys("api"))
	wantChanged(t, "delete again", x.DeleteSlice(types.NamespacedName{Namespace: "shop", Name: "a"}), nil)
}

func TestServiceChangesOnlyInWhatIsRead(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*corev1.Service)
		want   bool
	}{
		"nothing":            {func(*corev1.Service) {}, false},
		"resourceVersion":    {func(s *corev1.Service) { s.ResourceVersion = "2"; s.Generation = 2 }, false},
		"managedFields":      {func(s *corev1.Service) { s.ManagedFields = make([]metav1.ManagedFieldsEntry, 1) }, false},
		"last applied":       {func(s *corev1.Service) { s.Annotations = map[string]string{corev1.LastAppliedConfigAnnotation: "{}"} }, false},
		"target port":        {func(s *corev1.Service) { s.Spec.Ports[0].TargetPort = intstr.FromString("http") }, false},
		"empty list for nil": {func(s *corev1.Service) { s.Spec.ExternalIPs = []string{} }, false},
		"conditions":         {func(s *corev1.Service) { s.Status.Conditions = make([]metav1.Condition, 1) }, false},
		"others' annotation": {func(s *corev1.Service) { s.Annotations = map[string]string{"a": ""} }, false},
		"others' label":      {func(s *corev1.Service) { s.Labels = map[string]string{"a": ""} }, false},
		"annotation":         {func(s *corev1.Service) { s.Annotations = map[string]string{"kube-ipvs.io/scheduler": "wrr"} }, true},
		"label":              {func(s *corev1.Service) { s.Labels = map[string]string{"service.kubernetes.io/service-proxy-name": ""} }, true},
		"uid":                {func(s *corev1.Service) { s.UID = "2" }, true},
		"creation":           {func(s *corev1.Service) { s.CreationTimestamp = metav1.Unix(1, 0) }, true},
		"port":               {func(s *corev1.Service) { s.Spec.Ports[0].Port = 81 }, true},
		"node port":          {func(s *corev1.Service) { s.Spec.Ports[0].NodePort = 30080 }, true},
		"ingress": {func(s *corev1.Service) {
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "198.51.100.1"}}
		}, true},
	} {
		x := NewIndex()
		x.SetService(service("web"))
		changed := service("web", test.change)
		if got := x.SetService(changed) != nil; got != test.want {
			t.Errorf("%s: changed is %v", name, got)
		}
		if x.Objects(keys("web")[0]).Service != changed {
			t.Errorf("%s: the object is not the newest", name)
		}
	}
}

func TestSliceChangesOnlyInWhatIsRead(t *testing.T) {
	no := false
	for name, test := range map[string]struct {
		change func(*discoveryv1.EndpointSlice)
		want   bool
	}{
		"resourceVersion": {func(s *discoveryv1.EndpointSlice) { s.ResourceVersion = "2" }, false},
		"trigger time": {func(s *discoveryv1.EndpointSlice) {
			s.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: "2026-01-01T00:00:00Z"}
		}, false},
		"ready": {func(s *discoveryv1.EndpointSlice) { s.Endpoints[0].Conditions.Ready = &no }, true},
		"hints": {func(s *discoveryv1.EndpointSlice) {
			s.Endpoints[0].Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: "a"}}}
		}, true},
		"address": {func(s *discoveryv1.EndpointSlice) { s.Endpoints[0].Addresses[0] = "10.244.1.11" }, true},
		"port":    {func(s *discoveryv1.EndpointSlice) { s.Ports = make([]discoveryv1.EndpointPort, 1) }, true},
		"headless": {func(s *discoveryv1.EndpointSlice) {
			s.Labels[corev1.IsHeadlessService] = ""
		}, true},
	} {
		x := NewIndex()
		x.SetService(service("web"))
		x.SetSlice(slice("a", "web"))
		changed := slice("a", "web", test.change)
		if got := x.SetSlice(changed) != nil; got != test.want {
			t.Errorf("%s: changed is %v", name, got)
		}
		if o := x.Objects(keys("web")[0]); len(o.Slices) != 1 || !o.Slices[0].Same(changed) {
			t.Errorf("%s: the object is not the newest", name)
		}
	}
}

func TestNodeHeartbeatIsNoChange(t *testing.T) {
	node := func() *corev1.Node { return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}} }
	x := NewIndex()
	if !x.SetNode(node()) {
		t.Error("the first Node is no change")
	}
	beat := node()
	beat.Status.Conditions = []corev1.NodeCondition{{LastHeartbeatTime: metav1.NewTime(time.Unix(1, 0))}}
	if self := x.Place("node-1").Node; x.SetNode(beat) || self == beat {
		t.Error("a heartbeat is a change")
	}
	if p := x.Place("node-1"); p.Node != beat || p.Others != nil {
		t.Error("a heartbeat was not kept")
	}
	tainted := node()
	tainted.Spec.Taints = []corev1.Taint{{Key: "node.kubernetes.io/unschedulable"}}
	tainted.Labels = map[string]string{"stable.example.com/role": "batch"}
	if x.SetNode(tainted) {
		t.Error("a taint is a change")
	}
	zone := node()
	zone.Labels = map[string]string{corev1.LabelTopologyZone: "a"}
	moved := node()
	moved.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.1"}}
	networked := node()
	networked.Spec.PodCIDRs = []string{"10.244.1.0/24"}
	leaving := node()
	leaving.Spec.Taints = []corev1.Taint{{Key: TaintLeaving}}
	deleted := node()
	deleted.DeletionTimestamp = &metav1.Time{}
	for name, n := range map[string]*corev1.Node{"leaving": leaving, "deleted": deleted, "zone": zone, "address": moved, "pod network": networked} {
		x.SetNode(node())
		if !x.SetNode(n) {
			t.Errorf("%s is no change", name)
		}
	}
	if !x.DeleteNode("node-1") || x.DeleteNode("node-1") {
		t.Error("a Node is not deleted once")
	}
	if self := x.Place("node-1").Node; self != nil {
		t.Error("a deleted Node is there")
	}
}

func TestOtherNodesAreSorted(t *testing.T) {
	x := NewIndex()
	for _, name := range []string{"node-3", "node-1", "node-2"} {
		x.SetNode(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}})
	}
	p := x.Place("node-2")
	if p.Node.Name != "node-2" || len(p.Others) != 2 || p.Others[0].Name != "node-1" || p.Others[1].Name != "node-3" {
		t.Errorf("the place is %v", p)
	}
}

// Replaying only the Services that were reported as changed must give the same as looking at everything.
func TestChangedKeysAreEnoughToFollow(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	name := func(n int) string { return fmt.Sprint("n", random.IntN(n)) }
	x := NewIndex()
	follower := map[types.NamespacedName]string{}
	for range 5000 {
		var changed []types.NamespacedName
		switch random.IntN(4) {
		case 0:
			changed = x.SetService(service(name(3), func(s *corev1.Service) { s.Spec.Ports[0].Port = random.Int32N(2) }))
		case 1:
			changed = x.DeleteService(keys(name(3))[0])
		case 2:
			changed = x.SetSlice(slice(name(4), name(3), func(s *discoveryv1.EndpointSlice) { s.Endpoints[0].Addresses[0] = name(2) }))
		case 3:
			changed = x.DeleteSlice(keys(name(4))[0])
		}
		for _, key := range changed {
			follower[key] = indexText(x, key)
			if follower[key] == "" {
				delete(follower, key)
			}
		}
		all := map[types.NamespacedName]string{}
		for _, key := range x.Services() {
			all[key] = indexText(x, key)
		}
		if d := cmp.Diff(all, follower); d != "" {
			t.Fatalf("the follower differs (-index +follower):\n%s", d)
		}
	}
	for _, key := range keys("n0", "n1", "n2") {
		x.DeleteService(key)
	}
	for _, key := range keys("n0", "n1", "n2", "n3") {
		x.DeleteSlice(key)
	}
	if len(x.services) != 0 || len(x.slices) != 0 {
		t.Errorf("left over: %v %v", x.services, x.slices)
	}
}

func indexText(x *Index, key types.NamespacedName) string {
	s, all := x.Objects(key).Unpack()
	if s == nil {
		return ""
	}
	text := fmt.Sprint(s.Spec.Ports[0].Port)
	for _, slice := range all {
		text += " " + slice.Name + "=" + slice.Endpoints[0].Addresses[0]
	}
	return text
}

func TestServiceCIDRsAreOneSortedList(t *testing.T) {
	serviceCIDR := func(name string, cidrs ...string) *networkingv1.ServiceCIDR {
		return &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: cidrs}}
	}
	x := NewIndex()
	if !x.SetServiceCIDR(serviceCIDR("kubernetes", "fd00:96::/112", "10.96.0.0/16")) {
		t.Error("the first one is no change")
	}
	if x.SetServiceCIDR(serviceCIDR("kubernetes", "fd00:96::/112", "10.96.0.0/16")) {
		t.Error("the same again is a change")
	}
	if !x.SetServiceCIDR(serviceCIDR("more", "10.97.0.0/16", "10.96.0.0/16", "none")) {
		t.Error("another one is no change")
	}
	if got, want := fmt.Sprint(x.Place("").ServiceCIDRs), "[10.96.0.0/16 10.97.0.0/16 fd00:96::/112]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if !x.DeleteServiceCIDR("more") || x.DeleteServiceCIDR("more") {
		t.Error("a ServiceCIDR is not deleted once")
	}
	if got, want := fmt.Sprint(x.Place("").ServiceCIDRs), "[10.96.0.0/16 fd00:96::/112]"; got != want {
		t.Errorf("after the end of one: got %s, want %s", got, want)
	}
}
