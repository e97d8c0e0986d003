// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"flag"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-ipvs/kube-ipvs/internal/render"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/trace"
)

var update = flag.Bool("update", false, "write the golden files")

func TestDumpWritesEachForm(t *testing.T) {
	for name, line := range map[string]string{
		"text":       "dump",
		"stats":      "dump --stats",
		"rate":       "dump --rate",
		"wide":       "dump -o wide",
		"json":       "dump -o json",
		"json-stats": "dump -o json --stats --service kubernetes",
		"yaml":       "dump -o yaml",
		"yaml-rate":  "dump -o yaml --rate --service kubernetes",
		"save":       "dump -o save",
		"service":    "dump --service kube-system/kube-dns -o wide",
	} {
		t.Run(name, func(t *testing.T) {
			status, stdout, stderr := newWorld().run(t, line)
			if status != ExitOK || stderr != "" {
				t.Fatalf("status %d, stderr %q", status, stderr)
			}
			golden(t, filepath.Join("testdata", name+".golden"), stdout)
		})
	}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s differs (-want +got):\n%s", file, d)
	}
}

func TestWhatIsCostlyIsReadOnlyIfItIsShown(t *testing.T) {
	for line, want := range map[string]bool{
		"dump": false, "dump --stats": true, "dump --rate": true, "dump -o wide": true, "dump -o json": true, "dump -o yaml": true,
		"dump -o save": true,
	} {
		w := newWorld()
		w.run(t, line)
		if got := w.kernel.everything; len(got) != 1 || got[0] != want {
			t.Errorf("%s reads everything: %v, want once %v", line, got, want)
		}
		if w.kernel.closed != 1 {
			t.Errorf("%s closes the kernel %d times, want once", line, w.kernel.closed)
		}
	}
}

func TestDumpShowsTheTableOfNFTables(t *testing.T) {
	w := newWorld()
	text, _ := wantPlanned(t, clusterYAML, "--node n1 --firewall nftables")
	want, _ := wantPlanned(t, clusterYAML, "--node n1 -o nft")
	s, err := render.ParseState(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	w.env.ReadNode = func(context.Context) (state.State, []netip.Addr, error) { return s, nil, nil }
	if status, stdout, stderr := w.run(t, "dump -o nft"); status != ExitOK || stdout != want || stderr != "" {
		t.Errorf("status %d, stderr %q, stdout\n%s", status, stderr, stdout)
	}
	for line, want := range map[string]string{
		"dump -o nft -n shop":            "-o nft shows the whole table: it takes no Service, namespace, address or protocol",
		"dump -o nft --protocol tcp":     "-o nft shows the whole table: it takes no Service, namespace, address or protocol",
		"dump -o nft --stats":            "-o nft has no columns for --stats or --rate",
		"dump -o nft --address 10.0.0.1": "-o nft shows the whole table: it takes no Service, namespace, address or protocol",
	} {
		if status, stdout, stderr := w.run(t, line); status != ExitUsage || stdout != "" || !strings.HasPrefix(stderr, "kube-ipvs: "+want+"\n") {
			t.Errorf("%s: status %d, stdout %q, stderr %q", line, status, stdout, stderr)
		}
	}
}

func TestDumpSaysWhichFirewallTheNodeHas(t *testing.T) {
	w := traceWorld()
	const iptables = "kube-ipvs: the firewall of this node is iptables: see ipset list, iptables-save and ip6tables-save\n"
	if status, stdout, stderr := w.run(t, "dump -o nft"); status != ExitFailed || stdout != "" || stderr != iptables {
		t.Errorf("status %d, stdout %q, stderr %q", status, stdout, stderr)
	}
	w.env.ReadNode = func(context.Context) (state.State, []netip.Addr, error) { return state.New(), nil, nil }
	if status, _, stderr := w.run(t, "dump -o nft"); status != ExitFailed || stderr != "kube-ipvs: there is no table kube-ipvs of nftables\n" {
		t.Errorf("status %d, stderr %q", status, stderr)
	}
	w.env.ReadNode = func(context.Context) (state.State, []netip.Addr, error) {
		return state.State{}, nil, errors.New("no netlink")
	}
	if status, _, stderr := w.run(t, "dump -o nft"); status != ExitFailed || stderr != "kube-ipvs: no netlink\n" {
		t.Errorf("status %d, stderr %q", status, stderr)
	}
}

func TestDumpSaysThatTheDaemonIsNotRunning(t *testing.T) {
	w := newWorld()
	_, want, _ := w.run(t, "dump")
	w.env.Running = func() bool { return false }
	status, stdout, stderr := w.run(t, "dump")
	const sentence = "kube-ipvs is not running in this network namespace: " +
		"what follows is what it, or another proxy, left in the kernel.\n"
	if status != ExitOK || stdout != want || stderr != sentence {
		t.Errorf("status %d, stderr %q, stdout\n%s", status, stderr, stdout)
	}
}

func TestDumpShowsWhatItCanRead(t *testing.T) {
	w := newWorld()
	w.kernel.state.Entries, w.kernel.state.Addresses = nil, nil
	w.kernel.stateErr = errors.Join(errors.New("no ip_set"), errors.New("no devices"))
	status, stdout, stderr := w.run(t, "dump -o wide")
	const sentence = "Not everything could be read; what depends on it shows as \"?\": no ip_set; no devices\n"
	if status != ExitOK || stderr != sentence {
		t.Errorf("status %d, stderr %q, want 0 and %q", status, stderr, sentence)
	}
	golden(t, "testdata/unread.golden", stdout)
}

func TestFiltersWithoutAMatchAreNoFailure(t *testing.T) {
	for line, want := range map[string]string{
		"dump --service nothing":                   "No virtual server in the kernel matches.\n",
		"dump --address 10.96.0.1:80":              "No virtual server in the kernel matches.\n",
		"dump -n shop":                             "No virtual server in the kernel matches. There are matching set entries or addresses: see -o wide.\n",
		"dump --service shop/gone -o json":         "No virtual server in the kernel matches. There are matching set entries or addresses: see -o wide.\n",
		"dump --service kubernetes --protocol tcp": "",
	} {
		status, stdout, stderr := newWorld().run(t, line)
		if status != ExitOK || stderr != want || stdout == "" {
			t.Errorf("%s: status %d, stdout %q, stderr %q, want %q", line, status, stdout, stderr, want)
		}
	}
}

func TestFiltersSelectVirtualServers(t *testing.T) {
	const api, nodePort, dns, dns6, other = "TCP  10.96.0.1:443", "TCP  172.16.0.5:30443", "UDP  10.96.0.10:53", "UDP  [fd00::10]:53", "TCP  10.200.0.1:80"
	for line, want := range map[string][]string{
		"":                             {api, other, nodePort, dns, dns6},
		"--service kubernetes":         {api, nodePort},
		"--service default/kubernetes": {api, nodePort},
		"--service default/kubernetes -n default": {api, nodePort},
		"--service kubernetes -n default":         {api, nodePort},
		"--service kubernetes -n kube-system":     nil,
		"--service default/kubernetes:https":      {api, nodePort},
		"--service default/kubernetes:http":       nil,
		"-n kube-system":                          {dns, dns6},
		"--address 10.96.0.1":                     {api},
		"--address 10.96.0.1:443":                 {api},
		"--address ::ffff:10.96.0.1":              {api},
		"--address fd00::10":                      {dns6},
		"--address [fd00::10]":                    {dns6},
		"--address [fd00::10]:53":                 {dns6},
		"--address 172.16.0.2":                    {api, nodePort},
		"--address 10.200.1.1:80":                 {other},
		"--protocol udp":                          {dns, dns6},
		"--protocol TCP -n default":               {api, nodePort},
		"--protocol sctp":                         nil,
	} {
		_, stdout, _ := newWorld().run(t, "dump "+line)
		var got []string
		for text := range strings.SplitSeq(stdout, "\n") {
			if columns := strings.Fields(text); len(columns) > 2 && (columns[0] == "TCP" || columns[0] == "UDP") {
				got = append(got, columns[0]+"  "+columns[1])
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", line, d)
		}
	}
}

func TestDumpTellsTheAgeOfTheSnapshotInTheWideForm(t *testing.T) {
	const snapshot = "\nSnapshot of node node-1, for a start without the API server: 12 Services, as they were 1h0m0s ago.\n"
	for _, c := range []struct {
		line, stdout, stderr string
		err                  error
	}{
		{"dump -o wide", snapshot, "", nil},
		{"dump -o wide --snapshot /x", snapshot, "", nil},
		{"dump", "", "", nil},
		{"dump -o wide", "", "", fs.ErrNotExist},
		{"dump -o wide --snapshot /x", "", "The snapshot cannot be used: file does not exist\n", fs.ErrNotExist},
		{"dump -o wide", "", "The snapshot cannot be used: torn\n", errors.New("torn")},
	} {
		w := newWorld()
		_, without, _ := w.run(t, strings.ReplaceAll(c.line, " --snapshot /x", ""))
		w.env.Stored = func(string) (Stored, error) { return Stored{Node: "node-1", Services: 12, Age: time.Hour}, c.err }
		status, stdout, stderr := w.run(t, c.line)
		if status != ExitOK || stdout != without+c.stdout || stderr != c.stderr {
			t.Errorf("%s (%v): status %d, stderr %q, and below the rows %q", c.line, c.err, status, stderr, strings.TrimPrefix(stdout, without))
		}
	}
}

func TestDumpWideSaysWhatOfOthersStopsServices(t *testing.T) {
	w := newWorld()
	stopped := trace.Barrier{By: "filter INPUT, policy DROP", Sure: true, Packet: trace.Packet{Protocol: state.TCP,
		Source: netip.MustParseAddrPort("10.244.1.7:0"), Destination: netip.MustParseAddrPort("10.96.0.1:443")}}
	w.env.Barriers = func(context.Context) ([]trace.Barrier, error) { return []trace.Barrier{stopped}, nil }
	const want = "\nRules of other programs that stop Services:\n" +
		"  filter INPUT, policy DROP stops packets to Services, such as 10.244.1.7 -> 10.96.0.1:443/TCP: "
	if status, out, failed := w.run(t, "dump -o wide"); status != ExitOK || failed != "" || !strings.Contains(out, want) {
		t.Errorf("status %d, stderr %q, no %q in\n%s", status, failed, want, out)
	}
	w.env.Barriers = func(context.Context) ([]trace.Barrier, error) { return nil, syscall.EPERM }
	if status, out, failed := w.run(t, "dump -o wide"); status != ExitOK || !strings.Contains(failed, "Could not check") || strings.Contains(out, "Rules of other") {
		t.Errorf("where rules cannot be read: status %d, stderr %q\n%s", status, failed, out)
	}
}
