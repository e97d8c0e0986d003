// SPDX-License-Identifier: Apache-2.0

package commands

import (
	"bytes"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/kube-ipvs/kube-ipvs/internal/app"
	"github.com/kube-ipvs/kube-ipvs/internal/cli"
	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/linux"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/render"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

// planned returns the output of kube-ipvs plan for testdata/cluster.yaml.
func planned(t *testing.T, binding config.VIPBinding, output string) string {
	t.Helper()
	manifests, err := os.ReadFile("testdata/cluster.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	env := cli.Env{Stdin: bytes.NewReader(manifests), Stdout: &stdout, Stderr: &stderr}
	args := strings.Fields("plan -f - --node n1 --cluster-cidr 10.244.0.0/16,fd00:10:244::/56 --answer-ping --service-cidrs 10.96.0.0/16" +
		" --ipvs-udp-timeout 300s --vip-binding " + string(binding) + " -o " + output)
	if status := cli.Execute(t.Context(), env, args); status != cli.ExitOK || stderr.Len() > 0 {
		t.Fatalf("status %d, stderr %q", status, stderr.String())
	}
	return stdout.String()
}

// listed returns the kernel as the daemon reads it, with the sysctls that want has.
func listed(t *testing.T, want state.State) state.State {
	t.Helper()
	ours := linux.Ours{Set: plan.OurSet, Chain: plan.OurChain, Families: linux.Families()}
	for name := range want.Sysctls {
		ours.Sysctls = append(ours.Sysctls, name)
	}
	k, err := linux.Open(t.Context(), ours)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	}()
	s, err := k.Tables().List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	maps.DeleteFunc(s.Sysctls, func(name state.SysctlName, _ string) bool { _, ok := want.Sysctls[name]; return !ok })
	return s
}

func TestTheToolsMakeOfAPlanWhatTheDaemonWouldMake(t *testing.T) {
	for _, binding := range []config.VIPBinding{config.AddressBinding, config.RouteBinding} {
		t.Run(string(binding), func(t *testing.T) { toolsMakeOfAPlan(t, binding) })
	}
}

func toolsMakeOfAPlan(t *testing.T, binding config.VIPBinding) {
	testkit.Namespace(t)
	planned := func(t *testing.T, output string) string { return planned(t, binding, output) }
	want, err := render.ParseState(strings.NewReader(planned(t, "text")))
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range want.Addresses {
		if b.Source.IsValid() { // the node has it
			tool(t, "", "ip", "address", "replace", b.Source.String(), "dev", "lo")
		}
	}
	for _, step := range []struct{ output, command string }{
		{"sysctl", "sysctl -p -"},
		{"ipset", "ipset restore"},
		{"iptables", "iptables-restore --noflush"},
		{"ip6tables", "ip6tables-restore --noflush"},
		{"ipvsadm", "ipvsadm --restore"},
		{"ip", "ip -batch -"},
	} {
		tool(t, planned(t, step.output), strings.Fields(step.command)...)
	}
	for name, n := range map[string]int{
		"sets": len(want.Sets), "entries": len(want.Entries), "chains": len(want.Chains), "jumps": len(want.Jumps),
		"virtual servers": len(want.VirtualServers), "real servers": len(want.RealServers), "addresses": len(want.Addresses),
	} {
		if n == 0 {
			t.Errorf("no %s are planned", name)
		}
	}
	// Real servers by netlink: while another network namespace has virtual servers, perhaps that of an earlier test,
	// /proc/net/ip_vs omits some.
	_, rows, _ := strings.Cut(planned(t, "ipvsadm"), "\n")
	if d := cmp.Diff(sorted(rows), sorted(tool(t, "", "ipvsadm", "-Sn"))); d != "" {
		t.Errorf("virtual and real servers (-plan +ipvsadm):\n%s", d)
	}
	got := listed(t, want)
	got.RealServers = want.RealServers
	exact := cmp.Options{cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{}), cmpopts.EquateEmpty()}
	if d := cmp.Diff(want, got, exact); d != "" {
		t.Errorf("the kernel (-plan +listed):\n%s", d)
	}
}

func sorted(text string) []string { return slices.Sorted(strings.Lines(text)) }

func TestRunRefusesASchedulerThatTheKernelHasNot(t *testing.T) {
	testkit.Namespace(t)
	c := config.Default()
	c.Scheduler = "nonsense"
	err := app.Run(t.Context(), cli.Daemon{Manifests: t.TempDir(), Config: c})
	if err == nil || !strings.HasPrefix(err.Error(), `--ipvs-scheduler: this kernel has no scheduler "nonsense"; it has `) ||
		!strings.Contains(err.Error(), "rr") || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v", err)
	}
	if s, _ := read(t); len(s.VirtualServers) != 0 {
		t.Errorf("left over: %v", s.VirtualServers)
	}
}
