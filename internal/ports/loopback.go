// SPDX-License-Identifier: Apache-2.0

package ports

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// LoopbackOptions say how much is forwarded and who is told of trouble. The limits keep clients on the node
// from using up the program's open files, which it needs to talk to the kernel.
type LoopbackOptions struct {
	// Report is told why a port can't be opened, once until it can, and nil then. It must neither block nor
	// call Loopback.
	Report func(service types.NamespacedName, f state.Forward, err error)

	Connections int           // TCP, of all ports; those beyond are reset. 0: 4096
	Sessions    int           // UDP clients of all ports; beyond, the longest idle one goes. 0: 4096
	Idle        time.Duration // how long a UDP client may be silent. 0: five minutes, as in IPVS
}

// Loopback forwards for all Services.
type Loopback struct {
	options     LoopbackOptions
	ctx         context.Context // ends with Close
	stop        context.CancelFunc
	running     sync.WaitGroup
	connections atomic.Int64
	sessions    *sessions

	mutex sync.Mutex
	doors map[types.NamespacedName]map[place]*door
	tries *Retries[doorKey]
}

type place struct {
	protocol state.Protocol
	at       netip.AddrPort
}

type doorKey struct {
	service types.NamespacedName
	place   place
}

// door is a NodePort on one loopback address.
type door struct {
	forward state.Forward
	socket  io.Closer                      // nil while it can't be opened
	to      atomic.Pointer[netip.AddrPort] // forward.To, for those who don't hold the mutex
}

// NewLoopback returns Loopback that forward nothing yet.
func NewLoopback(o LoopbackOptions) *Loopback {
	o.Connections = cmp.Or(o.Connections, 4096)
	o.Sessions = cmp.Or(o.Sessions, 4096)
	o.Idle = cmp.Or(o.Idle, 5*time.Minute)
	n := &Loopback{options: o, sessions: newSessions(o.Sessions, o.Idle), doors: map[types.NamespacedName]map[place]*door{}}
	n.ctx, n.stop = context.WithCancel(context.Background())
	n.tries = NewRetries(RetryOptions[doorKey]{Lock: &n.mutex, Try: n.open, Report: n.report})
	return n
}

func (n *Loopback) report(k doorKey, err error) {
	n.options.Report(k.service, n.doors[k.service][k.place].forward, err)
}

// Set takes in what is forwarded for a Service: all of it, so that an empty list ends it. Connections that
// are open stay until their ends close them; UDP clients of a port that is gone get no more answers.
func (n *Loopback) Set(service types.NamespacedName, forwards []state.Forward) {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	if n.ctx.Err() != nil {
		return
	}
	wanted := map[place]state.Forward{}
	for _, f := range forwards {
		if f.NodePort != 0 && (f.Protocol == state.TCP || f.Protocol == state.UDP) {
			wanted[place{f.Protocol, f.At()}] = f
		}
	}
	for p := range n.doors[service] {
		if _, ok := wanted[p]; !ok {
			n.remove(doorKey{service, p})
		}
	}
	for p, f := range wanted {
		n.add(doorKey{service, p}, f)
	}
}

func (n *Loopback) add(k doorKey, f state.Forward) {
	d := n.doors[k.service][k.place]
	isNew := d == nil
	if isNew {
		d = &door{}
		if n.doors[k.service] == nil {
			n.doors[k.service] = map[place]*door{}
		}
		n.doors[k.service][k.place] = d
	}
	d.forward = f
	d.to.Store(&f.To)
	if isNew {
		n.tries.Now(k)
	}
}

// remove lets those have the port who want it too.
func (n *Loopback) remove(k doorKey) {
	d := n.doors[k.service][k.place]
	delete(n.doors[k.service], k.place)
	if len(n.doors[k.service]) == 0 {
		delete(n.doors, k.service)
	}
	n.tries.Forget(k)
	d.close()
	n.tries.Again(func(o doorKey) bool { return o.place == k.place })
}

func (d *door) close() {
	if d.socket != nil {
		_ = d.socket.Close()
	}
}

func (n *Loopback) open(k doorKey) error {
	d := n.doors[k.service][k.place]
	listen := n.listenTCP
	if k.place.protocol == state.UDP {
		listen = n.listenUDP
	}
	socket, serve, err := listen(k.place.at, d)
	if err != nil {
		return fmt.Errorf("opening NodePort on the loopback address: %w", err)
	}
	d.socket = socket
	n.running.Go(func() { n.broken(k, d, serve()) })
	return nil
}

// broken is told when a door is served no more. If nobody closed it, memory or files were short, and it is
// opened anew after a pause.
func (n *Loopback) broken(k doorKey, d *door, err error) {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	if n.doors[k.service][k.place] == d {
		d.close()
		d.socket = nil
		n.tries.Failed(k, fmt.Errorf("serving NodePort on the loopback address: %w", err))
	}
}

// Close ends all ports and connections, and returns when nothing of them runs.
func (n *Loopback) Close() {
	n.mutex.Lock()
	n.stop()
	for service, doors := range n.doors {
		for p, d := range doors {
			n.tries.Forget(doorKey{service, p})
			d.close()
		}
	}
	clear(n.doors)
	n.mutex.Unlock()
	n.running.Wait()
}
