// SPDX-License-Identifier: Apache-2.0

package packets

import (
	"testing"

	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
)

// Anyone who may write a Service may name an external IP, and a load balancer's address comes with source ranges. Here
// Services that name a cluster IP which another Service gets later are older, and come first by name.
func TestAClusterIPIsNotTakenByWhoNamesItAsAnotherAddress(t *testing.T) {
	s := newStage(t, podsByAddress)
	at := frontends()
	svc := service(30, "web", rig.Pods("pod-b", "pod-d")...)
	named, guard := service(1, "a-thief", rig.Pods("pod-a")...), service(2, "b-guard", rig.Pods("pod-a")...)
	named.Externals = svc.Addresses
	guard.LoadBalancers, guard.SourceRanges = svc.Addresses, []string{"192.0.2.101/32", "2001:db8:1::101/128"}
	s.offer(t, named)
	s.answered(t, named, at.externalIP, "pod-client", masking("pod-a"))
	open := s.hold(t, named, "pod-a", []cell{{client: "pod-client", where: at.externalIP}, {client: "node-1", where: at.externalIP}})
	s.write(t, guard, svc)
	s.SettleButDrains(t)
	for _, client := range []string{"pod-client", "pod-a"} {
		s.answered(t, svc, at.clusterIP, client, keeping("pod-b", "pod-d"))
	}
	s.answered(t, svc, at.clusterIP, "node-1", masking("pod-b", "pod-d"))
	s.answered(t, svc, at.clusterIP, "client", masking("pod-b", "pod-d"))
	for _, o := range open {
		if reply, err := o.conn.Ask(t.Context()); err != nil || reply.Server != "pod-a" {
			t.Errorf("%s: open since before: answered by %q: %v", o.name, reply.Server, err)
		}
		if err := o.conn.Reset(); err != nil {
			t.Error(err)
		}
	}
	s.Delete(t, svc.Name)
	s.SettleButDrains(t)
	s.unanswered(t, guard, at.loadBalancer, "client", "pod-client")
}
