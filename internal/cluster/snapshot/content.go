// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
)

type content struct {
	place    cluster.Place
	services []*cluster.Objects // sorted by key
}

// kind is the kind of a record, which comes first. Then come its length as uvarint, and the object in Kubernetes' own
// protobuf, which is as stable as the API, a third of the size of JSON, and ten times as fast.
type kind byte

// The kinds. EndpointSlices follow their Service.
const (
	kindNode kind = iota + 1
	kindOther
	kindCIDR // as netip.Prefix marshals itself
	kindService
	kindSlice
)

// maxRecord is far more than an API server accepts as one object.
const maxRecord = 16 << 20

var errTooLarge = errors.New("more objects than the file may hold")

type message interface {
	GetName() string
	Size() int
	MarshalToSizedBuffer([]byte) (int, error)
}

// encoder writes records through one buffer. After an error it does nothing.
type encoder struct {
	w    io.Writer
	room int64 // bytes that may still be written
	buf  []byte
	err  error
}

func (e *encoder) content(c content) error {
	for _, cidr := range c.place.ServiceCIDRs {
		e.cidr(cidr)
	}
	if c.place.Node != nil {
		e.object(kindNode, c.place.Node)
	}
	for _, n := range c.place.Others {
		e.object(kindOther, n)
	}
	for _, o := range c.services {
		e.service(o)
	}
	return e.err
}

func (e *encoder) cidr(cidr netip.Prefix) {
	b, err := cidr.MarshalBinary()
	if err != nil {
		e.fail(fmt.Errorf("encode ServiceCIDR %v: %w", cidr, err))
	}
	e.put(append(e.begin(kindCIDR, len(b)), b...))
}

// service writes the objects as in the API: another version of the program may pack them differently.
func (e *encoder) service(o *cluster.Objects) {
	if e.err != nil {
		return
	}
	service, all := o.Unpack()
	e.object(kindService, service)
	for _, s := range all {
		e.object(kindSlice, s)
	}
}

func (e *encoder) object(k kind, m message) {
	n := m.Size()
	if n > maxRecord {
		e.fail(fmt.Errorf("encode %T %s of %d bytes: %w", m, m.GetName(), n, errTooLarge))
		return
	}
	head := e.begin(k, n)
	b := slices.Grow(head, n)[:len(head)+n]
	if _, err := m.MarshalToSizedBuffer(b[len(head):]); err != nil {
		e.fail(fmt.Errorf("encode %T %s: %w", m, m.GetName(), err))
	}
	e.put(b)
}

func (e *encoder) begin(k kind, length int) []byte {
	return binary.AppendUvarint(append(e.buf[:0], byte(k)), uint64(length))
}

func (e *encoder) put(b []byte) {
	if e.buf = b; e.err != nil {
		return
	}
	if e.room -= int64(len(b)); e.room < 0 {
		e.fail(errTooLarge)
		return
	}
	_, e.err = e.w.Write(b)
}

func (e *encoder) fail(err error) { e.err = cmp.Or(e.err, err) }

// decoder reads what an encoder wrote, and refuses everything else.
type decoder struct {
	r   *bufio.Reader
	buf []byte
	c   content
}

func decode(r io.Reader) (content, error) {
	d := decoder{r: bufio.NewReader(r)}
	for {
		k, record, err := d.next()
		if errors.Is(err, io.EOF) {
			return d.c, nil
		}
		if err != nil {
			return content{}, fmt.Errorf("read record after %d Services: %w", len(d.c.services), err)
		}
		if err := d.take(k, record); err != nil {
			return content{}, fmt.Errorf("decode record after %d Services: %w", len(d.c.services), err)
		}
	}
}

// next returns one record, which is valid until the next call; io.EOF if there is none.
func (d *decoder) next() (kind, []byte, error) {
	k, err := d.r.ReadByte()
	if err != nil {
		return 0, nil, err
	}
	n, err := binary.ReadUvarint(d.r)
	if err != nil {
		return 0, nil, unexpected(err)
	}
	if n > maxRecord {
		return 0, nil, fmt.Errorf("it has %d bytes, more than %d", n, maxRecord)
	}
	d.buf = slices.Grow(d.buf[:0], int(n))[:n]
	_, err = io.ReadFull(d.r, d.buf)
	return kind(k), d.buf, unexpected(err)
}

// unexpected turns io.EOF into io.ErrUnexpectedEOF.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (d *decoder) take(k kind, record []byte) error {
	switch k {
	case kindCIDR:
		return d.takeCIDR(record)
	case kindNode, kindOther:
		return d.takeNode(k, record)
	case kindService:
		return d.takeService(record)
	case kindSlice:
		return d.takeSlice(record)
	}
	return fmt.Errorf("unknown kind of record: %d", k)
}

func (d *decoder) takeCIDR(record []byte) error {
	var p netip.Prefix
	if err := p.UnmarshalBinary(record); err != nil {
		return err
	}
	if !p.IsValid() {
		return errors.New("a ServiceCIDR without a network")
	}
	d.c.place.ServiceCIDRs = append(d.c.place.ServiceCIDRs, p)
	return nil
}

func (d *decoder) takeNode(k kind, record []byte) error {
	n := &corev1.Node{}
	if err := n.Unmarshal(record); err != nil {
		return err
	}
	switch {
	case k == kindOther:
		d.c.place.Others = append(d.c.place.Others, n)
	case d.c.place.Node != nil:
		return errors.New("a second Node of this name")
	default:
		d.c.place.Node = n
	}
	return nil
}

func (d *decoder) takeService(record []byte) error {
	var s corev1.Service
	if err := s.Unmarshal(record); err != nil {
		return err
	}
	o := cluster.Pack(&s)
	if last := d.last(); last != nil && cluster.CompareKeys(last.Service.Key(), o.Service.Key()) >= 0 {
		return fmt.Errorf("Service %v does not come after %v", o.Service.Key(), last.Service.Key())
	}
	d.c.services = append(d.c.services, o)
	return nil
}

func (d *decoder) takeSlice(record []byte) error {
	var s discoveryv1.EndpointSlice
	if err := s.Unmarshal(record); err != nil {
		return err
	}
	last := d.last()
	if last == nil {
		return errors.New("an EndpointSlice before any Service")
	}
	d.c.services[len(d.c.services)-1] = last.With(cluster.OfSlice(&s))
	return nil
}

func (d *decoder) last() *cluster.Objects {
	if n := len(d.c.services); n > 0 {
		return d.c.services[n-1]
	}
	return nil
}
