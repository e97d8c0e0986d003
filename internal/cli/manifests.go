// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
	"github.com/kube-ipvs/kube-ipvs/internal/cluster/file"
	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/desired"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/render"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// nodePlan is the desired state that manifests mean for one node.
type nodePlan struct {
	node     plan.Node
	firewall state.Firewall
	state    state.State
	notes    []render.PlanNote
}

// manifestFlags are the flags of commands that plan objects from files, with the daemon's configuration.
type manifestFlags struct {
	files     []string
	node      string
	addresses []netip.Addr
	config    *configFlags
	output    string // the format that the plan is for
}

func newManifestFlags() *manifestFlags { return &manifestFlags{config: newConfigFlags()} }

func (m *manifestFlags) add(command *cobra.Command) {
	f := command.Flags()
	f.StringArrayVarP(&m.files, "filename", "f", nil, "file or directory with Services, EndpointSlices and Nodes, or - for standard input; may be repeated")
	f.StringVar(&m.node, "node", "", "name of the node to plan for (default: the only Node)")
	f.Var(addressList(&m.addresses), "node-addresses", "addresses on the node's interfaces, beside those of its Node object, comma-separated")
	m.config.addPlanning(command)
}

// plan reads the manifests and plans them. Only manifests that cannot be read are an error.
func (m *manifestFlags) plan(env Env) (nodePlan, error) {
	if len(m.files) == 0 {
		return nodePlan{}, usagef("-f is missing: a file, a directory or - for standard input")
	}
	c, err := m.config.parse()
	if err != nil {
		return nodePlan{}, err
	}
	if c.config.Firewall, err = planFirewall(c.config, m.output); err != nil {
		return nodePlan{}, err
	}
	if len(c.files) > 0 {
		sayAll(env, c.warnings)
	}
	objects, reports := file.Read(m.files, env.Stdin)
	notes, err := notesOf(reports)
	if err != nil {
		return nodePlan{}, err
	}
	n, err := m.chooseNode(objects, c.config)
	if err != nil {
		return nodePlan{}, err
	}
	if len(n.Addresses) == 0 {
		notes = append(notes, render.PlanNote{
			Reason: "NoNodeAddress", Message: "no address of the node is known (--node-addresses): NodePorts are left out",
		})
	}
	p := planOf(objects, n, c.config)
	p.notes = append(notes, p.notes...)
	return p, nil
}

// notesOf returns the problems of usable files. If a file is not usable, all such problems are the error.
func notesOf(reports []file.Report) ([]render.PlanNote, error) {
	var notes []render.PlanNote
	var broken []error
	for _, r := range reports {
		if r.Broken {
			broken = append(broken, r.Problems...)
			continue
		}
		for _, p := range r.Problems {
			notes = append(notes, render.PlanNote{Reason: "Manifest", Message: p.Error()})
		}
	}
	return notes, errors.Join(broken...)
}

// chooseNode returns the node of --node, or the only one.
func (m *manifestFlags) chooseNode(objects *cluster.Index, c config.Config) (plan.Node, error) {
	name := m.node
	all := objects.Place("").Others
	if name == "" && len(all) == 1 {
		name = all[0].Name
	}
	place := objects.Place(name)
	switch {
	case len(all) == 0 || place.Node != nil:
	case name == "":
		return plan.Node{}, fmt.Errorf("--node is missing: there are %s", nodeNames(all))
	default:
		return plan.Node{}, fmt.Errorf("--node: there is no Node %q, but %s", name, nodeNames(all))
	}
	n := plan.NodeOf(name, place.Node, place.Others).At(c.BindAddress).Protecting("the API server", c.APIServers...)
	n.Addresses = slices.Concat(m.addresses, plan.NodeAddresses(place.Node))
	slices.SortFunc(n.Addresses, netip.Addr.Compare)
	n.Addresses = slices.Compact(n.Addresses)
	return n, nil
}

func nodeNames(nodes []*corev1.Node) string {
	const most = 10
	var names []string
	for _, n := range nodes[:min(len(nodes), most)] {
		names = append(names, n.Name)
	}
	list := strings.Join(names, ", ")
	if more := len(nodes) - most; more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	return list
}

// planOf plans all Services for node n. Notes are in the order of the Services, older ones first.
func planOf(index *cluster.Index, n plan.Node, c config.Config) nodePlan {
	p := nodePlan{node: n, firewall: c.Firewall}
	d := desired.New()
	d.Upsert(desired.Owner{}, time.Time{}, plan.Base(c))
	all, notes := byAge(index), map[desired.Owner][]render.PlanNote{}
	census := plan.NewCensus[desired.Owner]()
	for _, o := range all {
		census.Move(nil, o.Slices)
	}
	for _, o := range all {
		o.Present = census.Of(o.Service)
		f := plan.Service(o, n, c)
		owner := ownerOf(o)
		for _, note := range f.Notes {
			notes[owner] = append(notes[owner], render.PlanNote{
				Service: owner.String(), Reason: note.Reason.String(), Field: note.Field, Message: note.Message,
			})
		}
		d.Upsert(owner, o.Service.CreationTimestamp.Time, f)
	}
	for _, conflict := range d.Conflicts() {
		loser := conflict.Loser
		notes[loser] = append(notes[loser], render.PlanNote{Service: loser.String(), Reason: "Conflict", Message: conflict.String()})
	}
	for _, o := range all {
		p.notes = append(p.notes, notes[ownerOf(o)]...)
	}
	p.state = d.State()
	return p
}

func ownerOf(o plan.Objects) desired.Owner {
	return desired.Owner{Namespace: o.Service.Namespace, Name: o.Service.Name}
}

func byAge(x *cluster.Index) []plan.Objects {
	var all []plan.Objects
	for _, key := range x.Services() {
		service, slices := x.Objects(key).Unpack()
		all = append(all, plan.Objects{Service: service, Slices: slices})
	}
	slices.SortStableFunc(all, func(a, b plan.Objects) int {
		return cmp.Compare(a.Service.CreationTimestamp.Unix(), b.Service.CreationTimestamp.Unix())
	})
	return all
}
