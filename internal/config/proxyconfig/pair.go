// SPDX-License-Identifier: Apache-2.0

// Package proxyconfig knows the two documents that make up a configuration: kube-proxy's
// KubeProxyConfiguration as it is, and our own KubeIPVSConfiguration for what kube-proxy has no word for. It
// reads and writes them, completes them with kube-proxy's defaults, and turns the pair into the one checked
// config.Config. Whatever it complains about it calls by its path in the documents.
//
// It opens no file and knows no flag: both are for the commands.
package proxyconfig

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kube-proxy/config/v1alpha1"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
)

// What the documents call themselves.
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

// KubeIPVSConfiguration is what kube-proxy's document has no word for. What it does not say stays as in
// Default.
type KubeIPVSConfiguration struct {
	metav1.TypeMeta `json:",inline"`

	// apiServers are IP:port of API servers that are tried in turn in place of the one that the kubeconfig
	// names, whose name and CA still have to fit. No Service may take their addresses.
	APIServers []string `json:"apiServers"`

	// apiServerAddresses are IP addresses of API servers of which no Service may take one, beside those of
	// apiServers.
	APIServerAddresses []string `json:"apiServerAddresses"`

	// master is the API server's URL in place of the one in the kubeconfig. It is kube-proxy's flag.
	Master string `json:"master"`

	// serviceCIDRs are the networks of cluster IPs: what is sent there to no Service is dropped.
	ServiceCIDRs []string `json:"serviceCIDRs"`

	// externalIPCIDRs are the networks that the external IPs of Services may be of. Empty: all are.
	ExternalIPCIDRs []string `json:"externalIPCIDRs"`

	// nodePortRange is the API server's --service-node-port-range, from which masquerade takes no source
	// ports. "0-0": none.
	NodePortRange string `json:"nodePortRange"`

	// nodePortSourceRanges lets spec.loadBalancerSourceRanges guard the Service's NodePorts too.
	NodePortSourceRanges bool `json:"nodePortSourceRanges"`

	// localhostNodePorts serves NodePorts at the loopback addresses. It is not kube-proxy's
	// iptables.localhostNodePorts, which is on by default and without effect in its ipvs mode: to obey it
	// would open ports that a node in ipvs mode never had.
	LocalhostNodePorts bool `json:"localhostNodePorts"`

	// remoteHairpins masquerades pods of other nodes that reach themselves by way of this one.
	RemoteHairpins bool `json:"remoteHairpins"`

	// answerPing answers ICMP echo requests to Service addresses.
	AnswerPing bool `json:"answerPing"`

	// vipBinding is by which means the node takes packets to Service addresses: "address", as kube-proxy
	// does, or "route", for more than a few thousand.
	VIPBinding string `json:"vipBinding"`

	// drainTimeout is the time after which a removed endpoint loses the connections it still has. "0s": at
	// once.
	DrainTimeout metav1.Duration `json:"drainTimeout"`

	// idleTCPTimeout is for how long IPVS keeps an idle TCP connection if ipvs.tcpTimeout is "0s", as it
	// mostly is. "0s" here too: as long as the kernel says, which cuts connections after 15 minutes.
	IdleTCPTimeout metav1.Duration `json:"idleTCPTimeout"`

	// snapshot is where the last objects of the API server are kept, for a start without it.
	Snapshot Snapshot `json:"snapshot"`

	// trafficMetricsServices is of how many Services at most the metrics count the traffic one by one. 0: of
	// none.
	TrafficMetricsServices int32 `json:"trafficMetricsServices"`
}

// Snapshot is where the last objects of the API server are kept.
type Snapshot struct {
	// file is its path. Empty: nowhere.
	File string `json:"file"`

	// maxBytes bounds its size.
	MaxBytes int64 `json:"maxBytes"`
}

// Default is the pair of somebody who wrote nothing.
func Default() Pair {
	p := Pair{Own: defaultOwn(config.Default())}
	p.Proxy.Mode = modeIPVS
	p.Complete()
	return p
}

func defaultOwn(c config.Config) KubeIPVSConfiguration {
	return KubeIPVSConfiguration{
		TypeMeta:               metav1.TypeMeta{Kind: OwnKind, APIVersion: OwnVersion},
		NodePortRange:          c.NodePortRange.String(),
		NodePortSourceRanges:   c.NodePortSourceRanges,
		LocalhostNodePorts:     c.LocalhostNodePorts,
		RemoteHairpins:         c.RemoteHairpins,
		AnswerPing:             c.AnswerPing,
		VIPBinding:             string(c.VIPBinding),
		DrainTimeout:           duration(c.DrainTimeout),
		IdleTCPTimeout:         duration(c.TCPTimeout),
		Snapshot:               Snapshot{File: c.Snapshot.File, MaxBytes: c.Snapshot.MaxBytes},
		TrafficMetricsServices: int32(c.Serving.Traffic),
	}
}

func duration(d time.Duration) metav1.Duration { return metav1.Duration{Duration: d} }

// The modes of kube-proxy, and how it tells local traffic.
const (
	modeIPVS = "ipvs"

	localByCluster = "ClusterCIDR"
	localByNode    = "NodeCIDR"
	localByBridge  = "BridgeInterface"
	localByPrefix  = "InterfaceNamePrefix"
)

// gateExternalIPs is the one feature gate that means something here.
const gateExternalIPs = "AllowServiceExternalIPs"
