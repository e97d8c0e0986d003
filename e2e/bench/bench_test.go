// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"net"
	"runtime"
	"slices"
	"testing"
	"time"

	moby "github.com/moby/ipvs"

	"github.com/kube-ipvs/kube-ipvs/e2e/floor"
	"github.com/kube-ipvs/kube-ipvs/e2e/large"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

// rounds is how often each way is measured, in turn: a machine that is slower for a while is so for all of them.
const rounds = 7

// BenchmarkStart compares three ways from an empty kernel to one that serves a cluster. ours: the daemon, with the
// cluster's objects in memory and the kernel opened, until the last row is there. floor: the same rows of all tables,
// encoded beforehand, sent in batches. singly: one request and one answer for each virtual and real server alone, the
// other tables left out.
//
// All figures are medians of several rounds. A ratio is the median of the rounds' own ratios of ours to the floor: of
// the whole (ours, with all planning), of the time in the kernel's tables alone (tables), and of each group of tables.
func BenchmarkStart(b *testing.B) {
	for _, s := range []large.Size{large.IPv4(2000, endpoints), large.DualStack(2000, endpoints), large.IPv4(10_000, 10)} {
		b.Run(s.String(), func(b *testing.B) {
			objects := s.Objects()
			want := rows(objects)
			for b.Loop() {
				compare(b, objects, want)
			}
			b.ReportMetric(0, "ns/op") // of no meaning: all three and what checks them
		})
	}
}

func compare(b *testing.B, objects []plan.Objects, want state.State) {
	figures := map[string][]float64{}
	note := func(name string, figure float64) { figures[name] = append(figures[name], figure) }
	for round := range rounds + 1 {
		whole, ours := timeOurs(b, objects, want)
		least, _ := sendFloor(b, want)
		if round == 0 { // loads modules and reads the tools from the disk
			continue
		}
		note("ours-ms", milliseconds(whole))
		note("tables-ms", milliseconds(ours.Sum()))
		note("floor-ms", milliseconds(least.Sum()))
		note("ours/floor", ratio(whole, least.Sum()))
		note("tables/floor", ratio(ours.Sum(), least.Sum()))
		for _, g := range floor.Groups() {
			note(g+"/floor", ratio(ours[g], least[g]))
		}
	}
	b.ReportMetric(milliseconds(timeSingly(b, want)), "singly-ms")
	for name, all := range figures {
		b.ReportMetric(median(all), name)
	}
	b.ReportMetric(slices.Min(figures["ours/floor"]), "ours/floor-min")
	b.ReportMetric(slices.Max(figures["ours/floor"]), "ours/floor-max")
}

func median(all []float64) float64 {
	slices.Sort(all)
	return all[len(all)/2]
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1000 }

func ratio(a, b time.Duration) float64 { return float64(a) / float64(b) }

// timed is how long work takes. Garbage of what was before is not its.
func timed(work func()) time.Duration {
	runtime.GC()
	start := time.Now()
	work()
	return time.Since(start)
}

func timeOurs(b *testing.B, objects []plan.Objects, want state.State) (whole time.Duration, tables floor.Laps) {
	testkit.Namespace(b)
	h := open(b)
	whole = timed(func() { h.start(b, objects) })
	h.close(b)
	mustHold(b, want)
	return whole, h.meter.spent
}

// sendFloor sends the rows into a namespace of its own, which is empty after it.
func sendFloor(t testing.TB, want state.State) (spent floor.Laps, all cost) {
	t.Helper()
	testkit.Namespace(t)
	f, err := floor.Prepare(want)
	if err != nil {
		t.Fatal(err)
	}
	timed(func() { spent, err = f.Send(context.Background()) })
	if err != nil {
		t.Fatal(err)
	}
	all = cost{Traffic: f.Traffic(), Forks: f.Forks()}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	mustHold(t, want)
	return spent, all
}

// row is a virtual server with its real servers, as moby/ipvs takes them.
type row struct {
	server *moby.Service
	reals  []*moby.Destination
}

func timeSingly(b *testing.B, want state.State) time.Duration {
	testkit.Namespace(b)
	rows, c := singly(want), single(b)
	defer c.Close()
	took := timed(func() {
		for _, r := range rows {
			if err := c.NewService(r.server); err != nil {
				b.Fatal(err)
			}
			for _, d := range r.reals {
				if err := c.NewDestination(r.server, d); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
	flushServers(b)
	return took
}

func singly(want state.State) []row {
	servers := map[state.VirtualServerKey]*row{}
	for k, v := range want.VirtualServers {
		mask := ^uint32(0)
		if k.Family() == state.IPv6 {
			mask = 128
		}
		servers[k] = &row{server: &moby.Service{
			AddressFamily: uint16(netlink.FamilyNumber(k.Family())),
			Protocol:      uint16(k.Protocol),
			Address:       net.IP(k.Address.Addr().AsSlice()),
			Port:          k.Address.Port(),
			SchedName:     v.Scheduler,
			Netmask:       mask,
		}}
	}
	for k, v := range want.RealServers {
		r := servers[k.Server]
		r.reals = append(r.reals, &moby.Destination{
			AddressFamily: r.server.AddressFamily,
			Address:       net.IP(k.Address.Addr().AsSlice()),
			Port:          k.Address.Port(),
			Weight:        int(v.Weight),
		})
	}
	var rows []row
	for _, r := range servers {
		rows = append(rows, *r)
	}
	return rows
}
