// SPDX-License-Identifier: Apache-2.0

package linux

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
)

// Cores returns how many processors the machine has online. This process may be bound to fewer
// (kubernetes#99225).
func Cores() int {
	online, err := os.ReadFile("/sys/devices/system/cpu/online")
	if err == nil {
		var n int
		if n, err = countCores(strings.TrimSpace(string(online))); err == nil {
			return n
		}
	}
	return runtime.NumCPU()
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
		to, err2 := strconv.ParseUint(last, 10, 16)
		if err := errors.Join(err, err2); err != nil {
			return 0, fmt.Errorf("parsing processors %q: %w", list, err)
		}
		if n += int(to) - int(from) + 1; to < from || n > maxCores {
			return 0, fmt.Errorf("parsing processors %q: not in ascending order", list)
		}
	}
	return n, nil
}
