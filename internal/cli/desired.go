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

// wish is what manifests mean for one node.
type wish struct {
	node  plan.Node
	state state.State
	notes []render.PlanNote
}

// manifestFlags are the flags of commands that take objects from files, and
// the daemon's configuration for what they mean.
type manifestFlags struct {
	files     []string
	node      string
	addresses addresses
	config    *configFlags
}

func newManifestFlags() *manifestFlags { return &manifestFlags{config: newConfigFlags()} }

func (m *manifestFlags) add(command *cobra.Command) {
	f := command.Flags()
	f.StringArrayVarP(&m.files, "filename", "f", nil, "file or directory with Services, EndpointSlices and Nodes, or - for standard input; may be repeated")
	f.StringVar(&m.node, "node", "", "name of the node that is meant (default the Node, if there is one only)")
	f.Var(&m.addresses, "node-addresses", "addresses on the node's interfaces, comma-separated, beside those of its Node object")
	m.config.addPlanning(command)
}

// wish reads the manifests and plans. What is in them and can't be done is a
// note; an error is what can't be read.
func (m *manifestFlags) wish(env Env) (wish, error) {
	if len(m.files) == 0 {
		return wish{}, usagef("-f is missing: a file, a directory or - for standard input")
	}
	c, err := m.configuration(env)
	if err != nil {
		return wish{}, err
	}
	x, reports := file.Read(m.files, env.Stdin)
	notes, err := notesOf(reports)
	if err != nil {
		return wish{}, err
	}
	n, err := m.nodeOf(x, c)
	if err != nil {
		return wish{}, err
	}
	if len(n.Addresses) == 0 {
		notes = append(notes, render.PlanNote{
			Reason: "NoNodeAddress", Message: "no address of the node is known (--node-addresses): NodePorts are left out",
		})
	}
	w := wishOf(x, n, c)
	w.notes = append(notes, w.notes...)
	return w, nil
}

// configuration is what files and flags say. What there is to warn of is said
// to who asks what a file of configuration means.
func (m *manifestFlags) configuration(env Env) (config.Config, error) {
	made, err := m.config.parse()
	if err != nil {
		return config.Config{}, err
	}
	if len(made.files) > 0 {
		for _, w := range made.warnings {
			say(env, "%s", w)
		}
	}
	return made.config, nil
}

// notesOf are the problems of files that could be used. Of those that could
// not, all problems are the error.
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

// nodeOf is the node that is meant.
func (m *manifestFlags) nodeOf(x *cluster.Index, c config.Config) (plan.Node, error) {
	name := m.node
	all := x.Place("").Others
	if name == "" && len(all) == 1 {
		name = all[0].Name
	}
	place := x.Place(name)
	switch {
	case len(all) == 0 || place.Node != nil:
	case name == "":
		return plan.Node{}, fmt.Errorf("--node is missing: there are %s", named(all))
	default:
		return plan.Node{}, fmt.Errorf("--node: there is no Node %q, but %s", name, named(all))
	}
	n := plan.NodeOf(name, place.Node, place.Others).At(c.BindAddress).Protecting("the API server", c.APIServers...)
	n.Addresses = slices.Concat(m.addresses, plan.NodeAddresses(place.Node))
	slices.SortFunc(n.Addresses, netip.Addr.Compare)
	n.Addresses = slices.Compact(n.Addresses)
	return n, nil
}

func named(nodes []*corev1.Node) string {
	const most = 10
	var names []string
	for _, n := range nodes {
		if len(names) == most {
			return fmt.Sprintf("%s and %d more", strings.Join(names, ", "), len(nodes)-most)
		}
		names = append(names, n.Name)
	}
	return strings.Join(names, ", ")
}

// wishOf plans all Services of x for node n. Notes are in the order of the Services,
// older ones first.
func wishOf(x *cluster.Index, n plan.Node, c config.Config) wish {
	w := wish{node: n}
	d := desired.New()
	d.Upsert(desired.Owner{}, time.Time{}, plan.Base(c))
	all, notes := byAge(x), map[desired.Owner][]render.PlanNote{}
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
		notes[conflict.Loser] = append(notes[conflict.Loser], conflictNote(conflict))
	}
	for _, o := range all {
		w.notes = append(w.notes, notes[ownerOf(o)]...)
	}
	w.state = d.State()
	return w
}

func ownerOf(o plan.Objects) desired.Owner {
	return desired.Owner{Namespace: o.Service.Namespace, Name: o.Service.Name}
}

func conflictNote(c desired.Conflict) render.PlanNote {
	return render.PlanNote{Service: c.Loser.String(), Reason: "Conflict", Message: c.String()}
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
