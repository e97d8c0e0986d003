// SPDX-License-Identifier: Apache-2.0

package proxyconfig

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

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

// Meaningless returns the paths of settings that differ from the default and have no effect here: those of
// other modes and systems, and of features that we lack.
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
