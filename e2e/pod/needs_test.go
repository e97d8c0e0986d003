// SPDX-License-Identifier: Apache-2.0

package pod_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

// audited is how long the program is watched, and period how often it compares all tables.
const (
	audited = 20 * time.Second
	period  = 2 * time.Second
)

// BenchmarkNeeds measures how much memory the program needs for a cluster, and how much CPU time for each full
// comparison with the kernel, of which there is one in a sync period (30 s by default). The manifests request that
// much. Services have one port and five endpoints, and come from files.
func BenchmarkNeeds(b *testing.B) {
	for _, services := range []int{0, 1000, 5000} {
		b.Run(strconv.Itoa(services)+"-services", func(b *testing.B) {
			for b.Loop() {
				needs := measure(b, services)
				b.ReportMetric(needs.now, "RSS-MiB")
				b.ReportMetric(needs.most, "peak-MiB")
				b.ReportMetric(needs.audit, "CPU-ms/audit")
			}
			b.ReportMetric(0, "ns/op") // meaningless: the loop only waits
		})
	}
}

// needs are MiB, and milliseconds.
type needs struct{ now, most, audit float64 }

func measure(b *testing.B, services int) needs {
	b.Helper()
	testkit.Namespace(b)
	folder := b.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "services.yaml"), rig.Manifest(b, manyServices(services)...), 0o644); err != nil {
		b.Fatal(err)
	}
	c := exec.Command(os.Getenv("KUBE_IPVS"), "run", "--manifests", folder, "--hostname-override", "node-1", "--ipvs-sync-period", period.String())
	start(b, c)
	before := used(b, c)
	time.Sleep(audited)
	audits := float64(audited / period)
	status := read(b, fmt.Sprintf("/proc/%d/status", c.Process.Pid))
	return needs{mebibytes(b, status, "VmRSS"), mebibytes(b, status, "VmHWM"), (used(b, c) - before).Seconds() * 1000 / audits}
}

// manyServices returns so many Services.
func manyServices(services int) []rig.Service {
	var all []rig.Service
	for i := range services {
		s := rig.Service{
			Name: fmt.Sprintf("service-%d", i), Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)})},
			Ports: []rig.Port{{Protocol: state.TCP, Number: 80, Target: 8080}},
		}
		for e := range 5 {
			pod := netip.AddrFrom4([4]byte{10, 244 + byte(e), byte(i >> 8), byte(i)})
			s.Endpoints = append(s.Endpoints, rig.Endpoint{Node: fmt.Sprintf("node-%d", e), Addresses: []netip.Addr{pod}})
		}
		all = append(all, s)
	}
	return all
}

// start returns when the program has completed its start.
func start(b *testing.B, c *exec.Cmd) {
	b.Helper()
	out, in, err := os.Pipe()
	if err != nil {
		b.Fatal(err)
	}
	c.Stderr = in
	if err := c.Start(); err != nil {
		b.Fatal(err)
	}
	in.Close()
	b.Cleanup(func() {
		_ = c.Process.Signal(unix.SIGTERM)
		_ = c.Wait()
		out.Close()
	})
	if err := out.SetReadDeadline(time.Now().Add(5 * time.Minute)); err != nil {
		b.Fatal(err)
	}
	var log bytes.Buffer
	for part := make([]byte, 4096); !bytes.Contains(log.Bytes(), []byte("start completed")); {
		n, err := out.Read(part)
		if log.Write(part[:n]); err != nil {
			b.Fatalf("%v\n%s", err, log.String())
		}
	}
}

// used returns the CPU time of the program and of the tools that it ran.
func used(b *testing.B, c *exec.Cmd) time.Duration {
	b.Helper()
	stat := string(read(b, fmt.Sprintf("/proc/%d/stat", c.Process.Pid)))
	fields := strings.Fields(stat[strings.LastIndex(stat, ")")+1:])
	var ticks int
	for _, field := range fields[11:15] { // utime, stime, and those of children
		n, err := strconv.Atoi(field)
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / 100
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func mebibytes(b *testing.B, status []byte, field string) float64 {
	b.Helper()
	found := regexp.MustCompile(field + `:\s*(\d+) kB`).FindSubmatch(status)
	if found == nil {
		b.Fatalf("no %s in\n%s", field, status)
	}
	kib, err := strconv.Atoi(string(found[1]))
	if err != nil {
		b.Fatal(err)
	}
	return float64(kib) / 1024
}
