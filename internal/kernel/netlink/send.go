// SPDX-License-Identifier: Apache-2.0

package netlink

import (
	"context"
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"
)

// Do sends all requests of b and returns an error for each that the kernel refused (an *Error, at the request's index).
// With the second error the exchange itself failed: nothing is known of the requests from the index len(refused) on.
func (s *Socket) Do(ctx context.Context, b *Requests) (refused []error, err error) {
	refused = make([]error, 0, b.Len())
	for from := 0; from < b.Len(); {
		if err := ctx.Err(); err != nil {
			return refused, err
		}
		to := b.chunkEnd(from)
		answers, err := s.sendChunk(ctx, b, from, to)
		if errors.Is(err, unix.ENOBUFS) {
			answers, err = s.oneByOne(ctx, b, from, to)
		}
		if err != nil {
			return refused, err
		}
		refused = append(refused, answers...)
		from = to
	}
	return refused, nil
}

// Outcome returns what became of the request i, given the results of Do or Stream.
func Outcome(refused []error, failure error, i int) error {
	if i < len(refused) {
		return refused[i]
	}
	return failure
}

// Stream is Do for n requests that encode puts into b one after the other, when they are due. Only a chunk of them is
// ever in memory: fresh memory can cost as much as the kernel's own work for a row.
func (s *Socket) Stream(ctx context.Context, b *Requests, n int, encode func(i int)) (refused []error, err error) {
	refused = make([]error, 0, n)
	for len(refused) < n {
		b.Reset()
		for i := len(refused); i < n && !b.full(); i++ {
			encode(i)
		}
		answers, err := s.Do(ctx, b)
		refused = append(refused, answers...)
		if err != nil {
			return refused, err
		}
	}
	return refused, nil
}

// oneByOne repeats a chunk whose answers overflowed: what is done already is refused, which callers tolerate.
func (s *Socket) oneByOne(ctx context.Context, b *Requests, from, to int) ([]error, error) {
	answers := make([]error, 0, to-from)
	for i := from; i < to; i++ {
		answer, err := s.sendChunk(ctx, b, i, i+1)
		if err != nil {
			return nil, err
		}
		answers = append(answers, answer...)
	}
	return answers, nil
}

func (s *Socket) sendChunk(ctx context.Context, b *Requests, from, to int) ([]error, error) {
	a := acknowledgements{first: s.next(to - from), refused: make([]error, to-from)}
	err := s.exchange(ctx, b.stamp(from, to, a.first, unix.NLM_F_ACK), to-from, a.take)
	return a.refused, err
}

// Ask sends the single request in b, which is no dump, and passes the body of each answer to each, which may be nil. It
// returns the kernel's refusal, an *Error.
func (s *Socket) Ask(ctx context.Context, b *Requests, each func(body []byte) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.bodies(ctx, b, unix.NLM_F_ACK, each)
}

// Dump sends the single dump request in b and passes the body of each answer to the function that collect returns. It
// repeats a dump, and calls collect again, if the kernel marks it as interrupted, or if that function returns
// ErrInterrupted because the answers contradict each other. After several attempts it returns ErrInterrupted.
func (s *Socket) Dump(ctx context.Context, b *Requests, collect func() func(body []byte) error) error {
	return repeat(ctx, func(ctx context.Context) error { return s.bodies(ctx, b, unix.NLM_F_DUMP, collect()) })
}

// DumpList sends the single dump request in b and returns what pick makes of each answer, unless keep is false.
func DumpList[T any](ctx context.Context, s *Socket, b *Requests, pick func(body []byte) (one T, keep bool, err error)) ([]T, error) {
	var list []T
	err := s.Dump(ctx, b, func() func([]byte) error {
		list = nil
		return func(body []byte) error {
			one, keep, err := pick(body)
			if err == nil && keep {
				list = append(list, one)
			}
			return err
		}
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// repeat makes several attempts. Only the first may pause: the less time a dump takes, the less interrupts it.
func repeat(ctx context.Context, attempt func(context.Context) error) error {
	var err error
	for range dumpAttempts {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err = attempt(ctx); !errors.Is(err, ErrInterrupted) {
			return err
		}
		ctx = Unpaced(ctx)
	}
	return err
}

func (s *Socket) bodies(ctx context.Context, b *Requests, flags uint16, each func(body []byte) error) error {
	a := answers{sequence: s.next(1), each: each}
	if err := s.exchange(ctx, b.stamp(0, 1, a.sequence, flags), 1, a.take); err != nil {
		return err
	}
	return a.outcome()
}

// Transaction sends the requests of b, all of one netfilter subsystem, which the kernel does all or none, and returns
// the first refusal. They have to fit into one sendmsg. nftables takes no change outside of one.
func (s *Socket) Transaction(ctx context.Context, b *Requests, subsystem uint16) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	whole := framed(b, subsystem)
	t := transaction{first: s.next(whole.Len()), last: uint32(b.Len())}
	data := whole.stamp(0, whole.Len(), t.first, 0)
	last := data[whole.starts[b.Len()]:] // the frame is answered only if it is refused
	binary.NativeEndian.PutUint16(last[6:], binary.NativeEndian.Uint16(last[6:])|unix.NLM_F_ACK)
	if err := s.exchange(ctx, data, whole.Len(), t.take); err != nil {
		return err
	}
	return t.refusal
}

func framed(b *Requests, subsystem uint16) *Requests {
	const frames, header = 2, 4
	whole := Requests{
		data:   make([]byte, 0, len(b.data)+frames*(unix.NLMSG_HDRLEN+header)),
		starts: make([]int, 0, b.Len()+frames),
	}
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

// transaction is one of which the last request asks for an answer. The kernel looks at all of them, also after it has
// refused one.
type transaction struct {
	first   uint32 // sequence number of the frame's beginning
	last    uint32 // how much later that of the last request is
	refusal error
}

func (t *transaction) take(m message) (done bool, err error) {
	i := m.sequence - t.first
	if m.kind != unix.NLMSG_ERROR || i > t.last { // a late answer to an earlier request
		return false, nil
	}
	refusal, err := m.refusal()
	if t.refusal == nil {
		t.refusal = refusal
	}
	return i == 0 || i == t.last, err // at 0 all is refused, and no request was looked at
}
