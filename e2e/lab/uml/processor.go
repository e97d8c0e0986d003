// SPDX-License-Identifier: Apache-2.0

package uml

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// stay makes a kernel that has just been started stay on one processor, with all processes that it will have. It has never
// more than one that runs, and hands over from one to another at every system call: to one on another processor, which may
// be asleep, that takes twice as long. It returns what holds the processor for as long as it is open, nil if nothing does.
func stay(pid int) (*os.File, error) {
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

// freeProcessor is one that no other lab holds, and a file that holds it; if there is none, any.
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
