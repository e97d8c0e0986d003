// SPDX-License-Identifier: Apache-2.0

package app

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kube-ipvs/kube-ipvs/internal/reconcile"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Events records what is wrong with a Service or this node. It does not block.
type Events interface {
	// Service records what every node sees.
	Service(s *corev1.Service, reason, note string)
	// Here records what only this node cannot do.
	Here(s *corev1.Service, reason, note string)
	// Node records an event of this node; kind is Normal or Warning.
	Node(kind, reason, note string)
}

// Reasons of events, beside those of state.Reason.
const (
	reasonConflict    = "AddressConflict"
	reasonPort        = "PortConflict"
	reasonHealthCheck = "FailedToStartServiceHealthcheck" // kube-proxy's
	reasonLocalhost   = "FailedToOpenLocalhostNodePort"
	reasonDisplaced   = "RulesDisplaced"
)

// Notices records events about Services that are known by their keys alone. A nil *Notices records nothing.
type Notices struct {
	events    Events
	services  *serviceObjects       // shared with the planner
	displaced []reconcile.Displaced // as recorded
}

// newNotices returns Notices for one Daemon.
func newNotices(e Events) *Notices { return &Notices{events: e, services: newServiceObjects()} }

// find returns the object of a Service; nil if it is not known.
func (n *Notices) find(key types.NamespacedName) *corev1.Service {
	if n == nil {
		return nil
	}
	return unpacked(serviceOf(n.services.of(key)))
}

// note records that a part of a Service is left out.
func (n *Notices) note(key types.NamespacedName, found state.Note) {
	if s := n.find(key); s != nil {
		text := found.Message
		if found.Field != "" {
			text = found.Field + ": " + text
		}
		n.events.Service(s, found.Reason.String(), text)
	}
}

// port records that a port of a Service cannot be opened on this node.
func (n *Notices) port(key types.NamespacedName, reason, note string) {
	if s := n.find(key); s != nil {
		n.events.Here(s, reason, note)
	}
}

// Received records conflicts between Services.
func (n *Notices) Received(change reconcile.Change) {
	for _, c := range change.Conflicts {
		reason := reasonConflict
		if c.HealthCheck {
			reason = reasonPort
		}
		if s := n.find(types.NamespacedName{Namespace: c.Loser.Namespace, Name: c.Loser.Name}); s != nil {
			n.events.Service(s, reason, c.String())
		}
	}
}

// Acted does nothing: writes to the kernel are not about one Service.
func (n *Notices) Acted(reconcile.Act) {}

// Settled records which of our rules another program keeps displacing.
func (n *Notices) Settled(b reconcile.Balance) {
	if n == nil {
		return
	}
	for _, d := range reconcile.Others(b.Displaced, n.displaced) {
		n.events.Node(corev1.EventTypeWarning, reasonDisplaced, fmt.Sprintf(
			"%v: another program keeps putting its rule %q before ours, and gets the traffic of Services that it matches", d.Jump, d.Behind))
	}
	n.displaced = b.Displaced
}
