// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// A transaction is one sendmsg. A list of elements is one attribute, of 65,535 bytes at most. The largest element has 380:
// two IPv6 keys and the longest comment.
const (
	rowsOfTransaction = 4096
	rowsOfRequest     = 160
)

// writing is the writing of one delta of entries.
type writing struct {
	c       *Conn
	headers map[state.SetName]state.Set
	strays  map[state.SetName][]netlink.Attributes // that are to be removed
	result  entryResult

	last  state.SetName // of which shape is: rows come in the order of their sets
	shape *shape        // nil: it is not of a type of ours
}

// knowHeaders makes the headers of all sets known. They change with the version of kube-ipvs alone, so they are read
// again only if a set is not known, or something was refused.
func (x *writing) knowHeaders(ctx context.Context, d entryDelta) (err error) {
	if unknownSet(x.c.known, d) {
		x.c.known, err = x.c.headers(ctx)
	}
	x.headers = x.c.known
	return err
}

func (x *writing) shapeOf(n state.SetName) *shape {
	if x.last == n && n != "" {
		return x.shape
	}
	x.last, x.shape = n, nil
	if s, known := shapeOf(n.Family(), x.headers[n].Type); known {
		x.shape = &s
	}
	return x.shape
}

// fit returns the rows that the sets can hold. One that is to be removed from a set that is not there is gone.
func (x *writing) fit(ctx context.Context, work []entryWork) []entryWork {
	return slices.DeleteFunc(work, func(w entryWork) bool {
		s := x.shapeOf(w.Key.Set)
		err := error(nil)
		switch _, there := x.headers[w.Key.Set]; {
		case !there && w.Remove:
			x.result.Drift++
			return true
		case !there:
			err = fmt.Errorf("the set does not exist (%w)", fs.ErrNotExist)
		case s == nil:
			err = errors.New("the set is of a type that is not ours")
		case w.Remove && w.Key == stray(w.Key.Set):
			err = x.find(ctx, w.Key.Set)
		default:
			err = s.check(w.Key, w.Value)
		}
		if err != nil {
			x.fail(w, err)
		}
		return err != nil
	})
}

// find reads which stray elements a set has.
func (x *writing) find(ctx context.Context, n state.SetName) error {
	list, err := x.c.strays(ctx, n, *x.shapeOf(n))
	if x.strays == nil {
		x.strays = map[state.SetName][]netlink.Attributes{}
	}
	x.strays[n] = list
	return err
}

func (x *writing) fail(w entryWork, err error) {
	verb := "adding"
	if w.Remove {
		verb = "removing"
	} else if w.Expected {
		verb = "changing"
	}
	x.result.Fail(w.Key, fmt.Errorf("%s set entry %v: %w", verb, w.Key, err))
}

// write writes rows in one transaction. If that is refused, it asks which rows are there and writes what is right then,
// and if that is refused too, each half by itself.
func (x *writing) write(ctx context.Context, work []entryWork) {
	err := x.send(ctx, work)
	if errors.Is(err, unix.EMSGSIZE) && len(work) > 1 { // more than may be sent at once without CAP_NET_ADMIN on the machine
		x.write(ctx, work[:len(work)/2])
		x.write(ctx, work[len(work)/2:])
		return
	}
	if ofRows(err) {
		work, err = x.correct(ctx, work)
	}
	if err != nil {
		x.halve(ctx, work, err)
	}
}

// ofRows reports whether an error is the kernel's refusal of some rows. Other errors would come for any rows.
func ofRows(err error) bool {
	var refusal *netlink.Error
	whole := errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOMEM) || errors.Is(err, unix.EOPNOTSUPP)
	return errors.As(err, &refusal) && !whole
}

// correct writes rows by what is there of them. It returns those that had to be written, which none is if that fails.
func (x *writing) correct(ctx context.Context, work []entryWork) ([]entryWork, error) {
	headers, err := x.c.headers(ctx)
	if err != nil {
		return work, err
	}
	x.c.known, x.headers, x.last = headers, headers, ""
	work = x.fit(ctx, work)
	there, err := x.there(ctx, work)
	if err != nil {
		return work, err
	}
	work = x.corrected(work, there)
	return work, x.send(ctx, work)
}

// corrected counts the rows that were not as expected, and returns the work for what is there.
func (x *writing) corrected(work []entryWork, there []bool) []entryWork {
	var left []entryWork
	for i, w := range work {
		if w.Expected != there[i] {
			x.result.Drift++
		}
		w.Expected = there[i]
		if !w.Remove || w.Expected {
			left = append(left, w)
		}
	}
	return left
}

// halve writes each half of rows that were refused together.
func (x *writing) halve(ctx context.Context, work []entryWork, err error) {
	if len(work) == 1 || !ofRows(err) {
		for _, w := range work {
			x.fail(w, x.explained(w, err))
		}
		return
	}
	for _, half := range [][]entryWork{work[:len(work)/2], work[len(work)/2:]} {
		if err := x.send(ctx, half); err != nil {
			x.halve(ctx, half, err)
		}
	}
}

// explained adds to a refusal what it means. A row that was there would have been found, so another one is in its way.
func (x *writing) explained(w entryWork, err error) error {
	if x.shapeOf(w.Key.Set).net && (errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOTEMPTY)) {
		return fmt.Errorf("its network overlaps that of another entry (%w)", err)
	}
	return err
}

// send makes one transaction: first it removes what is to go or to change, then it adds.
func (x *writing) send(ctx context.Context, work []entryWork) error {
	err := x.c.transact(ctx, func() {
		x.lists(unix.NFT_MSG_DELSETELEM, 0, work, func(w entryWork) bool { return w.Remove || w.Expected })
		x.lists(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE|unix.NLM_F_EXCL, work, func(w entryWork) bool { return !w.Remove })
	})
	if err == nil {
		x.count(work)
	}
	return err
}

// count counts what has been written.
func (x *writing) count(work []entryWork) {
	for _, w := range work {
		switch {
		case w.Remove:
			x.c.counts[w.Key.Set]--
		case !w.Expected:
			x.c.counts[w.Key.Set]++
		}
	}
}

// lists appends requests with the matching rows, those of one set together.
func (x *writing) lists(kind, flags uint16, work []entryWork, match func(entryWork) bool) {
	for len(work) > 0 {
		n := work[0].Key.Set
		run := 1
		for run < len(work) && run < rowsOfRequest && work[run].Key.Set == n {
			run++
		}
		if part := work[:run]; slices.ContainsFunc(part, match) {
			x.c.beginElements(kind, flags, n)
			x.c.requests.Nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS, func() {
				for _, w := range part {
					if match(w) {
						x.append(kind, w)
					}
				}
			})
		}
		work = work[run:]
	}
}

func (x *writing) append(kind uint16, w entryWork) {
	b, s := &x.c.requests, x.shapeOf(w.Key.Set)
	switch {
	case kind == unix.NFT_MSG_NEWSETELEM:
		s.appendElement(b, w.Key, w.Value)
	case w.Key == stray(w.Key.Set):
		for _, name := range x.strays[w.Key.Set] {
			b.Nest(unix.NFTA_LIST_ELEM, func() {
				for _, a := range name {
					b.Bytes(a.Type, a.Value)
				}
			})
		}
	default:
		b.Nest(unix.NFTA_LIST_ELEM, func() { s.appendKey(b, w.Key) })
	}
}
