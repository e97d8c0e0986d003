// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// run runs kube-ipvs on the node and returns its exit status and output.
func run(t *testing.T, r *rig.Rig, argv []string) (status int, stdout, stderr string) {
	t.Helper()
	var out, err strings.Builder
	c := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	c.Stdout, c.Stderr = &out, &err
	if err := r.Node.Start(c); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait() // its status is the answer
	return c.ProcessState.ExitCode(), out.String(), err.String()
}

// counters returns how many connections each virtual and real server has had, and how many packets each rule has seen.
// A row that is made anew begins at 0.
func counters(t *testing.T, r *rig.Rig) map[string]int {
	t.Helper()
	text, err := r.Node.Run(t.Context(), "sh", "-euc", "ipvsadm -Ln --stats --exact; iptables-save -c -t nat; ip6tables-save -c -t nat")
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	for line := range strings.Lines(text) {
		var packets, bytes, connections int
		var protocol, address string
		if n, _ := fmt.Sscanf(line, "[%d:%d]", &packets, &bytes); n == 2 {
			counts[line[strings.Index(line, "]"):]] += packets
		} else if n, _ := fmt.Sscan(line, &protocol, &address, &connections); n == 3 {
			counts[address] = connections
		}
	}
	return counts
}

// counted returns the counters once some rows have counted something. IPVS sums them up every two seconds.
func counted(t *testing.T, r *rig.Rig, rows ...string) map[string]int {
	t.Helper()
	var counts map[string]int
	rig.Until(t, rig.Patience, func() error {
		counts = counters(t, r)
		for _, row := range rows {
			if counts[row] == 0 {
				return fmt.Errorf("%s has counted nothing", row)
			}
		}
		return nil
	})
	return counts
}

func TestTheKernelStaysAsItIsOverAStopAndAStart(t *testing.T) {
	r := rig.New(t)
	serve(t, r, "pod-a", "pod-b")
	r.Write(t, "web", dual("web", 10, "pod-a"))
	d := r.Start(t)
	want := r.Settle(t)
	conns := dial(t, r, dual("web", 10, "pod-a"))
	answers(t, conns, "pod-a")

	d.Stop(t)
	mustHold(t, r, want)
	answers(t, conns, "pod-a")
	answers(t, dial(t, r, dual("web", 10, "pod-a")), "pod-a")

	before := counted(t, r, "10.96.0.10:80", "[fd00:10:96::a]:80", "10.244.1.10:8080")
	d = r.Start(t)
	if n := d.AwaitStart(t); n != 0 {
		t.Errorf("a start over a right kernel wrote %d rows, want none:\n%s", n, d.Log(t))
	}
	after := counters(t, r)
	for row, n := range before {
		if after[row] < n {
			t.Errorf("%s has counted %d after the start, and %d before it", row, after[row], n)
		}
	}
	mustHold(t, r, want)
	answers(t, conns, "pod-a")
}

func TestAStartWritesWhatChangedBeforeItAndNoMore(t *testing.T) {
	r := rig.New(t)
	r.Write(t, "web", dual("web", 10, "pod-a"))
	d := r.Start(t)
	before := r.Settle(t)
	d.Stop(t)
	r.Write(t, "more", dual("more", 11, "pod-b"))
	r.Write(t, "web", dual("web", 10, "pod-a", "pod-d"))
	d = r.Start(t)
	wrote, after := d.AwaitStart(t), r.Settle(t)
	if changed := state.Diff(before, after).Len(); wrote != changed {
		t.Errorf("wrote %d rows, want %d:\n%s", wrote, changed, d.Log(t))
	}
}

func TestAnEndpointThatDrainsGoesOnDrainingOverACrash(t *testing.T) {
	r := rig.New(t)
	serve(t, r, "pod-a", "pod-b")
	web := dual("web", 10, "pod-a")
	r.Write(t, "web", web)
	d := r.Start(t)
	old := r.Settle(t)
	conns := dial(t, r, web)
	answers(t, conns, "pod-a")

	r.Write(t, "web", dual("web", 10, "pod-b"))
	draining := rig.Union(r.Desired(t), weightless(old))
	r.Await(t, rig.Patience, draining)
	d.Kill()
	mustHold(t, r, draining)
	if n := r.Start(t).AwaitStart(t); n != 0 {
		t.Errorf("the start after the crash wrote %d rows, want none", n)
	}
	r.Await(t, rig.Patience, draining)
	answers(t, conns, "pod-a")
	answers(t, dial(t, r, web), "pod-b")
}

// weightless returns the real servers of s as they are while they drain.
func weightless(s state.State) state.State {
	drained := state.New()
	for k, v := range s.RealServers {
		v.Weight = 0
		drained.RealServers[k] = v
	}
	return drained
}

func TestASecondKubeIPVSIsRefusedInOneSentence(t *testing.T) {
	r := rig.New(t)
	r.Write(t, "web", dual("web", 10, "pod-a"))
	d := r.Start(t)
	want := r.Settle(t)
	status, stdout, stderr := run(t, r, r.Argv())
	const sentence = "kube-ipvs: another kube-ipvs already runs in this network namespace\n"
	if status != 1 || stdout != "" || stderr != sentence {
		t.Errorf("status %d, stdout %q, stderr %q, want 1 and %q", status, stdout, stderr, sentence)
	}
	if err := d.Alive(); err != nil {
		t.Error(err)
	}
	mustHold(t, r, want)
	d.Kill()
	r.Start(t).AwaitStart(t) // a crash leaves no lock behind
}

func TestDumpNamesTheServicesWhileKubeIPVSIsDown(t *testing.T) {
	r := rig.New(t)
	r.Write(t, "web", web())
	d := r.Start(t)
	r.Settle(t)
	d.Kill()
	status, stdout, stderr := run(t, r, r.Command("dump"))
	const sentence = "kube-ipvs is not running in this network namespace: what follows is what it, or another proxy, left in the kernel.\n"
	if status != 0 || stderr != sentence {
		t.Errorf("status %d, stderr %q, want 0 and %q", status, stderr, sentence)
	}
	for _, want := range [][]string{
		{"TCP", "10.96.0.10:80", "rig/web:tcp-80"}, {"UDP", "10.96.0.10:53", "rig/web:udp-53"},
		{"TCP", "[fd00:10:96::a]:80", "rig/web:tcp-80"}, {"TCP", "192.0.2.1:30080", "rig/web:tcp-80"},
	} {
		line := lineWith(stdout, want[0]+"  "+want[1])
		if fields := strings.Fields(line); len(fields) == 0 || fields[len(fields)-1] != want[2] {
			t.Errorf("%v: line %q of\n%s", want, line, stdout)
		}
	}
}

func lineWith(text, beginning string) string {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, beginning+" ") {
			return line
		}
	}
	return ""
}
