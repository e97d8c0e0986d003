// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/render"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

const planLong = `Show the kernel state that Services, EndpointSlices and Nodes mean for one node,
and what of them is left out and why. It takes no root, no kernel and no cluster,
but the flags by which the daemon runs there.

Where NodePorts are served depends on the addresses of the node's interfaces.
Known are the internal and external ones of its Node object; --node-addresses
tells of others.

  -o text       a row a line
  -o json       a Plan, with the notes
  -o yaml       the same
  -o save       all of the following, for the eye
  -o sysctl     what sysctl -p reads
  -o ipset      what ipset restore reads
  -o iptables   what iptables-restore --noflush reads
  -o ip6tables  what ip6tables-restore --noflush reads
  -o ipvsadm    what ipvsadm --restore reads
  -o ip         what ip -batch reads: the device kube-ipvs0 and its addresses

Notes go to standard error, but in JSON and YAML. They are no failure; what
can't be read is one, and is named by file and line.`

const planExample = `  kube-ipvs plan -f shop.yaml -f nodes/ --node node-1 --cluster-cidr 10.244.0.0/16
  kubectl get svc,endpointslices,nodes -A -o yaml | kube-ipvs plan -f - --node node-1
  kube-ipvs plan -f shop.yaml -o ipset | ipset restore
  diff <(kube-ipvs plan -f before.yaml) <(kube-ipvs plan -f after.yaml)`

func newPlan(env Env) *cobra.Command {
	flags := newManifestFlags()
	var output string
	c := &cobra.Command{
		Use:     "plan -f FILE",
		Short:   "Show the kernel state that manifests mean, and what of them is left out",
		Long:    planLong,
		Example: planExample,
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			o, err := outputNamed(planOutputs(), output)
			if err != nil {
				return usageError{err}
			}
			w, err := flags.wish(env)
			if err != nil {
				return err
			}
			return showPlan(env, w, o)
		},
	}
	flags.add(c)
	addOutput(c, &output, planOutputs())
	return c
}

// planOutput is a form of the output.
type planOutput struct {
	name  string
	notes bool // it has them itself
	write func(io.Writer, wish) error
}

func (o planOutput) String() string { return o.name }

func planOutputs() []planOutput {
	return append([]planOutput{
		{name: "text", write: func(w io.Writer, x wish) error { return render.State(w, x.state) }},
		{name: "json", notes: true, write: func(w io.Writer, x wish) error { return x.plan().JSON(w) }},
		{name: "yaml", notes: true, write: func(w io.Writer, x wish) error { return x.plan().YAML(w) }},
		{name: "save", write: saveAll},
	}, restorable()...)
}

// restorable are the forms that standard tools read, in the order in which one
// needs the other.
func restorable() []planOutput {
	rules := func(f state.Family) func(io.Writer, wish) error {
		return func(w io.Writer, x wish) error { return render.Rules(w, x.state, f) }
	}
	return []planOutput{
		{name: "sysctl", write: func(w io.Writer, x wish) error { return render.Sysctls(w, x.state) }},
		{name: "ipset", write: func(w io.Writer, x wish) error { return render.Sets(w, x.state) }},
		{name: "iptables", write: rules(state.IPv4)},
		{name: "ip6tables", write: rules(state.IPv6)},
		{name: "ipvsadm", write: saveServers},
		{name: "ip", write: func(w io.Writer, x wish) error { return render.Links(w, x.state) }},
	}
}

func saveServers(w io.Writer, x wish) error {
	if err := render.Timeouts(w, x.state); err != nil {
		return err
	}
	return render.Save(w, render.Join(x.state, render.Observed{}, plan.ServerEntries))
}

// saveAll writes the sections with their names above them, as comments: most of
// the tools skip these, but not ipvsadm.
func saveAll(w io.Writer, x wish) error {
	for _, o := range restorable() {
		if _, err := fmt.Fprintf(w, "# -o %s\n", o.name); err != nil {
			return err
		}
		if err := o.write(w, x); err != nil {
			return err
		}
	}
	return nil
}

func (x wish) plan() render.Plan {
	p := render.PlanOf(x.state, plan.ServerEntries)
	p.Node = x.node.Name
	p.Notes = append(p.Notes, x.notes...)
	return p
}

func showPlan(env Env, x wish, o planOutput) error {
	var b bytes.Buffer
	if err := o.write(&b, x); err != nil {
		return err
	}
	if !o.notes {
		for _, n := range x.notes {
			say(env, "%v", n)
		}
	}
	_, err := env.Stdout.Write(b.Bytes())
	return err
}
