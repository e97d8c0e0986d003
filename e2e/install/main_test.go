// SPDX-License-Identifier: Apache-2.0

// Package install gives what operators install to a real API server: the objects of the chart by the real helm, and
// kube-proxy's DaemonSet of kubeadm with our patch. It looks for fields that the API server does not know, for
// warnings, and for rights that kube-ipvs lacks. No pod is started: there is no kubelet.
//
// Package deploy compares the chart with the overlays, and package cluster runs the program with the shipped roles.
package install

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/kube-ipvs/kube-ipvs/e2e/control"
	"github.com/kube-ipvs/kube-ipvs/e2e/world"
)

const (
	root  = "../.."
	chart = root + "/manifests/chart/kube-ipvs"
	space = "kube-system"

	// helmEnv names the program helm. Building it in user-mode Linux would take an hour.
	helmEnv = "HELM"
)

// site is what all tests of this package share: an API server takes a quarter of a minute to start.
type site struct {
	world      *world.World
	host       *world.Host
	plane      *control.Plane
	admin      *kubernetes.Clientset
	warnings   *warnings
	kubeconfig string
	helm       string
}

var shared site

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	status := 1
	err := shared.open(context.Background())
	if err == nil {
		status = m.Run()
	}
	if err = errors.Join(err, shared.close()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return status
}

func (s *site) open(ctx context.Context) (err error) {
	if s.helm = os.Getenv(helmEnv); s.helm == "" {
		return fmt.Errorf("%s does not name the program helm: run this with make e2e, or with make cluster-test PKG=./e2e/install", helmEnv)
	}
	if s.world, err = world.New(world.Topology{Outside: []world.Outside{control.Host()}}); err != nil {
		return err
	}
	s.host = s.world.Host("control")
	if s.plane, err = control.New(ctx, s.host); err != nil {
		return err
	}
	server, err := s.plane.Serve(ctx, control.Host().Addresses[0].Addr())
	if err != nil {
		return err
	}
	if s.kubeconfig, err = s.plane.Kubeconfig("admin", server.Address, s.plane.Admin()); err != nil {
		return err
	}
	c, err := s.plane.Config(server.Address, s.plane.Admin())
	if err != nil {
		return err
	}
	s.warnings = &warnings{}
	c.WarningHandler = s.warnings
	s.admin, err = kubernetes.NewForConfig(c)
	return err
}

func (s *site) close() error {
	var err error
	if s.plane != nil {
		err = s.plane.Close()
	}
	if s.world != nil {
		s.world.Close()
	}
	return err
}

// warnings keeps what the API server warns of.
type warnings struct {
	mutex sync.Mutex
	texts []string
}

var _ rest.WarningHandler = (*warnings)(nil)

// HandleWarningHeader keeps a warning.
func (w *warnings) HandleWarningHeader(_ int, _, text string) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.texts = append(w.texts, text)
}

// take returns the warnings since the last call.
func (w *warnings) take() []string {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	defer func() { w.texts = nil }()
	return slices.Clone(w.texts)
}

// runHelm runs helm beside the API server, with a home of its own.
func runHelm(t *testing.T, args ...string) string {
	t.Helper()
	home := t.TempDir()
	env := []string{"env", "-i", "HOME=" + home, "PATH=" + os.Getenv("PATH"), "KUBECONFIG=" + shared.kubeconfig, shared.helm}
	out, err := shared.host.Run(t.Context(), slices.Concat(env, args, []string{"--namespace", space})...)
	if err != nil {
		t.Fatalf("helm %v: %v", args, err)
	}
	return out
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		t.Fatal(err)
	}
	return text
}
