// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// tables returns the output of the standard tools for the node's kernel, without counters.
func (s *stage) tables(t *testing.T) string {
	t.Helper()
	text := s.run(t, "node-1", "sh", "-euc", `
for tool in iptables ip6tables; do echo "== $tool"; $tool-save; done
echo "== ipset"; ipset save
echo "== ipvsadm"; ipvsadm -S -n
echo "== ip"; ip -br link; ip -br addr; ip route show table all; ip -6 route show table all; ip rule`)
	text = regexp.MustCompile(`(?m)^# .*\n`).ReplaceAllString(text, "")
	return regexp.MustCompile(`\[\d+:\d+\]`).ReplaceAllString(text, "[0:0]")
}

// differ shows the first lines that only one of two texts has.
func differ(t *testing.T, before, after string) {
	t.Helper()
	a, b := strings.Split(before, "\n"), strings.Split(after, "\n")
	for _, line := range a {
		if !slices.Contains(b, line) {
			t.Errorf("gone: %s", line)
		}
	}
	for _, line := range b {
		if !slices.Contains(a, line) {
			t.Errorf("new: %s", line)
		}
	}
	if before != after && !t.Failed() {
		t.Errorf("the order has changed from\n%s\nto\n%s", before, after)
	}
}

// cleanup runs kube-ipvs cleanup and returns its exit status and output.
func (s *stage) cleanup(t *testing.T, flags ...string) (status int, stdout, stderr string) {
	t.Helper()
	c, out, errs := s.startCleanup(t, flags...)
	_ = c.Wait() // its status is the answer
	return c.ProcessState.ExitCode(), out.String(), errs.String()
}

func (s *stage) startCleanup(t *testing.T, flags ...string) (c *exec.Cmd, stdout, stderr *strings.Builder) {
	t.Helper()
	argv := s.Command(append([]string{"cleanup"}, flags...)...)
	stdout, stderr = &strings.Builder{}, &strings.Builder{}
	c = exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	c.Stdout, c.Stderr = stdout, stderr
	if err := s.Node.Start(c); err != nil {
		t.Fatal(err)
	}
	return c, stdout, stderr
}

func (s *stage) mustCleanup(t *testing.T, flags ...string) string {
	t.Helper()
	status, stdout, stderr := s.cleanup(t, flags...)
	if status != 0 {
		t.Fatalf("cleanup %v: status %d, stdout %q, stderr %q", flags, status, stdout, stderr)
	}
	return stdout
}

func TestACleanupRemovesAllThatIsOursAndNothingElse(t *testing.T) {
	s := newStage(t, true)
	before := s.tables(t)
	d := s.Start(t)
	d.AwaitStart(t)
	served := s.Settle(t)

	status, stdout, stderr := s.cleanup(t)
	const running = "kube-ipvs: kube-ipvs runs in this network namespace and would restore what is removed: stop it first\n"
	if status != 1 || !strings.HasSuffix(stderr, running) {
		t.Errorf("while kube-ipvs runs: status %d, stdout %q, stderr %q, want 1 and %q", status, stdout, stderr, running)
	}
	if err := rig.Differ(s.Kernel(t), served); err != nil {
		t.Error(err)
	}

	d.Stop(t)
	s.run(t, "node-1", "ipset", "create", "KUBE-IPVS-TMP-00000000", "hash:ip") // of a crash
	t.Logf("the cleanup:\n%s", s.mustCleanup(t))
	differ(t, before, s.tables(t))
	if again := s.mustCleanup(t); again != "nothing to do\n" {
		t.Errorf("the second cleanup: %q", again)
	}
	s.Start(t).AwaitStart(t)
	s.Settle(t)
}

func TestACleanupAfterKubeProxyRemovesItsRowsOfIPVSMode(t *testing.T) {
	s := newStage(t, true)
	before := s.tables(t)
	s.serveByServers(t)
	s.mustCleanup(t)
	differ(t, before, s.tables(t))
}

// A cleanup that is killed leaves the rows by which the next one recognises ours.
func TestACleanupThatIsKilledIsFinishedByTheNext(t *testing.T) {
	s := newStage(t, true)
	before := s.tables(t)
	d := s.Start(t)
	d.AwaitStart(t)
	s.Settle(t)
	d.Stop(t)
	for kills := 0; ; kills++ {
		c, _, stderr := s.startCleanup(t)
		over := make(chan error, 1)
		go func() { over <- c.Wait() }()
		was := s.KernelWithout(t, state.New())
		for changed := false; !changed; {
			select {
			case err := <-over:
				if err != nil {
					t.Fatalf("cleanup: %v: %s", err, stderr)
				}
				t.Logf("over after %d kills", kills)
				differ(t, before, s.tables(t))
				return
			default:
			}
			now := s.KernelWithout(t, state.New())
			changed = state.Diff(was, now).Len() > 0
		}
		_ = c.Process.Kill() // it may be over
		<-over
	}
}

func TestACleanupLeavesExcludedNetworksAlone(t *testing.T) {
	s := newStage(t, true)
	d := s.Start(t)
	d.AwaitStart(t)
	s.Settle(t)
	d.Stop(t)
	s.mustCleanup(t, "--ipvs-exclude-cidrs", "203.0.113.0/24")
	left := s.Kernel(t)
	near := s.services[1]
	for _, a := range near.LoadBalancers {
		_, there := left.Addresses[state.Address{Addr: a}]
		if there != a.Is4() {
			t.Errorf("address %v is there: %v", a, there)
		}
	}
	for k := range left.VirtualServers {
		if a := k.Address.Addr().String(); !strings.HasPrefix(a, "203.0.113.") && k.Address.Port() != 25 && k.Mark != 7 {
			t.Errorf("virtual server %v is left", k)
		}
	}
	if len(left.Links) != 1 {
		t.Error("the device is gone, and with it addresses that are not ours")
	}
}

func TestACleanupOfAKernelWithoutIptablesSaysWhatItLeaves(t *testing.T) {
	s := newStage(t, true)
	d := s.Start(t)
	d.AwaitStart(t)
	s.Settle(t)
	d.Stop(t)
	argv := s.Command("cleanup")
	c := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	c.Env = []string{"PATH=/nowhere"}
	var out strings.Builder
	c.Stdout, c.Stderr = &out, &out
	if err := s.Node.Start(c); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err == nil || !strings.Contains(out.String(), "chains and jumps stay: ") {
		t.Errorf("%v: %s", err, out.String())
	}
	left := s.Kernel(t)
	if len(left.VirtualServers) != 2 || len(left.Addresses) > 0 {
		t.Errorf("%d virtual servers and %d addresses are left", len(left.VirtualServers), len(left.Addresses))
	}
	s.mustCleanup(t)
	if n := len(s.Kernel(t).Sets); n != 1 {
		t.Errorf("%d sets are left", n)
	}
}

// Where kube-proxy went back to rules, cleanup removes what is left of servers, once no client is connected through
// them.
func TestACleanupBesideKubeProxysRulesLosesNothing(t *testing.T) {
	s := newStage(t, true)
	d := s.Start(t)
	d.AwaitStart(t)
	s.Settle(t)
	// A UDP datagram that is under way when its flow is moved is lost.
	l := s.startLoad(t, slices.DeleteFunc(s.clients(), func(c client) bool { return c.over == state.UDP }))
	d.Stop(t)
	s.serveByRules(t)
	l.more(t, 3)
	const soon = 30 * time.Second
	c, stdout, stderr := s.startCleanup(t, "--drain-timeout", soon.String())
	l.more(t, 10)
	if n := len(s.KernelWithout(t, state.New()).Addresses); n == 0 {
		t.Error("the addresses that clients are connected to are gone")
	}
	l.end(t)
	if err := c.Wait(); err != nil {
		t.Fatalf("cleanup: %v: %s", err, stderr)
	}
	t.Logf("the cleanup:\n%s%s", stdout, stderr)
	after := s.Kernel(t)
	if len(after.VirtualServers) != 2 || len(after.Addresses)+len(after.Links) > 0 || len(after.Sets) != 1 {
		t.Errorf("%d virtual servers, %d addresses and %d sets are left", len(after.VirtualServers), len(after.Addresses), len(after.Sets))
	}
	l = s.startLoad(t, s.clients())
	l.more(t, 3)
	l.end(t)
}
