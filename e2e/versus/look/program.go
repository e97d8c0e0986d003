// SPDX-License-Identifier: Apache-2.0

package look

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// tick is what the kernel counts CPU time in, for every program that asks.
const tick = time.Second / 100

// Program is a program that runs.
type Program int

// CPU is the time that it, and those of its children that have ended, were on a processor.
func (p Program) CPU() (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p))
	if err != nil {
		return 0, err
	}
	return parseCPU(text)
}

// parseCPU adds up utime, stime, cutime and cstime. The name before them may have spaces in it.
func parseCPU(stat []byte) (time.Duration, error) {
	const first, last = 11, 14 // behind the name
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) <= last {
		return 0, fmt.Errorf("parse the CPU time in %q", stat)
	}
	var sum time.Duration
	for _, text := range fields[first : last+1] {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("parse the CPU time in %q: %w", stat, err)
		}
		sum += time.Duration(n) * tick
	}
	return sum, nil
}

// Memory is how many bytes of it are resident now, and the most that ever were.
func (p Program) Memory() (now, peak int64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p))
	if err != nil {
		return 0, 0, err
	}
	if now, err = parseKiB(text, "VmRSS:"); err != nil {
		return 0, 0, err
	}
	peak, err = parseKiB(text, "VmHWM:")
	return now, peak, err
}

func parseKiB(status []byte, name string) (int64, error) {
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("find %s in %q", name, status)
}
