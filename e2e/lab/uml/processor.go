// SPDX-License-Identifier: Apache-2.0

package uml

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// pin keeps a kernel that has just been started, with all its later processes, on one processor. Only one of them runs
// at a time, and each system call switches between them: a switch to another processor, which may be asleep, takes
// twice as long. While the returned file is open, no other lab takes that processor; it is nil if the processor is
// shared.
func pin(pid int) (*os.File, error) {
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return nil, fmt.Errorf("ask which processors there are: %w", err)
	}
	n, held := freeProcessor(os.TempDir(), processors(all), pid)
	var one unix.CPUSet
	one.Set(n)
	if err := unix.SchedSetaffinity(pid, &one); err != nil {
		return held, fmt.Errorf("keep the kernel on processor %d: %w", n, err)
	}
	return held, nil
}

func processors(set unix.CPUSet) []int {
	var list []int
	for n := 0; len(list) < set.Count(); n++ {
		if set.IsSet(n) {
			list = append(list, n)
		}
	}
	return list
}

// freeProcessor returns a processor that no other lab holds, and the file that holds it. If there is none, it returns
// any.
func freeProcessor(folder string, list []int, pid int) (int, *os.File) {
	for _, n := range list {
		f, err := os.OpenFile(filepath.Join(folder, fmt.Sprintf("kube-ipvs-lab-processor-%d", n)), os.O_RDWR|os.O_CREATE, 0o666)
		if err != nil {
			continue
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			return n, f
		}
		f.Close()
	}
	return list[pid%len(list)], nil
}
