// SPDX-License-Identifier: Apache-2.0

package linux

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

var _ kernel.Store[state.SysctlName, string] = (*SysctlStore)(nil)

type (
	table = map[state.SysctlName]string
	delta = diff.Delta[state.SysctlName, string]
	row   = diff.Row[state.SysctlName, string]
	edit  = diff.Change[state.SysctlName, string]
)

// tree makes a directory of settings.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func listed(t *testing.T, s *SysctlStore, want table) {
	t.Helper()
	got, err := s.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
}

func TestListReturnsWhatThereIsOfTheNamesTrimmed(t *testing.T) {
	root := tree(t, map[string]string{
		"net/ipv4/ip_forward":              "1\n",
		"net/ipv4/vs/conntrack":            "0\n",
		"net/ipv4/conf/eth0.100/rp_filter": " 2 \n",
		"net/ipv4/tcp_rmem":                "4096\t131072\t6291456\n",
		"net/ipv4/not_asked_for":           "1\n",
	})
	s := OpenSysctls(root, "net/ipv4/ip_forward", "net/ipv4/vs/conntrack", "net/ipv4/conf/eth0.100/rp_filter", "net/ipv4/tcp_rmem", "net/none")
	listed(t, s, table{
		"net/ipv4/ip_forward":              "1",
		"net/ipv4/vs/conntrack":            "0",
		"net/ipv4/conf/eth0.100/rp_filter": "2",
		"net/ipv4/tcp_rmem":                "4096\t131072\t6291456",
	})
}

func TestListFailsOnWhatCanNotBeRead(t *testing.T) {
	root := tree(t, map[string]string{"net/ipv4/dir/file": ""})
	if rows, err := OpenSysctls(root, "net/ipv4/dir").List(t.Context()); err == nil || rows != nil {
		t.Errorf("got %v, %v for a directory, want an error alone", rows, err)
	}
}

func TestApplyWrites(t *testing.T) {
	root := tree(t, map[string]string{"net/a": "12345\n", "net/b": "0\n", "net/c": "0\n"})
	s := OpenSysctls(root, "net/a", "net/b", "net/c")
	r := s.Apply(t.Context(), delta{
		Add:    []row{{Key: "net/b", Value: "1"}},
		Update: []edit{{Key: "net/a", Old: "12345", New: "7"}},
	})
	if d := cmp.Diff(kernel.Result[state.SysctlName]{Drift: 1}, r); d != "" {
		t.Error(d)
	}
	listed(t, s, table{"net/a": "7", "net/b": "1", "net/c": "0"})
}

func TestRemoveLeavesASettingAsItIs(t *testing.T) {
	s := OpenSysctls(tree(t, map[string]string{"net/a": "1\n"}), "net/a")
	r := s.Apply(t.Context(), delta{Remove: []row{{Key: "net/a", Value: "1"}, {Key: "net/gone", Value: "1"}}})
	if d := cmp.Diff(kernel.Result[state.SysctlName]{}, r); d != "" {
		t.Error(d)
	}
	listed(t, s, table{"net/a": "1"})
}

func TestAMissingSettingFailsAndNamesItsModule(t *testing.T) {
	root := tree(t, map[string]string{"net/a": "0\n"})
	for name, want := range map[state.SysctlName]string{
		"net/ipv4/vs/conntrack":              "writing sysctl net/ipv4/vs/conntrack: module ip_vs is not loaded, or this kernel does not have it: file does not exist",
		"net/netfilter/nf_conntrack_max":     "writing sysctl net/netfilter/nf_conntrack_max: module nf_conntrack is not loaded, or this kernel does not have it: file does not exist",
		"net/ipv6/conf/all/forwarding":       "writing sysctl net/ipv6/conf/all/forwarding: module ipv6 is not loaded, or this kernel does not have it: file does not exist",
		"net/bridge/bridge-nf-call-iptables": "writing sysctl net/bridge/bridge-nf-call-iptables: module br_netfilter is not loaded, or this kernel does not have it: file does not exist",
		"net/ipv4/no_such_thing":             "writing sysctl net/ipv4/no_such_thing: this kernel does not have it: file does not exist",
	} {
		s := OpenSysctls(root, name, "net/a")
		r := s.Apply(t.Context(), delta{
			Add:    []row{{Key: name, Value: "1"}},
			Update: []edit{{Key: "net/a", Old: "0", New: "1"}},
		})
		err := r.Failed[name]
		if !errors.Is(err, fs.ErrNotExist) || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
		if len(r.Failed) != 1 || r.Drift != 0 {
			t.Errorf("got %+v, want one failure", r)
		}
		listed(t, s, table{"net/a": "1"})
	}
}

func TestACancelledApplyFailsItsRows(t *testing.T) {
	s := OpenSysctls(tree(t, map[string]string{"net/a": "0\n"}), "net/a")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := s.Apply(ctx, delta{Update: []edit{{Key: "net/a", Old: "0", New: "1"}}})
	if !errors.Is(r.Failed["net/a"], context.Canceled) {
		t.Errorf("got %v, want context.Canceled", r)
	}
	if _, err := s.List(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	listed(t, s, table{"net/a": "0"})
}

func TestTheKernelTakesItsSettings(t *testing.T) {
	testkit.Namespace(t)
	s := OpenSysctls("/proc/sys", "net/ipv4/vs/conntrack", "net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/ipv4/vs/no_such_thing")
	listed(t, s, table{"net/ipv4/vs/conntrack": "0", "net/ipv4/ip_forward": "0", "net/ipv6/conf/all/forwarding": "0"})

	r := s.Apply(t.Context(), delta{
		Update: []edit{
			{Key: "net/ipv4/ip_forward", Old: "0", New: "1"},
			{Key: "net/ipv4/vs/conntrack", Old: "0", New: "1"},
			{Key: "net/ipv6/conf/all/forwarding", Old: "0", New: "1"},
		},
		Add: []row{{Key: "net/ipv4/vs/no_such_thing", Value: "1"}},
	})
	if len(r.Failed) != 1 || !errors.Is(r.Failed["net/ipv4/vs/no_such_thing"], fs.ErrNotExist) || r.Drift != 0 {
		t.Errorf("got %+v", r)
	}
	listed(t, s, table{"net/ipv4/vs/conntrack": "1", "net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1"})
}

func TestAValueThatTheKernelRefusesFails(t *testing.T) {
	testkit.Namespace(t)
	s := OpenSysctls("/proc/sys", "net/ipv4/vs/conntrack")
	r := s.Apply(t.Context(), delta{Update: []edit{{Key: "net/ipv4/vs/conntrack", Old: "0", New: "many"}}})
	if r.Failed["net/ipv4/vs/conntrack"] == nil {
		t.Error("the kernel took the word \"many\"")
	}
	listed(t, s, table{"net/ipv4/vs/conntrack": "0"})
}

func TestANumberIsRaisedButNeverLowered(t *testing.T) {
	root := tree(t, map[string]string{"net/low": "65536\n", "net/high": "262144\n", "net/same": "131072\n", "net/word": "many\n"})
	s := OpenSysctls(root, "net/low", "net/high", "net/same", "net/word")
	for name, want := range map[state.SysctlName]int{"net/low": 65536, "net/high": 262144, "net/same": 131072} {
		if was, err := s.Raise(t.Context(), name, 131072); was != want || err != nil {
			t.Errorf("%s was %d, %v, want %d", name, was, err, want)
		}
	}
	if was, err := s.Raise(t.Context(), "net/word", 1); err == nil {
		t.Errorf("a word is the number %d", was)
	}
	if _, err := s.Raise(t.Context(), "net/netfilter/nf_conntrack_max", 1); !errors.Is(err, fs.ErrNotExist) ||
		err.Error() != "reading sysctl net/netfilter/nf_conntrack_max: module nf_conntrack is not loaded, or this kernel does not have it: file does not exist" {
		t.Errorf("got %v for a setting that is not there", err)
	}
	listed(t, s, table{"net/low": "131072", "net/high": "262144", "net/same": "131072", "net/word": "many"})
}

// The limits of conntrack are the machine's, but how long it keeps a connection is the network namespace's.
func TestConntracksTimesAreEachNamespacesOwn(t *testing.T) {
	names := map[state.SysctlName]string{
		"net/netfilter/nf_conntrack_tcp_timeout_established": "4711",
		"net/netfilter/nf_conntrack_tcp_timeout_close_wait":  "47",
		"net/netfilter/nf_conntrack_tcp_be_liberal":          "1",
		"net/netfilter/nf_conntrack_udp_timeout":             "11",
		"net/netfilter/nf_conntrack_udp_timeout_stream":      "111",
	}
	testkit.Namespace(t)
	s := OpenSysctls("/proc/sys", slices.Collect(maps.Keys(names))...)
	before, err := s.List(t.Context())
	if err != nil || len(before) != len(names) {
		t.Fatalf("%v, %v before anything is written, want %d rows", before, err, len(names))
	}
	if r := s.Apply(t.Context(), diff.Of(before, names, state.SysctlName.Compare)); len(r.Failed) > 0 || r.Drift > 0 {
		t.Errorf("got %+v", r)
	}
	listed(t, s, names)

	testkit.Namespace(t) // another
	listed(t, s, before)
}
