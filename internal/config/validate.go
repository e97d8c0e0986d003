// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"math"
	"net/netip"
	"strings"
	"time"
)

const (
	maxScheduler = 15  // IP_VS_SCHEDNAME_MAXLEN, without the final NUL
	maxInterface = 15  // IFNAMSIZ, without the final NUL
	maxHostname  = 253 // of a name in DNS, which a Node's is

	// maxTimeout keeps IPVS' timeouts, in ticks of at most 1/1000 s, far from the end of a 32-bit number.
	maxTimeout = 10 * 24 * time.Hour
)

// Validate returns what is wrong with c, all of it, by name of the field: its error is Complaints.
func (c Config) Validate() error {
	var v Complaints
	c.validateNode(&v)
	c.Client.validate(&v)
	c.Serving.validate(&v)
	v.Unless(c.Snapshot.MaxBytes > 0, "Snapshot.MaxBytes", "%d is not above 0", c.Snapshot.MaxBytes)
	c.Conntrack.validate(&v)
	v.Unless(c.Log.Verbosity >= 0, "Log.Verbosity", "%d is below 0", c.Log.Verbosity)
	v.word("Scheduler", c.Scheduler, maxScheduler)
	v.Unless(c.MasqueradeBit < 32, "MasqueradeBit", "%d is not in 0..31", c.MasqueradeBit)
	v.Unless(c.VIPBinding == AddressBinding || c.VIPBinding == RouteBinding, "VIPBinding", "%q is none of %s, %s", c.VIPBinding, AddressBinding, RouteBinding)
	c.LocalDetector.validate(&v)
	c.validatePeriods(&v)
	c.validateTimeouts(&v)
	v.networks("NodePortAddresses", c.NodePortAddresses)
	v.networks("ServiceCIDRs", c.ServiceCIDRs)
	v.networks("ExcludeCIDRs", c.ExcludeCIDRs)
	v.networks("ExternalIPCIDRs", c.ExternalIPCIDRs)
	c.NodePortRange.validate(&v)
	for i, a := range c.APIServers {
		v.address(fmt.Sprintf("APIServers[%d]", i), a)
	}
	return v.Err()
}

func (c Config) validateNode(v *Complaints) {
	const known = "abcdefghijklmnopqrstuvwxyz0123456789.-"
	name := c.Hostname
	v.Unless(strings.Trim(name, known) == "" && len(name) <= maxHostname, "Hostname", "%q is not the name of a Node", name)
	if c.BindAddress.IsValid() {
		v.address("BindAddress", c.BindAddress)
	}
	const least, most = -1000, 1000 // OOM_SCORE_ADJ_MIN and _MAX
	v.Unless(c.OOMScoreAdj >= least && c.OOMScoreAdj <= most, "OOMScoreAdj", "%d is not in %d..%d", c.OOMScoreAdj, least, most)
}

func (c Client) validate(v *Complaints) {
	for i, s := range c.Servers {
		field := fmt.Sprintf("Client.Servers[%d]", i)
		v.address(field, s.Addr())
		v.Unless(s.Port() != 0, field, "%v has no port", s)
	}
	qps := float64(c.QPS)
	v.Unless(!math.IsNaN(qps) && !math.IsInf(qps, 0), "Client.QPS", "%v is no number", c.QPS)
	v.Unless(c.Burst >= 0, "Client.Burst", "%d is below 0", c.Burst)
	v.Unless(c.Burst != 0 || qps <= 0, "Client.Burst", "0 lets no request through, at %v a second", c.QPS)
}

func (s Serving) validate(v *Complaints) {
	for _, l := range []struct {
		field   string
		address netip.AddrPort
	}{{"Serving.Healthz", s.Healthz}, {"Serving.Metrics", s.Metrics}} {
		v.Unless(!l.address.IsValid() || l.address.Port() != 0, l.field, "%v has no port", l.address)
	}
	v.Unless(s.Traffic >= 0, "Serving.Traffic", "%d is below 0", s.Traffic)
}

func (c Conntrack) validate(v *Complaints) {
	v.Unless(c.MaxPerCore >= 0, "Conntrack.MaxPerCore", "%d is below 0", c.MaxPerCore)
	v.Unless(c.Min >= 0, "Conntrack.Min", "%d is below 0", c.Min)
	v.notNegative("Conntrack.TCPEstablished", c.TCPEstablished)
	v.notNegative("Conntrack.TCPCloseWait", c.TCPCloseWait)
	v.notNegative("Conntrack.UDP", c.UDP)
	v.notNegative("Conntrack.UDPStream", c.UDPStream)
}

func (c Config) validatePeriods(v *Complaints) {
	v.Unless(c.SyncPeriod > 0, "SyncPeriod", "%v is not above 0", c.SyncPeriod)
	v.notNegative("MinSyncPeriod", c.MinSyncPeriod)
	v.Unless(c.MinSyncPeriod <= max(c.SyncPeriod, 0), "MinSyncPeriod", "%v is longer than the period of full comparisons, %v", c.MinSyncPeriod, c.SyncPeriod)
	v.notNegative("DrainTimeout", c.DrainTimeout)
}

func (c Config) validateTimeouts(v *Complaints) {
	for _, t := range []struct {
		field   string
		timeout time.Duration
	}{{"TCPTimeout", c.TCPTimeout}, {"TCPFinTimeout", c.TCPFinTimeout}, {"UDPTimeout", c.UDPTimeout}} {
		good := t.timeout >= 0 && t.timeout <= maxTimeout && t.timeout%time.Second == 0
		v.Unless(good, t.field, "%v is not a number of seconds from 0 to %v", t.timeout, maxTimeout)
	}
}

func (d LocalDetector) validate(v *Complaints) {
	const cidrs, device = "LocalDetector.CIDRs", "LocalDetector.Interface"
	switch d.Kind {
	case DetectNone, DetectNodeCIDR:
	case DetectCIDR:
		v.networks(cidrs, d.CIDRs)
		d.validateFamilies(cidrs, v)
	case DetectBridge:
		v.word(device, d.Interface, maxInterface)
	case DetectPrefix: // the rule says "PREFIX+", of the same greatest length
		v.word(device, d.Interface, maxInterface-1)
	default:
		v.Add("LocalDetector.Kind", "%d is not known", d.Kind)
	}
}

// validateFamilies asks for one CIDR of a family at most: a rule can't say "not in this one and not in that
// one".
func (d LocalDetector) validateFamilies(field string, v *Complaints) {
	seen := map[bool]bool{}
	for i, p := range d.CIDRs {
		v.Unless(!p.IsValid() || !seen[p.Addr().Is4()], fmt.Sprintf("%s[%d]", field, i), "%v is the second one of its family", p)
		seen[p.Addr().Is4()] = true
	}
}

func (c *Complaints) networks(field string, cidrs []netip.Prefix) {
	for i, p := range cidrs {
		c.Network(fmt.Sprintf("%s[%d]", field, i), p)
	}
}

// Network complains about the field unless p is a network that addresses can be in, and reports whether it
// is.
func (c *Complaints) Network(field string, p netip.Prefix) bool {
	c.Unless(p.IsValid(), field, "not a CIDR")
	c.Unless(!p.Addr().Is4In6(), field, "%v is an IPv4 network in IPv6 form", p)
	return p.IsValid() && !p.Addr().Is4In6()
}

func (c *Complaints) address(field string, a netip.Addr) {
	good := a.IsValid() && !a.Is4In6() && a.Zone() == ""
	c.Unless(good, field, "%v is not an address without a zone", a)
}

func (c *Complaints) notNegative(field string, d time.Duration) {
	c.Unless(d >= 0, field, "%v is below 0", d)
}

// word keeps names that end up in rules and kernel messages to characters that need no quotes there.
func (c *Complaints) word(field, s string, longest int) {
	const known = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-@:"
	switch {
	case s == "":
		c.Add(field, "empty")
	case len(s) > longest:
		c.Add(field, "%q is longer than %d bytes", s, longest)
	case strings.Trim(s, known) != "" || s[0] == '-':
		c.Add(field, "%q is not a name", s)
	}
}
