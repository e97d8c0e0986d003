// SPDX-License-Identifier: Apache-2.0

package netlink

import (
	"context"
	"errors"
	"io/fs"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The kernel's register of generic netlink families answers on every kernel and to everybody: it stands for the
// subsystems that the adapters talk to.
const unknownCommand = 99

func open(t *testing.T) *Socket {
	t.Helper()
	s, err := Open(unix.NETLINK_GENERIC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// command appends a request to the register; with a name, for that family.
func command(b *Requests, number byte, name string) {
	b.Begin(unix.GENL_ID_CTRL, 0)
	b.Raw(number, 1, 0, 0)
	if name != "" {
		b.String(unix.CTRL_ATTR_FAMILY_NAME, name)
	}
}

// unknown appends n requests that the kernel refuses.
func unknown(b *Requests, n int) {
	for range n {
		command(b, unknownCommand, "")
	}
}

func mustDo(t *testing.T, s *Socket, b *Requests) []error {
	t.Helper()
	refused, err := s.Do(context.Background(), b)
	if err != nil {
		t.Fatal(err)
	}
	if len(refused) != b.Len() {
		t.Fatalf("%d answers to %d requests", len(refused), b.Len())
	}
	return refused
}

// names asks for all families in a dump.
func names(t *testing.T, s *Socket) (all []string) {
	t.Helper()
	var b Requests
	command(&b, unix.CTRL_CMD_GETFAMILY, "")
	err := s.Dump(context.Background(), &b, func() func([]byte) error {
		all = nil
		return func(body []byte) error {
			attributes, err := ParseAttributes(body[unix.GENL_HDRLEN:])
			for _, a := range attributes {
				if a.Type == unix.CTRL_ATTR_FAMILY_NAME {
					all = append(all, a.String())
				}
			}
			return err
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestDoFindsExactlyTheRefusedRequests(t *testing.T) {
	s := open(t)
	var b Requests
	for i := range 3000 {
		if i%7 == 3 {
			unknown(&b, 1)
		} else {
			command(&b, unix.CTRL_CMD_GETFAMILY, "nlctrl")
		}
	}
	for i, err := range mustDo(t, s, &b) {
		if got := errors.Is(err, unix.EOPNOTSUPP); got != (i%7 == 3) {
			t.Fatalf("request %d: %v", i, err)
		}
	}
	if got, want := s.Traffic(), (Traffic{Requests: 3000, Calls: 6}); got != want {
		t.Errorf("traffic %+v, want %+v", got, want)
	}
}

func TestNoAnswerIsLostWhenEveryRequestIsRefused(t *testing.T) {
	s := open(t)
	var b Requests
	unknown(&b, 10000)
	for i, err := range mustDo(t, s, &b) {
		if !errors.Is(err, unix.EOPNOTSUPP) {
			t.Fatalf("request %d: %v", i, err)
		}
	}
	if got, want := s.Traffic().Calls, uint64(20); got != want {
		t.Errorf("%d calls, want %d", got, want)
	}
}

func TestAStreamIsSentInChunksAndHoldsNoMoreThanOne(t *testing.T) {
	s := open(t)
	var b Requests
	const n = 3000
	most, next := 0, 0
	refused, err := s.Stream(context.Background(), &b, n, func(i int) {
		if i != next {
			t.Fatalf("got request %d, want %d", i, next)
		}
		next++
		if i%7 == 3 {
			unknown(&b, 1)
		} else {
			command(&b, unix.CTRL_CMD_GETFAMILY, "nlctrl")
		}
		most = max(most, b.Len())
	})
	if err != nil || len(refused) != n || most != chunkRequests {
		t.Fatalf("%d answers, at most %d requests in memory, %v", len(refused), most, err)
	}
	for i, err := range refused {
		if got := errors.Is(err, unix.EOPNOTSUPP); got != (i%7 == 3) {
			t.Fatalf("request %d: %v", i, err)
		}
	}
	if got, want := s.Traffic(), (Traffic{Requests: n, Calls: 6}); got != want {
		t.Errorf("traffic %+v, want %+v", got, want)
	}

	ctx, cancel := context.WithCancel(context.Background())
	refused, err = s.Stream(ctx, &b, n, func(int) {
		command(&b, unix.CTRL_CMD_GETFAMILY, "nlctrl")
		cancel()
	})
	if len(refused) != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("%d answers and %v of a stream that was cancelled", len(refused), err)
	}
}

// shrink gives s a receive buffer that overflows after a few refusals.
func shrink(t *testing.T, s *Socket) {
	t.Helper()
	if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4096); err != nil {
		t.Fatal(err)
	}
}

func TestAnOverflowIsMadeGoodOneByOne(t *testing.T) {
	s := open(t)
	shrink(t, s)
	var b Requests
	for i := range 700 { // the second chunk does not overflow
		if i < 200 {
			unknown(&b, 1)
		} else {
			command(&b, unix.CTRL_CMD_GETFAMILY, "nlctrl")
		}
	}
	for i, err := range mustDo(t, s, &b) {
		if got := errors.Is(err, unix.EOPNOTSUPP); got != (i < 200) {
			t.Fatalf("request %d: %v", i, err)
		}
	}
	if s.Traffic().Calls <= chunkRequests {
		t.Errorf("%d calls: nothing has overflowed", s.Traffic().Calls)
	}
}

func TestASocketWorksAfterAnExchangeBrokeOff(t *testing.T) {
	s := open(t)
	shrink(t, s)
	var b Requests
	unknown(&b, 200)
	if _, err := s.sendChunk(t.Context(), &b, 0, 200); !errors.Is(err, unix.ENOBUFS) {
		t.Fatalf("200 refusals in a small buffer: %v", err)
	}
	if all := names(t, s); len(all) == 0 {
		t.Error("no families after an overflow")
	}

	s = open(t) // an unfinished dump
	b.Reset()
	command(&b, unix.CTRL_CMD_GETFAMILY, "")
	broken := errors.New("broken")
	if err := s.exchange(t.Context(), b.stamp(0, 1, s.next(1), unix.NLM_F_DUMP), 1, func(message) (bool, error) { return false, broken }); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	if all := names(t, s); len(all) == 0 {
		t.Error("no families after an unfinished dump")
	}
}

func TestDumpShowsAllAndCanBeRepeated(t *testing.T) {
	s := open(t)
	for range 3 {
		found := 0
		for _, name := range names(t, s) {
			if name == "nlctrl" {
				found++
			}
		}
		if found != 1 {
			t.Fatalf("nlctrl found %d times", found)
		}
	}
}

func TestDumpBeginsAnewWhenItsReaderFindsAContradiction(t *testing.T) {
	s := open(t)
	var b Requests
	command(&b, unix.CTRL_CMD_GETFAMILY, "")
	attempts := 0
	err := s.Dump(context.Background(), &b, func() func([]byte) error {
		attempts++
		attempt := attempts
		return func([]byte) error {
			if attempt < 3 {
				return ErrInterrupted
			}
			return nil
		}
	})
	if err != nil || attempts != 3 {
		t.Errorf("%d attempts, %v", attempts, err)
	}
}

func TestAskPassesOnTheAnswerAndTheRefusal(t *testing.T) {
	s := open(t)
	var b Requests
	command(&b, unix.CTRL_CMD_GETFAMILY, "nlctrl")
	bodies := 0
	if err := s.Ask(context.Background(), &b, func([]byte) error { bodies++; return nil }); err != nil || bodies != 1 {
		t.Errorf("%d bodies, %v", bodies, err)
	}
	b.Reset()
	command(&b, unix.CTRL_CMD_GETFAMILY, "no-such-family")
	var refusal *Error
	err := s.Ask(context.Background(), &b, func([]byte) error { return nil })
	if !errors.As(err, &refusal) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func TestACancelledContextSendsNothing(t *testing.T) {
	s := open(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var b Requests
	unknown(&b, 1)
	refused, err := s.Do(ctx, &b)
	if !errors.Is(err, context.Canceled) || len(refused) != 0 {
		t.Errorf("Do: %v, %v", refused, err)
	}
	if err := s.Ask(ctx, &b, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Ask: %v", err)
	}
	if err := s.Dump(ctx, &b, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Dump: %v", err)
	}
	if s.Traffic() != (Traffic{}) {
		t.Errorf("traffic %+v", s.Traffic())
	}
}

// A raw descriptor that is closed under a reader is soon that of another socket, whose answers the reader takes.
func TestASocketIsNotClosedDuringAnExchange(t *testing.T) {
	s, err := Open(unix.NETLINK_GENERIC)
	if err != nil {
		t.Fatal(err)
	}
	var b Requests
	command(&b, unix.CTRL_CMD_GETFAMILY, "")
	isClosed := make(chan error, 1)
	started := false
	err = s.Dump(context.Background(), &b, func() func([]byte) error {
		return func([]byte) error {
			if !started {
				started = true
				go func() { isClosed <- s.Close() }()
			}
			for range 100 {
				runtime.Gosched()
			}
			if len(isClosed) > 0 {
				return errors.New("closed while a dump goes on")
			}
			return nil
		}
	})
	if err != nil {
		t.Error(err)
	}
	if err := <-isClosed; err != nil {
		t.Error(err)
	}
	b.Reset()
	command(&b, unix.CTRL_CMD_GETFAMILY, "nlctrl")
	for what, err := range map[string]error{
		"using it":   s.Ask(context.Background(), &b, func([]byte) error { return nil }),
		"closing it": s.Close(),
	} {
		if !errors.Is(err, fs.ErrClosed) {
			t.Errorf("%s after it is closed: %v", what, err)
		}
	}
}

// lose makes the kernel's answers to a socket get lost, or stops that.
func lose(t *testing.T, s *Socket, lost bool) {
	t.Helper()
	nothing := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K}} // keeps no byte of a message
	err := unix.SetsockoptSockFprog(s.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &nothing[0]})
	if !lost {
		err = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestALostAnswerEndsTheCallAndNotTheSocket(t *testing.T) {
	s := open(t)
	ask := func(ctx context.Context) error {
		var b Requests
		command(&b, unix.CTRL_CMD_GETFAMILY, "nlctrl")
		return s.Ask(ctx, &b, func([]byte) error { return nil })
	}
	lose(t, s, true)
	s.timeout = time.Second
	if err := ask(t.Context()); err == nil || err.Error() != "kernel gave no netlink answer within 1s" {
		t.Errorf("after the time for an answer: %v", err)
	}
	s.timeout = time.Hour
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := ask(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("when the context has ended: %v", err)
	}
	lose(t, s, false)
	if all := names(t, s); !slices.Contains(all, "nlctrl") {
		t.Errorf("afterwards the families are %q", all)
	}
}
