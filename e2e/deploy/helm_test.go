// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// chart is the Helm chart.
const chart = manifests + "/chart/kube-ipvs"

// anAPIServer is the one value that has no default.
const anAPIServer = "apiServers={192.0.2.10:6443}"

// helmEnv names the program helm, which make builds of the module e2e/helm.
const helmEnv = "HELM"

// helmProgram returns the path of helm. Without make it is built here, once.
var helmProgram = sync.OnceValues(func() (string, error) {
	if program := os.Getenv(helmEnv); program != "" {
		return program, nil
	}
	c := exec.Command("go", "tool", "-n", "helm")
	c.Dir = filepath.Join(root, "e2e/helm")
	c.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS="+os.Getenv("GOFLAGS")+" -trimpath")
	c.Stderr = os.Stderr
	out, err := c.Output()
	return strings.TrimSpace(string(out)), err
})

// helm runs helm with a home of its own and without a cluster.
func helm(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	program, err := helmProgram()
	if err != nil {
		t.Fatalf("building helm: %v", err)
	}
	home := t.TempDir()
	var out, complaints bytes.Buffer
	c := exec.Command(program, args...)
	c.Env = []string{"HOME=" + home, "PATH=" + os.Getenv("PATH"), "KUBECONFIG=" + filepath.Join(home, "none")}
	c.Stdout, c.Stderr = &out, &complaints
	err = c.Run()
	return out.String(), complaints.String(), err
}

// templated runs helm template with values as --set has them.
func templated(t *testing.T, values ...string) (stdout, stderr string, err error) {
	t.Helper()
	args := []string{"template", "kube-ipvs", chart, "--namespace", "kube-system"}
	for _, v := range values {
		args = append(args, "--set", v)
	}
	return helm(t, args...)
}

// rendered returns the objects that the chart makes of some values.
func rendered(t *testing.T, values ...string) []object {
	t.Helper()
	out, stderr, err := templated(t, values...)
	if err != nil || stderr != "" {
		t.Fatalf("helm template with %q: %v\n%s", values, err, stderr)
	}
	return decoded(t, strings.Join(values, " "), []byte("\n"+out))
}

// renderedFile returns the objects that the chart makes of a file of values.
func renderedFile(t *testing.T, values string) []object {
	t.Helper()
	file := filepath.Join(t.TempDir(), "values.yaml")
	write(t, file, values)
	out, stderr, err := helm(t, "template", "kube-ipvs", chart, "--namespace", "kube-system", "--values", file)
	if err != nil || stderr != "" {
		t.Fatalf("helm template with\n%s: %v\n%s", values, err, stderr)
	}
	return decoded(t, "the chart", []byte("\n"+out))
}
