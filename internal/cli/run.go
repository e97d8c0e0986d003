// SPDX-License-Identifier: Apache-2.0

package cli

import (
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

// newRun is the verb that starts the daemon.
func newRun(env Env) *cobra.Command {
	var d Daemon
	flags := newConfigFlags()
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
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if d.Manifests == "" {
				return usagef("--manifests is missing: a directory with Services and EndpointSlices")
			}
			if d.Config, err = flags.parse(); err != nil {
				return err
			}
			return env.Run(c.Context(), d)
		},
	}
	f := c.Flags()
	f.StringVar(&d.Manifests, "manifests", "", "directory of manifests to take Services from")
	f.StringVar(&d.Hostname, "hostname-override", "", "name of this Node, if it is not the host's")
	f.BoolVarP(&d.Verbose, "verbose", "v", false, "log what is only of interest for finding faults")
	flags.addPlanning(c)
	flags.addDaemon(c)
	return c
}
