// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"context"
	"fmt"
	"net/netip"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
	"github.com/kube-ipvs/kube-ipvs/e2e/world"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

func TestTakingOverFromRulesLosesNothing(t *testing.T) {
	for _, x := range []struct {
		name    string
		detects bool
	}{{"pods are known by their network", true}, {"pods are not known", false}} {
		t.Run(x.name, func(t *testing.T) {
			s := newStage(t, x.detects)
			s.serveByRules(t)
			l := s.startLoad(t, s.clients())
			d := s.Start(t)
			written := d.AwaitStart(t)
			l.more(t, 10)
			l.end(t)
			s.Settle(t) // and nothing of kube-proxy's is left
			t.Logf("the start wrote %d rows", written)
		})
	}
}

// At whatever point of the take-over kube-ipvs is killed, Services are served, and the next start goes on from there.
func TestATakeOverThatIsCutOffLosesNothing(t *testing.T) {
	s := newStage(t, true)
	s.serveByRules(t)
	l := s.startLoad(t, s.clients())
	for rounds := 1; ; rounds++ {
		d := s.Start(t)
		rig.Until(t, 4*rig.Patience, func() error {
			if n := len(d.Writes(t)); n < 1 && d.Alive() == nil {
				return fmt.Errorf("%d writes", n)
			}
			return nil
		})
		d.Kill()
		if rows := d.Writes(t); len(rows) == 0 {
			t.Fatalf("the start was over without a write:\n%s", d.Log(t))
		}
		if state.Diff(s.Kernel(t), s.Desired(t)).Len() == 0 {
			t.Logf("taken over after %d kills", rounds)
			break
		}
		l.more(t, 3)
		if rounds == 8 {
			t.Fatal("8 starts did not take over")
		}
	}
	l.more(t, 3)
	l.end(t)
	if n := s.Start(t).AwaitStart(t); n != 0 {
		t.Errorf("the last start wrote %d rows, want none", n)
	}
}

// A client that keeps its port goes where conntrack sends it, by the rules of its first packet.
func TestFlowsToRemovedEndpointsAreMoved(t *testing.T) {
	s := newStage(t, true)
	s.serveByRules(t)
	web := s.services[0]
	var flows []*world.Conn
	for _, f := range families() {
		at := []netip.AddrPort{netip.AddrPortFrom(web.Address(f), 53), netip.AddrPortFrom(s.Node.Addr(f), web.Ports[1].NodePort)}
		for i, host := range []string{"pod-client", "client"} {
			for answers := map[string]bool{}; len(answers) < 2; {
				c, err := s.World.Host(host).Dial(t.Context(), state.UDP, at[i])
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				flows = append(flows, c)
				answers[mustAsk(t, c)] = true
			}
		}
	}
	web.Endpoints = rig.Pods("pod-d") // while no proxy runs
	s.Write(t, web.Name, web)
	s.Start(t).AwaitStart(t)
	s.Settle(t)
	for _, c := range flows {
		if who := mustAsk(t, c); who != "pod-d" {
			t.Errorf("%s answered, which is no endpoint any more", who)
		}
	}
}

func mustAsk(t *testing.T, c *world.Conn) string {
	t.Helper()
	reply, err := c.Ask(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return reply.Server
}
