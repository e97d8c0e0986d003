// SPDX-License-Identifier: Apache-2.0

package commands

import (
	"bytes"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-ipvs/kube-ipvs/internal/app"
	"github.com/kube-ipvs/kube-ipvs/internal/cli"
	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/linux"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

func TestTraceReadsAllTablesOfTheKernel(t *testing.T) {
	testkit.Namespace(t)
	tool(t, "", "ip", "link", "add", "eth0", "type", "dummy")
	tool(t, "", "ip", "address", "add", "192.0.2.1/24", "dev", "eth0")
	want := program(t)

	s, addresses, err := app.ReadNode(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(addresses, netip.MustParseAddr("192.0.2.1")) || slices.Contains(addresses, netip.MustParseAddr("10.96.0.1")) {
		t.Errorf("addresses %v", addresses)
	}
	maps.DeleteFunc(s.Sysctls, func(n state.SysctlName, _ string) bool { return want.Sysctls[n] == "" })
	if d := state.Diff(s, want); d.Len() != 0 {
		t.Errorf("read and not as written: %+v", d)
	}

	var out, failed bytes.Buffer
	env := cli.Env{Stdout: &out, Stderr: &failed, ReadNode: app.ReadNode, ReadRules: app.ReadRules}
	status := cli.Execute(t.Context(), env, strings.Fields("trace 192.0.2.1 10.96.0.1:443"))
	const text = "192.0.2.1 -> 10.96.0.1:443/TCP, from this node\n" +
		"answered by the one endpoint of default/kubernetes:https, which sees the client's own address, 192.0.2.1\n" +
		"  192.0.2.2:6443  weight 1\n"
	got, _, _ := strings.Cut(out.String(), "because\n")
	if d := cmp.Diff(text, got); status != cli.ExitOK || failed.Len() > 0 || d != "" {
		t.Errorf("status %d, stderr %q (-want +got):\n%s", status, failed.String(), d)
	}
}

// program writes the base and one virtual server to the kernel, and returns all rows.
func program(t *testing.T) state.State {
	t.Helper()
	c := config.Default()
	c.Families = linux.Families()
	want := plan.Base(c).State()
	k := state.VirtualServerKey{Address: netip.MustParseAddrPort("10.96.0.1:443"), Protocol: state.TCP}
	r := state.RealServerKey{Server: k, Address: netip.MustParseAddrPort("192.0.2.2:6443")}
	e := state.SetEntry{Set: "KUBE-CLUSTER-IP", Address: k.Address.Addr(), Protocol: state.TCP, Port: 443}
	want.VirtualServers[k] = state.VirtualServer{Scheduler: "rr", Prefix: 32}
	want.RealServers[r] = state.RealServer{Weight: 1}
	want.Entries[e] = state.Entry{Comment: "default/kubernetes:https"}
	want.Addresses[state.Address{Addr: k.Address.Addr()}] = state.Binding{}

	var names []state.SysctlName
	for name := range want.Sysctls {
		names = append(names, name)
	}
	kernel, err := linux.Open(t.Context(), linux.Ours{Set: plan.OurSet, Chain: plan.OurChain, Sysctls: names, Families: c.Families})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = kernel.Close() }()
	tables := kernel.Tables()
	have, err := tables.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tables.Apply(t.Context(), state.Diff(have, want))
	return want
}
