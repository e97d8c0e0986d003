// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/kube-ipvs/kube-ipvs/e2e/large"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

func TestQuantiles(t *testing.T) {
	hundred, three := make([]float64, 100), []float64{3, 1, 2}
	for i := range hundred {
		hundred[i] = float64(100 - i)
	}
	got := []float64{quantile(hundred, 0), quantile(hundred, 0.5), quantile(hundred, 0.99), quantile(hundred, 1), hundred[0],
		quantile(three, 0.5), quantile(three, 0.99), quantile([]float64{7}, 0.5), quantile(nil, 0.5)}
	if want := []float64{1, 50, 99, 100, 100, 2, 3, 7, 0}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// full is a report of both programs that has something of everything.
func full() Report {
	run := func(program string, services int, factor float64) Run {
		return Run{
			Program: program, Services: services, Endpoints: 10, Binding: "address",
			Cold: []Cold{{Took: 1.25 * factor, Rows: 1.2 * factor, Kernel: 0.5 * factor, CPU: factor}},
			Changes: []Change{
				{Kind: added, Took: []float64{0.0311 * factor}, Answered: []float64{0.0123}},
				{Kind: serviceGone, Took: []float64{1.07 * factor}, Answered: []float64{0.0123}},
			},
			Load:    &Load{Asked: 100, Written: 97.4, Changes: 6000, Took: Summary{0.04, 0.05, 0.21 * factor, 0.6}, CPU: 0.0027 * factor},
			Restart: &Restart{Took: 0.77 * factor, Written: 0, Programs: map[string]int{"iptables-save": 4, "sh": 9}},
			Steady:  &Steady{Lasted: 60, CPU: 0.61 * factor, Resident: int64(41 * factor * (1 << 20)), Peak: 1 << 27},
		}
	}
	return Report{
		Began: time.Unix(1_800_000_000, 0).UTC(), Took: 3723,
		Machine:  Machine{Processor: "UML", Processors: 1, MemoryMiB: 4000, Kernel: "Linux 6.1", Host: "Linux host", Versions: map[string]string{ours: "v1", theirs: "v2"}},
		Commands: []string{"benchmark run"},
		Runs:     []Run{run(ours, 1000, 1), run(theirs, 1000, 313), run(ours, 10000, 2)},
		Floors:   []Floor{{Services: 10000, Endpoints: 10, Groups: []string{"sets", "servers"}, Laps: []map[string]float64{{"sets": 0.3, "servers": 0.5}}, Ours: []float64{1}}},
		Unsaid:   []string{"something"},
	}
}

// mustSay fails unless the page of a report has all texts.
func mustSay(t *testing.T, r Report, texts ...string) {
	t.Helper()
	page := r.page()
	for _, want := range texts {
		if !strings.Contains(page, want) {
			t.Errorf("there is no %q in\n%s", want, page)
		}
	}
}

func TestThePageHasTheFiguresAndTheirRatios(t *testing.T) {
	mustSay(t, full(),
		"## 1,000 Services, 10 endpoints each",
		"| cold start | 1.25 s | 391 s | 313 x |",
		"| endpoint added | 31.1 ms / 31.1 ms | 9.73 s / 9.73 s | 313 x |",
		"| restart: programs run | 4 | 4 | 1.00 x |",
		"| resident memory | 41 MiB |",
		"The floor, which is the same rows in batches encoded beforehand and nothing else: **800 ms** (sets 300 ms, servers 500 ms).",
		"wrote them in 1.00 s, the API server standing still meanwhile: **1.25 x of the floor**",
		"| programming 10,000 x 10, against the floor | at most 1.5 x | 1.25 x |",
		"| cold start at 1,000 x 10, against kube-proxy's | at least 50 x faster | 313 x |",
		"1h2m3s", "`Linux host`", "- something", "![Resident memory](memory.svg)")
}

func TestAProgramThatFailedHasNoFigure(t *testing.T) {
	r := full()
	r.Runs[1].Failure = "its log says\nthat it failed"
	mustSay(t, r, "**No figure for kube-proxy**: its log says that it failed", "| cold start | 1.25 s | no figure |  |")
	for _, f := range figures() {
		if f.chart == nil {
			continue
		}
		if b := r.series(f)[1].bars[0]; b.height != 0 || b.why != "no figure" {
			t.Errorf("%s has %+v of a program that failed", f.chart.file, b)
		}
		if svg := r.draw(f); !strings.Contains(string(svg), ">no figure<") {
			t.Errorf("%s does not say that there is no figure", f.chart.file)
		}
	}
	for _, g := range r.goals() {
		if g.found != "" && strings.Contains(g.what, "kube-proxy") {
			t.Errorf("%s: found %s", g.what, g.found)
		}
	}
}

func TestAProgramThatHadNoTimeHasTheFiguresThatItGot(t *testing.T) {
	r := full()
	r.Runs[1].Exceeded = "load: not within 10m0s"
	r.Runs[1].Load = nil
	mustSay(t, r, "kube-proxy: load: not within 10m0s.", "| cold start | 1.25 s | 391 s | 313 x |",
		"| load: changes a second that were written | 97.4 | not in time |  |")
}

func TestAReportIsReadAsItWasSaved(t *testing.T) {
	folder := t.TempDir()
	for _, r := range []Report{{}, full()} {
		r.save(folder)
		if got := load(folder); !reflect.DeepEqual(got, r) {
			t.Errorf("got %+v, want %+v", got, r)
		}
	}
	for _, name := range []string{"README.md", "cold-start.svg", "one-change.svg", "memory.svg"} {
		if text, err := os.ReadFile(filepath.Join(folder, name)); err != nil || len(text) == 0 {
			t.Errorf("%s: %d bytes, %v", name, len(text), err)
		}
	}
}

func TestTheScaleHasWholePowersOfTen(t *testing.T) {
	for _, c := range []struct {
		heights []float64
		want    scale
	}{{[]float64{0.02, 150}, scale{-2, 3}}, {[]float64{5}, scale{0, 1}}, {[]float64{10.1}, scale{0, 2}}, {[]float64{100}, scale{1, 2}}, {[]float64{0}, scale{0, 1}}} {
		bars := each(c.heights, func(h float64) bar { return bar{height: h} })
		if got := scaleOf([]series{{bars: bars}}); got != c.want {
			t.Errorf("%v: %v, want %v", c.heights, got, c.want)
		}
	}
}

func TestNumbersOfThePage(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{seconds(0), "0 s"}, {seconds(0.0000123), "12.3 µs"}, {seconds(0.00123), "1.23 ms"}, {seconds(0.9996), "1.00 s"},
		{seconds(0.5), "500 ms"}, {seconds(12.34), "12.3 s"}, {seconds(157), "157 s"}, {seconds(1570), "1570 s"},
		{thousands(1), "1"}, {thousands(1000), "1,000"}, {thousands(-1234567), "-1,234,567"}, {thousands(-123), "-123"},
		{times(1.5), "1.50 x"}, {times(312.6), "313 x"}, {times(12345), "12,345 x"}, {mebibytes(1), "1 MiB"}, {rowsSaid(-1), "does not say"},
	} {
		if c.got != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
}

const ourLog = `2026-11-21T20:38:41.222Z	info	configuration	{"proxyMode": "ipvs"}
2026-11-21T20:38:41.822Z	info	kernel synced	{"cause": "start", "rows": 20157, "took": "1.5s", "virtual servers": 1000}
2026-11-21T20:38:41.922Z	info	kernel synced	{"cause": "start", "rows": 1, "took": "250ms", "addresses": 1}
2026-11-21T20:38:42.022Z	info	start completed	{"written": 20158}
2026-11-21T20:38:43.022Z	info	kernel synced	{"cause": "change", "rows": 1, "took": "2ms"}
`

const theirLog = `I1121 20:38:57.322640     904 server_linux.go:53] "Using iptables proxy"
W1121 20:38:57.322640     904 proxier.go:1] "The ipvs proxier is now deprecated and may be removed in a future release."
I1121 20:38:58.322640     904 shared_informer.go:320] Caches are synced for service config
`

func TestWhatFailedIsFoundInALog(t *testing.T) {
	for _, c := range []struct {
		program   program
		log, line string
	}{
		{newOurs(""), ourLog, ""}, {newTheirs(""), theirLog, ""},
		{newOurs(""), ourLog, `2026-11-21T20:38:42.022Z	warn	kernel refused some rows; trying them again	{"refused": 3}`},
		{newOurs(""), ourLog, `2026-11-21T20:38:42.022Z	error	out of order	{}`},
		{newOurs(""), ourLog, `panic: runtime error`},
		{newTheirs(""), theirLog, `E1121 20:38:58.1     904 proxier.go:1494] "Failed to execute iptables-restore" err="exit status 1" rules=""`},
		{newTheirs(""), theirLog, `E1121 20:38:58.1     904 proxier.go:1] "Failed to ensure chain exists" table="nat"`},
		{newTheirs(""), theirLog, `I1121 20:38:58.1     904 proxier.go:1] "iptables-restore failed" err="x"`},
	} {
		if got := c.program.firstComplaint([]byte(c.log + c.line + "\n")); got != c.line {
			t.Errorf("the complaint of %s is %q, want the line %q", c.program.name, got, c.line)
		}
	}
}

func TestOursSaysWhatItsStartCost(t *testing.T) {
	p := newOurs("")
	if took := p.kernelTook([]byte(ourLog)); took != 1750*time.Millisecond {
		t.Errorf("%v in the kernel, want 1.75s", took)
	}
	got := []int{p.rowsWritten([]byte(ourLog)), p.rowsWritten(nil), newTheirs("").rowsWritten([]byte(ourLog))}
	if want := []int{20158, -1, -1}; !slices.Equal(got, want) {
		t.Errorf("ours wrote, ours before it says so, and theirs: %d rows, want %d", got, want)
	}
}

// services is what the kernel holds of some Services with an endpoint each. The third takes no connections.
func services(count int, b state.Binding) state.State {
	s := state.New()
	for n := range count {
		s.Entries[entryOf(n)] = state.Entry{Comment: "x"}
		s.VirtualServers[serverOf(n)] = state.VirtualServer{Scheduler: "rr"}
		s.RealServers[realOf(n)] = state.RealServer{Weight: uint32(weightOf(n))}
		s.Addresses[state.Address{Addr: serverOf(n).Address.Addr()}] = b
	}
	return s
}

func weightOf(n int) int { return (n + 1) % 3 }

func realOf(n int) state.RealServerKey {
	return state.RealServerKey{Server: serverOf(n), Address: endpointOf(tiny(), n, 0)}
}

func rules() state.ChainKey {
	return state.ChainKey{Family: state.IPv4, Table: state.NAT, Name: "KUBE-SERVICES"}
}

// served is what the kernel holds once a program has done its work for two Services.
func served() state.State {
	s := services(2, state.Binding{})
	s.Chains[rules()] = state.ChainOf("-m set --match-set KUBE-CLUSTER-IP dst,dst -j KUBE-MARK-MASQ")
	s.Jumps[state.JumpKey{Family: state.IPv4, Table: state.NAT, From: "PREROUTING", To: rules().Name}] = state.Jump{Rule: "-j KUBE-SERVICES"}
	return s
}

func TestWhatIsMissingInTheKernelIsFound(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(state.State)
		want  string
		ours  bool // only ours has to have it exactly
	}{
		"nothing":                 {func(state.State) {}, "", false},
		"a virtual server":        {func(s state.State) { delete(s.VirtualServers, serverOf(1)) }, "- virtual server", false},
		"a real server":           {func(s state.State) { delete(s.RealServers, realOf(0)) }, "- real server", false},
		"a weight":                {func(s state.State) { s.RealServers[realOf(1)] = state.RealServer{} }, "real server", false},
		"an entry":                {func(s state.State) { delete(s.Entries, entryOf(0)) }, "KUBE-CLUSTER-IP", false},
		"an address":              {func(s state.State) { clear(s.Addresses) }, "- address", false},
		"the rules":               {func(s state.State) { clear(s.Chains) }, "KUBE-", false},
		"the rule":                {func(s state.State) { s.Chains[rules()] = state.ChainOf("-j ACCEPT") }, "KUBE-", false},
		"the way to the rules":    {func(s state.State) { clear(s.Jumps) }, "KUBE-", false},
		"a scheduler":             {func(s state.State) { s.VirtualServers[serverOf(0)] = state.VirtualServer{} }, "~ virtual server", true},
		"too many virtual ones":   {func(s state.State) { s.VirtualServers[serverOf(2)] = state.VirtualServer{} }, "+ virtual server", false},
		"another program's entry": {func(s state.State) { s.Entries[state.SetEntry{Set: "OTHERS"}] = state.Entry{} }, "OTHERS", true},
	} {
		got := served()
		c.spoil(got)
		for _, p := range []program{newOurs(""), newTheirs("")} {
			err := p.holds(got, served())
			found := err != nil && c.want != "" && strings.Contains(err.Error(), c.want)
			if should := c.want != "" && (!c.ours || p.name == ours); found != should || (err == nil) == should {
				t.Errorf("%s is missing: %s says %v", name, p.name, err)
			}
		}
	}
}

func TestEachChangeOfALoadCanBeSeenAtItsEnd(t *testing.T) {
	for _, size := range []large.Size{large.IPv4(1000, 10), large.IPv4(40000, 2), large.IPv4(100, 1000), large.IPv4(50, 3)} {
		list := schedule(size, 6000)
		if size.Services > 50 && len(list) != 6000 {
			t.Errorf("%v: %d changes", size, len(list))
		}
		last := map[int][]netip.AddrPort{} // the endpoints of each Service
		for i, c := range list {
			was, ok := last[c.service]
			if !ok {
				was = addresses(lastSlice(size, c.service))
			}
			is := addresses(c.slice)
			if d := len(is) - len(was); d != 1 && d != -1 || (d == 1) != c.serves {
				t.Fatalf("%v: change %d makes %d endpoints of %d, and serves is %v", size, i, len(is), len(was), c.serves)
			}
			if slices.Contains(is, c.at) != c.serves || slices.Contains(was, c.at) == c.serves {
				t.Fatalf("%v: change %d of %v does not do what it says", size, i, c.at)
			}
			last[c.service] = is
		}
		for i, c := range list {
			if slices.Contains(last[c.service], c.at) != c.serves {
				t.Fatalf("%v: change %d is undone by a later one", size, i)
			}
		}
	}
}

func addresses(slice *discoveryv1.EndpointSlice) []netip.AddrPort {
	return each(slice.Endpoints, func(e discoveryv1.Endpoint) netip.AddrPort {
		return netip.AddrPortFrom(netip.MustParseAddr(e.Addresses[0]), large.TargetPort)
	})
}

func TestALoadIsSummarized(t *testing.T) {
	begin := time.Unix(1_800_000_000, 0)
	at := func(ms int) time.Time { return begin.Add(time.Duration(ms) * time.Millisecond) }
	l := loadOf([]change{{sent: at(0), answered: at(10), seen: at(30)}, {sent: at(500), answered: at(1000), seen: at(900)}})
	want := Load{
		Changes: 2, Written: 2, Took: Summary{P50: 0.03, P90: 0.4, P99: 0.4, Most: 0.4},
		Answered: Summary{P50: 0.01, P90: 0.5, P99: 0.5, Most: 0.5},
	}
	if l != want {
		t.Errorf("%+v, want %+v", l, want)
	}
}
