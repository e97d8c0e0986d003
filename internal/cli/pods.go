// SPDX-License-Identifier: Apache-2.0

package cli

import "github.com/spf13/cobra"

// The commands of this file are hidden: the manifests use them, as the image has no other programs.

func newPause() *cobra.Command {
	return &cobra.Command{
		Use:     "pause",
		Short:   "Do nothing until a signal comes",
		Long:    "Do nothing until a signal comes: for pods whose work an init container did.",
		Example: "  kube-ipvs pause",
		Args:    noArgs,
		Hidden:  true,
		RunE: func(c *cobra.Command, _ []string) error {
			<-c.Context().Done()
			return nil
		},
	}
}

func newLoadModules(env Env) *cobra.Command {
	return &cobra.Command{
		Use:   "load-modules",
		Short: "Load the kernel's IPVS",
		Long: `Load the kernel module of IPVS unless it is there: for init containers, so that
the daemon needs no CAP_SYS_MODULE.`,
		Example: "  kube-ipvs load-modules",
		Args:    noArgs,
		Hidden:  true,
		RunE:    func(*cobra.Command, []string) error { return env.LoadModules() },
	}
}
