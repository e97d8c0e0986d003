// SPDX-License-Identifier: Apache-2.0

package linux

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
)

// Cores is how many processors the machine has at work. This process may be bound to fewer
// (kubernetes#99225).
func Cores() int {
	online, err := os.ReadFile("/sys/devices/system/cpu/online")
	if err != nil {
		return runtime.NumCPU()
	}
	n, err := countCores(strings.TrimSpace(string(online)))
	if err != nil {
		return runtime.NumCPU()
	}
	return n
}

// maxCores is far above what Linux can have.
const maxCores = 1 << 16

// countCores reads a list of processors as the kernel writes it: "0-3,8".
func countCores(list string) (int, error) {
	n := 0
	for part := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		from, err := strconv.ParseUint(first, 10, 16)
		if err != nil {
			return 0, fmt.Errorf("parsing processors %q: %w", list, err)
		}
		to, err := strconv.ParseUint(last, 10, 16)
		if err != nil {
			return 0, fmt.Errorf("parsing processors %q: %w", list, err)
		}
		if n += int(to) - int(from) + 1; to < from || n > maxCores {
			return 0, fmt.Errorf("parsing processors %q: not in ascending order", list)
		}
	}
	return n, nil
}
