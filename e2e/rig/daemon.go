// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kube-ipvs/kube-ipvs/e2e/world"
	"github.com/kube-ipvs/kube-ipvs/internal/config"
)

// A failure shows the last lines of the logs of the last daemons.
const (
	logLines = 30
	lastLogs = 3
)

// Daemon is a kube-ipvs that runs on the node.
type Daemon struct{ *world.Program }

// Argv returns the command line that starts kube-ipvs.
func (r *Rig) Argv() []string {
	return append([]string{r.binary, "run", "--manifests", r.Folder, "--hostname-override", nodeName}, flags(r.config)...)
}

// Command returns a command line of the same program.
func (r *Rig) Command(arguments ...string) []string { return append([]string{r.binary}, arguments...) }

func flags(c config.Config) []string {
	list := []string{
		"--ipvs-sync-period", c.SyncPeriod.String(), "--drain-timeout", c.DrainTimeout.String(),
		"--ipvs-scheduler", c.Scheduler, "--masquerade-all=" + strconv.FormatBool(c.MasqueradeAll),
		"--idle-tcp-timeout", c.TCPTimeout.String(), "--ipvs-tcpfin-timeout", c.TCPFinTimeout.String(),
		"--ipvs-udp-timeout", c.UDPTimeout.String(), "--answer-ping=" + strconv.FormatBool(c.AnswerPing),
		"--nodeport-source-ranges=" + strconv.FormatBool(c.NodePortSourceRanges),
		"--remote-hairpins=" + strconv.FormatBool(c.RemoteHairpins),
		"--firewall", string(c.FirewallChoice),
		"--localhost-nodeports=" + strconv.FormatBool(c.LocalhostNodePorts),
	}
	if c.VIPBinding != config.Default().VIPBinding {
		list = append(list, "--vip-binding", string(c.VIPBinding))
	}
	if len(c.NodePortAddresses) > 0 {
		list = append(list, "--nodeport-addresses", join(c.NodePortAddresses))
	}
	if len(c.ServiceCIDRs) > 0 {
		list = append(list, "--service-cidrs", join(c.ServiceCIDRs))
	}
	switch d := c.LocalDetector; d.Kind {
	case config.DetectCIDR:
		list = append(list, "--cluster-cidr", join(d.CIDRs))
	case config.DetectBridge:
		list = append(list, "--detect-local-mode", "BridgeInterface", "--pod-bridge-interface", d.Interface)
	case config.DetectPrefix:
		list = append(list, "--detect-local-mode", "InterfaceNamePrefix", "--pod-interface-name-prefix", d.Interface)
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
	return r.StartAs(t, r.Argv()...)
}

// StartAs starts any daemon on the node, like Start.
func (r *Rig) StartAs(t *testing.T, argv ...string) *Daemon {
	t.Helper()
	p, err := r.Node.Launch(r.logs, argv...)
	if err != nil {
		t.Fatal(err)
	}
	d := &Daemon{p}
	r.started++
	number := r.started
	t.Cleanup(func() {
		d.Kill()
		if t.Failed() && number > r.started-lastLogs {
			t.Logf("the end of %s:\n%s", filepath.Base(p.Log), p.LastWords(logLines))
		}
	})
	return d
}

// Stop ends kube-ipvs with SIGTERM and returns how long that took.
func (d *Daemon) Stop(t *testing.T) time.Duration {
	t.Helper()
	asked := time.Now()
	if err := d.Program.Stop(Patience); err != nil {
		t.Fatal(err)
	}
	return time.Since(asked)
}

// AwaitStart waits until kube-ipvs has completed its start, and returns how many rows it wrote.
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

// Log returns what kube-ipvs has logged so far.
func (d *Daemon) Log(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(d.Program.Log)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// AwaitLog waits for a line that contains all the words, and returns it.
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
