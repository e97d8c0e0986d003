// SPDX-License-Identifier: Apache-2.0

package linux

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func text(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

func TestRoomForConnectionsIsRaisedWithTheHashTable(t *testing.T) {
	for name, c := range map[string]struct{ max, buckets, wantMax, wantBuckets string }{
		"both too small":            {"65536", "16384", "131072", "32768"},
		"a table that is large":     {"65536", "65536", "131072", "65536"},
		"more than is wanted":       {"262144", "32768", "262144", "32768"},
		"more, in too small a hash": {"262144", "16384", "262144", "32768"},
		"as wanted":                 {"131072", "32768", "131072", "32768"},
	} {
		root := t.TempDir()
		files := [2]string{filepath.Join(root, "net/netfilter/nf_conntrack_max"), filepath.Join(root, "net/netfilter/nf_conntrack_buckets")}
		write(t, files[0], c.max+"\n")
		write(t, files[1], c.buckets+"\n")
		was, err := raiseConntrackMax(t.Context(), OpenSysctls(root), 131072)
		if err != nil || strconv.Itoa(was) != c.max {
			t.Errorf("%s: was %d, %v, want %s", name, was, err, c.max)
		}
		if most, buckets := text(t, files[0]), text(t, files[1]); most != c.wantMax || buckets != c.wantBuckets {
			t.Errorf("%s: %s in %s buckets, want %s in %s", name, most, buckets, c.wantMax, c.wantBuckets)
		}
	}
	if _, err := raiseConntrackMax(t.Context(), OpenSysctls(t.TempDir()), 131072); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v without conntrack, want that it is not there", err)
	}
}

// Outside of the first namespace the kernel shows the machine's limit, and lets no one write it.
func TestTheKernelKeepsTheLimitOfConnectionsOutsideItsFirstNamespace(t *testing.T) {
	testkit.Namespace(t)
	now, err := strconv.Atoi(text(t, "/proc/sys/net/netfilter/nf_conntrack_max"))
	if err != nil {
		t.Fatal(err)
	}
	if was, err := RaiseConntrackMax(t.Context(), 1024); err != nil || was != now {
		t.Errorf("with enough room: was %d, %v, want %d", was, err, now)
	}
	if was, err := RaiseConntrackMax(t.Context(), now+1); !errors.Is(err, fs.ErrPermission) || was != now {
		t.Errorf("with too little: was %d, %v, want %d and %v", was, err, now, fs.ErrPermission)
	}
	if got := text(t, "/proc/sys/net/netfilter/nf_conntrack_max"); got != strconv.Itoa(now) {
		t.Errorf("the limit is %s now, was %d", got, now)
	}
}

func TestTheOOMScoreIsThisProcessesOwn(t *testing.T) {
	const file = "/proc/self/oom_score_adj"
	before, err := strconv.Atoi(text(t, file))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { write(t, file, strconv.Itoa(before)) })
	for _, score := range []int{before + 1, before, before + 2} {
		if err := SetOOMScore(score); err != nil {
			t.Fatal(err)
		}
		if got := text(t, file); got != strconv.Itoa(score) {
			t.Errorf("the score is %s, want %d", got, score)
		}
	}
	if err := SetOOMScore(1001); err == nil {
		t.Error("the kernel took a score beyond its bounds")
	}
}

// A score that is right already takes no privilege, as when the parent of this process has set it.
func TestALowerOOMScoreTakesAPrivilege(t *testing.T) {
	testkit.Namespace(t) // this thread ends with the test, and so does what it lacks
	drop(t, unix.CAP_SYS_RESOURCE)
	now, err := strconv.Atoi(text(t, "/proc/self/oom_score_adj"))
	if err != nil {
		t.Fatal(err)
	}
	if err := SetOOMScore(now); err != nil {
		t.Error(err)
	}
	if err := SetOOMScore(-999); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "CAP_SYS_RESOURCE") {
		t.Errorf("got %v, want %v and what it takes", err, fs.ErrPermission)
	}
}

// drop takes a capability from this thread.
func drop(t *testing.T, capability int) {
	t.Helper()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		t.Fatal(err)
	}
	sets[0].Effective &^= 1 << capability
	if err := unix.Capset(&header, &sets[0]); err != nil {
		t.Fatal(err)
	}
}
