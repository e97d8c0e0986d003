// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
)

// configFlags are the flags that make up a configuration, with kube-proxy's
// names where kube-proxy has them. Commands that compute what the daemon would
// do have them too.
type configFlags struct {
	config         config.Config
	nodePorts      nodePortAddresses
	clusterCIDR    cidrs
	bridge, prefix string
}

func newConfigFlags() *configFlags { return &configFlags{config: config.Default()} }

// addPlanning adds the flags on which it depends what a Service means.
func (x *configFlags) addPlanning(command *cobra.Command) {
	c, f := &x.config, command.Flags()
	f.StringVar(&c.Scheduler, "ipvs-scheduler", c.Scheduler, "scheduler of virtual servers, by the kernel's name")
	f.Var((*cidrs)(&c.ExcludeCIDRs), "ipvs-exclude-cidrs", "networks in which nothing is made, changed or removed, comma-separated")
	f.BoolVar(&c.StrictARP, "ipvs-strict-arp", c.StrictARP, "do not answer ARP for Service addresses")
	f.DurationVar(&c.TCPTimeout, "ipvs-tcp-timeout", c.TCPTimeout, "time for which IPVS keeps an idle TCP connection; 0: as the kernel has it")
	f.DurationVar(&c.TCPFinTimeout, "ipvs-tcpfin-timeout", c.TCPFinTimeout, "the same after a FIN")
	f.DurationVar(&c.UDPTimeout, "ipvs-udp-timeout", c.UDPTimeout, "the same for UDP")
	f.BoolVar(&c.MasqueradeAll, "masquerade-all", c.MasqueradeAll, "masquerade all traffic to cluster IPs")
	f.Uint8Var(&c.MasqueradeBit, "iptables-masquerade-bit", c.MasqueradeBit, "bit of the packet mark that asks for masquerade")
	f.Var(&x.clusterCIDR, "cluster-cidr", "pod networks, at most one of a family, comma-separated: traffic to cluster IPs from elsewhere is masqueraded")
	f.StringVar(&x.bridge, "pod-bridge-interface", "", "in place of --cluster-cidr: the bridge that pods are behind")
	f.StringVar(&x.prefix, "pod-interface-name-prefix", "", "in place of --cluster-cidr: what the names of pod interfaces begin with")
	f.Var(&x.nodePorts, "nodeport-addresses", "networks of the node addresses that serve NodePorts, comma-separated, or primary: those of the Node object (default all)")
	f.BoolVar(&c.LocalhostNodePorts, "localhost-nodeports", c.LocalhostNodePorts, "serve NodePorts at the loopback addresses too")
	f.BoolVar(&c.NodePortSourceRanges, "nodeport-source-ranges", c.NodePortSourceRanges, "guard NodePorts too by spec.loadBalancerSourceRanges")
	f.Var((*portRange)(&c.NodePortRange), "service-node-port-range", "the API server's range of NodePorts, from which masquerade takes no source ports; 0-0: none")
	f.Var((*cidrs)(&c.ServiceCIDRs), "service-cidrs", "networks of cluster IPs, comma-separated: what is sent there to no Service is dropped")
	f.Var((*addresses)(&c.APIServers), "api-server-addresses", "addresses of the API server, comma-separated, of which no Service may take one")
	f.BoolVar(&c.RemoteHairpins, "remote-hairpins", c.RemoteHairpins, "masquerade pods of other nodes that reach themselves through this one")
	f.BoolVar(&c.AnswerPing, "answer-ping", c.AnswerPing, "answer ICMP echo requests to Service addresses")
}

// addDaemon adds the flags that matter only to who keeps the kernel as planned.
func (x *configFlags) addDaemon(command *cobra.Command) {
	c, f := &x.config, command.Flags()
	f.DurationVar(&c.SyncPeriod, "ipvs-sync-period", c.SyncPeriod, "time between two full comparisons with the kernel")
	f.DurationVar(&c.DrainTimeout, "drain-timeout", c.DrainTimeout, "time after which a removed endpoint loses the connections it still has")
}

// parse is what the flags say, checked.
func (x *configFlags) parse() (config.Config, error) {
	c := x.config
	c.NodePortAddresses, c.NodePortPrimary = x.nodePorts.networks, x.nodePorts.primary
	var chosen []config.LocalDetector
	if len(x.clusterCIDR) > 0 {
		chosen = append(chosen, config.LocalDetector{Kind: config.DetectCIDR, CIDRs: x.clusterCIDR})
	}
	if x.bridge != "" {
		chosen = append(chosen, config.LocalDetector{Kind: config.DetectBridge, Interface: x.bridge})
	}
	if x.prefix != "" {
		chosen = append(chosen, config.LocalDetector{Kind: config.DetectPrefix, Interface: x.prefix})
	}
	switch len(chosen) {
	case 0:
	case 1:
		c.LocalDetector = chosen[0]
	default:
		return c, usagef("only one of --cluster-cidr, --pod-bridge-interface and --pod-interface-name-prefix can be given")
	}
	if err := c.Validate(); err != nil {
		return c, usageError{inFlags(err, c.LocalDetector.Kind)}
	}
	return c, nil
}

// flagOf is the flag for each field that package config complains about.
func flagOf(detector config.DetectorKind) map[string]string {
	detectorFlag := "pod-bridge-interface"
	if detector == config.DetectPrefix {
		detectorFlag = "pod-interface-name-prefix"
	}
	return map[string]string{
		"APIServers":              "api-server-addresses",
		"DrainTimeout":            "drain-timeout",
		"ExcludeCIDRs":            "ipvs-exclude-cidrs",
		"LocalDetector.CIDRs":     "cluster-cidr",
		"LocalDetector.Interface": detectorFlag,
		"MasqueradeBit":           "iptables-masquerade-bit",
		"NodePortAddresses":       "nodeport-addresses",
		"NodePortRange":           "service-node-port-range",
		"Scheduler":               "ipvs-scheduler",
		"ServiceCIDRs":            "service-cidrs",
		"SyncPeriod":              "ipvs-sync-period",
		"TCPFinTimeout":           "ipvs-tcpfin-timeout",
		"TCPTimeout":              "ipvs-tcp-timeout",
		"UDPTimeout":              "ipvs-udp-timeout",
	}
}

// inFlags is what config.Validate said, a line a field, in terms of flags.
func inFlags(err error, detector config.DetectorKind) error {
	var complaints []string
	for line := range strings.Lines(err.Error()) {
		path, complaint, _ := strings.Cut(strings.TrimSpace(line), ": ")
		field, _, _ := strings.Cut(path, "[")
		if flag, ok := flagOf(detector)[field]; ok {
			path = "--" + flag
		}
		complaints = append(complaints, fmt.Sprintf("%s: %s", path, complaint))
	}
	return errors.New(strings.Join(complaints, "; "))
}
