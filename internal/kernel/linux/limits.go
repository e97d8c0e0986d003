// SPDX-License-Identifier: Apache-2.0

package linux

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strconv"
	"strings"
)

// perBucket is how many connections a bucket of a full hash table has, as with kube-proxy.
const perBucket = 4

// RaiseConntrackMax raises nf_conntrack_max and the size of the hash table, unless they are as large already, and
// returns what nf_conntrack_max was. It never lowers a limit: new connections could be dropped.
//
// The limit is the machine's, and can be written in the first network namespace only. Failing to raise it is no reason
// not to work, nor is a missing conntrack: opening IPVS loads it.
func RaiseConntrackMax(ctx context.Context, most int) (was int, err error) {
	return raiseConntrackMax(ctx, OpenSysctls(sysctlRoot()), most)
}

func raiseConntrackMax(ctx context.Context, s *SysctlStore, most int) (was int, err error) {
	if was, err = s.Raise(ctx, "net/netfilter/nf_conntrack_max", most); err != nil {
		return was, err
	}
	_, err = s.Raise(ctx, "net/netfilter/nf_conntrack_buckets", most/perBucket)
	return was, err
}

// SetOOMScore sets how readily the kernel ends this process when memory is short. Less readily than it was started with
// takes CAP_SYS_RESOURCE.
func SetOOMScore(score int) error {
	const file = "/proc/self/oom_score_adj"
	want := strconv.Itoa(score)
	if now, err := os.ReadFile(file); err == nil && strings.TrimSpace(string(now)) == want {
		return nil
	}
	err := writeFile(file, want)
	if errors.Is(err, fs.ErrPermission) {
		err = fmt.Errorf("it takes CAP_SYS_RESOURCE: %w", err)
	}
	if err != nil {
		return fmt.Errorf("setting the OOM score to %d: %w", score, err)
	}
	return nil
}

// writeFile writes to a file of the kernel, which it never makes.
func writeFile(name, text string) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	if _, err = f.WriteString(text); err != nil {
		err = fmt.Errorf("writing %q: %w", text, err)
	}
	return errors.Join(err, f.Close())
}

// Cores returns how many processors are online. This process may be bound to fewer (kubernetes#99225).
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
