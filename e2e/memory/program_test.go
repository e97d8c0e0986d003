// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

const (
	metricsAt = "127.0.0.1:10249"
	// syncPeriod is shorter than a real one, to get some audits, and long enough for the memory of an audit to be
	// returned.
	syncPeriod = 15 * time.Second
	audits     = 2 // to wait for
	// pause is between two requests of metrics, which take memory, too.
	pause = syncPeriod / 3
	// glance is between two readings of /proc, which take none.
	glance = 100 * time.Millisecond
)

// program is the real one at work, in the namespace of the test.
type program struct {
	command *exec.Cmd
	mutex   sync.Mutex
	log     bytes.Buffer
}

// Write takes the program's log.
func (p *program) Write(b []byte) (int, error) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return p.log.Write(b)
}

func launch(t testing.TB, url string) *program {
	t.Helper()
	p := &program{command: exec.CommandContext(context.Background(), os.Getenv("KUBE_IPVS"), "run", "--master", url, "--hostname-override", here,
		"--ipvs-sync-period", syncPeriod.String(), "--metrics-bind-address", metricsAt)}
	p.command.Stdout, p.command.Stderr = p, p
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.command.Process.Signal(syscall.SIGTERM)
		_ = p.command.Wait() // its status does not matter
		if t.Failed() {
			t.Log(p.log.String())
		}
	})
	return p
}

// audited returns how many audits there were, with the one at the start. It uses no HTTP client, whose goroutines would
// be outside this thread's namespace.
func (p *program) audited() int {
	c, err := net.Dial("tcp", metricsAt)
	if err != nil {
		return 0
	}
	defer c.Close()
	_, _ = io.WriteString(c, "GET /metrics HTTP/1.0\r\n\r\n")
	page, _ := io.ReadAll(c) // without such a line the page is read again
	for line := range strings.Lines(string(page)) {
		if f := strings.Fields(line); len(f) == 2 && strings.HasPrefix(f[0], "kubeipvs_audits_total") {
			n, _ := strconv.Atoi(f[1])
			return n
		}
	}
	return 0
}

// resident returns the program's resident memory in MB: now, and at most.
func (p *program) resident(t testing.TB) (now, most float64) {
	t.Helper()
	b, err := os.ReadFile("/proc/" + strconv.Itoa(p.command.Process.Pid) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]float64{}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 3 && f[2] == "kB" {
			kB, _ := strconv.ParseFloat(f[1], 64)
			said[f[0]] = kB * 1024 / 1e6
		}
	}
	return said["VmRSS:"], said["VmHWM:"]
}

func TestTheProgramTakesWhatIsPublished(t *testing.T) {
	for _, c := range []struct {
		size
		rest, most float64 // MB; the most is more by what a scrape takes, if one meets an audit
	}{
		{size{0, 0}, 32, 36},
		{size{1_000, 10}, 40, 48},
		{size{10_000, 10}, 70, 135},
	} {
		t.Run(c.String(), func(t *testing.T) {
			testkit.Namespace(t)
			_, url := serve(t, c.size, true)
			p := launch(t, url)
			rest, most := p.afterAudits(t, c.size)
			name := fmt.Sprintf("%d x %d", c.services, c.endpoints)
			check(t, figure{name + ", at rest", rest, c.rest}, figure{name + ", at most", most, c.most})
		})
	}
}

// afterAudits returns the least memory that the program has once all is in the kernel, and the most that it had, over
// some audits.
func (p *program) afterAudits(t testing.TB, s size) (rest, most float64) {
	t.Helper()
	end := time.Now().Add(patience)
	for p.audited() == 0 || listed(t) != s.all() {
		if time.Now().After(end) {
			t.Fatalf("not in time: the kernel has %d real servers, want %d", listed(t), s.all())
		}
		time.Sleep(pause)
	}
	rest, most = p.resident(t)
	for last := p.audited() + audits; p.audited() < last; {
		if time.Now().After(end) {
			t.Fatal("not in time: audits")
		}
		for next := time.Now().Add(pause); time.Now().Before(next); time.Sleep(glance) {
			now, peak := p.resident(t)
			rest, most = min(rest, now), max(most, peak)
		}
	}
	return rest, most
}

// listed returns how many real servers the kernel has.
func listed(t testing.TB) int {
	t.Helper()
	b, err := os.ReadFile("/proc/thread-self/net/ip_vs")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(b), "\n  -> ") - 1 // the head has one too
}
