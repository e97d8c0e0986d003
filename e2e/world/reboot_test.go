// SPDX-License-Identifier: Apache-2.0

package world_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/e2e/world"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

func TestARebootLeavesANodeItsWiresAndNothingElse(t *testing.T) {
	w := build(t, routing())
	serve(t, w, "pod-a", "pod-d")
	node := w.Host("node-1")
	run := func(argv ...string) string {
		t.Helper()
		output, err := node.Run(t.Context(), argv...)
		if err != nil {
			t.Fatal(err)
		}
		return output
	}
	blank := run("ip", "-o", "addr", "show", "scope", "global")
	run("ip", "link", "add", "kube-ipvs0", "type", "dummy")
	run("ipset", "create", "KUBE-X", "hash:ip")
	run("ipvsadm", "-A", "-t", "10.96.0.1:80")
	left, err := node.Launch(t.TempDir(), "sleep", "60")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(left.Kill)

	if err := w.Reboot("node-1"); err != nil {
		t.Fatal(err)
	}
	if sets, servers := run("ipset", "list", "-name"), run("ipvsadm", "-Sn"); sets != "" || servers != "" {
		t.Errorf("after the reboot there are the sets %q and the virtual servers %q", sets, servers)
	}
	if again := withoutIndexes(run("ip", "-o", "addr", "show", "scope", "global")); again != withoutIndexes(blank) {
		t.Errorf("addresses after the reboot:\n%s\nbefore:\n%s", again, blank)
	}
	for _, way := range []struct{ from, to string }{
		{"pod-client", "pod-a"}, {"pod-a", "pod-d"}, {"pod-d", "pod-a"}, {"node-1", "pod-a"},
	} {
		for _, f := range families() {
			reply, err := w.Host(way.from).Ask(t.Context(), state.TCP, netip.AddrPortFrom(w.Host(way.to).Addr(f), port))
			if err != nil || reply.Server != way.to {
				t.Errorf("%s to %s, %v: %v, %v", way.from, way.to, f, reply, err)
			}
		}
	}
}

func TestOnlyANodeIsRebooted(t *testing.T) {
	w := build(t, world.Small())
	if err := w.Reboot("client"); err == nil {
		t.Error("a host outside was rebooted")
	}
}

// withoutIndexes removes link numbers, which are never reused, from the output of ip -o and sorts its lines.
func withoutIndexes(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		lines = append(lines, strings.Join(fields[1:4], " "))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
