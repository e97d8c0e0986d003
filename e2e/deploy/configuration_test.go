// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"bytes"
	"context"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/kube-ipvs/kube-ipvs/internal/cli"
)

// understood returns the daemons that the containers of an overlay start with its ConfigMap in a folder of the test's.
func understood(t *testing.T, overlay, mounted, folder string) (daemons map[string]cli.Daemon, complaints string) {
	t.Helper()
	d := one[*appsv1.DaemonSet](t, built(t, "overlays/"+overlay), "kube-ipvs")
	return understoodIn(t, d, map[string]string{mounted: folder})
}

// understoodIn returns the daemons that the containers of a DaemonSet start, with folders of the test's in place of
// those that are mounted.
func understoodIn(t *testing.T, d *appsv1.DaemonSet, folders map[string]string) (daemons map[string]cli.Daemon, complaints string) {
	t.Helper()
	p := d.Spec.Template.Spec
	daemons = map[string]cli.Daemon{}
	var stderr bytes.Buffer
	for _, c := range slices.Concat(p.InitContainers, p.Containers) {
		var args []string
		for _, a := range c.Args {
			for mounted, folder := range folders {
				if strings.Contains(a, mounted+"/") && !slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool {
					return m.MountPath == mounted && m.SubPath == "" && m.ReadOnly
				}) {
					t.Errorf("%s has no %s, or a file of it that would never change", c.Name, mounted)
				}
				a = strings.ReplaceAll(a, mounted+"/", folder+"/")
			}
			args = append(args, strings.ReplaceAll(a, "$(NODE_NAME)", "Node-1"))
		}
		env := cli.Env{Stdout: &stderr, Stderr: &stderr, Run: func(_ context.Context, d cli.Daemon) error {
			daemons[c.Name] = d
			return nil
		}}
		if status := cli.Execute(t.Context(), env, args); (status == cli.ExitOK) != (stderr.Len() == 0) {
			t.Errorf("%s %v: status %d, %s", c.Name, args, status, stderr.String())
		}
	}
	return daemons, stderr.String()
}

func checkDaemons(t *testing.T, daemons map[string]cli.Daemon) {
	t.Helper()
	for name, d := range daemons {
		c := d.Config
		if c.Hostname != "node-1" || d.Manifests != "" || d.InitOnly != (name == "init") || c.Serving.Healthz.Port() != 10256 || c.Serving.Metrics.Port() != 10249 {
			t.Errorf("%s is to run %+v", name, d)
		}
	}
	if file := daemons["kube-ipvs"].Config.Snapshot.File; filepath.Dir(file) != "/var/lib/kube-ipvs" {
		t.Errorf("the snapshot is %q, which no volume keeps", file)
	}
	if len(daemons) != 2 {
		t.Errorf("%d containers were understood", len(daemons))
	}
}

// Until Kubernetes 1.36 kubeadm wrote no mode, which meant iptables. Since then it writes that.
func TestKubeadmsConfigMapIsTakenAsItIs(t *testing.T) {
	text := string(read(t, root+"/internal/config/proxyconfig/testdata/kubeadm.yaml"))
	const none = "\nmode: \"\"\n"
	if !strings.Contains(text, none) {
		t.Fatal("kubeadm's file has a mode")
	}
	quotes := slices.DeleteFunc(spans(t), func(s span) bool { return !strings.HasPrefix(s.text, "mode: iptables, ") })
	for mode, warning := range map[string]string{none: "mode: empty, ", "\nmode: iptables\n": "mode: iptables, "} {
		for _, overlay := range []string{"kube-proxy-config", "migrate"} {
			folder := t.TempDir()
			write(t, filepath.Join(folder, "config.conf"), strings.Replace(text, none, mode, 1))
			daemons, _ := understood(t, overlay, "/var/lib/kube-proxy", folder)
			checkDaemons(t, daemons)
			d := daemons["kube-ipvs"]
			if k := d.Config.Client.Kubeconfig; k != "/var/lib/kube-proxy/kubeconfig.conf" {
				t.Errorf("%s: the kubeconfig is %q", overlay, k)
			}
			if len(d.Warnings) != 2 || !strings.HasPrefix(d.Warnings[0], warning) || !strings.HasPrefix(d.Warnings[1], "nodePortAddresses: ") {
				t.Errorf("%s: warns of %q, want one warning of the mode and one of NodePorts", overlay, d.Warnings)
			}
			if mode != none && !slices.ContainsFunc(quotes, func(s span) bool { return strings.HasPrefix(d.Warnings[0], s.text) }) {
				t.Errorf("%s: no document quotes the warning %q", overlay, d.Warnings[0])
			}
		}
	}
}

func TestTheConfigurationOfOurOwnHasOnlyTheAPIServersToFillIn(t *testing.T) {
	text := one[*corev1.ConfigMap](t, built(t, "overlays/own-config")).Data["config.yaml"]
	folder := t.TempDir()
	file := filepath.Join(folder, "config.yaml")
	write(t, file, text)
	if daemons, complaints := understood(t, "own-config", "/etc/kube-ipvs", folder); len(daemons) > 0 || !strings.Contains(complaints, `apiServers[0]: `) {
		t.Errorf("taken without an API server: %v, %s", daemons, complaints)
	}
	write(t, file, strings.Replace(text, "FILL-IN", `"192.0.2.10:6443", "[2001:db8::10]:6443"`, 1))
	daemons, complaints := understood(t, "own-config", "/etc/kube-ipvs", folder)
	if complaints != "" {
		t.Fatal(complaints)
	}
	checkDaemons(t, daemons)
	want := []netip.AddrPort{netip.MustParseAddrPort("192.0.2.10:6443"), netip.MustParseAddrPort("[2001:db8::10]:6443")}
	if got := daemons["kube-ipvs"].Config.Client.Servers; !slices.Equal(got, want) {
		t.Errorf("API servers are %v, want %v", got, want)
	}
	if len(daemons["kube-ipvs"].Warnings) > 1 {
		t.Errorf("warns of %q", daemons["kube-ipvs"].Warnings)
	}
}
