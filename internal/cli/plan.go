// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/render"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

const planLong = `Show the kernel state that Services, EndpointSlices and Nodes mean for one node. Show
what is left out, and why. This needs no root, no kernel and no cluster. Give it the
flags of the daemon.

NodePorts are served at the addresses of the node's interfaces. The internal and
external addresses of the Node object are known; add others with --node-addresses.

  -o text       one row per line
  -o json       a Plan, with the notes
  -o yaml       the same
  -o save       all of the following that the node has, for reading
  -o sysctl     what sysctl -p reads
  -o ipset      what ipset restore reads
  -o iptables   what iptables-restore --noflush reads
  -o ip6tables  what ip6tables-restore --noflush reads
  -o nft        what nft list table prints, for reading
  -o ipvsadm    what ipvsadm --restore reads
  -o ip         what ip -batch reads: the device kube-ipvs0 and its addresses

Rules and sets are in one of two firewalls (--firewall). With auto, -o nft plans for
nftables, and all else for iptables: the node decides by its kernel.

Notes are printed to standard error; JSON and YAML contain them. They are no failure.
Manifests that cannot be read are one, with file and line.`

const planExample = `  kube-ipvs plan -f shop.yaml -f nodes/ --node node-1 --cluster-cidr 10.244.0.0/16
  kubectl get svc,endpointslices,nodes -A -o yaml | kube-ipvs plan -f - --node node-1
  kube-ipvs plan -f shop.yaml -o ipset | ipset restore
  diff <(kube-ipvs plan -f before.yaml) <(kube-ipvs plan -f after.yaml)`

func newPlan(env Env) *cobra.Command {
	flags := newManifestFlags()
	var output string
	c := &cobra.Command{
		Use:     "plan -f FILE",
		Short:   "Show the kernel state that manifests mean, and what is left out",
		Long:    planLong,
		Example: planExample,
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			write, err := outputNamed(planOutputs(), output)
			if err != nil {
				return err
			}
			flags.output = output
			p, err := flags.plan(env)
			if err != nil {
				return err
			}
			if output != "json" && output != "yaml" { // these contain the notes
				sayAll(env, p.notes)
			}
			return env.print(func(w io.Writer) error { return write(w, p) })
		},
	}
	flags.add(c)
	addOutput(c, &output, planOutputs())
	return c
}

// planFormat is an output format of plans.
type planFormat = format[func(io.Writer, nodePlan) error]

func planOutputs() []planFormat {
	return append([]planFormat{
		{name: "text", write: func(w io.Writer, p nodePlan) error { return render.State(w, p.state) }},
		{name: "json", write: func(w io.Writer, p nodePlan) error { return p.report().JSON(w) }},
		{name: "yaml", write: func(w io.Writer, p nodePlan) error { return p.report().YAML(w) }},
		{name: "save", write: saveAll},
	}, restorable()...)
}

// restorable returns the formats of standard tools, in the order of their dependencies.
func restorable() []planFormat {
	rules := func(f state.Family) func(io.Writer, nodePlan) error {
		return func(w io.Writer, p nodePlan) error { return render.Rules(w, p.state, f) }
	}
	return []planFormat{
		{name: "sysctl", write: func(w io.Writer, p nodePlan) error { return render.Sysctls(w, p.state) }},
		{name: "ipset", write: func(w io.Writer, p nodePlan) error { return render.Sets(w, p.state) }},
		{name: "iptables", write: rules(state.IPv4)},
		{name: "ip6tables", write: rules(state.IPv6)},
		{name: nftOutput, write: func(w io.Writer, p nodePlan) error { return render.NFT(w, p.state) }},
		{name: "ipvsadm", write: saveServers},
		{name: "ip", write: func(w io.Writer, p nodePlan) error { return render.Links(w, p.state) }},
	}
}

func saveServers(w io.Writer, p nodePlan) error {
	return errors.Join(render.Timeouts(w, p.state), render.Save(w, render.Join(p.state, render.Observed{}, plan.ServerEntries)))
}

// saveAll writes all sections of the node's firewall below their names, which are comments to most of the tools, but not
// to ipvsadm.
func saveAll(w io.Writer, p nodePlan) error {
	var failed error
	for _, f := range restorable() {
		if firewall, only := shownBy(f.name); only && firewall != p.firewall {
			continue
		}
		_, err := fmt.Fprintf(w, "# -o %s\n", f.name)
		failed = errors.Join(failed, err, f.write(w, p))
	}
	return failed
}

func (p nodePlan) report() render.Plan {
	r := render.PlanOf(p.state, plan.ServerEntries)
	r.Node = p.node.Name
	r.Notes = append(r.Notes, p.notes...)
	return r
}
