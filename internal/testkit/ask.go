// SPDX-License-Identifier: Apache-2.0

package testkit

import (
	"context"
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
)

// What tests of one adapter ask of a table, and of the tools that see the same rows.

// Tool runs a command in the test's namespace and returns what it prints.
func Tool(t testing.TB, argv ...string) string {
	t.Helper()
	return Feed(t, "", argv...)
}

// Feed is Tool with an input.
func Feed(t testing.TB, input string, argv ...string) string {
	t.Helper()
	c := exec.Command(argv[0], argv[1:]...)
	c.Stdin = strings.NewReader(input)
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", argv, err, out)
	}
	return string(out)
}

// Listed returns the rows of a table.
func Listed[K, V comparable](t testing.TB, s kernel.Store[K, V]) map[K]V {
	t.Helper()
	rows, err := s.List(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// Rows returns the rows of a table in no order.
func Rows[K, V comparable](table map[K]V) []diff.Row[K, V] {
	var rows []diff.Row[K, V]
	for k, v := range table {
		rows = append(rows, diff.Row[K, V]{Key: k, Value: v})
	}
	return rows
}

// Apply makes a change that has to succeed, with an exact count of drift.
func Apply[K, V comparable](t testing.TB, s kernel.Store[K, V], d diff.Delta[K, V], drift int) {
	t.Helper()
	r := s.Apply(context.Background(), d)
	for k, err := range r.Failed {
		t.Errorf("%v: %v", k, err)
	}
	if r.Drift != drift {
		t.Errorf("drift %d, want %d", r.Drift, drift)
	}
}

// AddAll adds rows that are not there.
func AddAll[K, V comparable](t testing.TB, s kernel.Store[K, V], table map[K]V) {
	t.Helper()
	Apply(t, s, diff.Delta[K, V]{Add: Rows(table)}, 0)
}

// RulesOf are the rules that iptables-save printed, without tables, counters and comments.
func RulesOf(save string) string {
	var rules strings.Builder
	for line := range strings.Lines(save) {
		if strings.HasPrefix(line, "-A") {
			rules.WriteString(line)
		}
	}
	return rules.String()
}

// CloseAtEnd closes c when the test is over.
func CloseAtEnd(t testing.TB, c io.Closer) {
	t.Helper()
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
}
