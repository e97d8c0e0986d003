// SPDX-License-Identifier: Apache-2.0

// Package counter lets a program read the time off the processor's counter. In user-mode Linux the kernel's clock is a
// system call, and a system call costs 16 us and more: an API server there spends two thirds of its time asking for the
// time. So those who only serve the tests, an API server and etcd, read the counter. What the tests are about does not:
// it runs as its users run it.
//
// It works by the pointer through which the Go runtime calls the clock that the kernel maps into each program. It is
// nothing for programs that must keep the time for long: the counter's rate is taken once, at the start, to some 50
// millionths.
package counter

import (
	"errors"
	"syscall"
	"time"
	"unsafe"
)

// moment is the counter and the kernel's clocks at one time.
type moment struct{ ticks, monotonic, real uint64 }

// The rest is in assembly language, which alone can be called as the runtime calls a clock, and may set its pointer.

// set says what clock reads: nanoseconds times 2^32 a tick, and the moment from which on they count.
func set(rate uint64, base moment)

// clock is where the function is that reads the counter.
func clock() uintptr

// swap makes the function at an address the runtime's clock, and returns what was before. 0 is a system call.
func swap(clock uintptr) (before uintptr)

// ticks is the counter.
func ticks() uint64

// steady says that the counter's rate is always the same, whatever the processor does.
func steady() bool

// errUnsteady is what a processor does whose counter is no clock.
var errUnsteady = errors.New("the processor's counter changes its rate")

// Use makes the counter the clock of this program from now on. It takes a twentieth of a second.
func Use() error {
	if !steady() {
		return errUnsteady
	}
	first, err := now()
	if err != nil {
		return err
	}
	time.Sleep(50 * time.Millisecond)
	base, err := now()
	if err != nil {
		return err
	}
	set((base.monotonic-first.monotonic)<<32/(base.ticks-first.ticks), base)
	swap(clock())
	return nil
}

// now is the moment that took the least time of some. The counter is read first, so that the time by the counter is not
// before the kernel's.
func now() (best moment, err error) {
	const attempts = 8
	var least uint64
	for i := range attempts {
		m := moment{ticks: ticks()}
		if m.monotonic, err = kernelClock(monotonicClock); err != nil {
			return best, err
		}
		took := ticks() - m.ticks
		if m.real, err = kernelClock(realClock); err != nil {
			return best, err
		}
		if i == 0 || took < least {
			best, least = m, took
		}
	}
	return best, nil
}

// The kernel's numbers of its clocks.
const (
	realClock      = 0
	monotonicClock = 1
)

// kernelClock is what the kernel says, in nanoseconds.
func kernelClock(clock uintptr) (uint64, error) {
	var t syscall.Timespec
	if _, _, errno := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clock, uintptr(unsafe.Pointer(&t)), 0); errno != 0 {
		return 0, errno
	}
	return uint64(t.Nano()), nil
}
