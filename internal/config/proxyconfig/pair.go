// SPDX-License-Identifier: Apache-2.0

// Package proxyconfig reads and writes the two documents of a configuration: kube-proxy's KubeProxyConfiguration as it
// is, and our KubeIPVSConfiguration for what kube-proxy does not have. It adds kube-proxy's defaults, and turns the
// pair into the one checked config.Config. Its complaints name paths in the documents.
//
// It opens no file and knows no flag.
package proxyconfig

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kube-proxy/config/v1alpha1"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
)

// The kinds and versions of the documents.
const (
	ProxyKind    = "KubeProxyConfiguration"
	ProxyVersion = "kubeproxy.config.k8s.io/v1alpha1"
	OwnKind      = "KubeIPVSConfiguration"
	OwnVersion   = "kube-ipvs.io/v1alpha1"
)

// Pair is a configuration as its two documents.
type Pair struct {
	Proxy v1alpha1.KubeProxyConfiguration
	Own   KubeIPVSConfiguration
}

// KubeIPVSConfiguration has the settings that kube-proxy's document lacks. Unset ones stay as in Default.
type KubeIPVSConfiguration struct {
	metav1.TypeMeta `json:",inline"`

	// apiServers are IP:port of API servers to try in turn. The kubeconfig's server name and CA must still fit. No
	// Service may take their addresses.
	APIServers []string `json:"apiServers"`
	// apiServerAddresses are more IP addresses of API servers that no Service may take.
	APIServerAddresses []string `json:"apiServerAddresses"`
	// master is the API server's URL in place of the kubeconfig's. It is kube-proxy's flag.
	Master string `json:"master"`
	// serviceCIDRs are the networks of cluster IPs. Packets to addresses there without a Service are dropped.
	ServiceCIDRs []string `json:"serviceCIDRs"`
	// externalIPCIDRs are the networks for the external IPs of Services. Empty: all.
	ExternalIPCIDRs []string `json:"externalIPCIDRs"`
	// nodePortRange is the API server's --service-node-port-range: no source ports for masquerade. "0-0": none.
	NodePortRange string `json:"nodePortRange"`
	// nodePortSourceRanges lets spec.loadBalancerSourceRanges guard NodePorts too.
	NodePortSourceRanges bool `json:"nodePortSourceRanges"`
	// localhostNodePorts serves NodePorts at the loopback addresses. kube-proxy's iptables.localhostNodePorts, on by
	// default, has no effect in its ipvs mode: it would open ports that no such node had.
	LocalhostNodePorts bool `json:"localhostNodePorts"`
	// remoteHairpins masquerades pods of other nodes that reach themselves through this one.
	RemoteHairpins bool `json:"remoteHairpins"`
	// answerPing answers ICMP echo requests to Service addresses.
	AnswerPing bool `json:"answerPing"`
	// vipBinding is how the node takes packets to Service addresses: "address", as kube-proxy does, or "route", for
	// more than a few thousand.
	VIPBinding string `json:"vipBinding"`
	// firewall is what holds our rules: "nftables", "iptables" with ipset, or "auto": nftables if the kernel takes our
	// rules there, and else iptables.
	Firewall string `json:"firewall"`
	// drainTimeout is the time after which a removed endpoint loses its connections. "0s": at once.
	DrainTimeout metav1.Duration `json:"drainTimeout"`
	// idleTCPTimeout is how long IPVS keeps an idle TCP connection if ipvs.tcpTimeout is "0s", as it usually is. "0s"
	// here too: the kernel's 15 minutes.
	IdleTCPTimeout metav1.Duration `json:"idleTCPTimeout"`
	// snapshot is where the last objects of the API server are kept, for a start without it.
	Snapshot Snapshot `json:"snapshot"`
	// trafficMetricsServices is how many Services the traffic metrics count one by one. 0: none.
	TrafficMetricsServices int32 `json:"trafficMetricsServices"`
}

// Snapshot is where the last objects of the API server are kept.
type Snapshot struct {
	File     string `json:"file"`     // its path; empty: nowhere
	MaxBytes int64  `json:"maxBytes"` // bounds its size
}

// Default returns the pair without any setting.
func Default() Pair {
	c := config.Default()
	p := Pair{Own: KubeIPVSConfiguration{
		TypeMeta:               metav1.TypeMeta{Kind: OwnKind, APIVersion: OwnVersion},
		NodePortRange:          c.NodePortRange.String(),
		NodePortSourceRanges:   c.NodePortSourceRanges,
		LocalhostNodePorts:     c.LocalhostNodePorts,
		RemoteHairpins:         c.RemoteHairpins,
		AnswerPing:             c.AnswerPing,
		VIPBinding:             string(c.VIPBinding),
		Firewall:               string(c.FirewallChoice),
		DrainTimeout:           duration(c.DrainTimeout),
		IdleTCPTimeout:         duration(c.TCPTimeout),
		Snapshot:               Snapshot{File: c.Snapshot.File, MaxBytes: c.Snapshot.MaxBytes},
		TrafficMetricsServices: int32(c.Serving.Traffic),
	}}
	p.Proxy.Mode = modeIPVS
	p.Complete()
	return p
}

func duration(d time.Duration) metav1.Duration { return metav1.Duration{Duration: d} }

// kube-proxy's mode that we implement, and its ways to recognize local traffic.
const (
	modeIPVS = "ipvs"

	localByCluster = "ClusterCIDR"
	localByNode    = "NodeCIDR"
	localByBridge  = "BridgeInterface"
	localByPrefix  = "InterfaceNamePrefix"
)

// gateExternalIPs is the one feature gate with an effect here.
const gateExternalIPs = "AllowServiceExternalIPs"
