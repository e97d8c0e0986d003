// SPDX-License-Identifier: Apache-2.0

package ports

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// LoopbackOptions configure Loopback. The limits keep clients on the node from using up the program's open files, which
// it needs to talk to the kernel.
type LoopbackOptions struct {
	// Report gets the first error of a port, and nil when it is open again. It must not block or call back.
	Report func(service types.NamespacedName, f state.Forward, err error)

	Connections int           // TCP connections of all ports; more are reset. 0: 4096
	Sessions    int           // UDP clients of all ports; more replace the longest idle ones. 0: 4096
	Idle        time.Duration // how long a UDP client may be silent. 0: five minutes, as in IPVS
}

// Loopback forwards NodePorts on the loopback addresses, for all Services.
type Loopback struct {
	options     LoopbackOptions
	ctx         context.Context // ends with Close
	stop        context.CancelFunc
	running     sync.WaitGroup
	connections atomic.Int64
	sessions    *sessions

	mutex   sync.Mutex
	ports   map[types.NamespacedName]map[address]*nodePort
	retries *Retries[nodePortKey]
}

type address struct {
	protocol state.Protocol
	at       netip.AddrPort
}

type nodePortKey struct {
	service types.NamespacedName
	address address
}

// nodePort is a NodePort on one loopback address.
type nodePort struct {
	forward state.Forward
	socket  io.Closer                      // nil while it cannot be opened
	to      atomic.Pointer[netip.AddrPort] // forward.To, for readers without the mutex
}

// NewLoopback returns a Loopback that forwards nothing yet.
func NewLoopback(o LoopbackOptions) *Loopback {
	o.Connections = cmp.Or(o.Connections, 4096)
	o.Sessions = cmp.Or(o.Sessions, 4096)
	o.Idle = cmp.Or(o.Idle, 5*time.Minute)
	n := &Loopback{options: o, sessions: newSessions(o.Sessions, o.Idle), ports: map[types.NamespacedName]map[address]*nodePort{}}
	n.ctx, n.stop = context.WithCancel(context.Background())
	report := func(k nodePortKey, err error) { o.Report(k.service, n.ports[k.service][k.address].forward, err) }
	n.retries = NewRetries(RetryOptions[nodePortKey]{Lock: &n.mutex, Try: n.open, Report: report})
	return n
}

// Set sets all forwards of a Service; an empty list ends them. Open connections stay until their ends close them. UDP
// clients of a removed port get no more answers.
func (n *Loopback) Set(service types.NamespacedName, forwards []state.Forward) {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	if n.ctx.Err() != nil {
		return
	}
	desired := map[address]state.Forward{}
	for _, f := range forwards {
		if f.NodePort != 0 && (f.Protocol == state.TCP || f.Protocol == state.UDP) {
			desired[address{f.Protocol, f.At()}] = f
		}
	}
	for a := range n.ports[service] {
		if _, ok := desired[a]; !ok {
			n.remove(nodePortKey{service, a})
		}
	}
	for a, f := range desired {
		n.add(nodePortKey{service, a}, f)
	}
}

func (n *Loopback) add(k nodePortKey, f state.Forward) {
	if p := n.ports[k.service][k.address]; p != nil {
		p.forward = f
		p.to.Store(&f.To)
		return
	}
	p := &nodePort{forward: f}
	p.to.Store(&f.To)
	if n.ports[k.service] == nil {
		n.ports[k.service] = map[address]*nodePort{}
	}
	n.ports[k.service][k.address] = p
	n.retries.Now(k)
}

// remove closes a port, and retries other Services with the same port.
func (n *Loopback) remove(k nodePortKey) {
	p := n.ports[k.service][k.address]
	delete(n.ports[k.service], k.address)
	if len(n.ports[k.service]) == 0 {
		delete(n.ports, k.service)
	}
	n.retries.Forget(k)
	p.close()
	n.retries.Again(func(o nodePortKey) bool { return o.address == k.address })
}

func (p *nodePort) close() {
	if p.socket != nil {
		_ = p.socket.Close()
	}
}

func (n *Loopback) open(k nodePortKey) error {
	p := n.ports[k.service][k.address]
	listen := n.listenTCP
	if k.address.protocol == state.UDP {
		listen = n.listenUDP
	}
	socket, serve, err := listen(k.address.at, p)
	if err != nil {
		return fmt.Errorf("open NodePort on the loopback address: %w", err)
	}
	p.socket = socket
	n.running.Go(func() { n.broken(k, p, serve()) })
	return nil
}

// broken opens a port again, after a pause, that is no longer served because memory or files were short.
func (n *Loopback) broken(k nodePortKey, p *nodePort, err error) {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	if n.ports[k.service][k.address] == p {
		p.close()
		p.socket = nil
		n.retries.Failed(k, fmt.Errorf("serve NodePort on the loopback address: %w", err))
	}
}

// Close ends all ports and connections, and returns when nothing of them runs.
func (n *Loopback) Close() {
	n.mutex.Lock()
	n.stop()
	for service, ports := range n.ports {
		for a, p := range ports {
			n.retries.Forget(nodePortKey{service, a})
			p.close()
		}
	}
	clear(n.ports)
	n.mutex.Unlock()
	n.running.Wait()
}

// dialTime is how long a Service may take to accept a connection.
const dialTime = 30 * time.Second

// listenTCP opens a port. It is served until it is closed or breaks.
func (n *Loopback) listenTCP(at netip.AddrPort, p *nodePort) (io.Closer, func() error, error) {
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
	if err != nil {
		return nil, nil, err
	}
	return l, func() error { return n.accept(l, p) }, nil
}

func (n *Loopback) accept(l *net.TCPListener, p *nodePort) error {
	for {
		client, err := l.AcceptTCP()
		if err != nil {
			return err
		}
		if n.connections.Add(1) > int64(n.options.Connections) {
			n.connections.Add(-1)
			reset(client)
			continue
		}
		n.running.Go(func() {
			defer n.connections.Add(-1)
			n.connect(client, *p.to.Load())
		})
	}
}

// connect connects the client to the Service. If that fails, the client gets a reset, as from the Service.
func (n *Loopback) connect(client *net.TCPConn, to netip.AddrPort) {
	ctx, cancel := context.WithTimeout(n.ctx, dialTime)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		reset(client)
		return
	}
	n.join(client, conn.(*net.TCPConn))
}

// join forwards both ways until both have ended, however long they are silent.
func (n *Loopback) join(client, service *net.TCPConn) {
	cut := context.AfterFunc(n.ctx, func() {
		reset(client)
		reset(service)
	})
	defer cut()
	defer client.Close()
	defer service.Close()
	var up sync.WaitGroup
	up.Go(func() { pass(service, client) })
	pass(client, service)
	up.Wait()
}

// pass forwards one way, also the end and resets. Between TCP connections io.Copy uses splice(2).
func pass(to, from *net.TCPConn) {
	_, err := io.Copy(to, from)
	if err == nil {
		err = to.CloseWrite()
	}
	if err != nil {
		reset(to)
		reset(from)
	}
}

// reset closes a connection so that the peer cannot take it for the regular end of the stream.
func reset(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}
