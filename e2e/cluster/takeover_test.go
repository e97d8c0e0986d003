// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kube-ipvs/kube-ipvs/e2e/control"
	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// often is how often clients ask while the service proxy changes.
const often = 100 * time.Millisecond

// theirs starts the real kube-proxy on all nodes as its DaemonSet does, and waits until it serves.
func (s *stage) theirs(t *testing.T, mode string) []*rig.Daemon {
	t.Helper()
	var all []*rig.Daemon
	for _, n := range s.nodes {
		all = append(all, s.theirsOn(t, n, mode))
	}
	for _, n := range s.nodes {
		n.awaitSynced(t)
	}
	return all
}

// theirsOn starts the real kube-proxy on a node.
func (s *stage) theirsOn(t *testing.T, n *node, mode string) *rig.Daemon {
	t.Helper()
	binary, err := control.Binary("kube-proxy")
	if err != nil {
		t.Fatal(err)
	}
	n.configure(t, s.kubeconfig(t, "kube-proxy", s.plane.User("system:kube-proxy")), mode)
	return n.StartAs(t, binary, "--config", n.config(), "--hostname-override", n.Node.Name)
}

// awaitSynced waits until kube-proxy has completed its first sync. It reports itself healthy before.
func (n *node) awaitSynced(t *testing.T) {
	t.Helper()
	rig.Until(t, patience, func() error {
		page, err := n.Node.Run(t.Context(), "curl", "--silent", "--show-error", "http://127.0.0.1:10249/metrics")
		if err != nil {
			return err
		}
		for _, f := range families() {
			if !strings.Contains(page, fmt.Sprintf("\nkubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family=%q} ", f)) {
				return fmt.Errorf("kube-proxy of %s has not made anything of %v", n.Node.Name, f)
			}
		}
		return nil
	})
}

// ours starts kube-ipvs where kube-proxy was, one node after the other, and logs how long that took.
func (s *stage) ours(t *testing.T, theirs []*rig.Daemon) []*rig.Daemon {
	t.Helper()
	var all []*rig.Daemon
	kubeconfig := s.kubeconfig(t, account, s.identity(t.Context()))
	for i, n := range s.nodes {
		theirs[i].Kill()
		n.configure(t, kubeconfig, modeIPVS)
		begin := time.Now()
		d := n.startOurs(t)
		written := d.AwaitStart(t)
		t.Logf("%s: kube-ipvs took over after %v; of %d rows it wrote %d", n.Node.Name, time.Since(begin).Round(time.Millisecond),
			state.Diff(state.New(), n.Kernel(t)).Len(), written)
		all = append(all, d)
	}
	return all
}

func TestKubeIPVSTakesOverFromKubeProxyInIPVSModeAndBack(t *testing.T) {
	s := newStage(t)
	web := loadBalancer(1, clusterIP(1, "web", pods("pod-a", "pod-d")...))
	s.put(t, web)
	theirs := s.theirs(t, modeIPVS)
	awaitAnswers(t, flowsTo(web)...)
	l := startLoad(t, often, flowsTo(web)...)

	ours := s.ours(t, theirs)
	s.settle(t)
	l.more(t, 10)
	for i, n := range s.nodes {
		ours[i].Stop(t)
		t.Logf("%s: %s", n.Node.Name, s.run(t, n.Node.Name, n.Command("cleanup", "--for-kube-proxy")...))
	}
	s.theirs(t, modeIPVS)
	l.more(t, 10)
	l.end(t)
}

func TestKubeIPVSTakesOverFromKubeProxyInIPTablesModeAndBack(t *testing.T) {
	s := newStage(t)
	web := loadBalancer(1, clusterIP(1, "web", pods("pod-a", "pod-d")...))
	s.put(t, web)
	theirs := s.theirs(t, modeIPTables)
	awaitAnswers(t, flowsTo(web)...)
	l := startLoad(t, often, flowsTo(web)...)

	ours := s.ours(t, theirs)
	s.settle(t)
	l.more(t, 10)
	for _, d := range ours {
		d.Stop(t)
	}
	s.theirs(t, modeIPTables)
	l.more(t, 10)
	l.end(t)
	for _, n := range s.nodes {
		s.run(t, n.Node.Name, n.Command("cleanup", "--drain-timeout", "5s")...)
		have := n.Kernel(t)
		if len(have.VirtualServers) > 0 || len(have.Addresses) > 0 || len(have.Links) > 0 || len(have.Sets) > 0 {
			t.Errorf("%s: after the cleanup there are %v", n.Node.Name, rig.Differ(have, state.New()))
		}
	}
	awaitAnswers(t, flowsTo(web)...)
}
