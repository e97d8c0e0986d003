// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"fmt"
	"strings"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// oddity is a Service of which only a part makes no sense, and the word of the log's message about it.
type oddity struct {
	name, metadata, spec, status string
	slice                        string
	says                         string
}

func oddities() []oddity {
	const balancer = "loadBalancer: {ingress: [{ip: 203.0.113.77}]}"
	const guarded = "type: LoadBalancer, loadBalancerSourceRanges: "
	many := make([]string, 5000)
	for i := range many {
		many[i] = fmt.Sprintf("%q", fmt.Sprintf("10.%d.%d.0/24", i/256, i%256))
	}
	return []oddity{
		{name: "ranges of words", spec: guarded + "[everybody, 1.2.3.4/99, '::/-1']", status: balancer, says: "InvalidSourceRange"},
		{name: "very many ranges", spec: guarded + "[" + strings.Join(many, ", ") + "]", status: balancer, says: "TooLong"},
		{name: "external addresses of words", spec: "externalIPs: [here, 0.0.0.0, 127.0.0.1, 224.0.0.1, fe80::1]", says: "InvalidAddress"},
		{name: "a load balancer at loopback", spec: "type: LoadBalancer", status: "loadBalancer: {ingress: [{ip: '::1'}]}", says: "InvalidAddress"},
		{name: "another Service's cluster IP from outside", spec: "externalIPs: [" + vip(state.IPv4, 10).String() + "]", says: "two Services claim"},
		{name: "the node's own address", spec: "externalIPs: [192.0.2.1]", says: "ProtectedAddress"},
		{name: "the gateway's address", spec: "externalIPs: [192.0.2.254]", says: ""},
		{name: "policies of words", spec: "type: NodePort, externalTrafficPolicy: Nowhere, internalTrafficPolicy: Everywhere", says: "InvalidTrafficPolicy"},
		{name: "a health check nowhere", spec: "type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: -1", status: balancer, says: "InvalidPort"},
		{name: "annotations of words", metadata: "annotations: {kube-ipvs.io/scheduler: best, kube-ipvs.io/weights: heavy, " +
			"kube-ipvs.io/drain-timeout: never, kube-ipvs.io/affinity: love}", says: "InvalidScheduler"},
		{name: "a scheduler for injection", metadata: `annotations: {kube-ipvs.io/scheduler: "rr\n-A INPUT -j DROP"}`, says: "InvalidScheduler"},
		{name: "an endpoint on the node's loopback", slice: "endpoints: [{addresses: [127.0.0.1]}, {addresses: ['169.254.169.254']}]", says: "InvalidAddress"},
		{name: "hints without a name", slice: "endpoints: [{addresses: [10.244.1.10], hints: {forZones: [{name: ''}], forNodes: [{name: ''}]}}]", says: ""},
	}
}

// manifest is younger than any other Service: it must not win an address by its age.
func (o oddity) manifest() string {
	join := func(first, more string) string { return strings.TrimSuffix(first+", "+more, ", ") }
	text := "apiVersion: v1\nkind: Service\nmetadata: {" +
		join("name: odd, namespace: rig, creationTimestamp: '2030-01-01T00:00:00Z'", o.metadata) + "}\n" +
		"spec: {" + join("clusterIP: 10.96.0.77, clusterIPs: [10.96.0.77], ipFamilies: [IPv4], ports: [{name: a, port: 80, protocol: TCP}]", o.spec) + "}\n" +
		"status: {" + o.status + "}\n"
	if o.slice != "" {
		text += "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: odd-1, namespace: rig, " +
			"labels: {kubernetes.io/service-name: odd}}\naddressType: IPv4\nports: [{name: a, port: 80, protocol: TCP}]\n" + o.slice + "\n"
	}
	return text
}

func TestAnOddFieldCostsItsOwnServiceAPieceAndOthersNothing(t *testing.T) {
	r := rig.New(t)
	r.Write(t, "web", web())
	d := r.Start(t)
	want := r.Settle(t)
	for n, o := range oddities() {
		t.Run(o.name, func(t *testing.T) {
			before := len(d.Log(t))
			other := dual(numbered("other", n), 100+n, "pod-a")
			r.WriteText(t, "odd", []byte(o.manifest()))
			r.Write(t, "other", other)
			rows := rig.Union(want, r.DesiredOf(t, newBlock(t, web(), other).index))
			rig.Until(t, rig.Patience, func() error {
				have := r.Kernel(t)
				return rig.Differ(rig.Union(have, rows), have) // more rows are the odd Service's own
			})
			if err := d.Alive(); err != nil {
				t.Fatal(err)
			}
			rig.Until(t, rig.Patience, func() error {
				for _, line := range strings.Split(d.Log(t)[before:], "\n") {
					if o.says == "" || strings.Contains(line, o.says) && strings.Contains(line, "rig/odd") {
						return nil
					}
				}
				return fmt.Errorf("the log does not say %q of rig/odd", o.says)
			})
			r.Delete(t, "odd")
		})
	}
	r.Delete(t, "other")
	r.Settle(t)
	if left := len(r.Kernel(t).VirtualServers); left != len(want.VirtualServers) {
		t.Errorf("%d virtual servers are left, want %d", left, len(want.VirtualServers))
	}
}
