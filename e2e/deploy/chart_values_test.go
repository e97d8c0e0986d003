// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"

	"github.com/kube-ipvs/kube-ipvs/internal/config/proxyconfig"
)

// everyValue changes every value of the chart that has a place in an object.
const everyValue = `
image: {repository: registry.example.com/kube-ipvs, tag: v1-iptables, pullPolicy: Always}
imagePullSecrets: [{name: registry}]
apiServers: ["192.0.2.10:6443"]
apiServer: {host: api.example.com, port: 443}
healthz: {port: 20256}
metrics: {bindAddress: "::", port: 20249}
serviceAccount: {name: another, annotations: {a: b}}
commonLabels: {team: network}
annotations: {c: d}
podAnnotations: {e: f}
podLabels: {g: h}
updateStrategy: {type: OnDelete, rollingUpdate: null}
minReadySeconds: 3
terminationGracePeriodSeconds: 4
priorityClassName: system-cluster-critical
nodeSelector: {zone: a}
tolerations: [{key: only, operator: Exists}]
affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: k, operator: Exists}]}]}}}
podSecurityContext: {seLinuxOptions: {type: other_t}}
resources: {requests: {cpu: 1}, limits: {memory: 1Gi}}
livenessProbe: {periodSeconds: 61}
readinessProbe: {periodSeconds: 11}
extraArgs: [--v=4]
extraEnv: [{name: GOMEMLIMIT, value: 500MiB}]
extraVolumes: [{name: ca, configMap: {name: ca}}]
extraVolumeMounts: [{name: ca, mountPath: /etc/ssl/certs, readOnly: true}]
`

func TestValuesReachTheirPlace(t *testing.T) {
	objects := renderedFile(t, everyValue)
	d := one[*appsv1.DaemonSet](t, objects)
	p := d.Spec.Template.Spec
	for what, holds := range map[string]bool{
		"labels":            d.Labels["team"] == "network" && d.Spec.Template.Labels["g"] == "h",
		"annotations":       d.Annotations["c"] == "d" && d.Spec.Template.Annotations["e"] == "f",
		"updateStrategy":    d.Spec.UpdateStrategy.Type == appsv1.OnDeleteDaemonSetStrategyType && d.Spec.UpdateStrategy.RollingUpdate == nil,
		"seconds":           d.Spec.MinReadySeconds == 3 && *p.TerminationGracePeriodSeconds == 4,
		"priorityClassName": p.PriorityClassName == "system-cluster-critical",
		"imagePullSecrets":  slices.Equal(p.ImagePullSecrets, []corev1.LocalObjectReference{{Name: "registry"}}),
		"nodeSelector":      p.NodeSelector["zone"] == "a" && p.NodeSelector["kubernetes.io/os"] == "linux",
		"tolerations":       len(p.Tolerations) == 1 && p.Tolerations[0].Key == "only",
		"affinity":          p.Affinity != nil && p.Affinity.NodeAffinity != nil,
		"podSecurityContext": p.SecurityContext.SELinuxOptions.Type == "other_t" &&
			p.SecurityContext.SeccompProfile.Type == corev1.SeccompProfileTypeRuntimeDefault,
		"serviceAccount": p.ServiceAccountName == "another" && one[*corev1.ServiceAccount](t, objects, "another").Annotations["a"] == "b" &&
			one[*rbacv1.ClusterRoleBinding](t, objects).Subjects[0].Name == "another",
		"ports": cmp.Equal(p.Containers[0].Ports, []corev1.ContainerPort{{Name: "healthz", ContainerPort: 20256}, {Name: "metrics", ContainerPort: 20249}}),
		"probes": p.Containers[0].LivenessProbe.PeriodSeconds == 61 && p.Containers[0].LivenessProbe.FailureThreshold == 5 &&
			p.Containers[0].ReadinessProbe.PeriodSeconds == 11,
	} {
		if !holds {
			t.Errorf("%s is not at its place", what)
		}
	}
	for _, c := range slices.Concat(p.InitContainers, p.Containers) {
		checkContainerValues(t, c)
	}
	c := pairOf(t, one[*corev1.ConfigMap](t, objects).Data["config.yaml"]).Proxy
	if c.HealthzBindAddress != "0.0.0.0:20256" || c.MetricsBindAddress != "[::]:20249" {
		t.Errorf("listens at %s and %s", c.HealthzBindAddress, c.MetricsBindAddress)
	}
}

func checkContainerValues(t *testing.T, c corev1.Container) {
	t.Helper()
	env := map[string]string{}
	for _, e := range c.Env {
		env[e.Name] = e.Value
	}
	want := map[string]string{"NODE_NAME": "", "KUBERNETES_SERVICE_HOST": "api.example.com", "KUBERNETES_SERVICE_PORT": "443", "GOMEMLIMIT": "500MiB"}
	mount := corev1.VolumeMount{Name: "ca", MountPath: "/etc/ssl/certs", ReadOnly: true}
	switch {
	case c.Image != "registry.example.com/kube-ipvs:v1-iptables" || c.ImagePullPolicy != corev1.PullAlways:
		t.Errorf("%s: pulls %s %s", c.Name, c.Image, c.ImagePullPolicy)
	case !maps.Equal(env, want):
		t.Errorf("%s: environment %v", c.Name, env)
	case !slices.Contains(c.Args, "--v=4") || !slices.Contains(c.VolumeMounts, mount):
		t.Errorf("%s: %v, %v", c.Name, c.Args, c.VolumeMounts)
	case c.Resources.Limits.Memory().String() != "1Gi" || c.Resources.Requests.Cpu().String() != "1":
		t.Errorf("%s: %v", c.Name, c.Resources)
	}
}

func TestValuesLeaveOutWhatTheyTurnOff(t *testing.T) {
	for value, kinds := range map[string][]string{
		"rbac.create=false":           {"ConfigMap", "DaemonSet", "ServiceAccount"},
		"serviceAccount.create=false": {"ClusterRole", "ClusterRoleBinding", "ConfigMap", "DaemonSet"},
	} {
		var got []string
		for _, o := range rendered(t, anAPIServer, value) {
			got = append(got, o.kind)
		}
		if slices.Sort(got); !slices.Equal(got, kinds) {
			t.Errorf("%s makes %v, want %v", value, got, kinds)
		}
	}
	p := one[*appsv1.DaemonSet](t, rendered(t, anAPIServer, "modules.load=false", "image.digest=sha256:"+strings.Repeat("a", 64))).Spec.Template.Spec
	init := p.InitContainers[0]
	if slices.Contains(init.SecurityContext.Capabilities.Add, "SYS_MODULE") || slices.ContainsFunc(p.Volumes, func(v corev1.Volume) bool { return v.Name == "modules" }) {
		t.Errorf("without modules: %v, %v", init.SecurityContext.Capabilities, p.Volumes)
	}
	if want := "kube-ipvs@sha256:" + strings.Repeat("a", 64); init.Image != want {
		t.Errorf("the image is %s, want %s", init.Image, want)
	}
}

// The firewall is left to the program unless it is chosen.
func TestTheFirewallIsWrittenOnlyIfItIsChosen(t *testing.T) {
	for value, want := range map[string]bool{"": false, "auto": true, "nftables": true, "iptables": true} {
		out, _, err := templated(t, anAPIServer, "firewall="+value)
		if written := strings.Contains(out, "\n    firewall: "+value+"\n"); err != nil || written != want {
			t.Errorf("firewall=%s: %v, written: %v", value, err, written)
		}
	}
}

func TestAWrongValueIsRefusedWithItsName(t *testing.T) {
	for values, says := range map[string]string{
		"":                                     "apiServers: name IP:port of every API server",
		"apiServers={api.example.com:6443}":    "apiServers/0",
		"apiServers={192.0.2.10}":              "apiServers/0",
		"firewall=ipchains":                    "firewall",
		"clusterCIDR=10.244.0.0":               "clusterCIDR",
		"image.pullPolicy=Sometimes":           "image/pullPolicy",
		"imagePullSecrets={registry}":          "imagePullSecrets/0",
		"images.tag=v1":                        "'images' not allowed",
		"kubeProxyConfiguration.mode=iptables": "kubeProxyConfiguration/mode",

		"kubeIPVSConfiguration.drainTime=5m":      "'drainTime' not allowed",
		"kubeIPVSConfiguration.drainTimeout=soon": "kubeIPVSConfiguration/drainTimeout",
		"kubeIPVSConfiguration.vipBinding=routes": "kubeIPVSConfiguration/vipBinding",
		"metrics.port=0":                          "metrics/port",
		"updateStrategy.rollingUpdate.maxSurge=1": "updateStrategy/rollingUpdate/maxSurge",
		"extraArgs={v=4}":                         "extraArgs/0",
	} {
		_, stderr, err := templated(t, strings.Fields(values)...)
		if err == nil || !strings.Contains(stderr, says) {
			t.Errorf("%s: %v, want %s\n%s", values, err, says, stderr)
		}
	}
	for value, says := range map[string]string{
		"kubeProxyConfiguration.metricsBindAddress=0.0.0.0": "kubeProxyConfiguration.metricsBindAddress: set the value metrics of the chart",
		"kubeIPVSConfiguration.firewall=nftables":           "kubeIPVSConfiguration.firewall: set the value firewall of the chart",
	} {
		if _, stderr, err := templated(t, anAPIServer, value); err == nil || !strings.Contains(stderr, says) {
			t.Errorf("%s: %v, want %s\n%s", value, err, says, stderr)
		}
	}
	for value, says := range map[string]string{
		"clusterCIDR=10.244.0.0/16":                 "clusterCIDR: existingConfigMap is set",
		"kubeProxyConfiguration.ipvs.strictARP=yes": "kubeProxyConfiguration: existingConfigMap is set",
	} {
		if _, stderr, err := templated(t, "existingConfigMap.name=kube-proxy", value); err == nil || !strings.Contains(stderr, says) {
			t.Errorf("%s: %v, want %s\n%s", value, err, says, stderr)
		}
	}
}

// schema is the used part of a JSON schema.
type schema struct {
	Properties map[string]json.RawMessage
}

func properties(t *testing.T, text []byte) map[string]json.RawMessage {
	t.Helper()
	var s schema
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	return s.Properties
}

func TestTheSchemaHasEveryValueAndEveryFieldOfOurs(t *testing.T) {
	all := properties(t, read(t, chart+"/values.schema.json"))
	var values map[string]any
	if err := yaml.Unmarshal(read(t, chart+"/values.yaml"), &values); err != nil {
		t.Fatal(err)
	}
	values["global"] = nil // Helm's own
	if d := cmp.Diff(slices.Sorted(maps.Keys(values)), slices.Sorted(maps.Keys(all))); d != "" {
		t.Errorf("values.yaml (-) and values.schema.json (+):\n%s", d)
	}
	readme := string(read(t, chart+"/README.md"))
	for name := range values {
		if name != "global" && !strings.Contains(readme, "`"+name) {
			t.Errorf("README.md of the chart does not explain %s", name)
		}
	}
	known := map[string]bool{}
	for name := range properties(t, all["kubeIPVSConfiguration"]) {
		known[name] = true
	}
	fields := map[string]bool{"firewall": true} // which the program may not have yet
	own := reflect.TypeFor[proxyconfig.KubeIPVSConfiguration]()
	for i := range own.NumField() {
		if name, _, _ := strings.Cut(own.Field(i).Tag.Get("json"), ","); name != "" {
			fields[name] = true
		}
	}
	if d := cmp.Diff(fields, known); d != "" {
		t.Errorf("KubeIPVSConfiguration (-) and kubeIPVSConfiguration in values.schema.json (+):\n%s", d)
	}
}

func TestTheChartIsPackagedAndPassesItsLint(t *testing.T) {
	out, stderr, err := helm(t, "lint", "--strict", chart, "--set", anAPIServer)
	if err != nil || strings.Contains(out, "[WARNING]") {
		t.Errorf("helm lint: %v\n%s%s", err, out, stderr)
	}
	folder := t.TempDir()
	if _, stderr, err := helm(t, "package", chart, "--destination", folder); err != nil {
		t.Fatalf("helm package: %v\n%s", err, stderr)
	}
	if _, stderr, err := helm(t, "template", folder+"/kube-ipvs-0.1.0.tgz", "--set", anAPIServer); err != nil {
		t.Errorf("helm template of the package: %v\n%s", err, stderr)
	}
}

// The notes are shown after an installation. Their commands are held to the same programs as those of the documents.
func TestTheNotesNameCommandsThatWork(t *testing.T) {
	for _, values := range [][]string{{anAPIServer}, {anAPIServer, "migrate.enabled=true"}} {
		args := []string{"install", "kube-ipvs", chart, "--namespace", "kube-system", "--dry-run=client"}
		for _, v := range values {
			args = append(args, "--set", v)
		}
		out, stderr, err := helm(t, args...)
		_, notes, found := strings.Cut(out, "NOTES:")
		if err != nil || !found {
			t.Fatalf("helm install: %v\n%s%s", err, out, stderr)
		}
		commands := 0
		for line := range strings.Lines(notes) {
			if command, is := strings.CutPrefix(line, "  kubectl "); is {
				commands++
				if err := checkLine(t, "kubectl "+strings.TrimSpace(command)); err != nil {
					t.Errorf("%s: %v", line, err)
				}
			}
		}
		if commands < 4 {
			t.Errorf("%d commands in\n%s", commands, notes)
		}
	}
}
