// SPDX-License-Identifier: Apache-2.0

package proxyconfig

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Config returns the configuration of the pair, and warnings. Its error is config.Complaints with field paths.
func (p Pair) Config() (config.Config, []string, error) {
	x := conversion{Pair: p, to: config.Default()}
	x.mode()
	x.node()
	x.client()
	x.serving()
	x.conntrack()
	x.masquerade()
	x.localDetector()
	x.nodePorts()
	x.ipvs()
	x.own()
	x.check()
	return x.to, x.advice(), x.found.Err()
}

// conversion is a pair that becomes a Config.
type conversion struct {
	Pair
	to    config.Config
	found config.Complaints
}

// mode accepts only ipvs. The author of another one chose it, so we do not replace it silently. A flag overrides the
// file, for a node that shares its file with nodes on which kube-proxy still runs in that mode.
func (x *conversion) mode() {
	m := x.Proxy.Mode
	x.found.Unless(m == "" || m == modeIPVS, "mode",
		"%q is not what kube-ipvs does: set it to %s, or start with --proxy-mode=%[2]s to overrule the file", m, modeIPVS)
	if on, set := x.Proxy.FeatureGates[gateExternalIPs]; set {
		x.to.IgnoreExternalIPs = !on
	}
}

func (x *conversion) node() {
	name := x.Proxy.HostnameOverride
	x.to.Hostname = strings.ToLower(strings.TrimSpace(name))
	x.found.Unless(name == "" || x.to.Hostname != "", "hostnameOverride", "%q is blank", name)
	if a := x.address("bindAddress", x.Proxy.BindAddress); !a.IsUnspecified() {
		x.to.BindAddress = a
	}
	x.to.OOMScoreAdj = int(*x.Proxy.OOMScoreAdj)
}

func (x *conversion) client() {
	c := x.Proxy.ClientConnection
	x.to.Client = config.Client{
		Kubeconfig:         c.Kubeconfig,
		Master:             x.Own.Master,
		AcceptContentTypes: c.AcceptContentTypes,
		ContentType:        c.ContentType,
		QPS:                c.QPS,
		Burst:              int(c.Burst),
	}
	for i, text := range x.Own.APIServerAddresses {
		x.to.APIServers = append(x.to.APIServers, x.address(at("apiServerAddresses", i), text))
	}
	for i, text := range x.Own.APIServers {
		server := x.addressPort(at("apiServers", i), text)
		x.to.Client.Servers = append(x.to.Client.Servers, server)
		if server.IsValid() && !slices.Contains(x.to.APIServers, server.Addr()) {
			x.to.APIServers = append(x.to.APIServers, server.Addr())
		}
	}
}

func (x *conversion) serving() {
	x.to.Serving = config.Serving{
		Healthz:   x.listener("healthzBindAddress", x.Proxy.HealthzBindAddress),
		Metrics:   x.listener("metricsBindAddress", x.Proxy.MetricsBindAddress),
		HardFail:  x.Proxy.BindAddressHardFail,
		Profiling: x.Proxy.EnableProfiling,
		Traffic:   int(x.Own.TrafficMetricsServices),
	}
	l := x.Proxy.Logging
	x.to.Log = config.Log{Verbosity: int(l.Verbosity), JSON: l.Format == "json"}
	x.found.Unless(x.to.Log.JSON || l.Format == "text", "logging.format", "%q is none of json, text", l.Format)
}

// listener returns where to serve: nowhere if the port is 0, as kube-proxy's flags for ports say it.
func (x *conversion) listener(path, text string) netip.AddrPort {
	if a := x.addressPort(path, text); a.Port() != 0 {
		return a
	}
	return netip.AddrPort{}
}

func (x *conversion) conntrack() {
	c := x.Proxy.Conntrack
	x.to.Conntrack = config.Conntrack{
		MaxPerCore:     *c.MaxPerCore,
		Min:            *c.Min,
		TCPEstablished: c.TCPEstablishedTimeout.Duration,
		TCPCloseWait:   c.TCPCloseWaitTimeout.Duration,
		TCPBeLiberal:   c.TCPBeLiberal,
		UDP:            c.UDPTimeout.Duration,
		UDPStream:      c.UDPStreamTimeout.Duration,
	}
}

func (x *conversion) masquerade() {
	t := x.Proxy.IPTables
	x.to.MasqueradeAll = t.MasqueradeAll
	if bit := *t.MasqueradeBit; bit >= 0 && bit < 32 {
		x.to.MasqueradeBit = uint8(bit)
	} else {
		x.found.Add("iptables.masqueradeBit", "%d is not in 0..31", bit)
	}
}

func (x *conversion) localDetector() {
	x.to.PodCIDRs = x.networks("clusterCIDR", words(x.Proxy.ClusterCIDR))
	d, detect := &x.to.LocalDetector, x.Proxy.DetectLocal
	switch x.Proxy.DetectLocalMode {
	case localByCluster:
		if d.CIDRs = x.to.PodCIDRs; len(d.CIDRs) > 0 {
			d.Kind = config.DetectCIDR
		}
	case localByNode:
		d.Kind = config.DetectNodeCIDR
	case localByBridge:
		d.Kind, d.Interface = config.DetectBridge, detect.BridgeInterface
	case localByPrefix:
		d.Kind, d.Interface = config.DetectPrefix, detect.InterfaceNamePrefix
	default:
		x.found.Add("detectLocalMode", "%q is none of %s", x.Proxy.DetectLocalMode,
			strings.Join([]string{localByCluster, localByNode, localByBridge, localByPrefix}, ", "))
	}
}

func (x *conversion) ipvs() {
	i := x.Proxy.IPVS
	x.to.Scheduler = cmp.Or(i.Scheduler, x.to.Scheduler)
	x.to.ExcludeCIDRs = x.networks("ipvs.excludeCIDRs", i.ExcludeCIDRs)
	x.to.StrictARP = i.StrictARP
	x.to.SyncPeriod, x.to.MinSyncPeriod = i.SyncPeriod.Duration, i.MinSyncPeriod.Duration
	x.to.TCPTimeout = cmp.Or(i.TCPTimeout.Duration, x.Own.IdleTCPTimeout.Duration)
	x.to.TCPFinTimeout, x.to.UDPTimeout = i.TCPFinTimeout.Duration, i.UDPTimeout.Duration
}

func (x *conversion) own() {
	o := x.Own
	x.to.ServiceCIDRs = x.networks("serviceCIDRs", o.ServiceCIDRs)
	x.to.ExternalIPCIDRs = x.networks("externalIPCIDRs", o.ExternalIPCIDRs)
	x.to.RemoteHairpins = o.RemoteHairpins
	x.to.AnswerPing = o.AnswerPing
	x.to.VIPBinding = config.VIPBinding(o.VIPBinding)
	x.to.FirewallChoice = config.FirewallChoice(o.Firewall)
	if x.to.FirewallChoice == config.NFTablesFirewall { // auto is decided on the node
		x.to.Firewall = state.OnNFTables
	}
	x.to.DrainTimeout = o.DrainTimeout.Duration
	x.to.Snapshot = config.Snapshot{File: o.Snapshot.File, MaxBytes: o.Snapshot.MaxBytes}
}

// check adds the complaints of Validate, except about fields that have one already.
func (x *conversion) check() {
	var more config.Complaints
	if !errors.As(x.to.Validate(), &more) {
		return
	}
	paths := x.paths()
	known := slices.Clone(x.found)
	for _, c := range more {
		field, _, _ := strings.Cut(c.Field, "[")
		c.Field = paths[field] + strings.TrimPrefix(c.Field, field)
		if !slices.ContainsFunc(known, func(k config.Complaint) bool { return k.Field == c.Field }) {
			x.found = append(x.found, c)
		}
	}
}

func at(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }

// paths maps the fields that package config complains about to their paths in the documents.
func (x *conversion) paths() map[string]string {
	device := "detectLocal.bridgeInterface"
	if x.to.LocalDetector.Kind == config.DetectPrefix {
		device = "detectLocal.interfaceNamePrefix"
	}
	tcpTimeout := "ipvs.tcpTimeout"
	if x.Proxy.IPVS.TCPTimeout.Duration == 0 {
		tcpTimeout = "idleTCPTimeout"
	}
	return map[string]string{
		"APIServers":               "apiServerAddresses",
		"BindAddress":              "bindAddress",
		"Client.Burst":             "clientConnection.burst",
		"Client.QPS":               "clientConnection.qps",
		"Client.Servers":           "apiServers",
		"Conntrack.MaxPerCore":     "conntrack.maxPerCore",
		"Conntrack.Min":            "conntrack.min",
		"Conntrack.TCPCloseWait":   "conntrack.tcpCloseWaitTimeout",
		"Conntrack.TCPEstablished": "conntrack.tcpEstablishedTimeout",
		"Conntrack.UDP":            "conntrack.udpTimeout",
		"Conntrack.UDPStream":      "conntrack.udpStreamTimeout",
		"DrainTimeout":             "drainTimeout",
		"ExcludeCIDRs":             "ipvs.excludeCIDRs",
		"ExternalIPCIDRs":          "externalIPCIDRs",
		"FirewallChoice":           "firewall",
		"Hostname":                 "hostnameOverride",
		"LocalDetector.CIDRs":      "clusterCIDR",
		"LocalDetector.Interface":  device,
		"Log.Verbosity":            "logging.verbosity",
		"MinSyncPeriod":            "ipvs.minSyncPeriod",
		"NodePortAddresses":        "nodePortAddresses",
		"NodePortRange":            "nodePortRange",
		"OOMScoreAdj":              "oomScoreAdj",
		"Scheduler":                "ipvs.scheduler",
		"ServiceCIDRs":             "serviceCIDRs",
		"Serving.Healthz":          "healthzBindAddress",
		"Serving.Metrics":          "metricsBindAddress",
		"Serving.Traffic":          "trafficMetricsServices",
		"Snapshot.MaxBytes":        "snapshot.maxBytes",
		"SyncPeriod":               "ipvs.syncPeriod",
		"TCPFinTimeout":            "ipvs.tcpFinTimeout",
		"TCPTimeout":               tcpTimeout,
		"VIPBinding":               "vipBinding",
		"UDPTimeout":               "ipvs.udpTimeout",
	}
}

// The words that nodePortAddresses may have besides networks.
const (
	primary   = "primary"   // the addresses of the Node object
	localhost = "localhost" // the loopback addresses
	all       = "all"       // all addresses
)

func (x *conversion) nodePorts() {
	x.to.LocalhostNodePorts = x.Own.LocalhostNodePorts
	x.nodePortAddresses(x.Proxy.NodePortAddresses)
	var err error
	if x.to.NodePortRange, err = config.ParsePortRange(x.Own.NodePortRange); err != nil {
		x.found.Add("nodePortRange", "%v", err)
	}
	x.to.NodePortSourceRanges = x.Own.NodePortSourceRanges
}

// nodePortAddresses reads networks and words. The word localhost requests NodePorts at the loopback addresses. A
// loopback network in numbers does not: operators use it in kube-proxy's ipvs mode to have NodePorts nowhere.
func (x *conversion) nodePortAddresses(list []string) {
	for i, text := range list {
		path := at("nodePortAddresses", i)
		var networks []netip.Prefix
		word := true
		switch text {
		case primary:
			x.to.NodePortPrimary = true
		case localhost:
			x.to.LocalhostNodePorts = true
			networks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
		case all:
			networks = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
		default:
			networks, word = x.nodePortNetwork(path, text), false
		}
		x.found.Unless(!word || !slices.Contains(list[:i], text), path, "%s is there already", text)
		x.to.NodePortAddresses = append(x.to.NodePortAddresses, networks...)
	}
}

// nodePortNetwork returns the network of text, or none. It complains itself: a Config has other indexes.
func (x *conversion) nodePortNetwork(path, text string) []netip.Prefix {
	p, ok := network(text)
	x.found.Unless(ok, path, "%q is neither a CIDR such as 10.244.0.0/16 nor one of %s", text, strings.Join([]string{primary, localhost, all}, ", "))
	if !ok || !x.found.Network(path, p) {
		return nil
	}
	return []netip.Prefix{p}
}

// advice warns, as kube-proxy does, of NodePorts that may be served where no one expects them.
func (x *conversion) advice() []string {
	c := x.to
	if c.NodePortPrimary {
		return nil
	}
	if len(c.NodePortAddresses) == 0 {
		return []string{"nodePortAddresses: none, so NodePorts are served at all addresses of the node; consider " + primary + ", for those of the Node object"}
	}
	var warnings []string
	used := slices.Concat(c.LocalDetector.CIDRs, c.ExcludeCIDRs, c.ServiceCIDRs)
	for _, f := range c.Families {
		isOf := func(p netip.Prefix) bool { return p.Addr().BitLen() == f.Bits() }
		if slices.ContainsFunc(used, isOf) && !slices.ContainsFunc(c.NodePortAddresses, isOf) {
			warnings = append(warnings, fmt.Sprintf("nodePortAddresses: none is of %v, which the cluster has: NodePorts are served at all %[1]v addresses of the node", f))
		}
	}
	return warnings
}

// Meaningless returns the paths of settings that differ from the default and have no effect here: those of other modes
// and systems, and of features that we lack.
func (p Pair) Meaningless() []string {
	var paths []string
	x, d := p.Proxy, Default().Proxy
	for _, gate := range slices.Sorted(maps.Keys(x.FeatureGates)) {
		if gate != gateExternalIPs {
			paths = append(paths, "featureGates."+gate)
		}
	}
	local := x.DetectLocalMode
	for _, f := range []struct {
		path string
		set  bool
	}{
		{"configSyncPeriod", x.ConfigSyncPeriod != d.ConfigSyncPeriod},
		{"detectLocal.bridgeInterface", x.DetectLocal.BridgeInterface != "" && local != localByBridge},
		{"detectLocal.interfaceNamePrefix", x.DetectLocal.InterfaceNamePrefix != "" && local != localByPrefix},
		{"iptables.localhostNodePorts", *x.IPTables.LocalhostNodePorts != *d.IPTables.LocalhostNodePorts},
		{"iptables.minSyncPeriod", x.IPTables.MinSyncPeriod != d.IPTables.MinSyncPeriod},
		{"iptables.syncPeriod", x.IPTables.SyncPeriod != d.IPTables.SyncPeriod},
		{"logging.flushFrequency", x.Logging.FlushFrequency.Duration != d.Logging.FlushFrequency.Duration},
		{"logging.options.json.infoBufferSize", !x.Logging.Options.JSON.InfoBufferSize.IsZero()},
		{"logging.options.json.splitStream", x.Logging.Options.JSON.SplitStream},
		{"logging.options.text.infoBufferSize", !x.Logging.Options.Text.InfoBufferSize.IsZero()},
		{"logging.options.text.splitStream", x.Logging.Options.Text.SplitStream},
		{"logging.vmodule", len(x.Logging.VModule) > 0},
		{"nftables.masqueradeAll", x.NFTables.MasqueradeAll},
		{"nftables.masqueradeBit", *x.NFTables.MasqueradeBit != *d.NFTables.MasqueradeBit},
		{"nftables.minSyncPeriod", x.NFTables.MinSyncPeriod != d.NFTables.MinSyncPeriod},
		{"nftables.syncPeriod", x.NFTables.SyncPeriod != d.NFTables.SyncPeriod},
		{"portRange", x.PortRange != ""},
		{"showHiddenMetricsForVersion", x.ShowHiddenMetricsForVersion != ""},
		{"windowsRunAsService", x.WindowsRunAsService},
		{"winkernel.enableDSR", x.Winkernel.EnableDSR},
		{"winkernel.forwardHealthCheckVip", x.Winkernel.ForwardHealthCheckVip},
		{"winkernel.networkName", x.Winkernel.NetworkName != ""},
		{"winkernel.rootHnsEndpointName", x.Winkernel.RootHnsEndpointName != ""},
		{"winkernel.sourceVip", x.Winkernel.SourceVip != ""},
	} {
		if f.set {
			paths = append(paths, f.path)
		}
	}
	return paths
}

// Ignored returns one warning about all settings without effect; empty if there are none.
func Ignored(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return "without effect in kube-ipvs: " + strings.Join(names, ", ")
}
