// SPDX-License-Identifier: Apache-2.0

// Package counter lets a program read the time from the processor's counter. In user-mode Linux the kernel's clock is a
// system call, which costs 16 us and more: an API server there spends two thirds of its time reading the clock. So etcd
// and the API server, which only serve the tests, read the counter. The program under test does not: it runs as its
// users run it.
//
// It sets the pointer through which the Go runtime calls the clock that the kernel maps into each program. It is not
// for programs that must keep the time for long: the counter's rate is measured once, at the start, to some 50
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

// The rest is in assembly language: only that can be called as the runtime calls a clock, and can set its pointer.

// set sets how clock reads the counter: nanoseconds times 2^32 a tick, and the moment to count from.
func set(rate uint64, base moment)

// clock returns the address of the function that reads the counter.
func clock() uintptr

// swap makes the function at an address the runtime's clock, and returns the previous one. 0 is a system call.
func swap(clock uintptr) (before uintptr)

// ticks returns the counter.
func ticks() uint64

// steady reports whether the counter's rate is constant.
func steady() bool

// errUnsteady is the error for a processor whose counter is no clock.
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

// now returns the quickest of some readings. It reads the counter first, so that the time by the counter is not before
// the kernel's.
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

// kernelClock returns the time of a kernel's clock, in nanoseconds.
func kernelClock(clock uintptr) (uint64, error) {
	var t syscall.Timespec
	if _, _, errno := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clock, uintptr(unsafe.Pointer(&t)), 0); errno != 0 {
		return 0, errno
	}
	return uint64(t.Nano()), nil
}
