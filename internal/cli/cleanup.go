// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"net/netip"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

// Cleanup is what `kube-ipvs cleanup` is asked to do.
type Cleanup struct {
	// ForKubeProxy is to keep what kube-proxy's IPVS mode uses, in the form that
	// it can use.
	ForKubeProxy bool

	// Exclude are networks in which nothing is ours.
	Exclude []netip.Prefix

	// DrainTimeout is how long connections may go on. 0: they end at once, or for
	// ForKubeProxy are left as they are.
	DrainTimeout time.Duration
}

// Cleaned is what a cleanup did.
type Cleaned struct {
	Changes []Change
	Left    []string // what it left, and why, in sentences
}

// Change is a row that a cleanup changed.
type Change struct {
	Verb  string // "removed", "changed", "added"
	Table string // in the plural: "virtual servers"
	Row   string
}

const cleanupLong = `Removes what kube-ipvs made in this network namespace's kernel, or kube-proxy in
its IPVS mode, which has the same names: virtual servers, addresses and the device
kube-ipvs0, chains and the jumps to them, sets. What others made stays: a virtual
server is ours only if our sets say so. Sysctls stay as they are. Where kube-proxy's
iptables mode is at work, its chains stay.

The daemon must not run. Services that nobody else serves end with their
connections; with --drain-timeout these may go on for a while, and new ones go
where others send them.

--for-kube-proxy is the step back to kube-proxy's IPVS mode, before it starts: sets
get the form that it insists on, and what it does not know goes. Services are
served all along, and no connection is lost. Connections through what it does not
know (to addresses whose traffic policy is Local, from pods and the node itself)
are left to end by themselves; call it again later to remove what they used.

A second call finds nothing to do.`

const cleanupExample = `  kube-ipvs cleanup
  kube-ipvs cleanup --for-kube-proxy
  kube-ipvs cleanup --drain-timeout 10m     # once kube-proxy serves by iptables rules`

// newCleanup is the verb that removes what the daemon made.
func newCleanup(env Env) *cobra.Command {
	var in Cleanup
	var verbose bool
	c := &cobra.Command{
		Use:     "cleanup",
		Short:   "Remove what kube-ipvs made in the kernel",
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
	f.BoolVar(&in.ForKubeProxy, "for-kube-proxy", false, "keep what kube-proxy's IPVS mode uses, in its form")
	f.Var((*networks)(&in.Exclude), "ipvs-exclude-cidrs", "networks in which nothing is removed, comma-separated")
	f.DurationVar(&in.DrainTimeout, "drain-timeout", 0, "time for connections to end")
	f.BoolVarP(&verbose, "verbose", "v", false, "name each row")
	return c
}

// run cleans up and says what it did, row by row or in numbers.
func (c Cleanup) run(ctx context.Context, env Env, rows bool) error {
	done, err := env.Cleanup(ctx, c)
	if written := done.write(env, rows); err == nil {
		err = written
	}
	return err
}

// write says what was done: how many rows of each table, or which.
func (d Cleaned) write(env Env, rows bool) error {
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
			_, _ = fmt.Fprintf(w, "%s\t%s\t%s\n", change.Verb, change.Table, change.Row) // Flush tells
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
	for _, left := range d.Left {
		say(env, "%s", left)
	}
	return w.Flush()
}

type networks []netip.Prefix

func (*networks) Type() string     { return "CIDRs" }
func (l *networks) String() string { return joined(*l) }

func (l *networks) Set(text string) error {
	return each(text, func(word string) error {
		p, err := netip.ParsePrefix(word)
		if err != nil {
			return fmt.Errorf("%q is not a CIDR such as 10.96.0.0/16", word)
		}
		*l = append(*l, p.Masked())
		return nil
	})
}
