// SPDX-License-Identifier: Apache-2.0

package pod_test

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/kube-ipvs/kube-ipvs/e2e/execs"
	"github.com/kube-ipvs/kube-ipvs/e2e/pod"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

// inNamespace runs the program of the base's pod in the test's own network namespace with other arguments, and returns
// what it prints.
func inNamespace(t *testing.T, p corev1.PodSpec, container string, args ...string) string {
	t.Helper()
	demo, err := filepath.Abs(filepath.Join(manifests, "demo"))
	if err != nil {
		t.Fatal(err)
	}
	n := pod.Node{Name: "node-1", Images: images(t), Root: t.TempDir(), ConfigMaps: map[string]string{"manifests": demo}}
	if len(args) > 0 {
		p.Containers[0].Args = args
	}
	c, err := n.Container(p, container)
	if err != nil {
		t.Fatal(err)
	}
	testkit.CloseAtEnd(t, c)
	record := filepath.Join(t.TempDir(), "execs")
	argv := execs.Trace(record, c.Argv()...)
	command := exec.Command(argv[0], argv[1:]...)
	var out, complaints bytes.Buffer
	command.Stdout, command.Stderr = &out, &complaints
	if err := command.Run(); err != nil {
		t.Fatalf("%v: %v\n%s%s", args, err, out.String(), complaints.String())
	}
	if got := executed(t, record); len(got) > 0 {
		t.Errorf("%v executed %q", args, got)
	}
	return out.String()
}

// The image without any other program answers in the pod of the base, and without executing one.
func TestTheBareImageAnswersInThePodOfTheDaemonSet(t *testing.T) {
	testkit.Namespace(t)
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"version"}, "kube-ipvs "},
		{[]string{"plan", "-f", "/manifests", "--node", "node-1", "-o", "ipvsadm"}, "-A -t 10.96.0.80:80 -s rr\n"},
		{[]string{"dump"}, "IP Virtual Server version"},
	} {
		if out := inNamespace(t, withManifests(shipped(t)), "kube-ipvs", c.args...); !strings.Contains(out, c.says) {
			t.Errorf("%v prints\n%s", c.args, out)
		}
	}
}
