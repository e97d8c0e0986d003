// SPDX-License-Identifier: Apache-2.0

package ipvs

import (
	"context"
	"fmt"
	"io/fs"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Timeouts returns the table of the three times, in seconds, for which IPVS keeps a silent connection.
func (c *Conn) Timeouts() kernel.Store[state.SysctlName, string] { return timeouts{c} }

type timeouts struct{ conn *Conn }

// List returns the three rows.
func (t timeouts) List(ctx context.Context) (map[state.SysctlName]string, error) {
	rows := map[state.SysctlName]string{}
	t.conn.requests.Reset()
	begin(&t.conn.requests, t.conn.family, commandGetConfig)
	err := t.conn.socket.Ask(ctx, &t.conn.requests, func(body []byte) error { return decodeTimeouts(body, rows) })
	if err != nil {
		return nil, fmt.Errorf("reading IPVS timeouts: %w", err)
	}
	if len(rows) != len(timeoutAttributes()) {
		return nil, fmt.Errorf("reading IPVS timeouts: the kernel sent %d of them", len(rows))
	}
	return rows, nil
}

// Apply writes what is added or updated in one request. The kernel leaves the others as they are. Like a sysctl, a
// timeout can't be removed.
func (t timeouts) Apply(ctx context.Context, d diff.Delta[state.SysctlName, string]) kernel.Result[state.SysctlName] {
	r := kernel.Result[state.SysctlName]{Drift: len(d.Add)}
	b := &t.conn.requests
	b.Reset()
	begin(b, t.conn.family, commandSetConfig)
	values := map[state.SysctlName]string{}
	for _, change := range d.Update {
		values[change.Key] = change.New
	}
	for _, row := range d.Add {
		values[row.Key] = row.Value
	}
	for name, value := range values {
		if err := encodeTimeout(b, name, value); err != nil {
			r.Fail(name, fmt.Errorf("setting %s: %w", name, err))
			delete(values, name)
		}
	}
	if len(values) == 0 {
		return r
	}
	if err := t.conn.socket.Ask(ctx, b, nil); err != nil {
		for name := range values {
			r.Fail(name, fmt.Errorf("setting %s: %w", name, err))
		}
	}
	return r
}

// timeoutAttributes returns the kernel's numbers of the timeouts.
func timeoutAttributes() map[state.SysctlName]uint16 {
	return map[state.SysctlName]uint16{
		state.TCPTimeout: attrTimeoutTCP, state.TCPFinTimeout: attrTimeoutTCPFin, state.UDPTimeout: attrTimeoutUDP,
	}
}

func encodeTimeout(b *netlink.Requests, name state.SysctlName, value string) error {
	attribute, known := timeoutAttributes()[name]
	if !known {
		return fmt.Errorf("IPVS has no timeout %s: %w", name, fs.ErrNotExist)
	}
	seconds, err := strconv.ParseUint(value, 10, 31)
	if err != nil || seconds == 0 { // the kernel would ignore 0
		return fmt.Errorf("%q is not a number of seconds above 0", value)
	}
	b.Uint32(attribute, uint32(seconds))
	return nil
}

// decodeTimeouts adds the timeouts of an answer to rows.
func decodeTimeouts(body []byte, rows map[state.SysctlName]string) error {
	attributes, err := netlink.ParseBody(body, unix.GENL_HDRLEN)
	for name, kind := range timeoutAttributes() {
		if attributes.Has(kind) {
			rows[name] = fmt.Sprint(attributes.Get(kind).Uint32())
		}
	}
	return err
}
