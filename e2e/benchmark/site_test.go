// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kube-ipvs/kube-ipvs/e2e/benchmark/observe"
	"github.com/kube-ipvs/kube-ipvs/e2e/control"
	"github.com/kube-ipvs/kube-ipvs/e2e/large"
)

// tiny is a cluster in which everything is measured within seconds.
func tiny() large.Size { return large.IPv4(20, 2) }

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	s.open(t.Context())
	s.fill(t.Context(), tiny())
	return s
}

// quick is everything, for as short as can be.
func quick(t *testing.T) options {
	t.Helper()
	o, err := parseOptions([]string{"-starts", "1", "-times", "2", "-budget", "1s", "-rate", "10", "-load", "2s", "-steady", "2s", "-limit", "3m"})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func measureOne(t *testing.T, s *site, o options, p program) Run {
	t.Helper()
	r := newRunner(t.Context(), s, p, tiny(), o)
	r.say = t.Logf
	var err error
	if r.programs, err = observe.WatchPrograms(); err == nil {
		defer r.programs.Close()
	} else if !errors.Is(err, observe.ErrSilent) {
		t.Fatal(err)
	}
	return r.run(t.Context())
}

func TestOnlyProgramsThatWorkGetFigures(t *testing.T) {
	kubeProxy, err := control.Binary("kube-proxy")
	if err != nil {
		t.Fatal(err)
	}
	s, kubeIPVS := newSite(t), os.Getenv("KUBE_IPVS")
	t.Run("ours", func(t *testing.T) {
		run := measureOne(t, s, quick(t), newOurs(kubeIPVS))
		mustHaveAll(t, run)
		if run.Restart.Written != 0 || run.Restart.Notices != 0 {
			t.Errorf("a restart wrote %d rows, with %d notices of the kernel", run.Restart.Written, run.Restart.Notices)
		}
	})
	t.Run("theirs", func(t *testing.T) {
		o := quick(t)
		o.phases = []string{coldStart, "restart"}
		run := measureOne(t, s, o, newTheirs(kubeProxy))
		if run.Failure+run.Exceeded != "" || len(run.Cold) != 1 || run.Cold[0].Took <= 0 || run.Restart == nil {
			t.Errorf("%+v", run)
		}
	})
	for name, c := range map[string]struct {
		limit             time.Duration
		program           program
		failure, exceeded string
	}{
		"a program that does nothing": {3 * time.Second,
			program{name: theirs, argv: []string{"env", "sh", "-c", "sleep 1000"}, complaint: regexp.MustCompile(`[^\s\S]`)}, "", coldStart},
		"kube-proxy that cannot write rules":  {3 * time.Minute, broken(t, newTheirs(kubeProxy)), "iptables-restore", ""},
		"a program that serves and complains": {3 * time.Minute, complaining(newOurs(kubeIPVS)), "says", ""},
	} {
		t.Run(name, func(t *testing.T) {
			o := quick(t)
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

// complaining is a program whose start is something that failed.
func complaining(p program) program {
	p.complaint = p.written
	return p
}

// broken is a program that finds tools which fail.
func broken(t *testing.T, p program) program {
	t.Helper()
	folder := t.TempDir()
	for _, name := range []string{"iptables-restore", "ip6tables-restore"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	p.argv = append([]string{"env", "PATH=" + folder + ":" + os.Getenv("PATH")}, p.argv...)
	return p
}

func mustHaveAll(t *testing.T, run Run) {
	t.Helper()
	if run.Failure+run.Exceeded != "" || len(run.Cold) != 1 || run.Load == nil || run.Restart == nil || run.Steady == nil {
		t.Fatalf("%+v", run)
	}
	c := run.Cold[0]
	if c.Rows <= 0 || c.Took < c.Rows || c.Kernel <= 0 || c.CPU <= 0 {
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
