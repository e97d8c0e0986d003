// SPDX-License-Identifier: Apache-2.0

package pod_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	oci "github.com/opencontainers/image-spec/specs-go/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"sigs.k8s.io/yaml"

	"github.com/kube-ipvs/kube-ipvs/e2e/image"
	"github.com/kube-ipvs/kube-ipvs/e2e/pod"
	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

const manifests = "../../manifests"

// pods returns the pods of the DaemonSets in a manifest, by name.
func pods(t *testing.T, manifest string) map[string]corev1.PodSpec {
	t.Helper()
	all := map[string]corev1.PodSpec{}
	for document := range strings.SplitSeq(string(read(t, filepath.Join(manifests, manifest))), "\n---\n") {
		var d appsv1.DaemonSet
		if err := yaml.UnmarshalStrict([]byte(document), &d); err != nil {
			t.Fatal(err)
		}
		all[d.Name] = d.Spec.Template.Spec
	}
	return all
}

// shipped returns the pod of the DaemonSet as an overlay with some components makes it.
func shipped(t *testing.T, components ...string) corev1.PodSpec {
	t.Helper()
	base := inJSON(t, filepath.Join(manifests, "base/daemonset.yaml"))
	for _, c := range components {
		folder := filepath.Join(manifests, "components", c)
		var k struct{ Patches []struct{ Path string } }
		if err := yaml.Unmarshal(read(t, filepath.Join(folder, "kustomization.yaml")), &k); err != nil {
			t.Fatal(err)
		}
		for _, patch := range k.Patches {
			var err error
			if base, err = strategicpatch.StrategicMergePatch(base, inJSON(t, filepath.Join(folder, patch.Path)), appsv1.DaemonSet{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	var d appsv1.DaemonSet
	if err := json.Unmarshal(base, &d); err != nil {
		t.Fatal(err)
	}
	return d.Spec.Template.Spec
}

func inJSON(t *testing.T, file string) []byte {
	t.Helper()
	text, err := yaml.YAMLToJSON(read(t, file))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// withManifests has the daemon take its Services from the rig's folder.
func withManifests(p corev1.PodSpec, flags ...string) corev1.PodSpec {
	c := &p.Containers[0]
	// nf_conntrack_max belongs to the whole machine, and only the first network namespace may raise it.
	c.Args = slices.Concat(c.Args, []string{"--conntrack-max-per-core=0", "--manifests=/manifests", "--ipvs-sync-period=2s"}, flags)
	c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "manifests", MountPath: "/manifests"})
	source := corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "manifests"}}}
	p.Volumes = append(p.Volumes, corev1.Volume{Name: "manifests", VolumeSource: source})
	return p
}

// images returns the images that make image built, for this machine.
func images(t *testing.T) map[string]pod.Image {
	t.Helper()
	all := map[string]pod.Image{}
	for _, name := range []string{image.Bare, image.WithIPTables} {
		built, err := image.Read(filepath.Join(image.Folder(t), name))
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(built, func(i image.Image) bool { return i.Config.Platform.Architecture == runtime.GOARCH })
		if i < 0 {
			t.Fatalf("%s is not built for %s", name, runtime.GOARCH)
		}
		all[name] = onNode(t, name, built[i].Config.Config)
	}
	return all
}

func onNode(t *testing.T, name string, c oci.ImageConfig) pod.Image {
	t.Helper()
	root, err := filepath.Abs(filepath.Join(image.Folder(t), "root", name))
	if err != nil {
		t.Fatal(err)
	}
	return pod.Image{Root: root, Entrypoint: c.Entrypoint, Env: c.Env}
}

// node starts containers on the rig's node.
type node struct {
	*rig.Rig
	pod.Node
}

func newNode(t *testing.T) node {
	t.Helper()
	r := rig.New(t, func(c *config.Config) { c.SyncPeriod = 2 * time.Second })
	return node{r, pod.Node{Name: r.Node.Name, Images: images(t), Root: t.TempDir(), ConfigMaps: map[string]string{"manifests": r.Folder}}}
}

// argv returns the command line of a container, which ends with the test.
func (n node) argv(t *testing.T, p corev1.PodSpec, container string) []string {
	t.Helper()
	c, err := n.Container(p, container)
	if err != nil {
		t.Fatal(err)
	}
	testkit.CloseAtEnd(t, c)
	return c.Argv()
}

// run runs a container to its end.
func (n node) run(t *testing.T, p corev1.PodSpec, container string) {
	t.Helper()
	c := n.StartAs(t, n.argv(t, p, container)...)
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
			if strings.Contains(line, word) && !strings.Contains(line, "keeping the OOM score") {
				t.Errorf("logged: %s", line)
			}
		}
	}
}

// web is a Service with endpoints on two nodes.
func web() rig.Service {
	return rig.Service{
		Name: "web", Addresses: []netip.Addr{netip.MustParseAddr("10.96.0.80"), netip.MustParseAddr("fd00:10:96::80")},
		Ports: []rig.Port{{Protocol: state.TCP, Number: 80, NodePort: 30080, Target: 8080}}, Endpoints: rig.Pods("pod-a", "pod-d"),
	}
}

// serve answers at the endpoints of web, and returns its frontends.
func (n node) serve(t *testing.T) []netip.AddrPort {
	t.Helper()
	all := []netip.AddrPort{}
	for _, e := range []string{"pod-a", "pod-d"} {
		if err := n.World.Host(e).Serve(state.TCP, 8080); err != nil {
			t.Fatal(err)
		}
	}
	for _, a := range web().Addresses {
		all = append(all, netip.AddrPortFrom(a, 80))
	}
	for _, a := range n.Rig.Node.Addresses {
		all = append(all, netip.AddrPortFrom(a, 30080))
	}
	return all
}

// answered waits until clients outside, in a pod and on the node are answered at all frontends.
func (n node) answered(t *testing.T, frontends []netip.AddrPort) {
	t.Helper()
	for _, client := range []string{"client", "pod-client", n.Rig.Node.Name} {
		for _, f := range frontends {
			rig.Until(t, rig.Patience, func() error {
				_, err := n.World.Host(client).Ask(t.Context(), state.TCP, f)
				if err != nil {
					return fmt.Errorf("%s asks %v: %w", client, f, err)
				}
				return nil
			})
		}
	}
}
