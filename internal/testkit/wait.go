// SPDX-License-Identifier: Apache-2.0

package testkit

import (
	"runtime"
	"testing"
	"time"
)

// Patience is how long a slow machine may take for what is immediate elsewhere.
const Patience = 20 * time.Second

// Eventually waits until a condition is true.
func Eventually(t testing.TB, what string, true func() bool) {
	t.Helper()
	deadline := time.Now().Add(Patience)
	for !true() {
		if time.Now().After(deadline) {
			t.Fatalf("after %v still not: %s", Patience, what)
		}
		time.Sleep(time.Millisecond)
	}
}

// LeavesNoGoroutine calls closing at the end of the test, and fails if more goroutines are left than there are now.
func LeavesNoGoroutine(t testing.TB, closing func()) {
	t.Helper()
	before := runtime.NumGoroutine()
	t.Cleanup(func() {
		closing()
		Eventually(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= before })
	})
}

// WantReports fails the test unless exactly these reports come next and no more are waiting.
func WantReports[R any](t testing.TB, reports <-chan R, same func(got, want R) bool, want ...R) {
	t.Helper()
	for _, w := range want {
		select {
		case got := <-reports:
			if !same(got, w) {
				t.Errorf("reported %v, want %v", got, w)
			}
		case <-time.After(Patience):
			t.Fatalf("no report of %v", w)
		}
	}
	select {
	case got := <-reports:
		t.Errorf("reported %v too", got)
	default:
	}
}
