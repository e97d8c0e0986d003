// SPDX-License-Identifier: Apache-2.0

// Package config holds the configuration as one value: typed, with defaults,
// checked once. Everything that decides takes it by value.
//
// It reads no file and no flag, and knows nothing of a node but the version of
// its kernel.
package config

import (
	"net/netip"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Config is everything that an operator can choose.
type Config struct {
	// Families are the IP families that the node has, IPv4, IPv6 or both. What
	// a Service has of another family is not planned for.
	Families []state.Family

	// Scheduler is the kernel's name of the scheduler of every virtual server
	// whose Service does not choose one.
	Scheduler string

	// Schedulers are those that the kernel has and a Service may choose. None:
	// all that are known.
	Schedulers []string

	// MasqueradeAll masquerades all traffic to cluster IPs, also from pods.
	MasqueradeAll bool

	// MasqueradeBit is the bit of the firewall mark that asks for masquerade.
	// CNIs know kube-proxy's.
	MasqueradeBit uint8

	// LocalDetector tells pods of this node from the rest, whose traffic to
	// cluster IPs has to be masqueraded.
	LocalDetector LocalDetector

	// StrictARP keeps the node from answering ARP for Service addresses, which
	// those who announce them (MetalLB, keepalived) need.
	StrictARP bool

	// SyncPeriod is the time between two full comparisons with the kernel.
	SyncPeriod time.Duration

	// NodePortAddresses are the networks on whose node addresses NodePorts are
	// served. None of a family: on all addresses of that family.
	NodePortAddresses []netip.Prefix

	// NodePortPrimary serves NodePorts on the addresses of the Node object in
	// place of NodePortAddresses.
	NodePortPrimary bool

	// NodePortRange is where the API server takes NodePorts from. Masquerade
	// takes its source ports from above or below, lest an answer to one is
	// taken for a request to the other.
	NodePortRange PortRange

	// NodePortSourceRanges lets spec.loadBalancerSourceRanges guard the
	// Service's NodePorts too.
	NodePortSourceRanges bool

	// RemoteHairpins masquerades also a pod of another node that reaches itself
	// by way of this one, as kube-proxy's other modes do. It takes a set entry for
	// every endpoint of the cluster, and only nodes without a service proxy of
	// their own send such packets.
	RemoteHairpins bool

	// LocalhostNodePorts serves NodePorts at the loopback addresses too.
	LocalhostNodePorts bool

	// AnswerPing lets the node answer ICMP echo requests to Service addresses.
	// They are rejected if not.
	AnswerPing bool

	// ServiceCIDRs are the networks of cluster IPs. What is sent to those of
	// their addresses that are no Service's is dropped.
	ServiceCIDRs []netip.Prefix

	// ExcludeCIDRs are networks whose addresses are somebody else's to serve:
	// neither virtual servers nor addresses in them are made, changed or
	// removed.
	ExcludeCIDRs []netip.Prefix

	// APIServers are addresses at which the API server is reached, of which no
	// Service may take one.
	APIServers []netip.Addr

	// TCPTimeout, TCPFinTimeout and UDPTimeout are how long IPVS keeps a silent
	// connection. 0: as the kernel has it.
	TCPTimeout, TCPFinTimeout, UDPTimeout time.Duration

	// DrainTimeout is the time after which a real server that is no longer
	// wanted leaves even if it still has connections. 0: at once.
	DrainTimeout time.Duration

	// Kernel is the version of the node's kernel, for what older ones need.
	// Zero: unknown, taken for a new one.
	Kernel Kernel
}

// Default is the configuration of somebody who chose nothing: kube-proxy's
// values where it has them.
func Default() Config {
	return Config{
		Families:      []state.Family{state.IPv4, state.IPv6},
		Scheduler:     "rr",
		MasqueradeBit: 14,
		SyncPeriod:    30 * time.Second,

		NodePortRange: PortRange{First: 30000, Last: 32767},

		// Longer than the kernel's TCP keepalive needs to show that a
		// connection is alive (two hours and nine probes). IPVS' own default
		// cuts idle connections after 15 minutes (kubernetes#32457).
		TCPTimeout: 2*time.Hour + 15*time.Minute,

		// What still keeps a real server after that time is in steady use, by
		// a client that will not leave by itself.
		DrainTimeout: 15 * time.Minute,
	}
}

// Mark is the firewall mark that asks for masquerade.
func (c Config) Mark() uint32 { return 1 << c.MasqueradeBit }

// PortRange is a range of ports, both ends in it. The zero value is empty.
type PortRange struct{ First, Last uint16 }

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
	DetectNone   DetectorKind = iota // nothing: nobody is known to be a pod of this node
	DetectCIDR                       // the source address: in the cluster's or the node's pod CIDR
	DetectBridge                     // the interface that the packet came in by: one bridge
	DetectPrefix                     // the interface: a prefix of its name
	DetectNodeCIDR                   // the source address: in the pod CIDRs of the Node object
)
