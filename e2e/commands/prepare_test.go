// SPDX-License-Identifier: Apache-2.0

package commands

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/app"
	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/linux"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

// poorEnv makes this program write all rows of the base and print the failures, instead of running its tests.
const poorEnv = "KUBE_IPVS_WRITE_BASE"

func TestMain(m *testing.M) {
	if os.Getenv(poorEnv) == "" {
		os.Exit(m.Run())
	}
	if err := writeBase(context.Background()); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// writeBase does what the daemon does at its start: open all, try the schedulers, read all tables and write the
// difference.
func writeBase(ctx context.Context) (err error) {
	c := chosen()
	want := plan.Base(c).State()
	k, err := linux.Open(ctx, linux.Ours{
		Set: plan.OurSet, Chain: plan.OurChain, Sysctls: slices.Collect(maps.Keys(want.Sysctls)), Families: c.Families,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, k.Close()) }()
	if _, err := k.IPVS.Schedulers(ctx, "rr", "wlc"); err != nil {
		return err
	}
	tables := k.Tables()
	have, err := tables.List(ctx)
	if err != nil {
		return err
	}
	maps.DeleteFunc(have.Sysctls, func(n state.SysctlName, _ string) bool { return want.Sysctls[n] == "" })
	results := tables.Apply(ctx, state.Diff(have, want))
	failures, _ := results.Failures(100)
	slices.SortFunc(failures, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(failures...)
}

func chosen() config.Config {
	c := config.Default()
	c.Families = linux.Families()
	c.Conntrack.MaxPerCore = 1 // the machine's: in a namespace of its own a test can't have more
	c.Conntrack.Min = 1024
	return c
}

// poor runs writeBase as root with only these capabilities, as in a container that drops all and adds some.
func poor(t *testing.T, capabilities ...string) string {
	t.Helper()
	c := exec.Command("setpriv", "--inh-caps=-all", "--bounding-set=-all,+"+strings.Join(capabilities, ",+"), os.Args[0])
	c.Env = append(os.Environ(), poorEnv+"=1")
	out, err := c.CombinedOutput()
	if err != nil && len(out) == 0 {
		t.Fatalf("running without privileges: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// frozen makes the kernel's settings read-only, as they are in an unprivileged container.
func frozen(t *testing.T) {
	t.Helper()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		t.Fatalf("making a mount namespace: %v", err)
	}
	for _, m := range []struct {
		what  string
		flags uintptr
	}{
		{"keeping mounts to ourselves", unix.MS_REC | unix.MS_PRIVATE},
		{"mounting", unix.MS_BIND},
		{"making read-only", unix.MS_BIND | unix.MS_REMOUNT | unix.MS_RDONLY},
	} {
		target := "/proc/sys"
		if m.flags&unix.MS_PRIVATE != 0 {
			target = "/"
		}
		if err := unix.Mount(target, target, "", m.flags, ""); err != nil {
			t.Fatalf("%s %s: %v", m.what, target, err)
		}
	}
}

func prepare(t *testing.T) []observer.LoggedEntry {
	t.Helper()
	core, logged := observer.New(zap.InfoLevel)
	c := chosen()
	c.OOMScoreAdj = 0
	if err := app.Prepare(t.Context(), c, zap.New(core)); err != nil {
		t.Fatal(err)
	}
	return logged.All()
}

// The legacy iptables use a raw socket.
func TestTwoCapabilitiesAreEnoughToWriteEverything(t *testing.T) {
	testkit.Namespace(t)
	if said := poor(t, "net_admin", "net_raw"); said != "" {
		t.Errorf("it said:\n%s", said)
	}
}

func TestNothingIsPossibleWithoutNetAdmin(t *testing.T) {
	testkit.Namespace(t)
	const want = "opening IPVS: using IPVS (it takes CAP_NET_ADMIN): operation not permitted"
	if said := poor(t, "net_raw", "sys_module", "sys_resource"); said != want {
		t.Errorf("it said:\n%s\nwant:\n%s", said, want)
	}
}

func TestWhatIsPreparedNeedsNotBeWritable(t *testing.T) {
	testkit.Namespace(t)
	prepare(t)
	frozen(t)
	if said := poor(t, "net_admin", "net_raw"); said != "" {
		t.Errorf("it said:\n%s", said)
	}
	if lines := prepare(t); len(lines) != 1 || lines[0].ContextMap()["written"] != int64(0) {
		t.Errorf("preparing again: %v", lines)
	}
}

// All but the read-only settings is written, and the error names each of these.
func TestSettingsThatCanNotBeWrittenKeepNothingElseFromIt(t *testing.T) {
	testkit.Namespace(t)
	frozen(t)
	said := poor(t, "net_admin", "net_raw")
	var got []string
	for line := range strings.Lines(said) {
		name, why, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "writing sysctl "), ": ")
		if !strings.HasSuffix(why, ": read-only file system") {
			t.Errorf("it said: %s", line)
		}
		got = append(got, name)
	}
	want := []string{
		"net/ipv4/ip_forward", "net/ipv4/vs/conntrack", "net/ipv4/vs/expire_nodest_conn", "net/ipv4/vs/expire_quiescent_template",
		"net/ipv6/conf/all/forwarding",
		"net/netfilter/nf_conntrack_tcp_timeout_close_wait", "net/netfilter/nf_conntrack_tcp_timeout_established",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("settings (-want +got):\n%s", d)
	}
	core, _ := observer.New(zap.InfoLevel)
	c := chosen()
	c.OOMScoreAdj = 0
	if err := app.Prepare(t.Context(), c, zap.New(core)); err == nil || strings.Count(err.Error(), "read-only file system") != len(want) {
		t.Errorf("preparing: %v, want the same %d settings", err, len(want))
	}
	s, _, err := app.ReadNode(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	base := plan.Base(chosen()).State()
	if len(s.Sets) != len(base.Sets) || len(s.Chains) != len(base.Chains) || len(s.Jumps) != len(base.Jumps) || len(s.Links) != 1 {
		t.Errorf("%d sets, %d chains, %d jumps, %d links", len(s.Sets), len(s.Chains), len(s.Jumps), len(s.Links))
	}
}

func TestPreparingWritesTheSettingsAndNothingElse(t *testing.T) {
	testkit.Namespace(t)
	lines := prepare(t)
	s, _, err := app.ReadNode(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := plan.Base(chosen()).State().Sysctls
	maps.DeleteFunc(s.Sysctls, func(n state.SysctlName, _ string) bool { return want[n] == "" })
	if d := cmp.Diff(want, s.Sysctls); d != "" {
		t.Errorf("settings (-want +got):\n%s", d)
	}
	s.Sysctls = nil
	if n := state.Diff(state.New(), s).Len(); n != 0 {
		t.Errorf("%d other rows: %+v", n, s)
	}
	if len(lines) != 1 || lines[0].Message != "kernel settings written" || lines[0].ContextMap()["refused"] != int64(0) {
		t.Errorf("it logged %v", lines)
	}
}
