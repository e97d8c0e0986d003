// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
)

// A failure shows the last lines of the logs of the last daemons.
const (
	logLines = 30
	lastLogs = 3
)

// Daemon is a kube-ipvs that runs on the node.
type Daemon struct {
	command *exec.Cmd
	log     string
	ended   chan struct{}
	err     error
}

// Argv is the command line that starts kube-ipvs.
func (r *Rig) Argv() []string {
	return append([]string{r.binary, "run", "--manifests", r.Folder, "--hostname-override", nodeName}, flags(r.config)...)
}

// Command is a command line of the same program.
func (r *Rig) Command(arguments ...string) []string { return append([]string{r.binary}, arguments...) }

func flags(c config.Config) []string {
	list := []string{
		"--ipvs-sync-period", c.SyncPeriod.String(), "--drain-timeout", c.DrainTimeout.String(),
		"--ipvs-scheduler", c.Scheduler, "--masquerade-all=" + strconv.FormatBool(c.MasqueradeAll),
		"--ipvs-tcp-timeout", c.TCPTimeout.String(), "--ipvs-tcpfin-timeout", c.TCPFinTimeout.String(),
		"--ipvs-udp-timeout", c.UDPTimeout.String(), "--answer-ping=" + strconv.FormatBool(c.AnswerPing),
		"--nodeport-source-ranges=" + strconv.FormatBool(c.NodePortSourceRanges),
		"--remote-hairpins=" + strconv.FormatBool(c.RemoteHairpins),
		"--localhost-nodeports=" + strconv.FormatBool(c.LocalhostNodePorts),
	}
	if len(c.ServiceCIDRs) > 0 {
		list = append(list, "--service-cidrs", join(c.ServiceCIDRs))
	}
	switch d := c.LocalDetector; d.Kind {
	case config.DetectCIDR:
		list = append(list, "--cluster-cidr", join(d.CIDRs))
	case config.DetectBridge:
		list = append(list, "--pod-bridge-interface", d.Interface)
	case config.DetectPrefix:
		list = append(list, "--pod-interface-name-prefix", d.Interface)
	}
	return list
}

func join(cidrs []netip.Prefix) string {
	var texts []string
	for _, p := range cidrs {
		texts = append(texts, p.String())
	}
	return strings.Join(texts, ",")
}

// Start starts kube-ipvs. It is killed at the end of the test if it still runs then.
func (r *Rig) Start(t *testing.T) *Daemon {
	t.Helper()
	log, err := os.CreateTemp(r.logs, "kube-ipvs-*.log")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	argv := r.Argv()
	c := exec.Command(argv[0], argv[1:]...)
	c.Stdout, c.Stderr = log, log
	if err := r.Node.Start(c); err != nil {
		t.Fatalf("starting kube-ipvs: %v", err)
	}
	d := &Daemon{command: c, log: log.Name(), ended: make(chan struct{})}
	go func() {
		d.err = c.Wait()
		close(d.ended)
	}()
	r.started++
	turn := r.started
	t.Cleanup(func() {
		d.Kill()
		if t.Failed() && turn > r.started-lastLogs {
			t.Logf("the end of %s:\n%s", filepath.Base(d.log), d.lastWords(t))
		}
	})
	return d
}

// Kill ends kube-ipvs at once, wherever it is.
func (d *Daemon) Kill() {
	_ = d.command.Process.Kill() // it may have ended by itself
	<-d.ended
}

// Stop asks kube-ipvs to end and returns how long that took.
func (d *Daemon) Stop(t *testing.T) time.Duration {
	t.Helper()
	if err := d.Alive(); err != nil {
		t.Fatal(err)
	}
	asked := time.Now()
	if err := d.command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatalf("asking kube-ipvs to end: %v", err)
	}
	select {
	case <-d.ended:
	case <-time.After(Patience):
		t.Fatalf("kube-ipvs did not end within %v of SIGTERM", Patience)
	}
	if d.err != nil {
		t.Errorf("kube-ipvs did not end well: %v", d.err)
	}
	return time.Since(asked)
}

// Alive is an error if kube-ipvs has ended.
func (d *Daemon) Alive() error {
	select {
	case <-d.ended:
		return errors.Join(errors.New("kube-ipvs has ended"), d.err)
	default:
		return nil
	}
}

// AwaitStart waits until kube-ipvs has brought the kernel to what it knew at its start, and returns how many rows it wrote.
func (d *Daemon) AwaitStart(t *testing.T) int {
	t.Helper()
	d.AwaitLog(t, "start completed")
	for _, line := range d.Lines(t) {
		if n, ok := line.Fields["written"].(float64); ok {
			return int(n)
		}
	}
	t.Fatal("kube-ipvs does not say how many rows it wrote")
	return 0
}

// Log is what kube-ipvs has written so far.
func (d *Daemon) Log(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(d.log)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// AwaitLog waits for a line that has all the words, and returns it.
func (d *Daemon) AwaitLog(t *testing.T, words ...string) string {
	t.Helper()
	var found string
	Until(t, Patience, func() error {
		for line := range strings.Lines(d.Log(t)) {
			if hasAll(line, words) {
				found = line
				return nil
			}
		}
		return errors.Join(d.Alive(), fmt.Errorf("kube-ipvs has not logged %q", words))
	})
	return found
}

func hasAll(line string, words []string) bool {
	for _, w := range words {
		if !strings.Contains(line, w) {
			return false
		}
	}
	return true
}

func (d *Daemon) lastWords(t testing.TB) string {
	t.Helper()
	lines := bytes.Split(bytes.TrimSpace([]byte(d.Log(t))), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-logLines):], []byte("\n")))
}
