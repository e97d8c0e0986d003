// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/kube-ipvs/kube-ipvs/e2e/control"
	"github.com/kube-ipvs/kube-ipvs/e2e/large"
	"github.com/kube-ipvs/kube-ipvs/e2e/versus/report"
	"github.com/kube-ipvs/kube-ipvs/e2e/world"
	"github.com/kube-ipvs/kube-ipvs/internal/config"
)

// program is a service proxy to be measured.
type program struct {
	name string
	argv []string
	// complaint finds what in its log says that something did not work.
	complaint *regexp.Regexp
	// harmless finds those complaints that have nothing to do with what is measured.
	harmless *regexp.Regexp
	// written finds how many rows it wrote at its start. Nil: it does not say.
	written *regexp.Regexp
	// kernel finds how long it took to write them.
	kernel *regexp.Regexp
	// known finds that it was told all objects.
	known *regexp.Regexp
}

// never finds nothing.
func never() *regexp.Regexp { return regexp.MustCompile(`[^\s\S]`) }

func newOurs(path, file string) program {
	return program{
		name:      report.Ours,
		argv:      []string{path, "run", "--config", file, "--hostname-override", nodeName()},
		complaint: regexp.MustCompile(`\t(warn|error|dpanic|panic|fatal)\t|^panic:|^Error:`),
		harmless:  never(),
		written:   regexp.MustCompile(`\tstart completed\t\{.*"written": ?(\d+)`),
		kernel:    regexp.MustCompile(`\tkernel synced\t\{"cause": ?"start", .*"took": ?"([^"]+)"`),
		known:     regexp.MustCompile(`\tall objects are known\t`),
	}
}

// newTheirs is kube-proxy. What it could not do it says in its log and nowhere else: it goes on without.
func newTheirs(path, file string) program {
	return program{
		name:      report.Theirs,
		argv:      []string{path, "--config", file, "--hostname-override", nodeName()},
		complaint: regexp.MustCompile(`^[EF]\d{4} |(?i)\bfailed\b|^panic:`),
		// Its kind of proxy is deprecated, which is why we are here.
		harmless: regexp.MustCompile(`(?i)deprecat`),
	}
}

// complaints are the first lines of a log that say that something did not work.
func (p program) complaints(log []byte) []string {
	const most = 3
	var list []string
	for line := range bytes.Lines(log) {
		line = bytes.TrimSpace(line)
		if p.complaint.Match(line) && !p.harmless.Match(line) {
			list = append(list, string(line))
		}
		if len(list) == most {
			break
		}
	}
	return list
}

// rowsWritten is how many rows it says that it wrote at its start; -1 if it does not say.
func (p program) rowsWritten(log []byte) int {
	if p.written == nil {
		return -1
	}
	m := p.written.FindSubmatch(log)
	if m == nil {
		return -1
	}
	n, _ := strconv.Atoi(string(m[1])) // the expression finds digits alone
	return n
}

// kernelTook is how long it says that it wrote to the kernel at its start; nothing if it does not say.
func (p program) kernelTook(log []byte) time.Duration {
	var sum time.Duration
	if p.kernel == nil {
		return 0
	}
	for _, m := range p.kernel.FindAllSubmatch(log, -1) {
		took, _ := time.ParseDuration(string(m[1])) // what is none shows as nothing
		sum += took
	}
	return sum
}

// configuration is kubeadm's, with what a network namespace cannot have left out. What follows is ours, and kube-proxy does
// not read it. Both have one and the same file.
const configuration = `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
bindAddress: 0.0.0.0
clientConnection:
  kubeconfig: %s
clusterCIDR: %s
conntrack:
  maxPerCore: 0
  min: null
  tcpCloseWaitTimeout: 0s
  tcpEstablishedTimeout: 0s
mode: ipvs
nodePortAddresses: [primary]
enableProfiling: %t
---
apiVersion: kube-ipvs.io/v1alpha1
kind: KubeIPVSConfiguration
`

// configure writes the file that says how both programs are to work, and returns its path and text.
func (s *site) configure(binding string, profiling bool) (path, text string, err error) {
	kubeconfig, err := s.plane.Kubeconfig("kube-proxy", s.server.Address, s.plane.User("system:kube-proxy"))
	if err != nil {
		return "", "", err
	}
	text = fmt.Sprintf(configuration, kubeconfig, large.PodNetwork(), profiling)
	if binding != string(config.AddressBinding) {
		text += "vipBinding: " + binding + "\n"
	}
	path = filepath.Join(s.folder, "config.conf")
	return path, text, os.WriteFile(path, []byte(text), 0o644)
}

// daemon is a program that runs on the node.
type daemon struct {
	program
	*world.Program
	began time.Time
}

func (s *site) start(p program) (*daemon, error) {
	d := &daemon{program: p, began: time.Now()}
	var err error
	d.Program, err = s.node().Launch(s.folder, p.argv...)
	return d, err
}

func (d *daemon) log() ([]byte, error) { return os.ReadFile(d.Log) }

// check is an error if the program has ended, or says that something did not work.
func (d *daemon) check() error {
	if err := d.Alive(); err != nil {
		return fmt.Errorf("%w: %s", err, d.LastWords(lastLines))
	}
	text, err := d.log()
	if err != nil {
		return err
	}
	if list := d.complaints(text); len(list) > 0 {
		return fmt.Errorf("%s says: %s", d.name, strings.Join(list, " | "))
	}
	return nil
}

const lastLines = 5

// stop ends the program as an operator does, and sooner or later by force.
func (d *daemon) stop(ctx context.Context) error {
	if d.Alive() != nil {
		return nil
	}
	if err := d.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case <-d.Ended():
	case <-ctx.Done():
		d.Kill()
	}
	return nil
}

// binary is the path of a program.
func binaries(oursAt string) (ours, theirs string, err error) {
	if theirs, err = control.Binary("kube-proxy"); err != nil {
		return "", "", err
	}
	if _, err := os.Stat(oursAt); err != nil {
		return "", "", fmt.Errorf("find kube-ipvs, which make build builds: %w", err)
	}
	return oursAt, theirs, nil
}
