// SPDX-License-Identifier: Apache-2.0

package ports

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// world is what Retries retries: keys in broken fail.
type world struct {
	sync.Mutex
	start   time.Time
	broken  map[string]error
	tried   []time.Duration // after start
	reports []string
	retries *Retries[string]
}

func newWorld(broken ...string) *world {
	w := &world{start: time.Now(), broken: map[string]error{}}
	for _, key := range broken {
		w.broken[key] = errors.New("broken")
	}
	w.retries = NewRetries(RetryOptions[string]{Lock: w, Try: w.try, Report: w.report})
	return w
}

func (w *world) try(key string) error {
	w.tried = append(w.tried, time.Since(w.start))
	return w.broken[key]
}

func (w *world) report(key string, err error) {
	if err == nil {
		w.reports = append(w.reports, key+" works")
	} else {
		w.reports = append(w.reports, key+" "+err.Error())
	}
}

func (w *world) do(what func()) {
	w.Lock()
	defer w.Unlock()
	what()
}

func (w *world) after(d time.Duration, what func()) {
	time.Sleep(d) // in a bubble
	synctest.Wait()
	w.do(what)
}

func (w *world) wantReports(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(w.reports, want) {
		t.Errorf("reported %q, want %q", w.reports, want)
	}
}

func TestWhatSucceedsIsTriedOnceAndNotReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.do(func() { w.retries.Now("a") })
		w.after(time.Hour, func() {
			w.wantReports(t)
			if len(w.tried) != 1 {
				t.Errorf("tried at %v, want once", w.tried)
			}
		})
	})
}

func TestPausesGrowAndAFailureIsReportedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("a")
		w.do(func() { w.retries.Now("a") })
		w.after(2*time.Minute, func() {
			want := []time.Duration{0, 100, 300, 700, 1500, 3100, 6300, 12700, 25500, 51100, 81100, 111100}
			for i := range want {
				want[i] *= time.Millisecond
			}
			if !slices.Equal(w.tried, want) {
				t.Errorf("tried at %v, want %v", w.tried, want)
			}
			w.wantReports(t, "a broken")
			w.retries.Forget("a")
		})
	})
}

func TestThePausesGrowToTheLongest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("a")
		w.retries.Longest = 2 * time.Second
		w.do(func() { w.retries.Now("a") })
		w.after(6*time.Second, func() {
			want := []time.Duration{0, 100, 300, 700, 1500, 3100, 5100}
			for i := range want {
				want[i] *= time.Millisecond
			}
			if !slices.Equal(w.tried, want) {
				t.Errorf("tried at %v, want %v", w.tried, want)
			}
			w.retries.Forget("a")
		})
	})
}

func TestASuccessIsReportedAndEndsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("a")
		w.do(func() { w.retries.Now("a") })
		w.after(time.Second, func() { delete(w.broken, "a") })
		w.after(time.Hour, func() {
			w.wantReports(t, "a broken", "a works")
			if len(w.tried) != 5 {
				t.Errorf("tried at %v, want five times", w.tried)
			}
			w.broken["a"] = errors.New("broken anew")
			w.retries.Now("a")
			w.wantReports(t, "a broken", "a works", "a broken anew")
			w.retries.Forget("a")
		})
	})
}

func TestWhatBrokeByItselfIsTriedAfterAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.do(func() { w.retries.Failed("a", errors.New("gone")) })
		w.after(time.Hour, func() {
			w.wantReports(t, "a gone", "a works")
			if !slices.Equal(w.tried, []time.Duration{first}) {
				t.Errorf("tried at %v, want after %v", w.tried, first)
			}
		})
	})
}

func TestWhatIsForgottenIsNotTried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("a")
		w.do(func() {
			w.retries.Now("a")
			time.Sleep(first) // its time comes while the lock is held
			w.retries.Forget("a")
		})
		w.after(time.Hour, func() {
			w.wantReports(t, "a broken")
			if len(w.tried) != 1 {
				t.Errorf("tried at %v, want once", w.tried)
			}
		})
	})
}

func TestThoseThatMayWorkNowAreTriedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("a", "b")
		w.do(func() {
			w.retries.Now("a")
			w.retries.Now("b")
			clear(w.broken)
			w.retries.Again(func(key string) bool { return key == "b" })
			w.wantReports(t, "a broken", "b broken", "b works")
		})
		w.after(time.Hour, func() { w.wantReports(t, "a broken", "b broken", "b works", "a works") })
	})
}
