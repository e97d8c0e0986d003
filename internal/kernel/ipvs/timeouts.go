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

// Timeouts is the table of the three times for which IPVS keeps a silent connection, in seconds. The kernel
// always has them all.
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
		return nil, fmt.Errorf("reading IPVS timeouts: the kernel tells %d of them", len(rows))
	}
	return rows, nil
}

// Apply writes what is added or updated in one request: the kernel leaves what that does not have. Like a
// sysctl, a timeout can't be removed.
func (t timeouts) Apply(ctx context.Context, d diff.Delta[state.SysctlName, string]) kernel.Result[state.SysctlName] {
	r := kernel.Result[state.SysctlName]{Drift: len(d.Add)}
	b := &t.conn.requests
	b.Reset()
	begin(b, t.conn.family, commandSetConfig)
	var names []state.SysctlName
	write := func(name state.SysctlName, value string) {
		if err := encodeTimeout(b, name, value); err != nil {
			r.Fail(name, fmt.Errorf("setting %s: %w", name, err))
			return
		}
		names = append(names, name)
	}
	for _, change := range d.Update {
		write(change.Key, change.New)
	}
	for _, row := range d.Add {
		write(row.Key, row.Value)
	}
	if len(names) == 0 {
		return r
	}
	if err := t.conn.socket.Ask(ctx, b, func([]byte) error { return nil }); err != nil {
		for _, name := range names {
			r.Fail(name, fmt.Errorf("setting %s: %w", name, err))
		}
	}
	return r
}

// timeoutAttributes are the kernel's numbers of the timeouts.
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
	seconds, err := parseSeconds(value)
	if err == nil {
		b.Uint32(attribute, seconds)
	}
	return err
}

// decodeTimeouts adds the timeouts that an answer tells to rows.
func decodeTimeouts(body []byte, rows map[state.SysctlName]string) error {
	if len(body) < unix.GENL_HDRLEN {
		return fmt.Errorf("message of %d bytes", len(body))
	}
	attributes, err := netlink.ParseAttributes(body[unix.GENL_HDRLEN:])
	if err != nil {
		return err
	}
	for _, a := range attributes {
		for name, attribute := range timeoutAttributes() {
			if a.Type == attribute {
				rows[name] = strconv.FormatUint(uint64(a.Uint32()), 10)
			}
		}
	}
	return nil
}

// parseSeconds refuses 0, which would leave the timeout as it is.
func parseSeconds(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is not a number of seconds above 0", s)
	}
	return uint32(n), nil
}
