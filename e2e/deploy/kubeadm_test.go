// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"maps"
	"path/filepath"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"sigs.k8s.io/yaml"
)

// kubeadmPatch is what kubeadm --patches takes. e2e/upstream/kubeadm has kubeadm itself apply it.
const kubeadmPatch = manifests + "/kubeadm/kubeproxydaemonset+strategic.yaml"

// patchedByKubeadm returns kubeadm's DaemonSet with the patch.
func patchedByKubeadm(t *testing.T) *appsv1.DaemonSet {
	t.Helper()
	asJSON := func(name string) []byte {
		text, err := yaml.YAMLToJSONStrict(read(t, name))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return text
	}
	patched, err := strategicpatch.StrategicMergePatch(asJSON("testdata/kubeadm.yaml"), asJSON(kubeadmPatch), appsv1.DaemonSet{})
	if err != nil {
		t.Fatal(err)
	}
	return one[*appsv1.DaemonSet](t, decoded(t, kubeadmPatch, patched))
}

// The patch and the overlay for kubeadm's ConfigMap say the same twice.
func TestThePatchForKubeadmMakesTheDaemonSetOfTheOverlay(t *testing.T) {
	want := one[*appsv1.DaemonSet](t, built(t, "overlays/kube-proxy-config"))
	got := patchedByKubeadm(t)
	for key, value := range got.Spec.Selector.MatchLabels {
		if got.Spec.Template.Labels[key] != value {
			t.Errorf("the pods have no label %s=%s, which kubeadm's selector asks for", key, value)
		}
	}
	ours := got.Spec.Template.Spec
	if ours.ServiceAccountName != "kube-proxy" || got.Name != "kube-proxy" {
		t.Errorf("%s has the service account %s: it is not kubeadm's any more", got.Name, ours.ServiceAccountName)
	}
	ours.ServiceAccountName = want.Spec.Template.Spec.ServiceAccountName
	rename(&ours, map[string]string{"kube-proxy": "config", "lib-modules": "modules"})
	for i, v := range ours.Volumes {
		if v.Name == "modules" && v.HostPath.Type == nil { // kubeadm leaves it open
			folder := corev1.HostPathDirectory
			ours.Volumes[i].HostPath.Type = &folder
		}
	}
	sorted(&ours)
	sorted(&want.Spec.Template.Spec)
	if d := gocmp.Diff(want.Spec.Template.Spec, ours); d != "" {
		t.Errorf("the overlay (-) and the patch (+):\n%s", d)
	}
	if d := gocmp.Diff(want.Spec.UpdateStrategy, got.Spec.UpdateStrategy); d != "" || want.Spec.MinReadySeconds != got.Spec.MinReadySeconds {
		t.Errorf("%d and %d seconds, the overlay (-) and the patch (+):\n%s", want.Spec.MinReadySeconds, got.Spec.MinReadySeconds, d)
	}
}

// rename gives volumes other names.
func rename(p *corev1.PodSpec, names map[string]string) {
	for i, v := range p.Volumes {
		if name, is := names[v.Name]; is {
			p.Volumes[i].Name = name
		}
	}
	for _, list := range [][]corev1.Container{p.InitContainers, p.Containers} {
		for _, c := range list {
			for i, m := range c.VolumeMounts {
				if name, is := names[m.Name]; is {
					c.VolumeMounts[i].Name = name
				}
			}
		}
	}
}

// Nothing else may be in the folder: kubeadm reads all of it, and reports what it ignores.
func TestTheFolderOfPatchesHasOnlyThePatch(t *testing.T) {
	files, err := filepath.Glob(filepath.Dir(kubeadmPatch) + "/*")
	if err != nil || len(files) != 1 || filepath.Base(files[0]) != filepath.Base(kubeadmPatch) {
		t.Errorf("%v: %q", err, files)
	}
}

func TestTheProgramUnderstandsTheConfigurationOfKubeadmUnderThePatch(t *testing.T) {
	folder := t.TempDir()
	write(t, folder+"/config.conf", string(read(t, root+"/internal/config/proxyconfig/testdata/kubeadm.yaml")))
	daemons, complaints := understoodIn(t, patchedByKubeadm(t), map[string]string{"/var/lib/kube-proxy": folder})
	if complaints != "" {
		t.Error(complaints)
	}
	checkDaemons(t, daemons)
	if want := []string{"init", "kube-ipvs"}; !gocmp.Equal(want, slices.Sorted(maps.Keys(daemons))) {
		t.Errorf("the containers are %v, want %v", slices.Sorted(maps.Keys(daemons)), want)
	}
}
