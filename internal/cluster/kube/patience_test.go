// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
)

// The wait for the Node object ends when the object has come: the time that was left of it must pass without a warning,
// and nothing may be reported twice.
func TestANodeObjectThatComesLateEndsTheWaitForIt(t *testing.T) {
	const patience = 30 * time.Second
	for _, c := range []struct {
		name  string
		comes time.Duration // when the Node object has an address
		warns int
	}{
		{"at once", 0, 0},
		{"late", 10 * time.Second, 0},
		{"too late", 40 * time.Second, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				core, logs := observer.New(zap.InfoLevel)
				to := &sink{services: map[string]string{}}
				r := &run{
					node: "node-1", patience: patience, sink: to, log: zap.New(core), kinds: kinds(&Client{}, "node-1"),
					index: cluster.NewIndex(), inbox: newInbox(),
				}
				put := func(kind int, key types.NamespacedName, o any) {
					r.inbox.replace(kind, map[types.NamespacedName]any{key: o})
				}
				for kind := range kindCount {
					r.inbox.replace(kind, nil)
				}
				web := service("web", "10.96.0.1")
				put(2, types.NamespacedName{Namespace: "shop", Name: "web"}, r.kinds[2].keep(web))
				put(1, types.NamespacedName{Name: "node-1"}, nodeObject()) // a kubelet makes it without an address
				go r.loop(t.Context())

				time.Sleep(c.comes)
				synctest.Wait()
				put(1, types.NamespacedName{Name: "node-1"}, nodeObject("192.0.2.1"))
				time.Sleep(2 * patience)
				synctest.Wait()

				all := to.all()
				times := func(line string) (n int) {
					for _, l := range all {
						if l == line {
							n++
						}
					}
					return n
				}
				if services, ends := times("service web 10.96.0.1"), times("listed 2"); services != 1 || ends != 1 {
					t.Errorf("a Service was reported %d times, and the end of the list %d times: %q", services, ends, all)
				}
				if p := to.place.Node; p == nil || p.Status.Addresses[0] != (corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: "192.0.2.1"}) {
					t.Errorf("the last reported Node object is %v", p)
				}
				if warned := logs.FilterLevelExact(zap.WarnLevel).Len(); warned != c.warns {
					t.Errorf("%d warnings, want %d: %v", warned, c.warns, logs.All())
				}
			})
		})
	}
}
