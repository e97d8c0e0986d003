// SPDX-License-Identifier: Apache-2.0

// Package config holds the configuration as one value: typed, with defaults, and checked once. It reads no file and no
// flag, and of the node it knows only the version of the kernel.
package config

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Config is everything that an operator can choose, and what its defaults need of the node.
type Config struct {
	Hostname string // the name of this node's Node object; empty: the host's

	// BindAddress replaces the Node object's address of its family, and comes before that of the other. Not valid, or
	// unspecified: it does not.
	BindAddress netip.Addr

	Client      Client
	Serving     Serving
	Snapshot    Snapshot
	Conntrack   Conntrack
	Log         Log
	OOMScoreAdj int // how readily the kernel ends this program when memory is short, -1000..1000

	IgnoreExternalIPs bool // spec.externalIPs has no effect, as if the gate AllowServiceExternalIPs is off

	// ExternalIPCIDRs are the networks for spec.externalIPs. None: all. Anyone who may write a Service may write any
	// address there.
	ExternalIPCIDRs []netip.Prefix

	Families   []state.Family // of the node; addresses of Services in another family are skipped
	Scheduler  string         // the kernel's name of the scheduler of Services that choose none
	Schedulers []string       // those that the kernel has and a Service may choose; none: all known ones

	MasqueradeAll bool           // masquerade all traffic to cluster IPs, even from pods
	MasqueradeBit uint8          // the bit of the firewall mark that requests masquerade; CNIs know kube-proxy's
	LocalDetector LocalDetector  // recognizes pods of this node; other traffic to cluster IPs needs masquerade
	PodCIDRs      []netip.Prefix // networks of pods: Services have no addresses for clients from outside there
	VIPBinding    VIPBinding     // how the node takes packets to Service addresses

	// FirewallChoice is the operator's choice of what Firewall becomes.
	FirewallChoice FirewallChoice
	Firewall       state.Firewall // the one that holds our rules

	// StrictARP keeps the node from answering ARP for Service addresses. Programs that announce them (MetalLB,
	// keepalived) need that.
	StrictARP bool

	SyncPeriod time.Duration // between two full comparisons with the kernel

	// MinSyncPeriod is the time from one write to the kernel to the next, in which changes are collected. The first
	// change after a quiet time does not wait.
	MinSyncPeriod time.Duration

	// NodePortAddresses are the networks whose node addresses serve NodePorts. None of a family: all addresses of that
	// family, unless NodePortPrimary is set.
	NodePortAddresses []netip.Prefix

	NodePortPrimary bool // NodePorts are at the addresses of the Node object, and else only in NodePortAddresses

	// NodePortRange is the API server's range. Masquerade takes its source ports from above or below: an answer to such
	// a port must not look like a request to a NodePort.
	NodePortRange PortRange

	NodePortSourceRanges bool // spec.loadBalancerSourceRanges guards NodePorts too

	// RemoteHairpins masquerades pods of other nodes that reach themselves through this one, as kube-proxy's other
	// modes do. That takes a set entry for each endpoint of the cluster, and only nodes without a service proxy send
	// such packets.
	RemoteHairpins bool

	LocalhostNodePorts bool           // NodePorts at the loopback addresses too
	AnswerPing         bool           // the node answers echo requests to Service addresses instead of rejecting them
	ServiceCIDRs       []netip.Prefix // networks of cluster IPs; packets to addresses there without a Service are dropped
	ExcludeCIDRs       []netip.Prefix // networks that another program serves: nothing there is ours
	APIServers         []netip.Addr   // addresses of the API server, which no Service may take

	TCPTimeout, TCPFinTimeout, UDPTimeout time.Duration // how long IPVS keeps a silent connection; 0: the kernel's value

	DrainTimeout time.Duration // a removed real server keeps its connections at most so long; 0: not at all
	Kernel       Kernel        // zero: unknown, taken for a new one
}

// Default returns the configuration without any choice: kube-proxy's values where it has them.
func Default() Config {
	return Config{
		Families:      []state.Family{state.IPv4, state.IPv6},
		Scheduler:     "rr",
		MasqueradeBit: 14,
		VIPBinding:    AddressBinding,

		FirewallChoice: AutoFirewall,

		SyncPeriod: 30 * time.Second,

		Client: Client{ContentType: "application/vnd.kubernetes.protobuf", QPS: 5, Burst: 10},
		Serving: Serving{
			Healthz: netip.MustParseAddrPort("0.0.0.0:10256"),
			Metrics: netip.MustParseAddrPort("127.0.0.1:10249"),
			Traffic: 1000,
		},
		Snapshot:      Snapshot{MaxBytes: 256 << 20},
		Conntrack:     Conntrack{MaxPerCore: 32768, Min: 131072, TCPEstablished: 24 * time.Hour, TCPCloseWait: time.Hour},
		OOMScoreAdj:   -999,
		NodePortRange: PortRange{First: 30000, Last: 32767},

		// Longer than the kernel's TCP keepalive needs to prove a connection alive (two hours and nine probes). IPVS'
		// own default ends idle connections after 15 minutes (kubernetes#32457).
		TCPTimeout: 2*time.Hour + 15*time.Minute,

		// A real server that is still in use after that time has a client that will not leave by itself.
		DrainTimeout: 15 * time.Minute,
	}
}

// Client is how to reach the API server.
type Client struct {
	Kubeconfig string // a file; empty: the pod's service account

	// Servers are addresses of API servers to try in turn, so that a node needs no Service to reach them. The
	// kubeconfig's server name and CA must still fit.
	Servers []netip.AddrPort

	Master                          string // the URL of the API server; empty: the kubeconfig's
	AcceptContentTypes, ContentType string
	QPS                             float32 // of requests other than watches; below 0: unlimited
	Burst                           int
}

// Serving is where others read the state of the program.
type Serving struct {
	Healthz, Metrics netip.AddrPort // not valid: nowhere
	HardFail         bool           // the program ends if it cannot listen there, instead of retrying
	Profiling        bool           // pprof is served with the metrics
	Traffic          int            // how many Services the traffic metrics count one by one; the rest is summed up
}

// Snapshot is where the last objects of the API server are kept.
type Snapshot struct {
	File string // empty: nowhere

	// MaxBytes bounds the file. A larger one is not written: objects that it left out would seem deleted.
	MaxBytes int64
}

// Conntrack are the kernel's limits for tracked connections. 0 or false: the kernel's value.
type Conntrack struct {
	MaxPerCore, Min              int32 // how many connections for each processor, and at least
	TCPEstablished, TCPCloseWait time.Duration
	TCPBeLiberal                 bool
	UDP, UDPStream               time.Duration
}

// maxTracked limits what a machine with very many processors gives to conntrack: a table of one million entries takes
// some 300 MB when it is full.
const maxTracked = 1 << 20

// Max returns how many connections a machine with that many processors should track; 0: the kernel's value. As in
// kube-proxy the limit does not apply to an explicit Min.
func (c Conntrack) Max(cores int) int {
	switch scaled := int64(c.MaxPerCore) * int64(cores); {
	case c.MaxPerCore <= 0:
		return 0
	case scaled > maxTracked:
		return maxTracked
	default:
		return max(int(scaled), int(c.Min))
	}
}

// Log is what is logged.
type Log struct {
	Verbosity int  // klog's: more from 2 on, all from 4 on
	JSON      bool // lines of JSON instead of text
}

// Mark returns the firewall mark that requests masquerade.
func (c Config) Mark() uint32 { return 1 << c.MasqueradeBit }

// ShiftsPorts reports whether one rule can lead packets to many ports to other ports. iptables needs the kernel for it.
func (c Config) ShiftsPorts() bool { return c.Firewall == state.OnNFTables || c.Kernel.ShiftsPorts() }

// JoinsPorts reports whether one rule can lead packets to many addresses to other addresses, which one affinity over all
// ports needs. iptables needs the target NETMAP for it.
func (c Config) JoinsPorts() bool { return c.Firewall == state.OnNFTables || !c.Kernel.NoNetmap }

// FirewallChoice is which firewall an operator wants to hold our rules.
type FirewallChoice string

// The choices.
const (
	// AutoFirewall takes nftables if the kernel takes our rules there, and else iptables.
	AutoFirewall FirewallChoice = "auto"

	// IPTablesFirewall takes iptables and ipset, whose names CNIs and scripts know.
	IPTablesFirewall FirewallChoice = "iptables"

	// NFTablesFirewall takes nftables, and does not start where the kernel refuses our rules.
	NFTablesFirewall FirewallChoice = "nftables"
)

// VIPBinding is a way to bind Service addresses to the node.
type VIPBinding string

// The ways, by the names that operators write.
const (
	// AddressBinding assigns all of them to the dummy device, as kube-proxy does: tools and CNIs look for them there.
	// Each takes the kernel the longer, the more there are.
	AddressBinding VIPBinding = "address"
	// RouteBinding makes only the local routes that the kernel makes of addresses.
	RouteBinding VIPBinding = "route"
)

// LocalDetector recognizes pods of this node.
type LocalDetector struct {
	Kind      DetectorKind
	CIDRs     []netip.Prefix // of DetectCIDR: at most one of a family
	Interface string         // of DetectBridge: its name; of DetectPrefix: the prefix
}

// DetectorKind is what a LocalDetector looks at.
type DetectorKind uint8

// The kinds of detectors.
const (
	DetectNone     DetectorKind = iota // nothing: pods are not recognized
	DetectCIDR                         // the source address: in the cluster's or the node's pod CIDR
	DetectBridge                       // the incoming interface: one bridge
	DetectPrefix                       // the incoming interface: a prefix of its name
	DetectNodeCIDR                     // the source address: in the pod CIDRs of the Node object
)

// PortRange is a range of ports, both ends in it. The zero value is empty.
type PortRange struct{ First, Last uint16 }

func (r PortRange) String() string { return fmt.Sprintf("%d-%d", r.First, r.Last) }

// ParsePortRange reads what String writes.
func ParsePortRange(text string) (PortRange, error) {
	first, last, _ := strings.Cut(strings.TrimSpace(text), "-")
	from, err := strconv.ParseUint(first, 10, 16)
	to, err2 := strconv.ParseUint(last, 10, 16)
	if err != nil || err2 != nil {
		return PortRange{}, fmt.Errorf("%q is not a range of ports such as 30000-32767", text)
	}
	return PortRange{First: uint16(from), Last: uint16(to)}, nil
}

// validate leaves at least 1,024 ports for masquerade.
func (r PortRange) validate(v *Complaints) {
	const field, room = "NodePortRange", 1024
	switch {
	case r.First > r.Last || (r.First == 0) != (r.Last == 0):
		v.Add(field, "%v is no range", r)
	case r.First != 0 && r.First < 2*room && r.Last > 65535-room:
		v.Add(field, "%v leaves no %d other ports", r, room)
	}
}
