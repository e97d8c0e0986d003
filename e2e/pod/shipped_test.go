// SPDX-License-Identifier: Apache-2.0

package pod_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/kube-ipvs/kube-ipvs/e2e/pod"
	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// pods returns the pods of the DaemonSets in a manifest, by name.
func pods(t *testing.T, manifest string) map[string]corev1.PodSpec {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../manifests", manifest))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]corev1.PodSpec{}
	for document := range strings.SplitSeq(string(text), "\n---\n") {
		var d appsv1.DaemonSet
		if err := yaml.UnmarshalStrict([]byte(document), &d); err != nil {
			t.Fatal(err)
		}
		all[d.Name] = d.Spec.Template.Spec
	}
	return all
}

// shipped returns the pod of the DaemonSet, whose Services come from the rig's folder.
func shipped(t *testing.T) corev1.PodSpec {
	t.Helper()
	p := pods(t, "base/daemonset.yaml")["kube-ipvs"]
	// nf_conntrack_max belongs to the whole machine, and only the first network namespace may raise it.
	const noRoom = "--conntrack-max-per-core=0"
	first, main := &p.InitContainers[0], &p.Containers[0]
	first.Args = append(first.Args, noRoom)
	main.Args = append(main.Args, noRoom, "--manifests=/manifests", "--ipvs-sync-period=2s")
	main.VolumeMounts = append(main.VolumeMounts, corev1.VolumeMount{Name: "manifests", MountPath: "/manifests"})
	source := corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "manifests"}}}
	p.Volumes = append(p.Volumes, corev1.Volume{Name: "manifests", VolumeSource: source})
	return p
}

// runtime starts containers on the rig's node.
type runtime struct {
	*rig.Rig
	node pod.Node
}

func newRuntime(t *testing.T) runtime {
	r := rig.New(t, func(c *config.Config) { c.SyncPeriod = 2 * time.Second })
	return runtime{r, pod.Node{
		Name: r.Node.Name, Program: r.Command()[0], Root: t.TempDir(), ConfigMaps: map[string]string{"manifests": r.Folder},
	}}
}

func (r runtime) start(t *testing.T, p corev1.PodSpec, container string) *rig.Daemon {
	t.Helper()
	argv, err := r.node.Argv(p, container)
	if err != nil {
		t.Fatal(err)
	}
	return r.StartAs(t, argv...)
}

// run runs a container to its end.
func (r runtime) run(t *testing.T, p corev1.PodSpec, container string) {
	t.Helper()
	c := r.start(t, p, container)
	select {
	case <-c.Ended():
	case <-time.After(2 * rig.Patience):
		t.Fatalf("%s has not ended", container)
	}
	if err := c.Err(); err != nil {
		t.Fatalf("%s: %v\n%s", container, err, c.Log(t))
	}
	complaints(t, c)
}

// complaints reports what a container was not allowed to do.
func complaints(t *testing.T, c *rig.Daemon) {
	t.Helper()
	for line := range strings.Lines(c.Log(t)) {
		for _, word := range []string{"\terror\t", "denied", "not permitted", "ead-only", "could not"} {
			if strings.Contains(line, word) {
				t.Errorf("logged: %s", line)
			}
		}
	}
}

func (r runtime) web(t *testing.T) {
	t.Helper()
	r.Write(t, "web", rig.Service{
		Name: "web", Addresses: []netip.Addr{netip.MustParseAddr("10.96.0.80"), netip.MustParseAddr("fd00:10:96::80")},
		Ports: []rig.Port{{Protocol: state.TCP, Number: 80, NodePort: 30080, Target: 8080}}, Endpoints: rig.Pods("pod-a", "pod-c"),
	})
}

func TestThePodOfTheDaemonSetNeedsNoMoreThanItHas(t *testing.T) {
	r, p := newRuntime(t), shipped(t)
	r.run(t, p, "init")
	d := r.start(t, p, "kube-ipvs")
	d.AwaitStart(t)
	r.web(t)
	r.Settle(t)
	for _, page := range []string{p.Containers[0].LivenessProbe.HTTPGet.Path, "/healthz"} {
		out, err := r.Node.Run(t.Context(), "curl", "--silent", "--show-error", "http://127.0.0.1:10256"+page)
		if err != nil || !strings.Contains(out, `"healthy":true`) {
			t.Errorf("%s: %v, %s", page, err, out)
		}
	}
	for _, sysctl := range []string{"net/ipv4/ip_forward", "net/ipv4/vs/conntrack"} {
		r.breakSysctl(t, filepath.Join("/proc/sys", sysctl))
	}
	complaints(t, d)
	d.Stop(t)
}

// breakSysctl sets one to 0 and waits until it is 1 again.
func (r runtime) breakSysctl(t *testing.T, file string) {
	t.Helper()
	if err := r.Node.Do(func() error { return os.WriteFile(file, []byte("0"), 0) }); err != nil {
		t.Fatal(err)
	}
	rig.Until(t, rig.Patience, func() error {
		return r.Node.Do(func() error {
			if now, err := os.ReadFile(file); err != nil || strings.TrimSpace(string(now)) != "1" {
				return fmt.Errorf("%s is %q (%v): it was not repaired", file, now, err)
			}
			return nil
		})
	})
}

func TestThePodsOfTheWayBackNeedNoMoreThanTheyHave(t *testing.T) {
	r, p := newRuntime(t), shipped(t)
	d := r.start(t, p, "kube-ipvs")
	d.AwaitStart(t)
	r.web(t)
	r.Settle(t)
	d.Stop(t)

	back := pods(t, "overlays/migrate/back.yaml")
	r.run(t, back["kube-ipvs-hand-back"], "cleanup")
	if n := len(r.Kernel(t).VirtualServers); n == 0 {
		t.Error("nothing is left for kube-proxy to take over")
	}
	r.run(t, back["kube-ipvs-clean-up"], "cleanup")
	if k := r.Kernel(t); len(k.VirtualServers)+len(k.Sets)+len(k.Links) > 0 {
		t.Errorf("left: %d virtual servers, %d sets, %d devices", len(k.VirtualServers), len(k.Sets), len(k.Links))
	}
}
