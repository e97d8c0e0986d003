// SPDX-License-Identifier: Apache-2.0

package linux_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/linux"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

func TestTheRealKernelKeepsTheContract(t *testing.T) {
	testkit.Contract(t, state.OnIPTables, func(t testing.TB) kernel.Tables {
		k := open(t, "net/ipv4/vs/conntrack", "net/ipv4/ip_forward")
		for _, a := range testkit.Sources() {
			testkit.Tool(t, "ip", "address", "add", netip.PrefixFrom(a, a.BitLen()).String(), "dev", "lo")
		}
		return k.Tables()
	})
}

// open opens the kernel of a network namespace of the test's own.
func open(t testing.TB, settings ...state.SysctlName) *linux.Kernel {
	t.Helper()
	testkit.Namespace(t)
	k, err := linux.Open(context.Background(), linux.Ours{
		Set:      func(n state.SetName) bool { return strings.HasPrefix(string(n), "KUBE-") },
		Chain:    func(name string) bool { return strings.HasPrefix(name, "KUBE-") },
		Sysctls:  settings,
		Families: linux.Families(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	return k
}
