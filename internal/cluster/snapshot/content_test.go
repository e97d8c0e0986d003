// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
)

func encoded(t testing.TB, c content) []byte {
	t.Helper()
	var b bytes.Buffer
	e := encoder{w: &b, room: defaultMaxBytes}
	if err := e.content(c); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func difference(want, got content) string {
	unpacked := cmp.Transformer("unpacked", func(o *cluster.Objects) objects {
		service, all := o.Unpack()
		return objects{service, all}
	})
	return cmp.Diff(want, got, unpacked, cmp.AllowUnexported(content{}, objects{}), cmpopts.EquateComparable(netip.Prefix{}), cmpopts.EquateEmpty())
}

// full has something of everything that is read.
func full() content {
	c := town(3, 3)
	n := c.place.Node
	n.UID, n.Labels = "1", map[string]string{corev1.LabelTopologyZone: "a", "b": ""}
	n.Spec.Taints = []corev1.Taint{{Key: "k", Effect: corev1.TaintEffectNoSchedule}}
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.1"}}
	c.place.Others = []*corev1.Node{{ObjectMeta: metav1.ObjectMeta{Name: "node-2"}}, {ObjectMeta: metav1.ObjectMeta{Name: "node-3"}}}
	all := []objects{dwelling(0, 3), dwelling(1, 0), dwelling(2, 3)}
	s := all[0].service
	s.DeletionTimestamp = &metav1.Time{Time: time.Unix(1800000000, 0)}
	s.Annotations = map[string]string{"kube-ipvs.io/scheduler": "wrr", "ü": "\n"}
	s.Spec.Type, s.Spec.ExternalTrafficPolicy, s.Spec.HealthCheckNodePort = corev1.ServiceTypeLoadBalancer, "Local", 30090
	s.Spec.InternalTrafficPolicy = new(corev1.ServiceInternalTrafficPolicyLocal)
	s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
	s.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: new(int32(600))}}
	s.Spec.LoadBalancerSourceRanges, s.Spec.ExternalIPs = []string{"198.51.100.0/24"}, []string{"203.0.113.1"}
	s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "dns", Port: 53, NodePort: 30053, Protocol: corev1.ProtocolUDP, TargetPort: intstr.FromString("dns")})
	s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "203.0.113.2", IPMode: new(corev1.LoadBalancerIPModeProxy)}}
	all[1].slices = nil
	all[2].slices = append(all[2].slices, &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Name: "none"}})
	all[2].service.CreationTimestamp = metav1.Time{}
	c.services = packAll(all...)
	return c
}

func TestObjectsComeBackAsTheyWere(t *testing.T) {
	for name, c := range map[string]content{"nothing": {}, "something of everything": full(), "a town": town(20, 30)} {
		got, err := decode(bytes.NewReader(encoded(t, c)))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if d := difference(c, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}

func TestTheSameObjectsAreTheSameBytes(t *testing.T) {
	if !bytes.Equal(encoded(t, full()), encoded(t, full())) {
		t.Error("two writings of the same differ")
	}
}

func TestRecordsThatNoWriterWritesAreRefused(t *testing.T) {
	record := func(k kind, b ...byte) []byte {
		return append(binary.AppendUvarint([]byte{byte(k)}, uint64(len(b))), b...)
	}
	web, err := shop("web", "10.96.0.1").service.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, want string
		b          []byte
	}{
		{"kind 0", "unknown kind of record: 0", record(0)},
		{"kind 6", "unknown kind of record: 6", record(6)},
		{"no length", "unexpected EOF", []byte{byte(kindService)}},
		{"half a length", "unexpected EOF", []byte{byte(kindService), 0x80}},
		{"less than its length", "unexpected EOF", []byte{byte(kindService), 3, 1, 2}},
		{"a length beyond memory", "more than", binary.AppendUvarint([]byte{byte(kindService)}, math.MaxUint64)},
		{"a length beyond numbers", "overflow", append([]byte{byte(kindService)}, bytes.Repeat([]byte{0xff}, 11)...)},
		{"no protobuf", "after 0 Services", record(kindService, 1, 2, 3)},
		{"slice first", "before any Service", record(kindSlice)},
		{"the same again", "shop/web does not come after shop/web", append(record(kindService, web...), record(kindService, web...)...)},
		{"two own Nodes", "second Node", append(record(kindNode), record(kindNode)...)},
		{"no network", "without a network", record(kindCIDR, 0)},
		{"half a network", "after 0 Services", record(kindCIDR, 1, 2)},
	} {
		c, err := decode(bytes.NewReader(test.b))
		if err == nil || !strings.Contains(err.Error(), test.want) || len(c.services) != 0 {
			t.Errorf("%s: %v, %v; want an error with %q", test.name, c, err, test.want)
		}
	}
}

func TestAReaderThatFailsIsNoEnd(t *testing.T) {
	broken := errors.New("input/output error")
	b := encoded(t, town(2, 1))
	for n := range len(b) + 1 {
		_, err := decode(io.MultiReader(bytes.NewReader(b[:n]), failing{broken}))
		if !errors.Is(err, broken) {
			t.Fatalf("after %d bytes: %v", n, err)
		}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestObjectsAreWrittenUpToTheBoundAndNoFurther(t *testing.T) {
	size := int64(len(encoded(t, full())))
	for room, want := range map[int64]error{size: nil, size - 1: errTooLarge, 1: errTooLarge} {
		var b bytes.Buffer
		e := encoder{w: &b, room: room}
		if err := e.content(full()); !errors.Is(err, want) || int64(b.Len()) > room {
			t.Errorf("room for %d: %v, %d bytes written", room, err, b.Len())
		}
	}
	huge := shop("web", "10.96.0.1")
	huge.service.Annotations = map[string]string{"kube-ipvs.io/a": strings.Repeat("a", maxRecord)}
	e := encoder{w: io.Discard, room: math.MaxInt64}
	if err := e.content(content{cluster.Place{}, packAll(huge)}); !errors.Is(err, errTooLarge) {
		t.Errorf("an object that could not be read again: %v", err)
	}
}

// What is read can be written, and is the same when it is read again.
func FuzzDecode(f *testing.F) {
	f.Add([]byte{})
	f.Add(encoded(f, content{place: place("node-1"), services: packAll(shop("web", "10.96.0.1", "web-1"))}))
	f.Add(encoded(f, full()))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := decode(bytes.NewReader(b))
		if err != nil {
			return
		}
		again, err := decode(bytes.NewReader(encoded(t, c)))
		if err != nil {
			t.Fatalf("%v: %v", c, err)
		}
		if !bytes.Equal(encoded(t, c), encoded(t, again)) {
			t.Errorf("read again (-want +got):\n%s", difference(c, again))
		}
	})
}

// The checksum is put right, or else nothing would come past it.
func FuzzParseHeader(f *testing.F) {
	for _, h := range []Header{{}, {Node: "node-1", Written: time.Unix(1, 2), Services: 3, Length: 4, Plain: 5}} {
		b, err := h.marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(bytes.TrimRight(b[:headerSize-4], "\x00"))
	}
	f.Fuzz(func(t *testing.T, begin []byte) {
		b := make([]byte, headerSize)
		copy(b[:headerSize-4], begin)
		binary.BigEndian.PutUint32(b[headerSize-4:], check(b[:headerSize-4]))
		h, err := parseHeader(b)
		if err != nil {
			return
		}
		again, err := h.marshal()
		if err != nil {
			return // a name with a NUL in it
		}
		if got, err := parseHeader(again); err != nil || got != h {
			t.Errorf("%+v became %+v, %v", h, got, err)
		}
	})
}
