// SPDX-License-Identifier: Apache-2.0

package linux

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// perBucket is how many connections one bucket of conntrack's hash table has when the table is full.
// kube-proxy has it so too.
const perBucket = 4

// RaiseConntrackMax makes room for that many tracked connections, and for finding them quickly, unless there
// is as much already; it returns for how many there was room. What somebody else chose to be larger stays:
// below it, new connections could be dropped.
//
// The limit is the machine's. It can be written in the first network namespace only, and in others it can't
// be raised: that is an error, which is no reason not to work. Nor is that conntrack is not there yet:
// opening IPVS brings it.
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

// SetOOMScore says how readily the kernel ends this process when memory is short. Less readily than it was
// started with takes CAP_SYS_RESOURCE.
func SetOOMScore(score int) error {
	const file = "/proc/self/oom_score_adj"
	want := strconv.Itoa(score)
	if now, err := os.ReadFile(file); err == nil && strings.TrimSpace(string(now)) == want {
		return nil
	}
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString(want)
		err = errors.Join(err, f.Close())
	}
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("setting the OOM score to %d (it takes CAP_SYS_RESOURCE): %w", score, err)
	}
	if err != nil {
		return fmt.Errorf("setting the OOM score to %d: %w", score, err)
	}
	return nil
}
