// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
)

// Daemon is what `kube-ipvs run` is asked to do.
type Daemon struct {
	Manifests string // the directory that Services come from
	Hostname  string // the Node's name; empty: the host's
	Verbose   bool
	Config    config.Config
}

// newRun is the verb that starts the daemon. Its flags have kube-proxy's names
// where kube-proxy has them.
func newRun(env Env) *cobra.Command {
	d := Daemon{Config: config.Default()}
	var text runText
	c := &cobra.Command{
		Use:   "run --manifests DIR",
		Short: "Program the Services of a directory into the kernel, and keep them there",
		Long: `Programs the Services, EndpointSlices and Nodes in the YAML and JSON files of a
directory into this network namespace's kernel, and keeps the kernel so: changed
files take effect at once, and what somebody else changes in the kernel is
repaired within the sync period.

On SIGTERM it ends and leaves the kernel as it is: forwarding goes on.`,
		Example: `  kube-ipvs run --manifests /etc/kube-ipvs/manifests
  kube-ipvs run --manifests DIR --hostname-override node-1 --cluster-cidr 10.244.0.0/16,fd00:10:244::/56`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if d.Manifests == "" {
				return usagef("--manifests is missing: a directory with Services and EndpointSlices")
			}
			if err := text.parse(&d.Config); err != nil {
				return usageError{err}
			}
			return env.Run(c.Context(), d)
		},
	}
	f := c.Flags()
	f.StringVar(&d.Manifests, "manifests", "", "directory of manifests to take Services from")
	f.StringVar(&d.Hostname, "hostname-override", "", "name of this Node, if it is not the host's")
	f.BoolVarP(&d.Verbose, "verbose", "v", false, "log what is only of interest for finding faults")
	f.StringVar(&d.Config.Scheduler, "ipvs-scheduler", d.Config.Scheduler, "scheduler of virtual servers, by the kernel's name")
	f.DurationVar(&d.Config.SyncPeriod, "ipvs-sync-period", d.Config.SyncPeriod, "time between two full comparisons with the kernel")
	f.BoolVar(&d.Config.StrictARP, "ipvs-strict-arp", d.Config.StrictARP, "do not answer ARP for Service addresses")
	f.DurationVar(&d.Config.DrainTimeout, "drain-timeout", d.Config.DrainTimeout, "time after which a removed endpoint loses the connections it still has")
	f.BoolVar(&d.Config.MasqueradeAll, "masquerade-all", d.Config.MasqueradeAll, "masquerade all traffic to cluster IPs")
	f.Uint8Var(&d.Config.MasqueradeBit, "iptables-masquerade-bit", d.Config.MasqueradeBit, "bit of the packet mark that asks for masquerade")
	f.StringVar(&text.clusterCIDR, "cluster-cidr", "", "pod networks, at most one of a family, comma-separated: traffic to cluster IPs from elsewhere is masqueraded")
	f.StringVar(&text.bridge, "pod-bridge-interface", "", "in place of --cluster-cidr: the bridge that pods are behind")
	f.StringVar(&text.prefix, "pod-interface-name-prefix", "", "in place of --cluster-cidr: what the names of pod interfaces begin with")
	f.StringVar(&text.nodePorts, "nodeport-addresses", "", "networks of the node addresses that serve NodePorts, comma-separated (default all)")
	return c
}

// runText are the flags that are parsed after all are known.
type runText struct{ clusterCIDR, bridge, prefix, nodePorts string }

func (t runText) parse(c *config.Config) error {
	var err error
	if c.NodePortAddresses, err = parseCIDRs("nodeport-addresses", t.nodePorts); err != nil {
		return err
	}
	cidrs, err := parseCIDRs("cluster-cidr", t.clusterCIDR)
	if err != nil {
		return err
	}
	var chosen []config.LocalDetector
	if len(cidrs) > 0 {
		chosen = append(chosen, config.LocalDetector{Kind: config.DetectCIDR, CIDRs: cidrs})
	}
	if t.bridge != "" {
		chosen = append(chosen, config.LocalDetector{Kind: config.DetectBridge, Interface: t.bridge})
	}
	if t.prefix != "" {
		chosen = append(chosen, config.LocalDetector{Kind: config.DetectPrefix, Interface: t.prefix})
	}
	if len(chosen) > 1 {
		return fmt.Errorf("only one of --cluster-cidr, --pod-bridge-interface and --pod-interface-name-prefix can be given")
	}
	if len(chosen) == 1 {
		c.LocalDetector = chosen[0]
	}
	return c.Validate()
}

func parseCIDRs(flag, list string) ([]netip.Prefix, error) {
	var cidrs []netip.Prefix
	for _, s := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' }) {
		p, err := netip.ParsePrefix(strings.TrimSpace(s))
		if err != nil {
			return nil, fmt.Errorf("--%s: %q is not a CIDR such as 10.244.0.0/16", flag, s)
		}
		cidrs = append(cidrs, p.Masked())
	}
	return cidrs, nil
}
