// SPDX-License-Identifier: Apache-2.0

package pod_test

import (
	"strings"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

// unload takes IPVS out of the kernel. The test's namespace, which the kernel made with it, has to be the only one.
func unload(t *testing.T) {
	t.Helper()
	testkit.Namespace(t)
	for line := range strings.Lines(string(read(t, "/proc/modules"))) {
		if name, _, _ := strings.Cut(line, " "); strings.HasPrefix(name, "ip_vs_") {
			testkit.Tool(t, "rmmod", name)
		}
	}
	testkit.Tool(t, "rmmod", "ip_vs")
	t.Cleanup(func() { testkit.Tool(t, "modprobe", "ip_vs") })
}

func loaded(t *testing.T) bool {
	t.Helper()
	return strings.Contains("\n"+string(read(t, "/proc/modules")), "\nip_vs ")
}

// By one request for IPVS, from any container: since Linux 5.16.
func TestTheKernelLoadsIPVSByItself(t *testing.T) {
	unload(t)
	if loaded(t) {
		t.Fatal("IPVS is still loaded")
	}
	inNamespace(t, withManifests(shipped(t)), "kube-ipvs", "dump")
	if !loaded(t) {
		t.Error("the kernel did not load IPVS")
	}
}
