// SPDX-License-Identifier: Apache-2.0

package app

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/reconcile"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit/mem"
)

// eventLog records events.
type eventLog struct {
	mutex  sync.Mutex
	events []string
}

func (p *eventLog) Service(s *corev1.Service, reason, note string) { p.add("all", s, reason, note) }
func (p *eventLog) Here(s *corev1.Service, reason, note string)    { p.add("here", s, reason, note) }

func (p *eventLog) Node(kind, reason, note string) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.events = append(p.events, fmt.Sprintf("node: %s %s: %s", kind, reason, note))
}

func (p *eventLog) add(scope string, s *corev1.Service, reason, note string) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.events = append(p.events, fmt.Sprintf("%s: %s/%s %s %s: %s", scope, s.Namespace, s.Name, s.UID, reason, note))
}

func (p *eventLog) take() []string {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	events := p.events
	p.events = nil
	return events
}

func (p *eventLog) mustHave(t *testing.T, when string, want ...string) {
	t.Helper()
	if got := p.take(); !slices.Equal(got, want) {
		t.Errorf("%s: events %q, want %q", when, got, want)
	}
}

func TestPeopleAreToldWhatIsWrongWithAService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &eventLog{}
		h := start(t, mem.New(), func(d *Daemon) { d.Notices = newNotices(p) })
		bad := func(uid types.UID, born int64, change func(*corev1.Service)) func(cluster.Sink) {
			s := &corev1.Service{
				ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "bad", UID: uid, CreationTimestamp: metav1.Unix(born, 0)},
				Spec: corev1.ServiceSpec{
					ClusterIP: "10.96.0.81", ClusterIPs: []string{"10.96.0.81"}, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
					Ports: []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP}},
				},
			}
			change(s)
			return func(sink cluster.Sink) {
				sink.Service(types.NamespacedName{Namespace: "shop", Name: "bad"}, cluster.Pack(s))
			}
		}
		external := func(s *corev1.Service) { s.Spec.ExternalIPs = []string{"x"} }
		note := "all: shop/bad 1 InvalidAddress: spec.externalIPs[0]: "

		h.call(web("10.244.1.10"), bad("1", 1, external), synced)
		if got := p.take(); len(got) != 1 || !strings.HasPrefix(got[0], note) {
			t.Errorf("events %q, want %q...", got, note)
		}
		h.call(bad("1", 1, external))
		h.addresses.changes <- kernelSays("192.0.2.7", "192.0.2.254")
		synctest.Wait()
		p.mustHave(t, "planned again")

		h.call(bad("1", 1, func(s *corev1.Service) { s.Spec.ClusterIP = corev1.ClusterIPNone }))
		p.mustHave(t, "headless: nothing to warn of")

		h.call(func(sink cluster.Sink) { sink.Service(types.NamespacedName{Namespace: "shop", Name: "bad"}, nil) })
		h.call(bad("2", 1, func(s *corev1.Service) { s.Spec.ClusterIPs = []string{"10.96.0.80"} }))
		time.Sleep(2 * drainCheck)
		synctest.Wait()
		p.mustHave(t, "a younger Service with the address of another",
			"all: shop/bad 2 AddressConflict: TCP 10.96.0.80:80 is served by shop/web, which is older or comes first by name")
	})
}

func TestPeopleAreToldOfAHealthCheckPortThatIsAnothersNodePort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &eventLog{}
		h := start(t, mem.New(), func(d *Daemon) { d.Notices = newNotices(p) })
		checked := &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "checked", UID: "3"},
			Spec: corev1.ServiceSpec{
				ClusterIP: "10.96.0.83", ClusterIPs: []string{"10.96.0.83"}, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
				Ports: []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP}},
				Type:  corev1.ServiceTypeLoadBalancer, ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyLocal, HealthCheckNodePort: 30080,
			},
		}
		h.call(func(sink cluster.Sink) {
			sink.Service(types.NamespacedName{Namespace: "shop", Name: "checked"}, cluster.Pack(checked))
		}, synced)
		p.mustHave(t, "the port is free")
		h.call(web("10.244.1.10"))
		p.mustHave(t, "a Service with that NodePort",
			"all: shop/checked 3 PortConflict: spec.healthCheckNodePort: 30080 is a NodePort of shop/web: load balancers that ask there are sent to that one's endpoints")
	})
}

func TestPeopleAreToldOfPortsThatCannotBeOpened(t *testing.T) {
	taken, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := taken.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	}()
	port := uint16(taken.Addr().(*net.TCPAddr).Port)
	p := &eventLog{}
	n := newNotices(p)
	n.services.set(key, cluster.Pack(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name, UID: "1"}}))
	c := config.Default()
	l := newListeners(c, zap.NewNop(), func() bool { return true }, n)
	defer l.Close()
	l.Follow(plan.Node{})
	l.Set(key, plan.Fragment{HealthCheck: state.HealthCheck{Port: port, IPv4: state.Health{Served: true}}})
	got := p.take()
	if want := fmt.Sprintf("here: shop/web 1 FailedToStartServiceHealthcheck: could not open health check port %d: ", port); len(got) != 1 || !strings.HasPrefix(got[0], want) {
		t.Errorf("events %q, want %q...", got, want)
	}
	l.Set(key, plan.Fragment{})
	n.services.set(key, nil)
	n.port(key, "Reason", "note")
	p.mustHave(t, "of a Service that is gone")
}

func TestPeopleAreToldOnceOfRulesThatOthersComeBefore(t *testing.T) {
	p := &eventLog{}
	n := newNotices(p)
	k := state.JumpKey{Family: state.IPv4, Table: state.NAT, From: "PREROUTING", To: "KUBE-SERVICES"}
	lost := reconcile.Balance{Displaced: []reconcile.Displaced{{Jump: k, Behind: "-j DNAT"}}}
	want := `node: Warning RulesDisplaced: IPv4 nat PREROUTING -> KUBE-SERVICES: another program keeps putting its rule "-j DNAT" before ours, ` +
		"and gets the traffic of Services that it matches"
	n.Settled(reconcile.Balance{})
	n.Settled(lost)
	n.Settled(lost)
	p.mustHave(t, "given up", want)
	n.Settled(reconcile.Balance{})
	n.Settled(lost)
	p.mustHave(t, "given up again", want)
}
