// SPDX-License-Identifier: Apache-2.0

package packets

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// audited makes kube-ipvs compare the node's tables often.
func audited(c *config.Config) { c.SyncPeriod = time.Second }

// insert puts another program's rule on top of a built-in chain.
func (s *stage) insert(t *testing.T, f state.Family, chain, rule string) {
	t.Helper()
	tool := "iptables"
	if f == state.IPv6 {
		tool = "ip6tables"
	}
	s.run(t, "node-1", strings.Fields(tool+" -w -t nat -I "+chain+" "+rule)...)
}

// moved returns how many jumps have been moved back to the top.
func (s *stage) moved(t *testing.T) int {
	t.Helper()
	moves := 0
	for _, line := range s.daemon.Writes(t) {
		if n, _ := line.Fields["jumps"].(float64); strings.Contains(line.Message, "repaired") {
			moves += int(n)
		}
	}
	return moves
}

// TestAPortOfTheHostTakesAServicesTrafficNoLongerThanToTheNextAudit: a CNI puts the rules for a host port before ours.
func TestAPortOfTheHostTakesAServicesTrafficNoLongerThanToTheNextAudit(t *testing.T) {
	s := newStage(t, podsByAddress, audited)
	svc := service(1, "web", rig.Pod("pod-a"))
	s.offer(t, svc)
	for _, f := range families() {
		for _, chain := range []string{"PREROUTING", "OUTPUT"} {
			s.insert(t, f, chain, fmt.Sprintf("-p tcp --dport %d -j REDIRECT --to-ports %d", servicePort(state.TCP), closedPort))
		}
	}
	rig.Until(t, soon, func() error {
		for k, v := range s.Kernel(t).Jumps {
			if v.Behind != "" {
				return fmt.Errorf("%v is behind %q", k, v.Behind)
			}
		}
		return nil
	})
	at := frontends()
	s.answered(t, svc, at.clusterIP, "client", masking("pod-a"))
	s.answered(t, svc, at.clusterIP, "node-1", masking("pod-a"))
	s.answered(t, svc, at.clusterIP, "pod-b", keeping("pod-a"))
}

// TestAJumpIsNeverMissingWhileItIsMovedInIPTables: without the jump an outside client would keep its own address.
func TestAJumpIsNeverMissingWhileItIsMovedInIPTables(t *testing.T) {
	s := newStage(t, podsByAddress, audited)
	svc := service(1, "web", rig.Pod("pod-a"))
	s.offer(t, svc)
	asked, before := 0, s.moved(t)
	for n := range 3 {
		s.insert(t, state.IPv4, "PREROUTING", "-p tcp --dport 9 -j ACCEPT")
		rig.Until(t, soon, func() error {
			asked++
			s.answered(t, svc, frontends().clusterIP, "client", masking("pod-a"))
			if s.moved(t) <= before+n {
				return errors.New("the jump has not been moved")
			}
			return nil
		})
	}
	t.Logf("asked %d times in each family and over each protocol while the jump was moved three times", asked)

	s.insert(t, state.IPv4, "PREROUTING", "-p tcp --dport 9 -j ACCEPT")
	s.daemon.AwaitLog(t, "another program puts its rules before ours again and again", "PREROUTING", "--dport 9")
}
