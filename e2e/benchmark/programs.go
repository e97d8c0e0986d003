// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/kube-ipvs/kube-ipvs/e2e/large"
	"github.com/kube-ipvs/kube-ipvs/e2e/world"
	"github.com/kube-ipvs/kube-ipvs/internal/config"
)

// program is a service proxy to be measured, and what its log says.
type program struct {
	name      string
	argv      []string       // the flags that both programs have are added to it
	complaint *regexp.Regexp // finds what did not work
	harmless  *regexp.Regexp // finds complaints that have nothing to do with what is measured
	// written finds how many rows the program wrote at its start. Nil: it does not say; nor does it say the rest.
	written *regexp.Regexp
	kernel  *regexp.Regexp // finds how long it took to write them
	known   *regexp.Regexp // finds that it knows all objects
}

func newOurs(path string) program {
	return program{
		name:      ours,
		argv:      []string{path, "run"},
		complaint: regexp.MustCompile(`\t(warn|error|dpanic|panic|fatal)\t|^panic:|^Error:`),
		written:   regexp.MustCompile(`\tstart completed\t\{.*"written": ?(\d+)`),
		kernel:    regexp.MustCompile(`\tinfo\t[^\t]*\t\{"cause": ?"start", .*"took": ?"([^"]+)"`),
		known:     regexp.MustCompile(`\tall objects are known\t`),
	}
}

// newTheirs is kube-proxy. What it could not do it says in its log and nowhere else: it goes on without.
func newTheirs(path string) program {
	return program{
		name:      theirs,
		argv:      []string{path},
		complaint: regexp.MustCompile(`^[EF]\d{4} |(?i)\bfailed\b|^panic:`),
		harmless:  regexp.MustCompile(`(?i)deprecat`), // as its IPVS mode is
	}
}

// complaints are the first lines of a log that say that something did not work.
func (p program) complaints(log []byte) []string {
	const most = 3
	var list []string
	for line := range bytes.Lines(log) {
		line = bytes.TrimSpace(line)
		if len(list) < most && p.complaint.Match(line) && (p.harmless == nil || !p.harmless.Match(line)) {
			list = append(list, string(line))
		}
	}
	return list
}

// rowsWritten is how many rows it says that it wrote at its start; -1 if it does not say.
func (p program) rowsWritten(log []byte) int {
	if p.written != nil {
		if m := p.written.FindSubmatch(log); m != nil {
			n, _ := strconv.Atoi(string(m[1])) // digits alone
			return n
		}
	}
	return -1
}

// kernelTook is how long it says that it wrote to the kernel at its start.
func (p program) kernelTook(log []byte) (sum time.Duration) {
	for _, m := range p.kernel.FindAllSubmatch(log, -1) {
		took, _ := time.ParseDuration(string(m[1])) // what is none shows as nothing
		sum += took
	}
	return sum
}

// configuration is kubeadm's, without what a network namespace cannot have. Both programs have one and the same file:
// kube-proxy does not read the second document.
const configuration = `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
bindAddress: 0.0.0.0
clientConnection: {kubeconfig: %s}
clusterCIDR: %s
conntrack: {maxPerCore: 0, min: null, tcpCloseWaitTimeout: 0s, tcpEstablishedTimeout: 0s}
mode: ipvs
nodePortAddresses: [primary]
enableProfiling: false
---
apiVersion: kube-ipvs.io/v1alpha1
kind: KubeIPVSConfiguration
`

const configurationFile = "config.conf"

// configure writes the file that says how both programs work, and returns its text.
func (s *site) configure(binding string) string {
	kubeconfig := must(s.plane.Kubeconfig("kube-proxy", s.server.Address, s.plane.User("system:kube-proxy")))
	text := fmt.Sprintf(configuration, kubeconfig, large.PodNetwork())
	if binding != string(config.AddressBinding) {
		text += "vipBinding: " + binding + "\n"
	}
	check(os.WriteFile(s.file(configurationFile), []byte(text), 0o644))
	return text
}

// daemon is a program that runs on the node.
type daemon struct {
	program
	*world.Program
	began time.Time
}

func (p program) commandLine(file string) []string {
	return append(p.argv[:len(p.argv):len(p.argv)], "--config", file, "--hostname-override", nodeName())
}

func (s *site) start(p program) *daemon {
	began := time.Now()
	return &daemon{p, must(s.node().Launch(s.folder, p.commandLine(s.file(configurationFile))...)), began}
}

// age is for how many seconds the program had run.
func (d *daemon) age(at time.Time) float64 { return at.Sub(d.began).Seconds() }

func (d *daemon) log() []byte { return must(os.ReadFile(d.Log)) }

// check is an error if the program was started and has ended, or says that something did not work.
func (d *daemon) check() error {
	if d == nil {
		return nil
	}
	if err := d.Alive(); err != nil {
		return fmt.Errorf("%w: %s", err, d.LastWords(lastLines))
	}
	if list := d.complaints(d.log()); len(list) > 0 {
		return fmt.Errorf("%s says: %s", d.name, strings.Join(list, " | "))
	}
	return nil
}

const lastLines = 5

// stop ends the program as an operator does, and after some time by force.
func (d *daemon) stop() {
	if d.Alive() != nil {
		return
	}
	check(d.Signal(syscall.SIGTERM))
	select {
	case <-d.Ended():
	case <-time.After(patience):
		d.Kill()
	}
}
