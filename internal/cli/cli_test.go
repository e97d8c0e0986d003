// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/cobra"

	"github.com/kube-ipvs/kube-ipvs/internal/render"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/trace"
)

// world is an Env in memory, with its output.
type world struct {
	out, err bytes.Buffer
	env      Env
	kernel   *memory
}

// memory is a Kernel in memory.
type memory struct {
	state      state.State
	stateErr   error
	observed   render.Observed
	everything []bool // of each Observe
	closed     int
}

func (m *memory) State(context.Context) (state.State, error) { return m.state, m.stateErr }
func (m *memory) Close() error                               { m.closed++; return nil }
func (m *memory) Observe(_ context.Context, everything bool) (render.Observed, error) {
	m.everything = append(m.everything, everything)
	return m.observed, nil
}

func newWorld() *world {
	w := &world{kernel: &memory{state: rows(), observed: observed()}}
	w.env = Env{
		Stdout:     &w.out,
		Stderr:     &w.err,
		OpenKernel: func() (Kernel, error) { return w.kernel, nil },
		Running:    func() bool { return true },
		Barriers:   func(context.Context) ([]trace.Barrier, error) { return nil, nil },
		ReadRules:  func(context.Context) (state.Ruleset, error) { return state.Ruleset{}, nil },
		Stored:     func(string) (Stored, error) { return Stored{}, fs.ErrNotExist },
		Build:      build(),
	}
	return w
}

// run runs a command line and returns its status and output.
func (w *world) run(t *testing.T, line string) (status int, stdout, stderr string) {
	t.Helper()
	w.out.Reset()
	w.err.Reset()
	status = Execute(t.Context(), w.env, strings.Fields(line))
	return status, w.out.String(), w.err.String()
}

func server(p state.Protocol, address string) state.VirtualServerKey {
	return state.VirtualServerKey{Address: netip.MustParseAddrPort(address), Protocol: p}
}

func endpoint(k state.VirtualServerKey, address string) state.RealServerKey {
	return state.RealServerKey{Server: k, Address: netip.MustParseAddrPort(address)}
}

// rows returns a small node: two Services, one of them also with a NodePort and draining, and a virtual server that is
// not ours.
func rows() state.State {
	s, err := render.ParseState(strings.NewReader(`entries
  KUBE-CLUSTER-IP 10.96.0.1,tcp:443 = "default/kubernetes:https"
  KUBE-CLUSTER-IP 10.96.0.10,udp:53 = "kube-system/kube-dns:dns"
  KUBE-6-CLUSTER-IP fd00::10,udp:53 = "kube-system/kube-dns:dns"
  KUBE-CLUSTER-IP 10.96.7.7,tcp:80 = "shop/gone"
  KUBE-NODE-PORT-TCP 30443 = "default/kubernetes:https"
virtual servers
  TCP 10.96.0.1:443 = rr flags persistent timeout 10800
  TCP 172.16.0.5:30443 = rr
  UDP 10.96.0.10:53 = lc
  UDP [fd00::10]:53 = lc
  TCP 10.200.0.1:80 = wrr
real servers
  TCP 10.96.0.1:443 -> 172.16.0.2:6443 = Masq weight 1
  TCP 10.96.0.1:443 -> 172.16.0.3:6443 = Masq weight 0
  TCP 172.16.0.5:30443 -> 172.16.0.2:6443 = Masq weight 1
  UDP 10.96.0.10:53 -> 10.244.1.7:53 = Masq weight 1
  UDP [fd00::10]:53 -> [fd00:244::7]:53 = Masq weight 1
  TCP 10.200.0.1:80 -> 10.200.1.1:80 = Route weight 5
addresses
  10.96.0.1
  10.96.0.10
  fd00::10
`))
	if err != nil {
		panic(err)
	}
	return s
}

func observed() render.Observed {
	api := server(state.TCP, "10.96.0.1:443")
	return render.Observed{
		Title:          "IP Virtual Server version 1.2.1 (size=4096)",
		Connections:    map[state.RealServerKey]state.Connections{endpoint(api, "172.16.0.2:6443"): {Active: 4, Inactive: 1}},
		VirtualServers: map[state.VirtualServerKey]state.Counters{api: {Connections: 5, PacketsIn: 60, PacketsOut: 50, BytesIn: 7000, BytesOut: 8000, PacketRateIn: 3}},
		RealServers:    map[state.RealServerKey]state.Counters{endpoint(api, "172.16.0.2:6443"): {Connections: 5, BytesIn: 7000, ByteRateIn: 12}},
		Limits:         map[state.RealServerKey]render.Limits{endpoint(server(state.TCP, "10.200.0.1:80"), "10.200.1.1:80"): {Upper: 9, Lower: 5}},
	}
}

func build() *debug.BuildInfo {
	return &debug.BuildInfo{
		GoVersion: "go1.26.0",
		Main:      debug.Module{Version: "v1.2.3"},
		Settings: []debug.BuildSetting{
			{Key: "vcs.revision", Value: "0123456789abcdef"}, {Key: "vcs.modified", Value: "true"},
			{Key: "GOOS", Value: "linux"}, {Key: "GOARCH", Value: "amd64"},
		},
	}
}

func TestEveryCommandHasHelp(t *testing.T) {
	all := append([]*cobra.Command{newRoot(Env{})}, commands(Env{})...)
	for _, c := range all {
		line := c.Name() + " --help"
		if c.Name() == "kube-ipvs" {
			line = "--help"
		}
		w := newWorld()
		status, stdout, stderr := w.run(t, line)
		if status != ExitOK || stderr != "" || !strings.Contains(stdout, "Usage:\n  kube-ipvs") {
			t.Errorf("%s: status %d, stderr %q, stdout\n%s", line, status, stderr, stdout)
		}
		if _, again, _ := w.run(t, line); again != stdout {
			t.Errorf("%s is not the same twice", line)
		}
		if c.Short == "" || c.Long == "" || c.Name() != "kube-ipvs" && !strings.Contains(stdout, "Examples:\n  kube-ipvs "+c.Name()) {
			t.Errorf("%s lacks a description or an example:\n%s", line, stdout)
		}
		for text := range strings.SplitSeq(stdout, "\n") {
			if len(text) > 100 && !strings.Contains(text, " --") {
				t.Errorf("%s has a line of %d columns: %s", line, len(text), text)
			}
		}
	}
}

func TestWithoutACommandThereIsHelp(t *testing.T) {
	w := newWorld()
	status, stdout, stderr := w.run(t, "")
	if status != ExitOK || stderr != "" || !strings.Contains(stdout, "Exit status: 0") || !strings.Contains(stdout, "\n  dump ") {
		t.Errorf("status %d, stderr %q, stdout\n%s", status, stderr, stdout)
	}
}

func TestACommandLineThatMakesNoSenseHasStatusTwo(t *testing.T) {
	for line, want := range map[string]string{
		"dmup":                           `unknown command "dmup"`,
		"--nonsense":                     "unknown flag: --nonsense",
		"version now":                    `unexpected argument "now"`,
		"dump now":                       `unexpected argument "now"`,
		"dump --nonsense":                "unknown flag: --nonsense",
		"dump -o xml":                    `output "xml" is none of text, wide, json, yaml, save`,
		"dump --stats --rate":            "--stats and --rate exclude each other",
		"dump --stats -o wide":           "-o wide has no columns for --stats or --rate",
		"dump --rate -o save":            "-o save has no columns for --stats or --rate",
		"dump --address example.org":     `address "example.org" is not IP or IP:PORT`,
		"dump --address 10.0.0.1:65536":  `address "10.0.0.1:65536" is not IP or IP:PORT`,
		"dump --protocol icmp":           `protocol "icmp" is none of TCP, UDP, SCTP`,
		"dump --service a/b/c":           `--service: "a/b/c" is not NAME or NAMESPACE/NAME`,
		"dump --service /b":              `--service: "/b" is not`,
		"dump --service a/":              `--service: "a/" is not NAME or NAMESPACE/NAME`,
		"dump --service a/b --namespace": "flag needs an argument: --namespace",
		"dump --service a/b -n c":        `--service: "a/b" is not in namespace "c"`,
	} {
		w := newWorld()
		status, stdout, stderr := w.run(t, line)
		if status != ExitUsage || stdout != "" || !strings.Contains(stderr, "kube-ipvs: "+want) || !strings.Contains(stderr, "--help'.\n") {
			t.Errorf("%q: status %d, stdout %q, stderr %q, want status 2 and %q", line, status, stdout, stderr, want)
		}
		if w.kernel.closed != 0 {
			t.Errorf("%q opened the kernel", line)
		}
	}
}

func TestVersionSaysWhatWasBuilt(t *testing.T) {
	w := newWorld()
	for _, c := range []struct {
		build *debug.BuildInfo
		want  string
	}{
		{build(), "kube-ipvs v1.2.3 (revision 0123456789ab, modified, go1.26.0, linux/amd64)\n"},
		{&debug.BuildInfo{GoVersion: "go1.26.0"}, "kube-ipvs (devel) (go1.26.0)\n"},
		{nil, "kube-ipvs of an unknown version\n"},
	} {
		w.env.Build = c.build
		if status, stdout, stderr := w.run(t, "version"); status != ExitOK || stdout != c.want || stderr != "" {
			t.Errorf("status %d, stdout %q, stderr %q, want %q", status, stdout, stderr, c.want)
		}
	}
}

func TestADeadPipeIsNoFailure(t *testing.T) {
	w := newWorld()
	w.env.Stdout = deadPipe{}
	for _, line := range []string{"dump", "dump -o json", "version"} {
		if status, _, stderr := w.run(t, line); status != ExitOK || stderr != "" {
			t.Errorf("%s: status %d, stderr %q, want 0 and nothing", line, status, stderr)
		}
	}
}

type deadPipe struct{}

func (deadPipe) Write([]byte) (int, error) {
	return 0, &fs.PathError{Op: "write", Path: "|1", Err: syscall.EPIPE}
}

func TestAnythingElseThatCannotBeWrittenIsAFailure(t *testing.T) {
	w := newWorld()
	w.env.Stdout = fullDisk{}
	if status, _, stderr := w.run(t, "dump"); status != ExitFailed || stderr != "kube-ipvs: no space\n" {
		t.Errorf("status %d, stderr %q, want 1 and no space", status, stderr)
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space") }

func TestAKernelThatCannotBeReadIsOneSentence(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("opening IPVS: %w", errors.ErrUnsupported), "this kernel has no IPVS: its module ip_vs is missing or cannot be loaded"},
		{fmt.Errorf("using IPVS: %w", syscall.EPERM), "reading IPVS needs root, or CAP_NET_ADMIN in the initial user namespace"},
		{errors.New("dump interrupted"), "dump interrupted"},
	} {
		w := newWorld()
		w.env.Running = func() bool { return false }
		w.env.OpenKernel = func() (Kernel, error) { return nil, c.err }
		if status, stdout, stderr := w.run(t, "dump"); status != ExitFailed || stdout != "" || stderr != "kube-ipvs: "+c.want+"\n" {
			t.Errorf("%v: status %d, stdout %q, stderr %q", c.err, status, stdout, stderr)
		}

		w = newWorld()
		w.kernel.state, w.kernel.stateErr = state.State{}, c.err
		if status, stdout, stderr := w.run(t, "dump"); status != ExitFailed || stdout != "" || stderr != "kube-ipvs: "+c.want+"\n" {
			t.Errorf("%v in State: status %d, stdout %q, stderr %q", c.err, status, stdout, stderr)
		}
		if w.kernel.closed != 1 {
			t.Errorf("%v: the kernel was closed %d times, want once", c.err, w.kernel.closed)
		}
	}
}
