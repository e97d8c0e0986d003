// SPDX-License-Identifier: Apache-2.0

package counter

import (
	"testing"
	"time"
)

func TestTheCounterShowsTheKernelsTime(t *testing.T) {
	use(t)
	if swap(clock()) != clock() {
		t.Fatal("the runtime uses another clock")
	}
	kernel, began := read(t, monotonicClock), time.Now()
	for last := began; time.Since(began) < time.Second; {
		now := time.Now()
		if now.Before(last) || now.UnixNano() < last.UnixNano() {
			t.Fatalf("%v comes after %v", now, last)
		}
		last = now
	}
	const most = 2 * time.Millisecond // two system calls of a busy machine are between the readings
	if off := time.Since(began) - (read(t, monotonicClock) - kernel); off.Abs() > most {
		t.Errorf("a second differs from the kernel's by %v", off)
	}
	if off := time.Duration(time.Now().UnixNano()) - read(t, realClock); off.Abs() > most {
		t.Errorf("the time of day differs from the kernel's by %v", off)
	}
}

// use uses the counter until the test is over.
func use(t testing.TB) {
	t.Helper()
	kernels := swap(0)
	swap(kernels)
	t.Cleanup(func() { swap(kernels) })
	if err := Use(); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, clock uintptr) time.Duration {
	t.Helper()
	now, err := kernelClock(clock)
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(now)
}

func BenchmarkNow(b *testing.B) {
	b.Run("kernel", func(b *testing.B) {
		for b.Loop() {
			_ = time.Now()
		}
	})
	use(b)
	b.Run("counter", func(b *testing.B) {
		for b.Loop() {
			_ = time.Now()
		}
	})
}
