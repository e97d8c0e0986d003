// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kube-ipvs/kube-ipvs/e2e/large"
	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
	"github.com/kube-ipvs/kube-ipvs/e2e/world"
	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/config/proxyconfig"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/linux"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// program is a service proxy to be measured, and what its log says.
type program struct {
	name      string
	argv      []string       // the flags that both programs have are added to it
	complaint *regexp.Regexp // finds what did not work
	harmless  *regexp.Regexp // finds complaints that have nothing to do with what is measured
	written   *regexp.Regexp // finds how many rows it wrote at its start
	kernel    *regexp.Regexp // finds how long it took to write them
	known     *regexp.Regexp // finds that it knows all objects
}

// never matches nothing.
const never = `[^\s\S]`

func newOurs(path string) program {
	return program{
		name:      ours,
		argv:      []string{path, "run"},
		complaint: regexp.MustCompile(`\t(warn|error|dpanic|panic|fatal)\t|^panic:|^Error:`),
		harmless:  regexp.MustCompile(never),
		written:   regexp.MustCompile(`\tstart completed\t\{.*"written": ?(\d+)`),
		kernel:    regexp.MustCompile(`\tinfo\t[^\t]*\t\{"cause": ?"start", .*"took": ?"([^"]+)"`),
		known:     regexp.MustCompile(`\tall objects are known\t`),
	}
}

// newTheirs is kube-proxy. It says in its log what it could not do and goes on without, and nothing of what it did.
func newTheirs(path string) program {
	return program{
		name:      theirs,
		argv:      []string{path},
		complaint: regexp.MustCompile(`^[EF]\d{4} |(?i)\bfailed\b|^panic:`),
		harmless:  regexp.MustCompile(`(?i)deprecat`), // as its IPVS mode is
		written:   regexp.MustCompile(never),
	}
}

// firstComplaint is the first line of a log that says that something did not work.
func (p program) firstComplaint(log []byte) string {
	for line := range bytes.Lines(log) {
		line = bytes.TrimSpace(line)
		if p.complaint.Match(line) && !p.harmless.Match(line) {
			return string(line)
		}
	}
	return ""
}

// rowsWritten is how many rows it says that it wrote at its start; -1 if it does not say.
func (p program) rowsWritten(log []byte) int {
	m := p.written.FindSubmatch(log)
	if m == nil {
		return -1
	}
	return must(strconv.Atoi(string(m[1])))
}

// kernelTook is how long it says that it wrote to the kernel at its start.
func (p program) kernelTook(log []byte) (sum time.Duration) {
	for _, m := range p.kernel.FindAllSubmatch(log, -1) {
		took, _ := time.ParseDuration(string(m[1])) // what is none shows as nothing
		sum += took
	}
	return sum
}

// configuration is kubeadm's, without what a network namespace cannot have. kube-proxy does not read the second
// document.
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
vipBinding: %s
`

const configurationFile = "config.conf"

// configure writes the file that says how both programs work, and returns what it means on this kernel.
func (s *site) configure(binding config.VIPBinding) config.Config {
	text := fmt.Sprintf(configuration, s.kubeconfig, large.PodNetwork(), binding)
	check(os.WriteFile(s.file(configurationFile), []byte(text), 0o644))
	pair := proxyconfig.Default()
	must(pair.ReadConfig([]byte(text)))
	c, _, err := pair.Config()
	check(err)
	c.Kernel = must(config.ParseKernel(field("/proc/sys/kernel/osrelease", `(.*)`)))
	return plan.Settle(c, nil, serviceNetworks())
}

func (p program) commandLine(file string) []string {
	return append(p.argv[:len(p.argv):len(p.argv)], "--config", file, "--hostname-override", nodeName())
}

func (r *runner) start() {
	r.began = time.Now()
	r.process = must(r.node().Launch(filepath.Dir(r.kubeconfig), r.program.commandLine(r.file(configurationFile))...))
}

// end ends the program if it runs. How it ends is not measured.
func (r *runner) end() {
	if r.process != nil {
		_ = r.process.Stop(patience)
	}
	r.process = nil
}

func (r *runner) age(at time.Time) float64 { return at.Sub(r.began).Seconds() }

func (r *runner) log() []byte { return must(os.ReadFile(r.process.Log)) }

// check ends a measurement if the program was started and has ended, or says that something did not work.
func (r *runner) check() {
	if r.process == nil {
		return
	}
	check(alive(r.process))
	if line := r.program.firstComplaint(r.log()); line != "" {
		check(fmt.Errorf("%s says: %s", r.program.name, line))
	}
}

// alive is an error with the end of its log if a program has ended.
func alive(p *world.Program) error {
	if err := p.Alive(); err != nil {
		return fmt.Errorf("%w: %s", err, p.LastWords(5))
	}
	return nil
}

func serverOf(n int) state.VirtualServerKey {
	return state.VirtualServerKey{Protocol: state.TCP, Address: netip.AddrPortFrom(large.ServiceAddress(corev1.IPv4Protocol, n), large.Port)}
}

func entryOf(n int) state.SetEntry {
	return state.SetEntry{Set: clusterIPs, Address: serverOf(n).Address.Addr(), Protocol: state.TCP, Port: large.Port}
}

func endpointOf(size large.Size, n, i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(size.Endpoint(corev1.IPv4Protocol, n, i).Addresses[0]), large.TargetPort)
}

// answered is an error unless a request through the Service n is answered. To the client leads no way but the node's.
func (r *runner) answered(ctx context.Context, n int) error {
	const limit = 200 * time.Millisecond // an attempt that goes wrong is repeated soon
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	reply, err := r.world.Host(clientName).Ask(ctx, state.TCP, serverOf(n).Address)
	if own := r.node().Addresses[0]; err == nil && reply.Client.Addr() != own {
		return fmt.Errorf("ask through Service %d: the server saw %v, not the node's address %v", n, reply.Client, own)
	}
	return err
}

// worked is an error unless the log complains of nothing, the first Service and the last one answer, and the kernel has
// all rows.
func (r *runner) worked(ctx context.Context) error {
	return attempt(func() {
		r.check()
		check(r.answered(ctx, 0))
		check(r.answered(ctx, r.size.Services-1))
		check(r.program.holds(r.kernel(ctx), r.want))
	})
}

// holds is an error unless the kernel is as it has to be. kube-proxy may do more than a proxy needs, in its own way.
func (p program) holds(got, want state.State) error {
	if p.name == ours {
		return rig.Differ(got, want)
	}
	err := rig.Differ(bare(got), bare(want))
	for j := range got.Jumps {
		rules := got.Chains[state.ChainKey{Family: j.Family, Table: j.Table, Name: j.To}].Rules
		if j.Family == state.IPv4 && j.Table == state.NAT && strings.Contains(rules, "--match-set "+string(clusterIPs)+" ") {
			return err
		}
	}
	return errors.Join(err, fmt.Errorf("no rule that packets get to looks at %s", clusterIPs))
}

// clusterIPs is the set that has an entry for each cluster IP and port, of IPv4.
const clusterIPs state.SetName = "KUBE-CLUSTER-IP"

// bare is what any proxy in IPVS mode needs of a state, but for its rules.
func bare(s state.State) state.State {
	b := state.New()
	for k := range s.VirtualServers {
		b.VirtualServers[k] = state.VirtualServer{}
	}
	for k, v := range s.RealServers {
		if v.Weight > 0 {
			b.RealServers[k] = state.RealServer{}
		}
	}
	for e := range s.Entries {
		if e.Set == clusterIPs {
			b.Entries[e] = state.Entry{}
		}
	}
	for a := range s.Addresses {
		b.Addresses[a] = state.Binding{}
	}
	return b
}

// rows are what the node's kernel holds when all objects are served, those of the API server itself too.
func (r *runner) rows(ctx context.Context) state.State {
	const namespace, name = metav1.NamespaceDefault, "kubernetes"
	n, now := plan.NodeOf(nodeName(), r.self, nil), must(rig.Around(ctx, r.node()))
	n.Addresses, n.Networks, n.MTU = now.Addresses, now.Networks, now.MTU
	own := plan.Objects{Service: must(r.api.CoreV1().Services(namespace).Get(ctx, name, metav1.GetOptions{}))}
	check(poll(ctx, often, func() bool {
		slice := must(r.api.DiscoveryV1().EndpointSlices(namespace).Get(ctx, name, metav1.GetOptions{}))
		own.Slices = []*discoveryv1.EndpointSlice{slice}
		return len(slice.Endpoints) > 0
	}))
	return large.Rows(r.config, n, append(r.size.Objects(), own))
}

func (r *runner) kernel(ctx context.Context) (got state.State) {
	r.onNode(func() {
		k := must(linux.Open(ctx, rig.Everything(r.config)))
		got = must(k.Tables().List(ctx))
		check(k.Close())
	})
	return got
}
