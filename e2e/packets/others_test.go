// SPDX-License-Identifier: Apache-2.0

package packets

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
)

// reaches returns what keeps a client from a pod's own port.
func (s *stage) reaches(t *testing.T, client, pod string) error {
	t.Helper()
	for _, a := range rig.Pod(pod).Addresses {
		for _, p := range protocols() {
			if _, err := s.World.Host(client).Ask(t.Context(), p, netip.AddrPortFrom(a, podPort)); err != nil {
				return err
			}
		}
	}
	return nil
}

// A Service that names the address of a pod does not take it: neither where the pod is, nor elsewhere.
func TestAPodIsReachedThoughAServiceNamesItsAddress(t *testing.T) {
	for name, option := range map[string]func(*stage, *testing.T){
		"an endpoint": func(s *stage, t *testing.T) { s.write(t, service(2, "of-the-pods", rig.Pods("pod-b", "pod-d")...)) },
		"pod network": nil,
	} {
		t.Run(name, func(t *testing.T) {
			var s *stage
			if option == nil {
				s = newStage(t, podsByAddress)
			} else {
				s = newStage(t, podsByLink)
				option(s, t)
			}
			thief := service(1, "thief", rig.Pods("pod-a")...)
			for _, pod := range []string{"pod-b", "pod-d"} {
				thief.Externals = append(thief.Externals, rig.Pod(pod).Addresses...)
			}
			thief.LoadBalancers = rig.Pod("pod-c").Addresses
			s.offer(t, thief)
			for _, client := range []string{"node-1", "pod-client"} {
				for _, pod := range []string{"pod-b", "pod-d"} {
					if err := s.reaches(t, client, pod); err != nil {
						t.Errorf("%s to %s: %v", client, pod, err)
					}
				}
			}
			s.answered(t, thief, frontends().clusterIP, "pod-client", keeping("pod-a"))
		})
	}
}

// An address of a Service that rounds out to be a pod's is given up at once, though the Service's connections drain
// there.
func TestAnAddressThatTurnsOutToBeAPodsIsGivenUpAtOnce(t *testing.T) {
	for name, deleted := range map[string]bool{"named by a Service that is there": false, "kept for a Service that is gone": true} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, podsByLink)
			thief := service(1, "thief", rig.Pods("pod-a")...)
			thief.Externals = rig.Pod("pod-d").Addresses
			s.offer(t, thief)
			at := frontends()
			s.hold(t, thief, "pod-a", []cell{{client: "pod-client", where: at.externalIP}, {client: "node-1", where: at.externalIP}})
			if deleted {
				s.Delete(t, thief.Name)
				s.awaitWeights(t, thief)
			}
			if err := s.reaches(t, "node-1", "pod-d"); err == nil {
				t.Fatal("an unknown pod is reached past the Service that has its address")
			}
			s.write(t, service(2, "of-the-pod", rig.Pods("pod-d")...))
			rig.Until(t, soon, func() error { return s.reaches(t, "node-1", "pod-d") })
			for _, a := range thief.Externals {
				if s.hasAddress(t, a) {
					t.Errorf("%v is bound", a)
				}
			}
			for k := range s.Kernel(t).VirtualServers {
				if slices.Contains(thief.Externals, k.Address.Addr()) {
					t.Errorf("%v is there", k)
				}
			}
		})
	}
}
