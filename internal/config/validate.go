// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"
)

const (
	maxScheduler = 15  // IP_VS_SCHEDNAME_MAXLEN, without the final NUL
	maxInterface = 15  // IFNAMSIZ, without the final NUL
	maxHostname  = 253 // of a name in DNS, which a Node's is

	// maxTimeout keeps IPVS' timeouts, in ticks of at least 1/1000 s, far from the limit of 32 bits.
	maxTimeout = 10 * 24 * time.Hour
)

// Validate returns all that is wrong with c as Complaints, by field.
func (c Config) Validate() error {
	var v Complaints
	c.validateNode(&v)
	c.Client.validate(&v)
	c.Serving.validate(&v)
	v.Unless(c.Snapshot.MaxBytes > 0, "Snapshot.MaxBytes", "%d is not above 0", c.Snapshot.MaxBytes)
	c.Conntrack.validate(&v)
	notNegative(&v, "Log.Verbosity", c.Log.Verbosity)
	v.word("Scheduler", c.Scheduler, maxScheduler)
	v.Unless(c.MasqueradeBit < 32, "MasqueradeBit", "%d is not in 0..31", c.MasqueradeBit)
	v.Unless(slices.Contains([]FirewallChoice{AutoFirewall, IPTablesFirewall, NFTablesFirewall}, c.FirewallChoice),
		"FirewallChoice", "%q is none of %s, %s, %s", c.FirewallChoice, AutoFirewall, NFTablesFirewall, IPTablesFirewall)
	v.Unless(c.VIPBinding == AddressBinding || c.VIPBinding == RouteBinding, "VIPBinding", "%q is none of %s, %s", c.VIPBinding, AddressBinding, RouteBinding)
	c.LocalDetector.validate(&v)
	c.validatePeriods(&v)
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
	notNegative(v, "Client.Burst", c.Burst)
	v.Unless(c.Burst != 0 || qps <= 0, "Client.Burst", "0 lets no request through, at %v a second", c.QPS)
}

func (s Serving) validate(v *Complaints) {
	v.Unless(!s.Healthz.IsValid() || s.Healthz.Port() != 0, "Serving.Healthz", "%v has no port", s.Healthz)
	v.Unless(!s.Metrics.IsValid() || s.Metrics.Port() != 0, "Serving.Metrics", "%v has no port", s.Metrics)
	notNegative(v, "Serving.Traffic", s.Traffic)
}

func (c Conntrack) validate(v *Complaints) {
	notNegative(v, "Conntrack.MaxPerCore", c.MaxPerCore)
	notNegative(v, "Conntrack.Min", c.Min)
	notNegative(v, "Conntrack.TCPEstablished", c.TCPEstablished)
	notNegative(v, "Conntrack.TCPCloseWait", c.TCPCloseWait)
	notNegative(v, "Conntrack.UDP", c.UDP)
	notNegative(v, "Conntrack.UDPStream", c.UDPStream)
}

func (c Config) validatePeriods(v *Complaints) {
	v.Unless(c.SyncPeriod > 0, "SyncPeriod", "%v is not above 0", c.SyncPeriod)
	notNegative(v, "MinSyncPeriod", c.MinSyncPeriod)
	v.Unless(c.MinSyncPeriod <= max(c.SyncPeriod, 0), "MinSyncPeriod", "%v is longer than the period of full comparisons, %v", c.MinSyncPeriod, c.SyncPeriod)
	notNegative(v, "DrainTimeout", c.DrainTimeout)
	v.timeout("TCPTimeout", c.TCPTimeout)
	v.timeout("TCPFinTimeout", c.TCPFinTimeout)
	v.timeout("UDPTimeout", c.UDPTimeout)
}

func (d LocalDetector) validate(v *Complaints) {
	const device = "LocalDetector.Interface"
	switch d.Kind {
	case DetectNone, DetectNodeCIDR:
	case DetectCIDR:
		v.networks("LocalDetector.CIDRs", d.CIDRs)
		d.validateFamilies("LocalDetector.CIDRs", v)
	case DetectBridge:
		v.word(device, d.Interface, maxInterface)
	case DetectPrefix: // the rule says "PREFIX+", of the same greatest length
		v.word(device, d.Interface, maxInterface-1)
	default:
		v.Add("LocalDetector.Kind", "%d is not known", d.Kind)
	}
}

// validateFamilies allows one CIDR of a family: a rule cannot say "not in this one and not in that one".
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

// Network adds a complaint unless p is a network that addresses can be in, and reports whether it is.
func (c *Complaints) Network(field string, p netip.Prefix) bool {
	c.Unless(p.IsValid(), field, "not a CIDR")
	c.Unless(!p.Addr().Is4In6(), field, "%v is an IPv4 network in IPv6 form", p)
	return p.IsValid() && !p.Addr().Is4In6()
}

func (c *Complaints) address(field string, a netip.Addr) {
	good := a.IsValid() && !a.Is4In6() && a.Zone() == ""
	c.Unless(good, field, "%v is not an address without a zone", a)
}

func notNegative[N int | int32 | time.Duration](c *Complaints, field string, n N) {
	c.Unless(n >= 0, field, "%v is below 0", n)
}

func (c *Complaints) timeout(field string, d time.Duration) {
	good := d >= 0 && d <= maxTimeout && d%time.Second == 0
	c.Unless(good, field, "%v is not a number of seconds from 0 to %v", d, maxTimeout)
}

// word keeps names for rules and kernel messages to characters that need no quotes there.
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

// Complaint is what is wrong with one field. Callers with another name for the field replace it.
type Complaint struct{ Field, Text string }

func (c Complaint) Error() string { return c.Field + ": " + c.Text }

// Complaints are all that is wrong.
type Complaints []Complaint

// Err returns c as an error, nil if it is empty.
func (c Complaints) Error() string {
	var texts []string
	for _, one := range c {
		texts = append(texts, one.Error())
	}
	return strings.Join(texts, "; ")
}

// Err is c as an error, nil if there is none.
func (c Complaints) Err() error {
	if len(c) == 0 {
		return nil
	}
	return c
}

// Add adds a complaint about the field.
func (c *Complaints) Add(field, format string, args ...any) {
	*c = append(*c, Complaint{field, fmt.Sprintf(format, args...)})
}

// Unless adds a complaint about the field unless it is good.
func (c *Complaints) Unless(good bool, field, format string, args ...any) {
	if !good {
		c.Add(field, format, args...)
	}
}
