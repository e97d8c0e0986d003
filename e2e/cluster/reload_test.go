// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// mount is a folder that changes as a mounted ConfigMap does: the files are symlinks by way of ..data, a symlink to the
// folder of the latest version, which is replaced for all files at once.
type mount struct {
	folder  string
	version int
}

func (m *mount) write(t *testing.T, file, text string) {
	t.Helper()
	m.version++
	version := fmt.Sprintf("..version_%d", m.version)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Mkdir(filepath.Join(m.folder, version), 0o755))
	must(os.WriteFile(filepath.Join(m.folder, version, file), []byte(text), 0o644))
	must(os.Symlink(version, filepath.Join(m.folder, "..data_tmp")))
	must(os.Rename(filepath.Join(m.folder, "..data_tmp"), filepath.Join(m.folder, "..data")))
	if m.version == 1 {
		must(os.Symlink(filepath.Join("..data", file), filepath.Join(m.folder, file)))
	}
}

func TestAChangedConfigMapTakesEffectWithoutALostRequest(t *testing.T) {
	s := newStage(t)
	n := s.nodes[0]
	text, err := os.ReadFile(n.config())
	if err != nil {
		t.Fatal(err)
	}
	m := &mount{folder: rig.EmptyFolder(t)}
	m.write(t, "config.conf", string(text))
	web := loadBalancer(1, clusterIP(1, "web", pods("pod-a", "pod-d")...))
	s.put(t, web)
	d := n.StartAs(t, n.Command("run", "--config", filepath.Join(m.folder, "config.conf"), "--hostname-override", n.Node.Name)...)
	d.AwaitStart(t)
	var mine []flow
	for _, f := range flowsTo(web) {
		if f.from == "pod-client" || f.from == "client" || f.from == n.Node.Name {
			mine = append(mine, f)
		}
	}
	awaitAnswers(t, mine...)
	l := startLoad(t, leisurely, mine...)

	schedulers := func(want string) func() error {
		return func() error {
			for k, v := range n.Kernel(t).VirtualServers {
				if k.Family() == state.IPv4 && v.Scheduler != want {
					return fmt.Errorf("%v has scheduler %s, want %s", k, v.Scheduler, want)
				}
			}
			return d.Alive()
		}
	}
	rig.Until(t, patience, schedulers("rr"))
	m.write(t, "config.conf", strings.ReplaceAll(string(text), `scheduler: ""`, `scheduler: lc`))
	took := rig.Until(t, patience, schedulers("lc"))
	t.Logf("a changed ConfigMap was in the kernel after %v", took)
	l.more(t, 3)

	for name, broken := range map[string]string{
		"not understood":              "kind: Nonsense",
		"with a field of wrong value": strings.ReplaceAll(string(text), "drainTimeout: 5s", "drainTimeout: -5s"),
		"not fit for this kernel":     strings.ReplaceAll(string(text), `scheduler: ""`, `scheduler: unheardof`),
	} {
		before := refused(t, s, n)
		m.write(t, "config.conf", broken)
		rig.Until(t, patience, func() error {
			if now := refused(t, s, n); now == before {
				return fmt.Errorf("a file %s is not refused: %s", name, now)
			}
			return schedulers("lc")()
		})
	}
	m.write(t, "config.conf", string(text))
	rig.Until(t, patience, schedulers("rr"))
	l.more(t, 3)
	l.end(t)
}

// refused returns how many configurations the node reports as refused.
func refused(t *testing.T, s *stage, n *node) string {
	t.Helper()
	var count string
	rig.Until(t, patience, func() error { // no answer while it restarts
		page, err := s.world.Host(n.Node.Name).Run(t.Context(), "curl", "--silent", "http://127.0.0.1:10249/metrics")
		_, rest, _ := strings.Cut(page, `kubeipvs_config_reloads_total{result="refused"} `)
		count, _, _ = strings.Cut(rest, "\n")
		return err
	})
	return count
}
