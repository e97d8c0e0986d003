// SPDX-License-Identifier: Apache-2.0

package netlink

import (
	"context"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Transaction sends the requests of b, all of one netfilter subsystem, which the kernel does all or none, and
// returns the first refusal. They have to fit into one sendmsg. nftables takes no change outside of one.
func (s *Socket) Transaction(ctx context.Context, b *Requests, subsystem uint16) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	whole := framed(b, subsystem)
	t := transaction{first: s.next(whole.Len()), open: b.Len()}
	data := whole.stamp(0, whole.Len(), t.first, 0)
	for i := range b.Len() { // the frame is answered only if it is refused
		header := data[whole.starts[i+1]:]
		binary.NativeEndian.PutUint16(header[6:], binary.NativeEndian.Uint16(header[6:])|unix.NLM_F_ACK)
	}
	if err := s.exchange(ctx, data, whole.Len(), t.take); err != nil {
		return err
	}
	return t.refusal
}

// framed returns b between the two messages that make it a transaction.
func framed(b *Requests, subsystem uint16) *Requests {
	var whole Requests
	frame := func(kind uint16) {
		whole.Begin(kind, 0)
		whole.Raw(unix.AF_UNSPEC, unix.NFNETLINK_V0, byte(subsystem>>8), byte(subsystem))
	}
	frame(unix.NFNL_MSG_BATCH_BEGIN)
	for i := range b.Len() {
		header := b.data[b.starts[i]:]
		whole.Begin(binary.NativeEndian.Uint16(header[4:]), binary.NativeEndian.Uint16(header[6:]))
		whole.Raw(b.Body(i)...)
	}
	frame(unix.NFNL_MSG_BATCH_END)
	return &whole
}

// transaction collects the answers to a Transaction.
type transaction struct {
	first   uint32 // sequence number of the frame's beginning
	open    int    // requests that have not been answered
	refusal error
}

func (t *transaction) take(m message) (done bool, err error) {
	i := m.sequence - t.first
	if m.kind != unix.NLMSG_ERROR || i >= 1<<16 { // a late answer to an earlier request
		return false, nil
	}
	refusal, err := m.refusal()
	if t.refusal == nil {
		t.refusal = refusal
	}
	if i == 0 { // all is refused, and no request was looked at
		return true, err
	}
	t.open--
	return t.open <= 0, err
}
