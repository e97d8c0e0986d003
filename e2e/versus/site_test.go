// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kube-ipvs/kube-ipvs/e2e/control"
	"github.com/kube-ipvs/kube-ipvs/e2e/large"
	"github.com/kube-ipvs/kube-ipvs/e2e/versus/look"
	"github.com/kube-ipvs/kube-ipvs/e2e/versus/report"
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
	if err := s.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.fill(t.Context(), tiny(), 0); err != nil {
		t.Fatal(err)
	}
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

// measureOne measures a program that is made for the path of its configuration.
func measureOne(t *testing.T, s *site, o options, make func(file string) program) report.Run {
	t.Helper()
	path, text, err := s.configure("address", false)
	if err != nil {
		t.Fatal(err)
	}
	r := &runner{site: s, program: make(path), size: tiny(), text: text, options: o, say: t.Logf}
	if r.ended, err = look.WatchEnded(); err == nil {
		defer r.ended.Close()
	} else if !errors.Is(err, look.ErrUntold) {
		t.Fatal(err)
	}
	if r.want, err = r.wish(t.Context(), text); err != nil {
		t.Fatal(err)
	}
	return r.run(t.Context())
}

func theirBinary(t *testing.T) string {
	t.Helper()
	path, err := control.Binary("kube-proxy")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOnlyWhoWorksGetsFigures(t *testing.T) {
	s := newSite(t)
	t.Run("ours", func(t *testing.T) {
		run := measureOne(t, s, quick(t), func(file string) program { return newOurs(os.Getenv("KUBE_IPVS"), file) })
		mustHaveAll(t, run)
		if run.Restart.Written != 0 || run.Restart.Notices != 0 {
			t.Errorf("a restart wrote %d rows, of which the kernel told %d times", run.Restart.Written, run.Restart.Notices)
		}
	})
	t.Run("theirs", func(t *testing.T) {
		o := quick(t)
		o.phases = []string{phaseCold, phaseRestart}
		run := measureOne(t, s, o, func(file string) program { return newTheirs(theirBinary(t), file) })
		if run.Failure+run.Exceeded != "" || len(run.Cold) != 1 || run.Cold[0].Took <= 0 || run.Restart == nil {
			t.Errorf("%+v", run)
		}
	})
	t.Run("who does nothing has none", func(t *testing.T) {
		o := quick(t)
		o.limit = 3 * time.Second
		run := measureOne(t, s, o, func(string) program {
			return program{name: report.Theirs, argv: []string{"sleep", "1000"}, complaint: never(), harmless: never()}
		})
		mustHaveNone(t, run)
		if !strings.Contains(run.Exceeded, "cold start") {
			t.Errorf("%+v, want that a start was too long", run)
		}
	})
	t.Run("kube-proxy that cannot write rules has none", func(t *testing.T) {
		run := measureOne(t, s, quick(t), func(file string) program { return broken(t, newTheirs(theirBinary(t), file)) })
		mustHaveNone(t, run)
		if !strings.Contains(run.Failure, "iptables-restore") {
			t.Errorf("%+v, want that it says what failed", run)
		}
	})
	t.Run("who serves and cannot be trusted has none", func(t *testing.T) {
		o := quick(t)
		o.phases = []string{phaseCold}
		run := measureOne(t, s, o, func(file string) program {
			p := newOurs(os.Getenv("KUBE_IPVS"), file)
			p.complaint = p.written // as if its start was something that failed
			return p
		})
		mustHaveNone(t, run)
	})
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

func mustHaveAll(t *testing.T, run report.Run) {
	t.Helper()
	if run.Failure+run.Exceeded != "" || len(run.Cold) != 1 || run.Load == nil || run.Restart == nil || run.Steady == nil {
		t.Fatalf("%+v", run)
	}
	c := run.Cold[0]
	if c.Rows <= 0 || c.Took < c.Rows || c.Kernel <= 0 || c.CPU <= 0 {
		t.Errorf("%+v", c)
	}
	for _, kind := range report.Kinds() {
		if one := run.Change(kind); one == nil || len(one.Took) != 2 {
			t.Errorf("%s: %+v", kind, one)
		}
	}
	if l := run.Load; l.Changes != 20 || l.Took.P50 <= 0 || l.Took.Most < l.Took.P50 {
		t.Errorf("%+v", l)
	}
	if run.Steady.Resident <= 0 || run.Steady.Peak < run.Steady.Resident {
		t.Errorf("%+v", run.Steady)
	}
}

func mustHaveNone(t *testing.T, run report.Run) {
	t.Helper()
	if len(run.Cold)+len(run.Changes) > 0 || run.Load != nil || run.Restart != nil || run.Steady != nil {
		t.Errorf("%+v, want no figure", run)
	}
}
