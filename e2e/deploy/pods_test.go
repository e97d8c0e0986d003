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

func TestNoContainerMayDoMoreThanItsWork(t *testing.T) {
	p := daemonSet(t).Spec.Template.Spec
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
	want := map[string][]corev1.Capability{"init": {"NET_ADMIN", "NET_RAW", "SYS_MODULE"}, "kube-ipvs": {"NET_ADMIN", "NET_RAW", "SYS_RESOURCE"}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("capabilities (-want +got):\n%s", d)
	}
}

func TestEveryMountHasItsVolumeAndOnlyWhatMustBeIsWritable(t *testing.T) {
	p := daemonSet(t).Spec.Template.Spec
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
	want := map[string]bool{"/run/xtables.lock": true, "/host/proc/sys/net": true, "/var/lib/kube-ipvs": true}
	if d := cmp.Diff(want, writable); d != "" || len(used) > 0 {
		t.Errorf("mounted without a volume: %v; writable (-want +got):\n%s", used, d)
	}
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
