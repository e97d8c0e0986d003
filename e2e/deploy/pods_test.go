// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
)

func daemonSet(t *testing.T) *appsv1.DaemonSet {
	t.Helper()
	return one[*appsv1.DaemonSet](t, built(t, "base"))
}

func TestTheDaemonSetIsRolledOutNodeByNodeAndOutlivesEverybody(t *testing.T) {
	d := daemonSet(t)
	if r := d.Spec.UpdateStrategy.RollingUpdate; r == nil || *r.MaxUnavailable != intstr.FromInt32(1) || r.MaxSurge != nil {
		t.Errorf("rolled out by %v", r)
	}
	p := d.Spec.Template.Spec
	if !p.HostNetwork || p.PriorityClassName != "system-node-critical" || p.DNSPolicy != corev1.DNSDefault {
		t.Errorf("host network %v, priority %s, DNS %s", p.HostNetwork, p.PriorityClassName, p.DNSPolicy)
	}
	if everything := []corev1.Toleration{{Operator: corev1.TolerationOpExists}}; !slices.Equal(p.Tolerations, everything) {
		t.Errorf("tolerates %v", p.Tolerations)
	}
	if d.Spec.Selector.MatchLabels["k8s-app"] != d.Spec.Template.Labels["k8s-app"] {
		t.Errorf("selects %v, its pods have %v", d.Spec.Selector.MatchLabels, d.Spec.Template.Labels)
	}
}

// podOf returns the pod of the DaemonSet that a folder makes.
func podOf(t *testing.T, folder string) corev1.PodSpec {
	t.Helper()
	return one[*appsv1.DaemonSet](t, built(t, folder)).Spec.Template.Spec
}

func TestNoContainerMayDoMoreThanItsWork(t *testing.T) {
	for folder, want := range map[string]map[string][]corev1.Capability{
		"base":                       {"kube-ipvs": {"NET_ADMIN"}},
		"overlays/kube-proxy-config": {"kube-ipvs": {"NET_ADMIN", "NET_RAW"}, "modules": {"SYS_MODULE"}},
		"overlays/own-config":        {"kube-ipvs": {"NET_ADMIN", "NET_RAW"}, "modules": {"SYS_MODULE"}},
	} {
		if d := cmp.Diff(want, privileges(t, podOf(t, folder))); d != "" {
			t.Errorf("%s: capabilities (-want +got):\n%s", folder, d)
		}
	}
}

// privileges returns the capabilities of each container, and reports what else none may have.
func privileges(t *testing.T, p corev1.PodSpec) map[string][]corev1.Capability {
	t.Helper()
	if p.HostPID || p.HostIPC || p.SecurityContext.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Errorf("host PIDs %v, host IPC %v, seccomp %v", p.HostPID, p.HostIPC, p.SecurityContext.SeccompProfile)
	}
	got := map[string][]corev1.Capability{}
	for _, c := range slices.Concat(p.InitContainers, p.Containers) {
		s := c.SecurityContext
		if s.Privileged != nil || *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) {
			t.Errorf("%s: %v", c.Name, s)
		}
		got[c.Name] = s.Capabilities.Add
		if c.Resources.Requests.Cpu().IsZero() || c.Resources.Requests.Memory().IsZero() || len(c.Resources.Limits) > 0 {
			t.Errorf("%s asks for %v: it should ask for what it needs, and not be held to it", c.Name, c.Resources)
		}
	}
	return got
}

func TestEveryMountHasItsVolumeAndOnlyWhatMustBeIsWritable(t *testing.T) {
	own := map[string]bool{"/host/proc/sys/net": true, "/var/lib/kube-ipvs": true}
	if d := cmp.Diff(own, writableIn(t, podOf(t, "base"))); d != "" {
		t.Errorf("writable (-want +got):\n%s", d)
	}
	own["/run/xtables.lock"] = true
	if d := cmp.Diff(own, writableIn(t, podOf(t, "overlays/own-config"))); d != "" {
		t.Errorf("writable with iptables (-want +got):\n%s", d)
	}
}

// writableIn returns where containers of a pod may write, and reports mounts and volumes without each other.
func writableIn(t *testing.T, p corev1.PodSpec) map[string]bool {
	t.Helper()
	writable := map[string]bool{}
	used := map[string]bool{}
	for _, c := range slices.Concat(p.InitContainers, p.Containers) {
		for _, m := range c.VolumeMounts {
			used[m.Name] = true
			if !m.ReadOnly {
				writable[m.MountPath] = true
			}
		}
	}
	for _, v := range p.Volumes {
		if !used[v.Name] {
			t.Errorf("no container mounts %s", v.Name)
		}
		delete(used, v.Name)
	}
	if len(used) > 0 {
		t.Errorf("mounted without a volume: %v", used)
	}
	return writable
}

func TestProbesAskTheLoopbackAddressAtTheDefaultPorts(t *testing.T) {
	c := daemonSet(t).Spec.Template.Spec.Containers[0]
	serving := config.Default().Serving
	want := []corev1.ContainerPort{
		{Name: "healthz", ContainerPort: int32(serving.Healthz.Port())},
		{Name: "metrics", ContainerPort: int32(serving.Metrics.Port())},
	}
	if d := cmp.Diff(want, c.Ports); d != "" {
		t.Errorf("ports (-want +got):\n%s", d)
	}
	for page, p := range map[string]*corev1.Probe{"/livez": c.LivenessProbe, "/healthz": c.ReadinessProbe} {
		if g := p.HTTPGet; g.Path != page || g.Port.String() != "healthz" || g.Host != "127.0.0.1" {
			t.Errorf("asks %v for %s", g, page)
		}
	}
}

// The loop may take ten sync periods, at least five minutes, for one round before /livez fails at all.
func TestARestartTakesMinutesOfFailure(t *testing.T) {
	p := daemonSet(t).Spec.Template.Spec.Containers[0].LivenessProbe
	if seconds := p.PeriodSeconds * p.FailureThreshold; seconds < 300 {
		t.Errorf("restarted after %d s", seconds)
	}
}
