// SPDX-License-Identifier: Apache-2.0

// Package kubeadm has kubeadm apply the patch of manifests/kubeadm, in the phases of kubeadm init and kubeadm upgrade,
// and read what docs/install/kubeadm.md says. The API server is a fake one; package install gives the result to a real
// one.
package kubeadm

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	clientset "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	kubeadmapi "k8s.io/kubernetes/cmd/kubeadm/app/apis/kubeadm"
	"k8s.io/kubernetes/cmd/kubeadm/app/cmd"
	"k8s.io/kubernetes/cmd/kubeadm/app/cmd/phases/upgrade"
	"k8s.io/kubernetes/cmd/kubeadm/app/phases/addons/proxy"
	"k8s.io/kubernetes/cmd/kubeadm/app/util/config"
	"sigs.k8s.io/yaml"
)

const (
	root    = "../../.."
	patches = root + "/manifests/kubeadm"
	page    = root + "/docs/install/kubeadm.md"
	// golden is kubeadm's DaemonSet, which packages deploy and install patch.
	golden = root + "/e2e/deploy/testdata/kubeadm.yaml"

	space = metav1.NamespaceSystem
)

// settings returns a configuration of kubeadm without anything of this machine.
func settings(t *testing.T, version string) *kubeadmapi.InitConfiguration {
	t.Helper()
	for _, e := range os.Environ() {
		if name, _, _ := strings.Cut(e, "="); strings.HasSuffix(strings.ToLower(name), "_proxy") {
			t.Setenv(name, "") // kubeadm hands them on
		}
	}
	c, err := config.DefaultedStaticInitConfiguration()
	if err != nil {
		t.Fatal(err)
	}
	c.KubernetesVersion = version
	c.Networking.PodSubnet = "10.244.0.0/16"
	c.LocalAPIEndpoint = kubeadmapi.APIEndpoint{AdvertiseAddress: "192.0.2.10", BindPort: 6443}
	return c
}

// initialize does what the phase addon/kube-proxy of kubeadm init does.
func initialize(t *testing.T, client clientset.Interface, folder string) *kubeadmapi.InitConfiguration {
	t.Helper()
	c := settings(t, "v1.37.2")
	if err := proxy.EnsureProxyAddon(&c.ClusterConfiguration, &c.LocalAPIEndpoint, client, folder, io.Discard, false); err != nil {
		t.Fatal(err)
	}
	return c
}

func daemonSet(t *testing.T, client clientset.Interface) *appsv1.DaemonSet {
	t.Helper()
	d, err := client.AppsV1().DaemonSets(space).Get(t.Context(), "kube-proxy", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// program returns what a DaemonSet runs.
func program(d *appsv1.DaemonSet) string {
	var names []string
	for _, c := range append(d.Spec.Template.Spec.InitContainers, d.Spec.Template.Spec.Containers...) {
		names = append(names, c.Name+" "+c.Image)
	}
	return strings.Join(names, ", ")
}

const (
	ours   = "init kube-ipvs:dev, kube-ipvs kube-ipvs:dev"
	theirs = "kube-proxy registry.k8s.io/kube-proxy:"
)

func TestTheDaemonSetThatOtherTestsPatchIsKubeadms(t *testing.T) {
	client := fake.NewClientset()
	initialize(t, client, "")
	text, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	var want appsv1.DaemonSet
	if err := yaml.UnmarshalStrict(text, &want); err != nil {
		t.Fatal(err)
	}
	if got := daemonSet(t, client); !reflect.DeepEqual(got.Spec, want.Spec) || got.Name != want.Name {
		is, _ := yaml.Marshal(got.Spec)
		t.Errorf("kubeadm makes another one than %s:\n%s", golden, is)
	}
}

// cluster is what the phases of kubeadm upgrade see.
type cluster struct {
	client clientset.Interface
	config *kubeadmapi.InitConfiguration
	folder string
}

var _ upgrade.Data = cluster{}

func (cluster) EtcdUpgrade() bool                        { return false }
func (cluster) RenewCerts() bool                         { return false }
func (cluster) DryRun() bool                             { return false }
func (cluster) Cfg() *kubeadmapi.UpgradeConfiguration    { return &kubeadmapi.UpgradeConfiguration{} }
func (c cluster) InitCfg() *kubeadmapi.InitConfiguration { return c.config }
func (cluster) IsControlPlaneNode() bool                 { return true }
func (c cluster) Client() clientset.Interface            { return c.client }
func (cluster) IgnorePreflightErrors() sets.Set[string]  { return nil }
func (c cluster) PatchesDir() string                     { return c.folder }
func (cluster) OutputWriter() io.Writer                  { return io.Discard }
func (cluster) KubeConfigDir() string                    { return "" }
func (cluster) KubeletDir() string                       { return "" }

// upgradeTo runs the phase addon/kube-proxy of kubeadm upgrade.
func upgradeTo(t *testing.T, client clientset.Interface, version, folder string) {
	t.Helper()
	c := settings(t, version)
	for _, phase := range upgrade.NewAddonPhase().Phases {
		if phase.Name == "kube-proxy" {
			if err := phase.Run(cluster{client, c, folder}); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatal("kubeadm upgrade has no phase addon/kube-proxy")
}

// apiServer is the static pod by which kubeadm sees that a control plane node has been upgraded.
func apiServer(node string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "kube-apiserver-" + node, Namespace: space, Labels: map[string]string{"component": "kube-apiserver"}},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "kube-apiserver", Image: "kube-apiserver:v1.38.0"}}},
	}
}

func TestThePatchMakesKubeIPVSOfKubeProxyAndSurvivesAnUpgrade(t *testing.T) {
	client := fake.NewClientset(apiServer(settings(t, "v1.38.0").NodeRegistration.Name))
	initialize(t, client, patches)
	first := daemonSet(t, client)
	if is := program(first); is != ours {
		t.Fatalf("kubeadm init makes %s, want %s", is, ours)
	}
	upgradeTo(t, client, "v1.38.0", patches)
	if after := daemonSet(t, client); program(after) != ours || !reflect.DeepEqual(after.Spec.Selector, first.Spec.Selector) {
		t.Errorf("kubeadm upgrade makes %s, which selects %v", program(after), after.Spec.Selector)
	}
	// docs/install/kubeadm.md warns of this, and goes back by it.
	upgradeTo(t, client, "v1.38.0", "")
	if is := program(daemonSet(t, client)); is != theirs+"v1.38.0" {
		t.Errorf("kubeadm upgrade without the patches makes %s", is)
	}
	// A cluster that had kube-proxy gets kube-ipvs by the same phase.
	upgradeTo(t, client, "v1.38.0", patches)
	if is := program(daemonSet(t, client)); is != ours {
		t.Errorf("kubeadm upgrade with the patches makes %s of kube-proxy", is)
	}
}

func TestKubeadmTakesTheConfigurationsOfThePage(t *testing.T) {
	text, err := os.ReadFile(filepath.Clean(page))
	if err != nil {
		t.Fatal(err)
	}
	const fence = "```yaml kubeadm\n"
	blocks := strings.Split(string(text), fence)[1:]
	if len(blocks) < 3 {
		t.Errorf("%d blocks", len(blocks))
	}
	for _, b := range blocks {
		b, _, _ = strings.Cut(b, "```\n")
		if err := config.ValidateConfig([]byte(b), false, false); err != nil {
			t.Errorf("%v\n%s", err, b)
		}
	}
	if err := config.ValidateConfig([]byte("apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\npatches: {folder: a}\n"), false, false); err == nil {
		t.Error("an unknown field is taken")
	}
}

func TestKubeadmKnowsTheCommandsOfThePage(t *testing.T) {
	text, err := os.ReadFile(filepath.Clean(page))
	if err != nil {
		t.Fatal(err)
	}
	commands := 0
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, " #")
		words := strings.Fields(line)
		if len(words) == 0 || words[0] != "kubeadm" || strings.Contains(line, "`") {
			continue
		}
		commands++
		var out bytes.Buffer
		c, rest, err := cmd.NewKubeadmCommand(strings.NewReader(""), &out, &out).Find(words[1:])
		if err == nil {
			err = c.ParseFlags(rest)
		}
		if err == nil {
			err = c.ValidateArgs(c.Flags().Args())
		}
		if err != nil || !c.Runnable() {
			t.Errorf("%s: %v, runs %v", line, err, c.CommandPath())
		}
	}
	if commands < 5 {
		t.Errorf("%d commands", commands)
	}
}
