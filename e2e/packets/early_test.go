// SPDX-License-Identifier: Apache-2.0

package packets

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
	"github.com/kube-ipvs/kube-ipvs/e2e/world"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// swallow routes the Services' networks to a pod that drops what is not for it, as a cluster's gateway may do: a
// client's first packet leaves the node unchanged, and gets no answer.
func (s *stage) swallow(t *testing.T) {
	t.Helper()
	for _, r := range world.RoutesToServices() {
		pod := rig.First(state.FamilyOf(r.Via), rig.Pod("pod-c").Addresses)
		s.run(t, "node-1", "ip", "route", "add", r.To.String(), "via", pod.String(), "dev", "veth-pod-c", "onlink")
	}
}

// knock asks from one port for each protocol and family, and waits briefly.
func (s *stage) knock(t *testing.T, client string, p state.Protocol, to netip.AddrPort) error {
	t.Helper()
	const soonEnough = time.Second
	port := 40000 + uint16(p)*10 + uint16(state.FamilyOf(to.Addr()))
	ctx, cancel := context.WithTimeout(t.Context(), soonEnough)
	defer cancel()
	conn, err := s.World.Host(client).DialFrom(ctx, p, port, to)
	if err != nil {
		return err
	}
	_, err = conn.Ask(ctx)
	return errors.Join(err, conn.Reset()) // which leaves the port free
}

// A client that was there before its Service tries again from the same port, as when it repeats its first packet.
func TestAClientIsAnsweredThoughItKnockedBeforeTheServiceWasThere(t *testing.T) {
	s := newStage(t, podsByAddress)
	s.Settle(t)
	s.swallow(t)
	svc := service(1, "late", rig.Pod("pod-a"))
	at := frontends().clusterIP
	// IPVS translates for all clients. But the kernel no longer masquerades a flow that conntrack knows already, so the
	// last two, which have to be masqueraded, would get no answer.
	clients := []string{"pod-client", "pod-a", "client"}
	each := func(do func(client string, p state.Protocol, f state.Family)) {
		for _, client := range clients {
			for _, p := range []state.Protocol{state.TCP, state.SCTP} {
				for _, f := range families() {
					do(client, p, f)
				}
			}
		}
	}
	each(func(client string, p state.Protocol, f state.Family) {
		if err := s.knock(t, client, p, at.at(s, svc, f, p)); err == nil {
			t.Fatalf("%s over %v and %v is answered by a Service that is not there", client, p, f)
		}
	})
	s.offer(t, svc)
	each(func(client string, p state.Protocol, f state.Family) {
		rig.Until(t, soon, func() error {
			if err := s.knock(t, client, p, at.at(s, svc, f, p)); err != nil {
				return fmt.Errorf("%s over %v and %v: %w", client, p, f, err)
			}
			return nil
		})
	})
}
