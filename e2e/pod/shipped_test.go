// SPDX-License-Identifier: Apache-2.0

package pod_test

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/kube-ipvs/kube-ipvs/e2e/execs"
	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
)

// mode is a firewall, and what the manifests add to the base for it.
type mode struct {
	firewall   string
	components []string
	flags      []string
	executes   bool // programs: iptables
}

// modes returns what the pod of the DaemonSet is tested with.
func modes() []mode {
	return []mode{
		{firewall: "iptables", components: []string{"iptables"}, flags: nil, executes: true},
	}
}

func TestThePodOfTheDaemonSetNeedsNoMoreThanItHas(t *testing.T) {
	for _, m := range modes() {
		t.Run(m.firewall, func(t *testing.T) {
			n, p := newNode(t), withManifests(shipped(t, m.components...), m.flags...)
			record := filepath.Join(t.TempDir(), "execs")
			d := n.StartAs(t, execs.Trace(record, n.argv(t, p, "kube-ipvs")...)...)
			d.AwaitStart(t)
			frontends := n.serve(t)
			n.Write(t, "web", web())
			n.answered(t, frontends)
			n.healthy(t, p)
			for _, sysctl := range []string{"net/ipv4/ip_forward", "net/ipv4/vs/conntrack"} {
				n.breakSysctl(t, filepath.Join("/proc/sys", sysctl))
			}
			complaints(t, d)
			d.Stop(t)
			got := executed(t, record)
			others := slices.DeleteFunc(slices.Clone(got), func(program string) bool { return m.executes && iptables(program) })
			if len(others) > 0 || m.executes && len(got) == 0 {
				t.Errorf("executed %q", got)
			}
		})
	}
}

// iptables reports whether a program is one of those that read and write rules.
func iptables(program string) bool {
	name := path.Base(program)
	return strings.Contains(name, "tables-") && (strings.HasSuffix(name, "-save") || strings.HasSuffix(name, "-restore"))
}

// executed returns what the program of a container that has ended has executed, in order.
func executed(t *testing.T, record string) []string {
	t.Helper()
	var all []execs.Exec
	rig.Until(t, rig.Patience, func() error {
		found, ended, err := execs.Read(record)
		if all = found; err == nil && !ended {
			err = errors.New("the container has not ended")
		}
		return err
	})
	// What comes before is the runtime.
	first := slices.IndexFunc(all, func(e execs.Exec) bool { return e.Program == "/usr/local/bin/kube-ipvs" })
	if first < 0 {
		t.Fatalf("kube-ipvs is not among %v", all)
	}
	var programs []string
	for _, e := range all[first+1:] {
		programs = append(programs, e.Program)
	}
	return programs
}

// healthy asks what the kubelet asks.
func (n node) healthy(t *testing.T, p corev1.PodSpec) {
	t.Helper()
	for _, probe := range []*corev1.Probe{p.Containers[0].LivenessProbe, p.Containers[0].ReadinessProbe} {
		out, err := n.Rig.Node.Run(t.Context(), "curl", "--silent", "--show-error", "http://127.0.0.1:10256"+probe.HTTPGet.Path)
		if err != nil || !strings.Contains(out, `"healthy":true`) {
			t.Errorf("%s: %v, %s", probe.HTTPGet.Path, err, out)
		}
	}
}

// breakSysctl sets one to 0 and waits until it is 1 again.
func (n node) breakSysctl(t *testing.T, file string) {
	t.Helper()
	if err := n.Rig.Node.Do(func() error { return os.WriteFile(file, []byte("0"), 0) }); err != nil {
		t.Fatal(err)
	}
	rig.Until(t, rig.Patience, func() error {
		return n.Rig.Node.Do(func() error {
			if now, err := os.ReadFile(file); err != nil || strings.TrimSpace(string(now)) != "1" {
				return fmt.Errorf("%s is %q (%v): it was not repaired", file, now, err)
			}
			return nil
		})
	})
}

func TestThePodsOfTheWayBackNeedNoMoreThanTheyHave(t *testing.T) {
	n, p := newNode(t), withManifests(shipped(t, "iptables"))
	d := n.StartAs(t, n.argv(t, p, "kube-ipvs")...)
	d.AwaitStart(t)
	n.Write(t, "web", web())
	n.Settle(t)
	d.Stop(t)

	back := pods(t, "overlays/migrate/back.yaml")
	n.run(t, back["kube-ipvs-hand-back"], "cleanup")
	if servers := len(n.Kernel(t).VirtualServers); servers == 0 {
		t.Error("nothing is left for kube-proxy to take over")
	}
	n.run(t, back["kube-ipvs-clean-up"], "cleanup")
	if k := n.Kernel(t); len(k.VirtualServers)+len(k.Sets)+len(k.Links) > 0 {
		t.Errorf("left: %d virtual servers, %d sets, %d devices", len(k.VirtualServers), len(k.Sets), len(k.Links))
	}
	done := n.StartAs(t, n.argv(t, back["kube-ipvs-clean-up"], "done")...)
	done.Stop(t)
}
