// SPDX-License-Identifier: Apache-2.0

package world

import (
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// uplink is the link of nodes and outside hosts to their segment, and of pods to their node.
	uplink = "eth0"
	// segmentBridge joins the uplinks of nodes and outside hosts.
	segmentBridge = "segment"
	// podLink is how the names of a node's links to its pods begin.
	podLink = "veth-"
)

// build makes all of a world. After an error, Close removes what was made.
func (w *World) build(t Topology) (err error) {
	w.topology = t
	if w.segment, err = newSegment(); err != nil {
		return err
	}
	for _, n := range t.Nodes {
		if err := w.addNode(n, t.Nodes); err != nil {
			return fmt.Errorf("add node %s: %w", n.Name, err)
		}
	}
	for _, o := range t.Outside {
		if err := w.addOutside(o); err != nil {
			return fmt.Errorf("add host %s: %w", o.Name, err)
		}
	}
	return nil
}

// newSegment makes the bridge that stands for the wire between nodes, and a host for it.
func newSegment() (*Host, error) {
	h, err := newHost(segmentBridge)
	if err != nil {
		return nil, err
	}
	// Snooping may hold back the multicasts of neighbour discovery.
	snooping := false
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: segmentBridge}, MulticastSnooping: &snooping}
	if err := h.links.LinkAdd(bridge); err != nil {
		h.close()
		return nil, fmt.Errorf("add bridge %s: %w", segmentBridge, err)
	}
	if err := h.setUp(segmentBridge); err != nil {
		h.close()
		return nil, err
	}
	return h, nil
}

func (w *World) addNode(n Node, all []Node) error {
	host, err := w.addHost(n.Name, addresses(n.Addresses))
	if err != nil {
		return err
	}
	if err := w.joinNode(host, n, all); err != nil {
		return err
	}
	for _, p := range n.Pods {
		pod, err := w.addHost(p.Name, p.Addresses)
		if err != nil {
			return err
		}
		if err := joinPod(host, pod, n.gateways()); err != nil {
			return fmt.Errorf("add pod %s: %w", p.Name, err)
		}
	}
	return nil
}

// joinNode makes an unconnected host the node.
func (w *World) joinNode(host *Host, n Node, all []Node) error {
	var routes []Route
	for _, other := range all {
		if other.Name == n.Name {
			continue
		}
		more, err := other.routes()
		if err != nil {
			return err
		}
		routes = append(routes, more...)
	}
	if err := w.joinSegment(host, n.Addresses, routes); err != nil {
		return err
	}
	if !n.Forward {
		return nil
	}
	return host.setSysctls([]sysctl{{"net/ipv4/ip_forward", "1"}, {"net/ipv6/conf/all/forwarding", "1"}})
}

// addHost makes an unconnected host.
func (w *World) addHost(name string, own []netip.Addr) (*Host, error) {
	if w.Host(name) != nil {
		return nil, fmt.Errorf("there are two hosts of the name %s", name)
	}
	h, err := newHost(name)
	if err != nil {
		return nil, err
	}
	h.Addresses = slices.Clone(own)
	h.world = w
	w.hosts = append(w.hosts, h)
	return h, nil
}

// addOutside makes a host outside the cluster.
func (w *World) addOutside(o Outside) error {
	h, err := w.addHost(o.Name, addresses(o.Addresses))
	if err != nil {
		return err
	}
	return w.joinSegment(h, o.Addresses, o.Routes)
}

// joinSegment joins a host to the segment.
func (w *World) joinSegment(h *Host, own []netip.Prefix, routes []Route) error {
	port := "to-" + h.Name
	if err := join(h, w.segment, port); err != nil {
		return err
	}
	if err := w.segment.plug(port, segmentBridge); err != nil {
		return err
	}
	if err := h.configure(uplink, own); err != nil {
		return err
	}
	return h.addRoutes(uplink, routes)
}

// joinPod joins a pod to its node by a routed link, as the ptp plugin, kindnet and Calico do: the gateway is the pod's
// only neighbour. If the pods were ports of a bridge, answers between them would bypass the node's IP layer and keep
// their real addresses, unless br_netfilter is loaded and used.
func joinPod(node, pod *Host, gateways []netip.Addr) error {
	link := podLink + pod.Name
	if err := join(pod, node, link); err != nil {
		return err
	}
	if err := node.configure(link, hostPrefixes(gateways)); err != nil {
		return err
	}
	if err := node.addRoutes(link, onLink(pod.Addresses)); err != nil {
		return err
	}
	if err := pod.configure(uplink, hostPrefixes(pod.Addresses)); err != nil {
		return err
	}
	routes := onLink(gateways)
	for _, g := range gateways {
		routes = append(routes, Route{To: everything(g), Via: g})
	}
	return pod.addRoutes(uplink, routes)
}

// onLink returns routes to addresses that need no gateway.
func onLink(list []netip.Addr) []Route {
	var routes []Route
	for _, p := range hostPrefixes(list) {
		routes = append(routes, Route{To: p})
	}
	return routes
}

// everything returns the prefix of all addresses of a's family.
func everything(a netip.Addr) netip.Prefix {
	p, _ := a.Prefix(0)
	return p
}

// join makes a wire from a host's uplink to a link of the given name on another host.
func join(h, other *Host, name string) error {
	wire := &netlink.Veth{
		LinkAttrs:        netlink.LinkAttrs{Name: uplink, Namespace: netlink.NsFd(h.space.file.Fd()), HardwareAddr: card(h, uplink)},
		PeerName:         name,
		PeerNamespace:    netlink.NsFd(other.space.file.Fd()),
		PeerHardwareAddr: card(other, name),
	}
	if err := h.links.LinkAdd(wire); err != nil {
		return fmt.Errorf("add link %s of %s: %w", name, other.Name, err)
	}
	return nil
}

// card returns the hardware address of a host's link. It is the same after a reboot: neighbours remember it.
func card(h *Host, link string) net.HardwareAddr {
	sum := fnv.New64a()
	fmt.Fprintf(sum, "%s %s", h.Name, link)
	address := sum.Sum(nil)[:6]
	address[0] = address[0]&^1 | 2 // unicast, and locally administered
	return address
}

// plug makes a link a port of a bridge.
func (h *Host) plug(port, bridge string) error {
	l, err := h.links.LinkByName(port)
	if err != nil {
		return fmt.Errorf("find link %s of %s: %w", port, h.Name, err)
	}
	b, err := h.links.LinkByName(bridge)
	if err != nil {
		return fmt.Errorf("find bridge %s of %s: %w", bridge, h.Name, err)
	}
	if err := h.links.LinkSetMaster(l, b); err != nil {
		return fmt.Errorf("plug %s into %s: %w", port, bridge, err)
	}
	return h.setUp(port)
}

func (h *Host) setUp(name string) error {
	l, err := h.links.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find link %s of %s: %w", name, h.Name, err)
	}
	if err := h.links.LinkSetUp(l); err != nil {
		return fmt.Errorf("set link %s of %s up: %w", name, h.Name, err)
	}
	return nil
}

// configure gives a link its addresses and sets it up.
func (h *Host) configure(name string, own []netip.Prefix) error {
	l, err := h.links.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find link %s of %s: %w", name, h.Name, err)
	}
	for _, p := range own {
		a := &netlink.Addr{IPNet: ipNet(p)}
		if p.Addr().Is6() {
			a.Flags = unix.IFA_F_NODAD
		}
		if err := h.links.AddrAdd(l, a); err != nil {
			return fmt.Errorf("add address %v to %s of %s: %w", p, name, h.Name, err)
		}
	}
	return h.setUp(name)
}

// addRoutes adds routes over a link.
func (h *Host) addRoutes(name string, routes []Route) error {
	l, err := h.links.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find link %s of %s: %w", name, h.Name, err)
	}
	for _, r := range routes {
		route := &netlink.Route{LinkIndex: l.Attrs().Index, Dst: ipNet(r.To), Gw: r.Via.AsSlice()}
		if !r.Via.IsValid() {
			route.Scope = netlink.SCOPE_LINK
		}
		if err := h.links.RouteAdd(route); err != nil {
			return fmt.Errorf("add route to %v via %v on %s: %w", r.To, r.Via, h.Name, err)
		}
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
