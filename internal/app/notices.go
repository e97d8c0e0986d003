// SPDX-License-Identifier: Apache-2.0

package app

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kube-ipvs/kube-ipvs/internal/desired"
	"github.com/kube-ipvs/kube-ipvs/internal/reconcile"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Events tell people what is wrong with a Service or this node, where they look
// for it. To tell them makes nobody wait.
type Events interface {
	// Service tells what every node sees.
	Service(s *corev1.Service, reason, note string)
	// Here tells what this node can't do.
	Here(s *corev1.Service, reason, note string)
	// Node tells something of this node; kind is Normal or Warning.
	Node(kind, reason, note string)
}

// The reasons of events that are no state.Reason.
const (
	reasonConflict    = "AddressConflict"
	reasonPort        = "PortConflict"
	reasonHealthCheck = "FailedToStartServiceHealthcheck" // kube-proxy's
	reasonLocalhost   = "FailedToOpenLocalhostNodePort"
	reasonDisplaced   = "RulesDisplaced"
)

// Notices tell Events of Services. What is wrong is often noticed where only the
// key of a Service is known, and an event is about an object, so they know where
// the objects are. Nil Notices tell nobody.
type Notices struct {
	events   Events
	services *register // of the view

	displaced []reconcile.Displaced // of which people were told
}

var _ reconcile.Observer = (*Notices)(nil)

// NewNotices returns Notices that tell e, for one Daemon.
func NewNotices(e Events) *Notices { return &Notices{events: e, services: newRegister()} }

func (n *Notices) find(key types.NamespacedName) *corev1.Service {
	if n == nil {
		return nil
	}
	s := serviceOf(n.services.of(key))
	if s.IsZero() {
		return nil
	}
	return s.Object()
}

// note tells what of a Service is left out.
func (n *Notices) note(key types.NamespacedName, found state.Note) {
	s := n.find(key)
	if s == nil {
		return
	}
	text := found.Message
	if found.Field != "" {
		text = found.Field + ": " + text
	}
	n.events.Service(s, found.Reason.String(), text)
}

// port tells that a port of a Service can't be opened on this node.
func (n *Notices) port(key types.NamespacedName, reason, note string) {
	if s := n.find(key); s != nil {
		n.events.Here(s, reason, note)
	}
}

func (n *Notices) conflict(c desired.Conflict) {
	s := n.find(types.NamespacedName{Namespace: c.Loser.Namespace, Name: c.Loser.Name})
	if s == nil {
		return
	}
	reason := reasonConflict
	if c.HealthCheck {
		reason = reasonPort
	}
	n.events.Service(s, reason, c.String())
}

// Received tells who lost an address and port to another Service.
func (n *Notices) Received(c reconcile.Change) {
	for _, conflict := range c.Conflicts {
		n.conflict(conflict)
	}
}

// Acted tells nothing: what the kernel does is no Service's fault.
func (n *Notices) Acted(reconcile.Act) {}

// Settled tells which rules of ours are left behind rules of others.
func (n *Notices) Settled(b reconcile.Balance) {
	for _, d := range reconcile.Others(b.Displaced, n.displaced) {
		n.events.Node(corev1.EventTypeWarning, reasonDisplaced, fmt.Sprintf(
			"%v: another program puts its rule %q before ours again and again, and gets what it takes of Services' traffic", d.Jump, d.Behind))
	}
	n.displaced = b.Displaced
}
