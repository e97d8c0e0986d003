// SPDX-License-Identifier: Apache-2.0

package uml

import (
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

func TestLabsGetProcessorsOfTheirOwnWhileThereAreAny(t *testing.T) {
	folder, all := t.TempDir(), []int{3, 5}
	take := func(want int, holds bool) *os.File {
		t.Helper()
		n, held := freeProcessor(folder, all, 7)
		if n != want || (held != nil) != holds {
			t.Errorf("processor %d, held %v, want %d, %v", n, held != nil, want, holds)
		}
		return held
	}
	first := take(3, true)
	second := take(5, true)
	take(all[7%2], false)
	first.Close()
	take(3, true).Close()
	second.Close()
}

func TestAKernelStaysOnOneProcessor(t *testing.T) {
	c := exec.Command("sleep", "60")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Process.Kill(); _ = c.Wait() }()
	held, err := pin(c.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if held != nil {
		defer held.Close()
	}
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(c.Process.Pid, &set); err != nil || set.Count() != 1 {
		t.Errorf("it may run on %d processors (%v), want one", set.Count(), err)
	}
}
