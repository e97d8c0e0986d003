// SPDX-License-Identifier: Apache-2.0

package linux

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// namespacePath is that of the calling thread.
const namespacePath = "/proc/thread-self/ns/net"

// Reader reads the tables of a Kernel over connections of its own, while another goroutine may use the Kernel. A list
// that is read while tables change may lack rows: the kernel continues a dump of some by counting rows.
type Reader struct {
	kernel    *Kernel
	namespace *os.File
	name      string // of the namespace
}

// Reader opens a Reader for the calling thread's network namespace, which has to be the Kernel's.
func (k *Kernel) Reader() (r *Reader, err error) {
	own := unconnected(k.ours)
	if k.Rules != nil {
		own.Rules = k.Rules.Another()
	}
	r = &Reader{kernel: own}
	defer func() {
		if err != nil {
			err = fmt.Errorf("opening the kernel a second time: %w", errors.Join(err, r.Close()))
		}
	}()
	r.name, err = os.Readlink(namespacePath)
	r.namespace = keep(own, &err, func() (*os.File, error) { return os.Open(namespacePath) })
	if err != nil {
		return r, err
	}
	return r, own.connectLike(k)
}

// connectLike connects to what another Kernel is connected to.
func (k *Kernel) connectLike(other *Kernel) error {
	err := k.connect()
	if other.Table != nil && k.Table == nil {
		k.Table = keep(k, &err, k.openTable)
	}
	if other.Sets != nil && k.Sets == nil {
		k.Sets = keep(k, &err, k.openSets)
	}
	return err
}

// Close closes the connections.
func (r *Reader) Close() error { return r.kernel.Close() }

// Observe reads all tables, as kernel.Tables.Observe does, at a slow pace.
//
// Sysctls and the tools of iptables are those of the thread's namespace. A process with several namespaces calls Observe
// on a goroutine that ends with it: its thread enters the namespace and does not return.
func (r *Reader) Observe(ctx context.Context) (state.State, state.Packed, error) {
	s, reals, _, err := r.ObserveAround(ctx)
	return s, reals, err
}

// Around is what else a packet meets on a node, besides the tables.
type Around struct {
	Rules     state.Ruleset
	Addresses []netip.Addr // of the node's other devices
	Err       error        // what could not be read
}

// ObserveAround is Observe, with what is Around. It reads the rules of iptables once for both.
func (r *Reader) ObserveAround(ctx context.Context) (state.State, state.Packed, Around, error) {
	runtime.LockOSThread()
	here, err := os.Readlink(namespacePath)
	if err == nil && here != r.name {
		err = unix.Setns(int(r.namespace.Fd()), unix.CLONE_NEWNET)
	} else {
		defer runtime.UnlockOSThread()
	}
	if err != nil {
		return state.State{}, nil, Around{}, fmt.Errorf("entering network namespace %s: %w", r.name, err)
	}
	ctx = kernel.NewRound(netlink.Paced(ctx))
	s, reals, err := r.kernel.Tables().Observe(ctx)
	return s, reals, r.kernel.around(ctx), err
}

func (k *Kernel) around(ctx context.Context) (a Around) {
	var dummy int
	if a.Rules, a.Err = k.Ruleset(ctx); a.Err != nil {
		return a
	}
	if dummy, a.Err = k.Link.Index(); a.Err == nil {
		a.Addresses, a.Err = k.Link.Elsewhere(ctx, dummy)
	}
	return a
}
