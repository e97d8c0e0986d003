// SPDX-License-Identifier: Apache-2.0

package app

import (
	"maps"
	"net/netip"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

func TestOnlyFlowsToEndpointsThatLeftAreFlushed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := emptyHarness(t)
		renamed := behind(viaUDP, 53, "10.244.1.2")
		*renamed.Ports[0].Name = "other"
		both, unready := behind(viaUDP, 53, "10.244.1.1", "10.244.1.2"), behind(viaUDP, 53, "10.244.1.1", "10.244.1.2")
		unready.Endpoints[0].Conditions.Ready = new(bool)
		flow := func(endpoint string) string { return "UDP 10.96.0.80:53 -> " + endpoint }
		for _, c := range []struct {
			name    string
			service *corev1.Service
			slice   *discoveryv1.EndpointSlice
			want    []string
		}{
			{"new: those that went untranslated", shop(viaUDP, 53), behind(viaUDP, 53, "10.244.1.1"), []string{flow("10.96.0.80:53")}},
			{"the same", shop(viaUDP, 53), behind(viaUDP, 53, "10.244.1.1"), nil},
			{"an endpoint more", shop(viaUDP, 53), both, nil},
			{"an endpoint that is unready", shop(viaUDP, 53), unready, []string{flow("10.244.1.1:8053")}},
			{"ready again", shop(viaUDP, 53), both, nil},
			{"an endpoint less", shop(viaUDP, 53), behind(viaUDP, 53, "10.244.1.2"), []string{flow("10.244.1.1:8053")}},
			{"a port of another name", shop(viaUDP, 53), renamed, []string{flow("10.244.1.2:8053")}},
			{"a TCP Service in its place", shop(viaTCP, 80), behind(viaTCP, 80, "10.244.1.1"), []string{"TCP 10.96.0.80:80 -> 10.96.0.80:80"}},
			{"that has no endpoints any more", shop(viaTCP, 80), behind(viaTCP, 80), nil},
			{"an SCTP Service in its place", shop(viaSCTP, 9), behind(viaSCTP, 9, "10.244.1.1"), []string{"SCTP 10.96.0.80:9 -> 10.96.0.80:9"}},
			{"that has no endpoints any more, either", shop(viaSCTP, 9), behind(viaSCTP, 9), []string{"SCTP 10.96.0.80:9 -> 10.244.1.1:8009"}},
		} {
			h.flushed = nil
			h.offer(c.service, c.slice)
			got := []string{}
			for _, f := range h.flushed {
				got = append(got, f.String())
			}
			wantTexts(t, c.name, got, c.want...)
		}
	})
}

func TestAnEndpointThatDrainedAtARestartTakesConnectionsAgainIfItIsWanted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := emptyHarness(t)
		h.offer(shop(viaTCP, 80), behind(viaTCP, 80, "10.244.1.1", "10.244.1.2"))
		h.stop()
		<-h.ended
		k := state.RealServerKey{Server: serverOf(80), Address: netip.MustParseAddrPort("10.244.1.1:8080")}
		drained := h.kernel.State.RealServers[k]
		drained.Weight = 0
		h.kernel.State.RealServers[k] = drained

		again := start(t, h.kernel)
		again.offer(shop(viaTCP, 80), behind(viaTCP, 80, "10.244.1.1", "10.244.1.2"))
		again.call(synced)
		for k, r := range again.kernel.State.RealServers {
			if r.Weight != 1 {
				t.Errorf("%v has weight %d, want 1", k, r.Weight)
			}
		}
		again.mustServe(t, "TCP 10.96.0.80:80 -> 10.244.1.1:8080", "TCP 10.96.0.80:80 -> 10.244.1.2:8080")
	})
}

func TestOnlyTCPEndpointsWaitForTheirConnections(t *testing.T) {
	for _, c := range []struct {
		protocol    corev1.Protocol
		connections state.Connections
		waits       bool
	}{
		{viaTCP, state.Connections{Active: 1}, true},
		{viaTCP, state.Connections{Inactive: 1}, true},
		{viaTCP, state.Connections{}, false},
		{viaUDP, state.Connections{Active: 1}, false},
		{viaSCTP, state.Connections{Active: 1}, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := emptyHarness(t)
			h.offer(shop(c.protocol, 80), behind(c.protocol, 80, "10.244.1.1"))
			h.changeBehind(func(s state.State) {
				for k := range s.RealServers {
					h.kernel.Connections[k] = c.connections
				}
			})
			h.offer(shop(c.protocol, 80), behind(c.protocol, 80, "10.244.1.2"))
			weights := map[string]uint32{}
			for k, r := range h.kernel.State.RealServers {
				weights[k.Address.Addr().String()] = r.Weight
			}
			want := map[string]uint32{"10.244.1.2": 1}
			if c.waits {
				want["10.244.1.1"] = 0
			}
			if !maps.Equal(weights, want) {
				t.Errorf("%s with %+v: weights %v, want %v", c.protocol, c.connections, weights, want)
			}
		})
	}
}
