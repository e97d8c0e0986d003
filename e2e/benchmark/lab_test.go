// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kube-ipvs/kube-ipvs/e2e/control"
	"github.com/kube-ipvs/kube-ipvs/e2e/floor"
	"github.com/kube-ipvs/kube-ipvs/e2e/large"
	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

// tiny is a cluster in which everything is measured within seconds.
func tiny() large.Size { return large.IPv4(20, 2) }

// quick is everything, for as short as can be.
func quick() options {
	return parseOptions([]string{"-starts", "1", "-times", "2", "-budget", "1s", "-rate", "10", "-load", "2s", "-steady", "2s", "-limit", "3m"})
}

func measureOne(t *testing.T, s *site, o options, p program) Run {
	t.Helper()
	b := &bench{site: s, options: o, report: Report{Began: time.Now()}}
	b.ended, _ = watchPrograms() // where the kernel does not report them, none are counted
	return newRunner(t.Context(), b, p, tiny()).run(t.Context())
}

func TestOnlyProgramsThatWorkGetFigures(t *testing.T) {
	kubeProxy, err := control.Binary("kube-proxy")
	if err != nil {
		t.Fatal(err)
	}
	s, ours, theirs := &site{}, newOurs(os.Getenv("KUBE_IPVS")), newTheirs(kubeProxy)
	t.Cleanup(func() { check(s.close()) })
	s.fill(t.Context(), tiny())
	t.Run("ours", func(t *testing.T) {
		run := measureOne(t, s, quick(), ours)
		mustHaveAll(t, run)
		if run.Cold[0].Kernel <= 0 || run.Restart.Written != 0 || run.Restart.Notices != 0 {
			t.Errorf("a start wrote for %v s; a restart wrote %d rows, with %d notices of the kernel",
				run.Cold[0].Kernel, run.Restart.Written, run.Restart.Notices)
		}
	})
	t.Run("theirs", func(t *testing.T) { mustHaveAll(t, measureOne(t, s, quick(), theirs)) })
	idle, complaining := theirs, ours
	idle.argv = []string{"env", "sh", "-c", "sleep 1000"}
	idle.complaint = regexp.MustCompile(never)
	complaining.complaint = complaining.written
	for name, c := range map[string]struct {
		limit             time.Duration
		program           program
		failure, exceeded string
	}{
		"a program that does nothing":         {3 * time.Second, idle, "", coldStart},
		"kube-proxy that cannot write rules":  {3 * time.Minute, broken(t, theirs), "iptables-restore", ""},
		"a program that serves and complains": {3 * time.Minute, complaining, "says", ""},
	} {
		t.Run(name, func(t *testing.T) {
			o := quick()
			o.limit = c.limit
			run := measureOne(t, s, o, c.program)
			if len(run.Cold)+len(run.Changes) > 0 || run.Load != nil || run.Restart != nil || run.Steady != nil {
				t.Errorf("%+v, want no figure", run)
			}
			if !strings.Contains(run.Failure, c.failure) || !strings.Contains(run.Exceeded, c.exceeded) {
				t.Errorf("%+v, want that it failed with %q or exceeded %q", run, c.failure, c.exceeded)
			}
		})
	}
}

// broken is a program that finds tools which fail.
func broken(t *testing.T, p program) program {
	t.Helper()
	folder := t.TempDir()
	for _, name := range []string{"iptables-restore", "ip6tables-restore"} {
		check(os.WriteFile(filepath.Join(folder, name), []byte("#!/bin/sh\nexit 1\n"), 0o755))
	}
	p.argv = append([]string{"env", "PATH=" + folder + ":" + os.Getenv("PATH")}, p.argv...)
	return p
}

func mustHaveAll(t *testing.T, run Run) {
	t.Helper()
	if run.Failure+run.Exceeded != "" || len(run.Cold) != 1 || run.Load == nil || run.Stored == nil || run.Restart == nil || run.Steady == nil {
		t.Fatalf("%+v", run)
	}
	if c := run.Cold[0]; c.Rows <= 0 || c.Took < c.Rows || c.CPU <= 0 {
		t.Errorf("%+v", c)
	}
	for _, kind := range kinds() {
		if !slices.ContainsFunc(run.Changes, func(c Change) bool { return c.Kind == kind && len(c.Took) == 2 }) {
			t.Errorf("%s: %+v", kind, run.Changes)
		}
	}
	if l := run.Load; l.Changes != 20 || l.Took.P50 <= 0 || l.Took.Most < l.Took.P50 {
		t.Errorf("%+v", l)
	}
	if run.Steady.Resident <= 0 || run.Steady.Peak < run.Steady.Resident {
		t.Errorf("%+v", run.Steady)
	}
}

// put puts three Services into the kernel, with addresses or with routes.
func put(t *testing.T, b state.Binding) {
	t.Helper()
	want := services(3, b)
	want.Sysctls[state.TCPTimeout] = "900"
	want.Sets[clusterIPs] = state.Set{Type: state.HashIPPort, Family: state.IPv4, MaxElem: 1024}
	f := must(floor.Prepare(want))
	testkit.CloseAtEnd(t, f)
	must(f.Send(t.Context()))
}

func TestALookSeesWhatIsInTheKernel(t *testing.T) {
	for name, c := range map[string]struct {
		binding state.Binding
		more    int // addresses beside those of the Services
	}{"addresses": {state.Binding{}, 0}, "addresses with an MTU": {state.Binding{MTU: 1400}, 0}, "routes": {state.Binding{Means: state.Routed}, 1}} {
		t.Run(name, func(t *testing.T) {
			testkit.Namespace(t)
			k := newLook()
			t.Cleanup(k.close)
			before := k.locals()
			for _, services := range []int{0, 3} {
				if services > 0 {
					put(t, c.binding)
					before += c.more
				}
				if k.locals() != before+services {
					t.Errorf("%d addresses of %d Services", k.locals()-before, services)
				}
				for n := range 4 {
					there := n < services
					got := []bool{k.has(entryOf(n)), k.served(serverOf(n)), k.local(serverOf(n).Address.Addr())}
					if slices.Contains(got, !there) {
						t.Errorf("an entry, a virtual server and an address of Service %d of %d: %v", n, services, got)
					}
					if w, ok := k.weights(serverOf(n))[realOf(n).Address]; ok != there || ok && w != weightOf(n) {
						t.Errorf("weight of Service %d of %d: %d, %v", n, services, w, ok)
					}
				}
			}
		})
	}
}

func TestProgramsThatEndAreCountedOrTheKernelIsSilent(t *testing.T) {
	p, err := watchPrograms()
	if err != nil {
		return
	}
	p.take()
	for range 5 {
		check(exec.Command("true").Run())
	}
	counted := 0
	rig.Until(t, 10*time.Second, func() error {
		times, _ := p.take()
		if counted += times["true"]; counted < 5 {
			return fmt.Errorf("of five programs were counted %d", counted)
		}
		return nil
	})
}

func TestTheKernelIsSilentInAnotherNamespace(t *testing.T) {
	testkit.Namespace(t)
	if p, err := watchPrograms(); err == nil {
		t.Errorf("another network namespace is watched: %v", p)
	}
}

func TestNoticesAreCounted(t *testing.T) {
	testkit.Namespace(t)
	notices := listen()
	defer notices.Close()
	put(t, state.Binding{})
	if n := count(notices); n < 7 || n > 1000 { // a link, and an address and its route for each Service
		t.Errorf("%d notices of three Services", n)
	}
	if n := count(notices); n != 0 {
		t.Errorf("%d notices of nothing", n)
	}
}
