// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kube-ipvs/kube-ipvs/e2e/control"
	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
	api "github.com/kube-ipvs/kube-ipvs/internal/cluster"
	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/config/proxyconfig"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// stage is the cluster for one test: its nodes have just been started.
type stage struct {
	*site
	nodes []*node
}

// node is a node on which a service proxy may run.
type node struct {
	*rig.Rig
	disk string // a folder that survives a reboot
}

// config is the path of kube-ipvs's configuration, and snapshot that of its last objects.
func (n *node) config() string   { return filepath.Join(n.disk, "config.conf") }
func (n *node) snapshot() string { return filepath.Join(n.disk, "snapshot") }

// newStage reboots the nodes and makes the pods answer. There are no Services, and there will be none after the test.
func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{site: &shared}
	kubeconfig := s.kubeconfig(t, account, s.identity(t.Context()))
	for _, name := range nodeNames() {
		n := &node{disk: t.TempDir()}
		s.nodes = append(s.nodes, n)
		n.configure(t, kubeconfig, modeIPVS)
		s.boot(t, n, name)
	}
	t.Cleanup(func() {
		if err := s.clear(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

// boot gives a node an empty kernel.
func (s *stage) boot(t *testing.T, n *node, name string) {
	t.Helper()
	if err := s.world.Reboot(name); err != nil {
		t.Fatal(err)
	}
	// Every node has a default route. Without one it could not even send to Service addresses before iptables mode's
	// rules change them.
	s.run(t, name, "ip", "route", "add", "default", "via", "192.0.2.254")
	s.run(t, name, "ip", "-6", "route", "add", "default", "via", "2001:db8:1::254")
	n.Rig = rig.On(t, s.world, name, n.read(t))
}

// clear deletes all that tests made.
func (s *stage) clear(ctx context.Context) error {
	all := metav1.ListOptions{}
	services, err := s.admin.CoreV1().Services(rig.Namespace).List(ctx, all)
	if err != nil {
		return err
	}
	for _, o := range services.Items {
		if err := s.admin.CoreV1().Services(rig.Namespace).Delete(ctx, o.Name, metav1.DeleteOptions{}); err != nil {
			return err
		}
	}
	return s.admin.DiscoveryV1().EndpointSlices(rig.Namespace).DeleteCollection(ctx, metav1.DeleteOptions{}, all)
}

const (
	modeIPVS     = "ipvs"
	modeIPTables = "iptables"
)

// configuration is kubeadm's, without what a network namespace cannot have, and with our own document after it, which
// kube-proxy does not read.
const configuration = `apiVersion: kubeproxy.config.k8s.io/v1alpha1
bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection:
  acceptContentTypes: ""
  burst: 0
  contentType: ""
  kubeconfig: %[1]s
  qps: 0
clusterCIDR: 10.244.0.0/16,fd00:10:244::/48
configSyncPeriod: 0s
conntrack:
  maxPerCore: 0
  min: null
  tcpBeLiberal: false
  tcpCloseWaitTimeout: 0s
  tcpEstablishedTimeout: 0s
  udpStreamTimeout: 0s
  udpTimeout: 0s
detectLocal:
  bridgeInterface: ""
  interfaceNamePrefix: ""
detectLocalMode: ""
enableProfiling: false
healthzBindAddress: ""
hostnameOverride: ""
iptables:
  localhostNodePorts: null
  masqueradeAll: false
  masqueradeBit: null
  minSyncPeriod: 0s
  syncPeriod: 0s
ipvs:
  excludeCIDRs: null
  minSyncPeriod: 0s
  scheduler: ""
  strictARP: false
  syncPeriod: 0s
  tcpFinTimeout: 0s
  tcpTimeout: 0s
  udpTimeout: 0s
kind: KubeProxyConfiguration
logging:
  flushFrequency: 0
  options:
    json:
      infoBufferSize: "0"
    text:
      infoBufferSize: "0"
  verbosity: 0
metricsBindAddress: ""
mode: %[2]s
nodePortAddresses: null
oomScoreAdj: null
portRange: ""
showHiddenMetricsForVersion: ""
---
apiVersion: kube-ipvs.io/v1alpha1
kind: KubeIPVSConfiguration
apiServers: ["%[3]v:6443", "%[4]v:6443"]
drainTimeout: 5s
snapshot:
  file: %[5]s
`

// kubeconfig writes a client's kubeconfig for the API server.
func (s *stage) kubeconfig(t *testing.T, name string, who control.Identity) string {
	t.Helper()
	path, err := s.plane.Kubeconfig(name, s.server.Address, who)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// configure writes the configuration of a service proxy.
func (n *node) configure(t *testing.T, kubeconfig, mode string) {
	t.Helper()
	text := fmt.Sprintf(configuration, kubeconfig, mode, firstServer(), secondServer(), n.snapshot())
	if err := os.WriteFile(n.config(), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// read returns kube-ipvs's reading of the file.
func (n *node) read(t *testing.T) config.Config {
	t.Helper()
	text, err := os.ReadFile(n.config())
	if err != nil {
		t.Fatal(err)
	}
	pair := proxyconfig.Default()
	if _, err := pair.ReadConfig(text); err != nil {
		t.Fatal(err)
	}
	c, _, err := pair.Config()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// startOurs starts kube-ipvs as the DaemonSet does.
func (n *node) startOurs(t *testing.T) *rig.Daemon {
	t.Helper()
	return n.StartAs(t, n.Command("run", "--config", n.config(), "--hostname-override", n.Node.Name)...)
}

// startAll starts kube-ipvs on all nodes and waits until it serves the present Services.
func (s *stage) startAll(t *testing.T) []*rig.Daemon {
	t.Helper()
	var all []*rig.Daemon
	for _, n := range s.nodes {
		all = append(all, n.startOurs(t))
	}
	for _, d := range all {
		d.AwaitStart(t)
	}
	return all
}

// index returns the API server's objects for a node.
func (s *stage) index(t *testing.T, name string) *api.Index {
	t.Helper()
	ctx, all := t.Context(), metav1.ListOptions{}
	x := api.NewIndex()
	services, err := s.admin.CoreV1().Services("").List(ctx, all)
	if err != nil {
		t.Fatal(err)
	}
	for i := range services.Items {
		x.SetService(api.OfService(&services.Items[i]))
	}
	slices, err := s.admin.DiscoveryV1().EndpointSlices("").List(ctx, all)
	if err != nil {
		t.Fatal(err)
	}
	for i := range slices.Items {
		x.SetSlice(api.OfSlice(&slices.Items[i]))
	}
	cidrs, err := s.admin.NetworkingV1().ServiceCIDRs().List(ctx, all)
	if err != nil {
		t.Fatal(err)
	}
	for i := range cidrs.Items {
		x.SetServiceCIDR(&cidrs.Items[i])
	}
	self, err := s.admin.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	x.SetNode(self)
	return x
}

// settle waits until the kernel of every node holds what the API's objects require, and returns that. It asks for the
// objects again and again: the API server itself changes its own Service when it starts and stops.
func (s *stage) settle(t *testing.T) []state.State {
	t.Helper()
	var all []state.State
	for _, n := range s.nodes {
		var want state.State
		rig.Until(t, patience, func() error {
			want = n.DesiredOf(t, s.index(t, n.Node.Name))
			if err := rig.Differ(n.KernelWithout(t, want), want); err != nil {
				return fmt.Errorf("%s: %w", n.Node.Name, err)
			}
			return rig.Differ(n.withoutKubelets(t), want)
		})
		all = append(all, want)
	}
	return all
}

// withoutKubelets returns the kernel without the chain that kubelet makes: kube-proxy's iptables mode makes it as well,
// and its owner is unknown.
func (n *node) withoutKubelets(t *testing.T) state.State {
	t.Helper()
	const chain = "KUBE-FIREWALL"
	have := n.Kernel(t)
	maps.DeleteFunc(have.Chains, func(k state.ChainKey, _ state.Chain) bool { return k.Name == chain })
	maps.DeleteFunc(have.Jumps, func(k state.JumpKey, _ state.Jump) bool { return k.To == chain })
	return have
}

// mustHold fails unless the kernels are as they were.
func (s *stage) mustHold(t *testing.T, want []state.State) {
	t.Helper()
	for i, n := range s.nodes {
		if err := rig.Differ(n.withoutKubelets(t), want[i]); err != nil {
			t.Errorf("%s: %v", n.Node.Name, err)
		}
	}
}

// at returns an address and port.
func at(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }
