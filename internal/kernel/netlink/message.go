// SPDX-License-Identifier: Apache-2.0

package netlink

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// acknowledgements collects the outcome of consecutive requests.
type acknowledgements struct {
	first   uint32 // sequence number of the first request
	refused []error
}

func (a *acknowledgements) take(m message) (done bool, err error) {
	i := m.sequence - a.first
	if i >= uint32(len(a.refused)) || m.kind != unix.NLMSG_ERROR {
		return false, nil // a late answer to an earlier request, or a reply besides the outcome
	}
	refusal, err := m.refusal()
	if err != nil {
		return false, err
	}
	a.refused[i] = refusal
	return i == uint32(len(a.refused))-1, nil
}

type answers struct {
	sequence    uint32
	each        func(body []byte) error // nil: ignores them
	refusal     error                   // the kernel's
	failure     error                   // of each
	interrupted bool
}

func (a *answers) take(m message) (done bool, err error) {
	if m.sequence != a.sequence {
		return false, nil
	}
	a.interrupted = a.interrupted || m.flags&unix.NLM_F_DUMP_INTR != 0
	switch m.kind {
	case unix.NLMSG_DONE, unix.NLMSG_ERROR:
		a.refusal, err = m.refusal()
		return true, err
	}
	if a.failure == nil && a.each != nil { // after a failure read on, so that the next request starts clean
		a.failure = a.each(m.body)
	}
	return false, nil
}

func (a *answers) outcome() error {
	switch {
	case a.refusal != nil:
		return a.refusal
	case a.interrupted: // takes precedence over a failure of each
		return ErrInterrupted
	}
	return a.failure
}

type message struct {
	kind, flags uint16
	sequence    uint32
	body        []byte
}

func eachMessage(data []byte, each func(message) error) error {
	for len(data) >= unix.NLMSG_HDRLEN {
		length := int(binary.NativeEndian.Uint32(data))
		if length < unix.NLMSG_HDRLEN || length > len(data) {
			return fmt.Errorf("netlink message claims %d bytes of %d", length, len(data))
		}
		m := message{
			kind:     binary.NativeEndian.Uint16(data[4:]),
			flags:    binary.NativeEndian.Uint16(data[6:]),
			sequence: binary.NativeEndian.Uint32(data[8:]),
			body:     data[unix.NLMSG_HDRLEN:length],
		}
		if err := each(m); err != nil {
			return err
		}
		data = data[min(align(length), len(data)):]
	}
	return nil
}

// refusal reads the outcome in a NLMSG_ERROR or NLMSG_DONE message: nil for success.
func (m message) refusal() (refusal, malformed error) {
	if len(m.body) < 4 {
		if m.kind == unix.NLMSG_DONE {
			return nil, nil // some dumps end without an error number
		}
		return nil, fmt.Errorf("netlink error message of %d bytes", len(m.body))
	}
	code := int32(binary.NativeEndian.Uint32(m.body))
	if code == 0 {
		return nil, nil
	}
	return &Error{Errno: unix.Errno(-code), Message: m.explanation()}, nil
}

// explanation returns the text of the extended acknowledgement, behind the header of the refused request.
func (m message) explanation() string {
	if m.kind != unix.NLMSG_ERROR || m.flags&unix.NLM_F_ACK_TLVS == 0 {
		return ""
	}
	attributes, _ := ParseBody(m.body, 4+unix.NLMSG_HDRLEN)
	return attributes.Get(unix.NLMSGERR_ATTR_MSG).String()
}

func align(n int) int { return (n + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1) }
