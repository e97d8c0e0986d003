// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// An older version of kube-ipvs that led clients in the cluster by packet marks leaves the rows in testdata/older: the
// output of its command plan for the Services of this package.
func TestTakingOverFromAnOlderVersionLosesNothing(t *testing.T) {
	s := newStage(t, true)
	s.serveAsOlder(t)
	l := s.startLoad(t, s.clients())
	d := s.Start(t)
	d.AwaitStart(t)
	l.more(t, 10)
	l.end(t)
	rig.Until(t, rig.Patience, func() error { return rig.Differ(s.withoutDrains(t), s.Desired(t)) })
}

// serveAsOlder writes the rows.
func (s *stage) serveAsOlder(t *testing.T) {
	t.Helper()
	for _, one := range []struct {
		file string
		argv []string
	}{
		{"sysctl", []string{"sysctl", "-q", "-p", "-"}},
		{"ip", []string{"ip", "-batch", "-"}},
		{"ipset", []string{"ipset", "restore"}},
		{"ipvsadm", []string{"ipvsadm", "--restore"}},
		{"iptables", []string{"iptables-restore", "--noflush"}},
		{"ip6tables", []string{"ip6tables-restore", "--noflush"}},
	} {
		text, err := os.ReadFile(filepath.Join("testdata", "older", one.file))
		if err != nil {
			t.Fatal(err)
		}
		s.feed(t, string(text), one.argv...)
	}
	if got := s.run(t, "node-1", "ipvsadm", "-Sn"); !strings.Contains(got, "-A -f 12") {
		t.Fatalf("no virtual server is known by a mark of ours:\n%s", got)
	}
}

// withoutDrains returns the kernel without the draining virtual servers by which the older version led clients, and
// without their sets, which go with the last of them.
func (s *stage) withoutDrains(t *testing.T) state.State {
	t.Helper()
	have := s.Kernel(t)
	for k := range have.VirtualServers {
		if state.OurMark(k.Mark) {
			delete(have.VirtualServers, k)
		}
	}
	for k, v := range have.RealServers {
		if state.OurMark(k.Server.Mark) && v.Weight == 0 {
			delete(have.RealServers, k)
		}
	}
	for n, set := range have.Sets {
		if set.Marks {
			delete(have.Sets, n)
		}
	}
	for e := range have.Entries {
		if _, stays := have.Sets[e.Set]; !stays {
			delete(have.Entries, e)
		}
	}
	return have
}
