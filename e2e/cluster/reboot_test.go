// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
)

// soon is how long a node may take to serve again from its snapshot. It takes a fraction of that, but user-mode Linux
// has one processor for all.
const soon = 20 * time.Second

// awaitSnapshot waits until the nodes' snapshots are newer than since.
func (s *stage) awaitSnapshot(t *testing.T, since time.Time) {
	t.Helper()
	rig.Until(t, patience, func() error {
		for _, n := range s.nodes {
			file, err := os.Stat(n.snapshot())
			if err != nil {
				return err
			}
			if file.ModTime().Before(since) {
				return fmt.Errorf("the snapshot of %s is of %v, and not since %v", n.Node.Name, file.ModTime(), since)
			}
		}
		return nil
	})
}

func TestANodeThatBootsWithoutAnAPIServerServesFromItsDisk(t *testing.T) {
	s := newStage(t)
	t.Cleanup(func() { s.restore(t) })
	web, other := loadBalancer(1, clusterIP(1, "web", pods("pod-a", "pod-d")...)), clusterIP(2, "other", pods("pod-b")...)
	daemons := s.startAll(t)
	since := time.Now()
	s.put(t, web, other)
	s.settle(t)
	s.awaitSnapshot(t, since)
	one := s.nodes[0]
	known := s.index(t, one.Node.Name)

	s.server.Kill()
	daemons[0].Kill()
	s.boot(t, one, one.Node.Name)
	begin := time.Now()
	d := one.startOurs(t)
	awaitAnswers(t, flowsTo(web)...)
	if took := time.Since(begin); took > soon {
		t.Errorf("the node served %v after it had started, want %v at the most", took, soon)
	} else {
		t.Logf("the node served %v after it had started", took.Round(time.Millisecond))
	}
	one.Await(t, patience, one.DesiredOf(t, known))
	if text := s.run(t, one.Node.Name, "curl", "--silent", "http://127.0.0.1:10256/healthz"); !strings.Contains(text, `"source":"snapshot"`) {
		t.Errorf("/healthz does not name the snapshot as its source: %s", text)
	}
	if err := d.Alive(); err != nil {
		t.Error(err)
	}

	l := startLoad(t, leisurely, flowsTo(web)...)
	if err := s.serve(t.Context(), firstServer()); err != nil {
		t.Fatal(err)
	}
	s.remove(t, other)
	web.Endpoints = append(web.Endpoints, endpoint("pod-b"))
	s.put(t, web)
	s.settle(t)
	l.more(t, 3)
	l.end(t)
	if text := s.run(t, one.Node.Name, "curl", "--silent", "http://127.0.0.1:10256/healthz"); strings.Contains(text, "snapshot") {
		t.Errorf("/healthz still speaks of the snapshot: %s", text)
	}
}
