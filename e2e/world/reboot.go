// SPDX-License-Identifier: Apache-2.0

package world

import (
	"fmt"
	"slices"
	"strings"
)

// Reboot replaces a node's network namespace by a new one, built as the first was. Its pods stay. The caller ends
// programs and servers of the node before, and starts them again after; nothing may use the node while it reboots.
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

// unplug removes all wires at once. The kernel would do it too, but only some time after the last program has ended.
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
