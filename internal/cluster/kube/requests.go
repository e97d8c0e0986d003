// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"sync"
	"syscall"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
)

var errNoAnswer = errors.New("the API server did not answer")

func (f *feed) list(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
	l := &list{fresh: f.kind.object.DeepCopyObject, item: f.item}
	err := f.request(o).Do(ctx).Into(l)
	if err != nil {
		f.judge(ctx, err)
	}
	return l, err // only a watch shows that the server can be followed
}

func (f *feed) watch(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	o.Watch = true
	w, err := f.request(o).Watch(ctx)
	if err == nil && isEmpty(w) {
		err = errNoAnswer
	}
	if err == nil {
		f.judge(ctx, nil)
		return newStream(w), nil
	}
	if isAnswer(err) && !apierrors.IsTooManyRequests(err) && (o.SendInitialEvents != nil || isStale(err)) {
		return nil, err // a list is requested next, and reports
	}
	f.judge(ctx, err)
	return nil, resumable(err)
}

// request is not retried here: the reflector decides when to retry, and client-go would try ten times first.
func (f *feed) request(o metav1.ListOptions) *rest.Request {
	o.LabelSelector, o.FieldSelector = f.kind.labels, f.kind.fields
	var timeout time.Duration
	if o.TimeoutSeconds != nil {
		timeout = time.Duration(*o.TimeoutSeconds) * time.Second
	}
	return f.kind.client.Get().Resource(f.kind.resource).SpecificallyVersionedParams(&o, metav1.ParameterCodec, metav1.Unversioned).Timeout(timeout).MaxRetries(0)
}

func (f *feed) judge(ctx context.Context, err error) {
	if err == nil {
		f.refused = time.Time{}
	}
	switch {
	case ctx.Err() != nil:
	case err == nil, f.kind.optional && isRefusal(err):
		f.link.answered(f.kind.resource)
	default:
		f.link.failed(f.kind.resource, err)
	}
}

// resumable turns an error without an answer into one that a reflector takes for a refused connection. It then resumes
// the watch. Otherwise every node of a large cluster would list all objects anew, and overload an API server that has
// just come back.
func resumable(err error) error {
	if isAnswer(err) {
		return err
	}
	return fmt.Errorf("%w (%w)", err, syscall.ECONNREFUSED)
}

func isAnswer(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status)
}

// isStale reports whether the requested version is too old or too new to resume from.
func isStale(err error) bool {
	return apierrors.IsResourceExpired(err) || apierrors.IsGone(err) || apierrors.HasStatusCause(err, metav1.CauseTypeResourceVersionTooLarge)
}

// isRefusal reports whether the server does not have the kind, or not for us.
func isRefusal(err error) bool { return apierrors.IsNotFound(err) || apierrors.IsForbidden(err) }

// isEmpty reports whether w is what client-go returns for a connection that ended before an answer.
func isEmpty(w watch.Interface) bool {
	return reflect.TypeOf(w) == reflect.TypeOf(watch.NewEmptyWatch())
}

// stream is a watch that just ends when its connection breaks. client-go reports an error of the API server instead,
// and a reflector would list all objects anew.
type stream struct {
	watch.Interface
	events chan watch.Event
	once   sync.Once // reflectors stop a watch twice
	done   chan struct{}
}

func newStream(w watch.Interface) *stream {
	s := &stream{Interface: w, events: make(chan watch.Event), done: make(chan struct{})}
	go s.pass()
	return s
}

func (s *stream) pass() {
	defer close(s.events)
	for e := range s.Interface.ResultChan() {
		if e.Type == watch.Error && isBroken(e.Object) {
			return
		}
		select {
		case s.events <- e:
		case <-s.done:
			return
		}
	}
}

// ResultChan returns the events.
func (s *stream) ResultChan() <-chan watch.Event { return s.events }

// Stop ends the watch.
func (s *stream) Stop() {
	s.once.Do(func() { close(s.done) })
	s.Interface.Stop()
}

// isBroken recognises client-go's own error by the cause of its reporter.
func isBroken(o runtime.Object) bool {
	status, ok := o.(*metav1.Status)
	return ok && status.Code == http.StatusInternalServerError && apierrors.HasStatusCause(apierrors.FromObject(status), "ClientWatchDecoding")
}

// item is what is kept of an object. client-go sees an immutable object.
type item struct {
	key  types.NamespacedName
	kept any
}

// GetObjectKind returns nothing: an item is of the kind of its list.
func (item) GetObjectKind() schema.ObjectKind { return schema.EmptyObjectKind }

// DeepCopyObject returns the item.
func (i item) DeepCopyObject() runtime.Object { return i }

// list is a list from an API server without streaming lists. It packs each object as it is read: all objects unpacked
// would take a hundred times the memory.
type list struct {
	metav1.ListMeta
	Items []runtime.Object // client-go finds them by this name

	fresh func() runtime.Object
	item  func(any) (item, error)
}

// The wire type of a message in protobuf, and the largest field number.
const (
	message  = 2
	maxField = 1<<29 - 1
)

var errNoList = errors.New("it is no list in protobuf")

// GetObjectKind returns nothing: the caller knows the kind.
func (*list) GetObjectKind() schema.ObjectKind { return schema.EmptyObjectKind }

// DeepCopyObject shares the items, which are immutable.
func (l *list) DeepCopyObject() runtime.Object {
	c := *l
	return &c
}

// Reset is called before Unmarshal.
func (l *list) Reset() { l.ListMeta, l.Items = metav1.ListMeta{}, nil }

// Unmarshal reads a list of any kind: all have the same two fields.
func (l *list) Unmarshal(b []byte) error {
	for len(b) > 0 {
		tag, n := binary.Uvarint(b)
		if n <= 0 || tag&7 != message || tag>>3 == 0 || tag>>3 > maxField {
			return errNoList
		}
		b = b[n:]
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			return errNoList
		}
		field := b[n : n+int(size)]
		b = b[n+int(size):]
		var err error
		switch tag >> 3 { // others are of a later Kubernetes
		case 1:
			err = l.ListMeta.Unmarshal(field)
		case 2:
			err = l.add(func(o runtime.Object) error { return o.(interface{ Unmarshal([]byte) error }).Unmarshal(field) })
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// UnmarshalJSON reads a list, for operators who chose JSON.
func (l *list) UnmarshalJSON(b []byte) error {
	var all struct {
		Metadata metav1.ListMeta   `json:"metadata"`
		Items    []json.RawMessage `json:"items"`
	}
	if err := json.Unmarshal(b, &all); err != nil {
		return err
	}
	l.ListMeta = all.Metadata
	for _, one := range all.Items {
		if err := l.add(func(o runtime.Object) error { return json.Unmarshal(one, o) }); err != nil {
			return err
		}
	}
	return nil
}

func (l *list) add(read func(runtime.Object) error) error {
	o := l.fresh()
	if err := read(o); err != nil {
		return fmt.Errorf("read object %d of a list: %w", len(l.Items)+1, err)
	}
	i, err := l.item(o)
	l.Items = append(l.Items, i)
	return err
}
