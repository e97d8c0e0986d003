// SPDX-License-Identifier: Apache-2.0

// Package config holds the configuration as one value: typed, with defaults, checked once. Everything that
// decides takes it by value.
//
// It reads no file and no flag, and knows nothing of a node but the version of its kernel.
package config

import (
	"net/netip"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Config is everything that an operator can choose.
type Config struct {
	// Hostname is the name of this node's Node object. Empty: the host's.
	Hostname string

	// BindAddress takes the place of the Node object's address of its family, and comes before that of the
	// other. Not valid, or unspecified: none does.
	BindAddress netip.Addr

	// Client is how the API server is reached.
	Client Client

	// Serving is where others read how this node is.
	Serving Serving

	// Snapshot is where the last objects of the API server are kept.
	Snapshot Snapshot

	// Conntrack are the kernel's limits for tracked connections.
	Conntrack Conntrack

	// OOMScoreAdj is how readily the kernel ends this program when memory is short, -1000..1000.
	OOMScoreAdj int

	// Log is what is logged.
	Log Log

	// IgnoreExternalIPs leaves out spec.externalIPs, as the cluster does whose gate AllowServiceExternalIPs
	// is off.
	IgnoreExternalIPs bool

	// ExternalIPCIDRs are the networks that spec.externalIPs may be of. None: all are. Anybody who may write
	// a Service may write any address there.
	ExternalIPCIDRs []netip.Prefix

	// Families are the IP families that the node has, IPv4, IPv6 or both. What a Service has of another
	// family is not planned for.
	Families []state.Family

	// Scheduler is the kernel's name of the scheduler of every virtual server whose Service does not choose
	// one.
	Scheduler string

	// Schedulers are those that the kernel has and a Service may choose. None: all that are known.
	Schedulers []string

	// MasqueradeAll masquerades all traffic to cluster IPs, also from pods.
	MasqueradeAll bool

	// MasqueradeBit is the bit of the firewall mark that asks for masquerade. CNIs know kube-proxy's.
	MasqueradeBit uint8

	// LocalDetector tells pods of this node from the rest, whose traffic to cluster IPs has to be
	// masqueraded.
	LocalDetector LocalDetector

	// PodCIDRs are networks of pods, in which Services have no addresses for clients from outside.
	PodCIDRs []netip.Prefix

	// VIPBinding is by which means the node takes packets to Service addresses.
	VIPBinding VIPBinding

	// StrictARP keeps the node from answering ARP for Service addresses, which those who announce them
	// (MetalLB, keepalived) need.
	StrictARP bool

	// SyncPeriod is the time between two full comparisons with the kernel.
	SyncPeriod time.Duration

	// MinSyncPeriod is the time from one write to the kernel to the next, in which changes are collected. The
	// first after a quiet time does not wait.
	MinSyncPeriod time.Duration

	// NodePortAddresses are the networks on whose node addresses NodePorts are served. None of a family: on
	// all addresses of that family, unless NodePortPrimary is set.
	NodePortAddresses []netip.Prefix

	// NodePortPrimary serves NodePorts on the addresses of the Node object too, and on no others but those in
	// NodePortAddresses.
	NodePortPrimary bool

	// NodePortRange is where the API server takes NodePorts from. Masquerade takes its source ports from
	// above or below, lest an answer to one is taken for a request to the other.
	NodePortRange PortRange

	// NodePortSourceRanges lets spec.loadBalancerSourceRanges guard the Service's NodePorts too.
	NodePortSourceRanges bool

	// RemoteHairpins masquerades also a pod of another node that reaches itself by way of this one, as
	// kube-proxy's other modes do. It takes a set entry for every endpoint of the cluster, and only nodes
	// without a service proxy of their own send such packets.
	RemoteHairpins bool

	// LocalhostNodePorts serves NodePorts at the loopback addresses too.
	LocalhostNodePorts bool

	// AnswerPing lets the node answer ICMP echo requests to Service addresses. They are rejected if not.
	AnswerPing bool

	// ServiceCIDRs are the networks of cluster IPs. What is sent to those of their addresses that are no
	// Service's is dropped.
	ServiceCIDRs []netip.Prefix

	// ExcludeCIDRs are networks whose addresses are somebody else's to serve: neither virtual servers nor
	// addresses in them are made, changed or removed.
	ExcludeCIDRs []netip.Prefix

	// APIServers are addresses at which the API server is reached, of which no Service may take one.
	APIServers []netip.Addr

	// TCPTimeout, TCPFinTimeout and UDPTimeout are how long IPVS keeps a silent connection. 0: as the kernel
	// has it.
	TCPTimeout, TCPFinTimeout, UDPTimeout time.Duration

	// DrainTimeout is the time after which a real server that is no longer wanted leaves even if it still has
	// connections. 0: at once.
	DrainTimeout time.Duration

	// Kernel is the version of the node's kernel, for what older ones need. Zero: unknown, taken for a new
	// one.
	Kernel Kernel
}

// Default is the configuration of somebody who chose nothing: kube-proxy's values where it has them.
func Default() Config {
	return Config{
		Families:      []state.Family{state.IPv4, state.IPv6},
		Scheduler:     "rr",
		MasqueradeBit: 14,
		VIPBinding:    AddressBinding,
		SyncPeriod:    30 * time.Second,

		Client: Client{ContentType: "application/vnd.kubernetes.protobuf", QPS: 5, Burst: 10},
		Serving: Serving{
			Healthz: netip.MustParseAddrPort("0.0.0.0:10256"),
			Metrics: netip.MustParseAddrPort("127.0.0.1:10249"),
			Traffic: 1000,
		},
		Snapshot:    Snapshot{MaxBytes: 256 << 20},
		Conntrack:   Conntrack{MaxPerCore: 32768, Min: 131072, TCPEstablished: 24 * time.Hour, TCPCloseWait: time.Hour},
		OOMScoreAdj: -999,

		NodePortRange: PortRange{First: 30000, Last: 32767},

		// Longer than the kernel's TCP keepalive needs to show that a connection is alive (two hours and nine
		// probes). IPVS' own default cuts idle connections after 15 minutes (kubernetes#32457).
		TCPTimeout: 2*time.Hour + 15*time.Minute,

		// What still keeps a real server after that time is in steady use, by a client that will not leave by
		// itself.
		DrainTimeout: 15 * time.Minute,
	}
}

// Client is how the API server is reached.
type Client struct {
	// Kubeconfig is a file. Empty: as a pod is told by its service account.
	Kubeconfig string

	// Servers are addresses of API servers that are tried in turn in place of the one that the kubeconfig
	// names, whose name and CA still have to fit. A node then needs no Service to reach them.
	Servers []netip.AddrPort

	// Master is the URL of the API server in place of the one that the kubeconfig names. Empty: that one.
	Master string

	AcceptContentTypes, ContentType string

	// QPS and Burst bound requests other than watches. QPS below 0: unbounded.
	QPS   float32
	Burst int
}

// Serving is where others read how this node is.
type Serving struct {
	// Healthz and Metrics are where these are served. Not valid: nowhere.
	Healthz, Metrics netip.AddrPort

	// HardFail ends the program if it cannot listen there. It tries again if not.
	HardFail bool

	// Profiling serves pprof where metrics are.
	Profiling bool

	// Traffic is of how many Services at most the metrics count the traffic, one by one; that of the rest is
	// summed up. 0: of none.
	Traffic int
}

// Snapshot is where the last objects of the API server are kept.
type Snapshot struct {
	// File is its path. Empty: nowhere.
	File string

	// MaxBytes bounds the size of the file. One that would be larger is not written: what is left out of it
	// would seem to be deleted.
	MaxBytes int64
}

// Conntrack are the kernel's limits for tracked connections. What is 0 or false is left as the kernel has it.
type Conntrack struct {
	// MaxPerCore is for how many connections there is room with one processor, and Min at least.
	MaxPerCore, Min int32

	TCPEstablished, TCPCloseWait time.Duration
	TCPBeLiberal                 bool
	UDP, UDPStream               time.Duration
}

// Log is what is logged.
type Log struct {
	// Verbosity is klog's: more is told from 2 on, all from 4 on.
	Verbosity int

	// JSON writes lines of JSON in place of text.
	JSON bool
}

// Mark is the firewall mark that asks for masquerade.
func (c Config) Mark() uint32 { return 1 << c.MasqueradeBit }

// VIPBinding is a way to bind Service addresses to the node.
type VIPBinding string

// The ways. The names are those that operators write.
const (
	// AddressBinding gives all of them to the dummy device, as kube-proxy does: tools and CNIs look for them
	// there. The kernel takes the longer for each, the more there are.
	AddressBinding VIPBinding = "address"
	// RouteBinding makes the local routes alone that the kernel makes of addresses.
	RouteBinding VIPBinding = "route"
)

// LocalDetector is a way to tell pods of this node from the rest.
type LocalDetector struct {
	Kind      DetectorKind
	CIDRs     []netip.Prefix // of DetectCIDR: at most one of a family
	Interface string         // of DetectBridge: its name; of DetectPrefix: what the names begin with
}

// DetectorKind says what a LocalDetector looks at.
type DetectorKind uint8

// The kinds of detectors.
const (
	DetectNone     DetectorKind = iota // nothing: nobody is known to be a pod of this node
	DetectCIDR                         // the source address: in the cluster's or the node's pod CIDR
	DetectBridge                       // the interface that the packet came in by: one bridge
	DetectPrefix                       // the interface: a prefix of its name
	DetectNodeCIDR                     // the source address: in the pod CIDRs of the Node object
)
