// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

// Cleanup is the command line of `kube-ipvs cleanup`.
type Cleanup struct {
	ForKubeProxy bool           // keep what kube-proxy's IPVS mode uses, in the form that it can use
	Exclude      []netip.Prefix // networks in which nothing is ours
	DrainTimeout time.Duration  // how long connections may go on; 0: they end at once, or with ForKubeProxy stay
}

// Cleaned is what a Cleanup did.
type Cleaned struct {
	Changes []Change
	Left    []string // sentences about what it left, and why
}

// Change is one row that a Cleanup changed.
type Change struct {
	Verb  string // "removed", "changed", "added"
	Table string // in the plural: "virtual servers"
	Row   string
}

const cleanupLong = `Remove from the kernel of this network namespace what kube-ipvs created, or kube-proxy
in its IPVS mode, which uses the same names: virtual servers, addresses and the
device kube-ipvs0, chains and the jumps to them, sets. Rows of other programs stay: a
virtual server is ours only if our sets say so. Sysctls stay as they are. Chains of
kube-proxy's iptables mode stay while it uses them.

Rows in nftables are in a table of our own, kube-ipvs, which leaves with them.

Stop the daemon first. Connections to Services end, unless another proxy serves the
Services. With --drain-timeout they may go on for a while, and new connections go to
the other proxy.

--for-kube-proxy prepares the way back to kube-proxy's IPVS mode, before that starts:
sets get the form that it requires, and what it does not know is removed. Services
are served all the time, and no connection is lost. Connections through what it does
not know (to addresses whose traffic policy is Local, from pods and from the node
itself) are left to end. Run this again later to remove what they used. Rules of ours
in nftables serve until kube-proxy's do: run this again as soon as it is ready.

A second run finds nothing to do.`

const cleanupExample = `  kube-ipvs cleanup
  kube-ipvs cleanup --for-kube-proxy
  kube-ipvs cleanup --drain-timeout 10m     # once kube-proxy serves by iptables rules`

func newCleanup(env Env) *cobra.Command {
	var in Cleanup
	var verbose bool
	c := &cobra.Command{
		Use:     "cleanup",
		Short:   "Remove what kube-ipvs created in the kernel",
		Long:    cleanupLong,
		Example: cleanupExample,
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if in.DrainTimeout < 0 {
				return usagef("--drain-timeout: %v is negative", in.DrainTimeout)
			}
			return in.run(c.Context(), env, verbose)
		},
	}
	f := c.Flags()
	f.BoolVar(&in.ForKubeProxy, "for-kube-proxy", false, "keep what kube-proxy's IPVS mode uses, in the form that it can use")
	f.Var(networkList(&in.Exclude), "ipvs-exclude-cidrs", "networks in which nothing is removed, comma-separated")
	f.DurationVar(&in.DrainTimeout, "drain-timeout", 0, "how long connections may go on")
	f.BoolVarP(&verbose, "verbose", "v", false, "print each row")
	return c
}

// run cleans up and prints what it did, also if it failed.
func (c Cleanup) run(ctx context.Context, env Env, rows bool) error {
	done, err := env.Cleanup(ctx, c)
	return cmp.Or(err, done.print(env, rows))
}

// print prints the changed rows, or how many there are of each table.
func (d Cleaned) print(env Env, rows bool) error {
	type kind struct{ verb, table string }
	var kinds []kind
	counts := map[kind]int{}
	w := tabwriter.NewWriter(env.Stdout, 0, 0, 2, ' ', 0)
	for _, change := range d.Changes {
		k := kind{change.Verb, change.Table}
		if counts[k] == 0 {
			kinds = append(kinds, k)
		}
		counts[k]++
		if rows {
			_, _ = fmt.Fprintf(w, "%s\t%s\t%s\n", change.Verb, change.Table, change.Row) // Flush returns the error
		}
	}
	if !rows {
		for _, k := range kinds {
			_, _ = fmt.Fprintf(w, "%s\t%s\t%d\n", k.verb, k.table, counts[k])
		}
	}
	if len(d.Changes) == 0 {
		_, _ = fmt.Fprintln(w, "nothing to do")
	}
	sayAll(env, d.Left)
	return w.Flush()
}
