// SPDX-License-Identifier: Apache-2.0

// Package world builds a small cluster's network inside one kernel: nodes, pods behind them and hosts outside, each in
// a network namespace, with servers that report their name and the client's address. The namespaces have no names, and
// the machine's own namespace gets no link, so nothing is left behind even if the program dies.
//
// It does not know Services: its user starts the program that serves virtual addresses on a node.
package world

import (
	"fmt"
	"io"
	"slices"
	"sync"
)

// World is a network that has been built.
type World struct {
	topology Topology
	segment  *Host
	hosts    []*Host

	mu      sync.Mutex
	servers []io.Closer
	serving sync.WaitGroup
}

// New builds a network. It needs root.
func New(t Topology) (*World, error) {
	w := &World{}
	if err := w.build(t); err != nil {
		w.Close()
		return nil, fmt.Errorf("build a world: %w", err)
	}
	return w, nil
}

// Host returns the host of that name, or nil.
func (w *World) Host(name string) *Host {
	i := slices.IndexFunc(w.hosts, func(h *Host) bool { return h.Name == name })
	if i < 0 {
		return nil
	}
	return w.hosts[i]
}

// Hosts returns all hosts: each node before its pods, and the outside last.
func (w *World) Hosts() []*Host { return slices.Clone(w.hosts) }

// Close ends all servers and closes the namespaces. The kernel removes a namespace when the last process in it has
// ended; the starter of a process must end it.
func (w *World) Close() {
	w.mu.Lock()
	for _, s := range w.servers {
		_ = s.Close()
	}
	w.servers = nil
	w.mu.Unlock()
	w.serving.Wait()
	for _, h := range w.hosts {
		h.close()
	}
	if w.segment != nil {
		w.segment.close()
	}
}

// serve runs a server until the world is closed.
func (w *World) serve(s io.Closer, run func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.servers = append(w.servers, s)
	w.serving.Go(run)
}
