// SPDX-License-Identifier: Apache-2.0

package world

import (
	"fmt"
	"slices"
	"strings"
)

// Reboot takes a node's kernel away with all that is in it and gives it another, as the world made the first. Its pods
// stay. Programs and servers on the node are for those to end and to start again who started them; nothing may use the
// node meanwhile.
func (w *World) Reboot(name string) error {
	i := slices.IndexFunc(w.topology.Nodes, func(n Node) bool { return n.Name == name })
	if i < 0 {
		return fmt.Errorf("reboot %s: there is no such node", name)
	}
	if err := w.reboot(w.topology.Nodes[i]); err != nil {
		return fmt.Errorf("reboot node %s: %w", name, err)
	}
	return nil
}

func (w *World) reboot(n Node) error {
	h := w.Host(n.Name)
	if err := h.unplug(); err != nil {
		return err
	}
	h.close()
	if err := h.boot(); err != nil {
		return err
	}
	if err := w.joinNode(h, n, w.topology.Nodes); err != nil {
		return err
	}
	for _, p := range n.Pods {
		if err := joinPod(h, w.Host(p.Name), n.gateways()); err != nil {
			return fmt.Errorf("join pod %s: %w", p.Name, err)
		}
	}
	return nil
}

// unplug takes away all wires. The kernel would do so too, but some time after the last program has ended.
func (h *Host) unplug() error {
	links, err := h.links.LinkList()
	if err != nil {
		return fmt.Errorf("list links of %s: %w", h.Name, err)
	}
	for _, l := range links {
		if name := l.Attrs().Name; name != uplink && !strings.HasPrefix(name, podLink) {
			continue
		}
		if err := h.links.LinkDel(l); err != nil {
			return fmt.Errorf("delete link %s of %s: %w", l.Attrs().Name, h.Name, err)
		}
	}
	return nil
}
