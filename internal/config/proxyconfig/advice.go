// SPDX-License-Identifier: Apache-2.0

package proxyconfig

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// advice is what kube-proxy warns of too: that NodePorts may be served where nobody expects them.
func (x *conversion) advice() []string {
	c := x.to
	if c.NodePortPrimary {
		return nil
	}
	if len(c.NodePortAddresses) == 0 {
		return []string{"nodePortAddresses: none, so NodePorts are served at all addresses of the node; consider " + primary + ", for those of the Node object"}
	}
	var told []string
	seen := slices.Concat(c.LocalDetector.CIDRs, c.ExcludeCIDRs, c.ServiceCIDRs)
	for _, f := range []struct {
		name string
		is   func(netip.Prefix) bool
	}{{"IPv4", is4}, {"IPv6", func(p netip.Prefix) bool { return !is4(p) }}} {
		if slices.ContainsFunc(seen, f.is) && !slices.ContainsFunc(c.NodePortAddresses, f.is) {
			told = append(told, fmt.Sprintf("nodePortAddresses: none is of %s, which the cluster has: NodePorts are served at all %[1]s addresses of the node", f.name))
		}
	}
	return told
}

func is4(p netip.Prefix) bool { return p.Addr().Is4() }

// Meaningless are the paths of what was set to something other than its default and has no effect here: what
// is another mode's or another system's, and what belongs to machinery that we don't have.
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

// Ignored is the one warning about all that has no effect; empty if nothing has none.
func Ignored(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return "without effect in kube-ipvs: " + strings.Join(names, ", ")
}
