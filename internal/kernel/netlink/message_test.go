// SPDX-License-Identifier: Apache-2.0

package netlink

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// status is the body of an answer that ends something: an error number and, as the kernel does when asked to cap it,
// the header of the request alone.
func status(errno unix.Errno) []byte {
	return append(binary.NativeEndian.AppendUint32(nil, uint32(-int32(errno))), make([]byte, unix.NLMSG_HDRLEN)...)
}

func explained(errno unix.Errno, text string) []byte {
	var b Requests
	b.Begin(0, 0)
	b.String(unix.NLMSGERR_ATTR_MSG, text)
	return append(status(errno), b.Body(0)...)
}

// wire is messages as they come in one datagram.
func wire(messages ...message) []byte {
	var data []byte
	for _, m := range messages {
		data = binary.NativeEndian.AppendUint32(data, uint32(unix.NLMSG_HDRLEN+len(m.body)))
		data = binary.NativeEndian.AppendUint16(data, m.kind)
		data = binary.NativeEndian.AppendUint16(data, m.flags)
		data = binary.NativeEndian.AppendUint32(data, m.sequence)
		data = append(data, 0, 0, 0, 0)
		data = append(data, m.body...)
		for len(data)%unix.NLMSG_ALIGNTO != 0 {
			data = append(data, 0)
		}
	}
	return data
}

func takeAll(take func(message) (bool, error), messages ...message) (done bool, err error) {
	err = eachMessage(wire(messages...), func(m message) error {
		last, err := take(m)
		done = done || last
		return err
	})
	return done, err
}

func TestAcknowledgementsFindTheirRequests(t *testing.T) {
	const e = unix.NLMSG_ERROR
	for _, c := range []struct {
		name     string
		messages []message
		done     bool
		refused  []string // of the requests 10, 11, 12
	}{
		{"all is well", []message{{e, 0, 12, status(0)}}, true, []string{"", "", ""}},
		{"the first is refused", []message{{e, 0, 10, status(unix.EEXIST)}, {e, 0, 12, status(0)}}, true, []string{"file exists", "", ""}},
		{"the last is refused", []message{{e, 0, 12, status(unix.ESRCH)}}, true, []string{"", "", "no such process"}},
		{"the last is yet to come", []message{{e, 0, 11, status(unix.EPERM)}}, false, []string{"", "operation not permitted", ""}},
		{"late answers to others are not ours", []message{{e, 0, 9, status(unix.EPERM)}, {e, 0, 13, status(unix.EPERM)}}, false, []string{"", "", ""}},
		{"a reply is no outcome", []message{{0x20, 0, 12, []byte{1, 1, 0, 0}}}, false, []string{"", "", ""}},
		{"the kernel explains itself", []message{{e, unix.NLM_F_ACK_TLVS, 12, explained(unix.EINVAL, "Unknown attribute")}}, true,
			[]string{"", "", "invalid argument: Unknown attribute"}},
		{"an explanation that makes no sense is left out", []message{{e, unix.NLM_F_ACK_TLVS, 12, append(status(unix.EINVAL), 1)}}, true,
			[]string{"", "", "invalid argument"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := acknowledgements{first: 10, refused: make([]error, 3)}
			done, err := takeAll(a.take, c.messages...)
			if err != nil || done != c.done {
				t.Errorf("done %v, %v; want %v", done, err, c.done)
			}
			var refused []string
			for _, err := range a.refused {
				if err == nil {
					refused = append(refused, "")
				} else {
					refused = append(refused, err.Error())
				}
			}
			if d := cmp.Diff(c.refused, refused); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestSequenceNumbersMayRunOver(t *testing.T) {
	a := acknowledgements{first: 0xffffffff, refused: make([]error, 2)}
	done, err := takeAll(a.take,
		message{kind: unix.NLMSG_ERROR, sequence: 0xffffffff, body: status(unix.ENOENT)},
		message{kind: unix.NLMSG_ERROR, sequence: 0, body: status(0)})
	if err != nil || !done || !errors.Is(a.refused[0], fs.ErrNotExist) || a.refused[1] != nil {
		t.Errorf("done %v, %v, refused %v", done, err, a.refused)
	}
}

func TestAnswersAreTheBodiesUpToTheEnd(t *testing.T) {
	row := func(n byte) message { return message{0x20, unix.NLM_F_MULTI, 5, []byte{n}} }
	end := message{unix.NLMSG_DONE, unix.NLM_F_MULTI, 5, status(0)}
	interrupted := message{unix.NLMSG_DONE, unix.NLM_F_MULTI | unix.NLM_F_DUMP_INTR, 5, status(0)}
	rowInterrupted := message{0x20, unix.NLM_F_MULTI | unix.NLM_F_DUMP_INTR, 5, []byte{3}}
	odd := errors.New("odd")
	for _, c := range []struct {
		name     string
		messages []message
		fail     error // of the function at the row 2
		bodies   string
		done     bool
		want     error
	}{
		{"two rows", []message{row(1), row(2), end}, nil, "12", true, nil},
		{"no row", []message{end}, nil, "", true, nil},
		{"an end without a number", []message{row(1), {unix.NLMSG_DONE, 0, 5, nil}}, nil, "1", true, nil},
		{"a reply and its acknowledgement", []message{row(1), {unix.NLMSG_ERROR, 0, 5, status(0)}}, nil, "1", true, nil},
		{"no end", []message{row(1)}, nil, "1", false, nil},
		{"rows of an earlier dump", []message{{0x20, 0, 4, []byte{9}}, {unix.NLMSG_DONE, 0, 4, nil}, row(1), end}, nil, "1", true, nil},
		{"a refusal", []message{{unix.NLMSG_ERROR, 0, 5, status(unix.EPERM)}}, nil, "", true, fs.ErrPermission},
		{"a dump that ends in an error", []message{row(1), {unix.NLMSG_DONE, 0, 5, status(unix.ENOMEM)}}, nil, "1", true, unix.ENOMEM},
		{"interrupted at the end", []message{row(1), interrupted}, nil, "1", true, ErrInterrupted},
		{"interrupted in the middle", []message{row(1), rowInterrupted, end}, nil, "13", true, ErrInterrupted},
		{"read to the end though a row is refused", []message{row(1), row(2), row(3), end}, odd, "1", true, odd},
		{"a row refused in an interrupted dump", []message{row(1), row(2), interrupted}, odd, "1", true, ErrInterrupted},
		{"the kernel's refusal of an interrupted dump", []message{rowInterrupted, {unix.NLMSG_DONE, 0, 5, status(unix.EPERM)}}, nil, "3", true, fs.ErrPermission},
	} {
		t.Run(c.name, func(t *testing.T) {
			bodies := ""
			a := answers{sequence: 5, each: func(body []byte) error {
				if c.fail != nil && body[0] == 2 {
					return c.fail
				}
				bodies += fmt.Sprint(body[0])
				return nil
			}}
			done, err := takeAll(a.take, c.messages...)
			if err != nil || done != c.done || bodies != c.bodies || !errors.Is(a.outcome(), c.want) {
				t.Errorf("bodies %s, done %v, outcome %v, %v; want %s, %v, %v", bodies, done, a.outcome(), err, c.bodies, c.done, c.want)
			}
		})
	}
}

func TestGarbageIsAnErrorAndNoAnswer(t *testing.T) {
	for _, c := range []struct {
		name string
		data []byte
		want string
	}{
		{"a length below that of the header", []byte{15, 0, 0, 0, 2, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0}, "netlink message claims 15 bytes of 16"},
		{"a length above that of the datagram", []byte{17, 0, 0, 0, 2, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0}, "netlink message claims 17 bytes of 16"},
		{"an outcome without a number", wire(message{unix.NLMSG_ERROR, 0, 5, []byte{1}}), "netlink error message of 1 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := acknowledgements{first: 5, refused: make([]error, 1)}
			err := eachMessage(c.data, func(m message) error {
				_, err := a.take(m)
				return err
			})
			if fmt.Sprint(err) != c.want {
				t.Errorf("%v, want %s", err, c.want)
			}
		})
	}
}

func TestRepeatGivesUpAfterSeveralInterruptions(t *testing.T) {
	for _, c := range []struct {
		name     string
		outcomes []error // of the attempts; nil from then on
		attempts int
		want     error
	}{
		{"at once", nil, 1, nil},
		{"after two interruptions", []error{ErrInterrupted, fmt.Errorf("row twice: %w", ErrInterrupted)}, 3, nil},
		{"an error is not repeated", []error{unix.EPERM}, 1, unix.EPERM},
		{"never", []error{ErrInterrupted, ErrInterrupted, ErrInterrupted, ErrInterrupted, ErrInterrupted}, dumpAttempts, ErrInterrupted},
	} {
		t.Run(c.name, func(t *testing.T) {
			attempts := 0
			err := repeat(context.Background(), func(context.Context) error {
				attempts++
				if attempts <= len(c.outcomes) {
					return c.outcomes[attempts-1]
				}
				return nil
			})
			if attempts != c.attempts || !errors.Is(err, c.want) {
				t.Errorf("%d attempts, %v; want %d, %v", attempts, err, c.attempts, c.want)
			}
		})
	}
}

func FuzzMessages(f *testing.F) {
	f.Add(wire(message{unix.NLMSG_ERROR, unix.NLM_F_ACK_TLVS, 5, explained(unix.EINVAL, "no")}))
	f.Add(wire(message{0x20, 0, 5, []byte{1, 2, 3}}, message{unix.NLMSG_DONE, unix.NLM_F_DUMP_INTR, 5, nil}))
	f.Fuzz(func(t *testing.T, data []byte) {
		rows := answers{sequence: 5, each: func([]byte) error { return nil }}
		outcome := acknowledgements{first: 5, refused: make([]error, 2)}
		if err := eachMessage(data, func(m message) error {
			_, err := rows.take(m)
			_, err2 := outcome.take(m)
			return errors.Join(err, err2)
		}); err == nil && len(data) < unix.NLMSG_HDRLEN && rows.refusal != nil {
			t.Error("a refusal out of nothing")
		}
	})
}
