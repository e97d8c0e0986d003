// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"
)

// Services and EndpointSlices are kept in a compact form: the fields that are read, in one immutable string. An
// endpoint takes some ten bytes, not four hundred. Objects are equal if nothing that is read differs. The form stays in
// memory: objects on disk are in Kubernetes' own form.

// form visits the fields of an object in one order, to write or to read them: so the two cannot differ. Writing does
// not change a field, and a field must be empty before reading.
type form struct {
	writing bool
	out     []byte   // written so far
	in      string   // left to read
	words   []string // that occurred so far, without the frequent ones
}

// number takes one byte for seven bits.
func (f *form) number(n *uint64) {
	if f.writing {
		f.out = binary.AppendUvarint(f.out, *n)
		return
	}
	for shift := 0; ; shift += 7 {
		b := f.in[0]
		f.in = f.in[1:]
		*n |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return
		}
	}
}

// integer may be negative, by mistake of a user.
func integer[T int32 | int64](f *form, i *T) {
	wide := int64(*i)
	n := uint64(wide<<1) ^ uint64(wide>>63)
	if f.number(&n); !f.writing {
		*i = T(int64(n>>1) ^ -int64(n&1))
	}
}

func (f *form) flag(b *bool) {
	var n uint64
	if *b {
		n = 1
	}
	f.number(&n)
	*b = n == 1
}

// bytes have a length that is known on both sides.
func (f *form) bytes(s *string, length int) {
	if f.writing {
		f.out = append(f.out, *s...)
		return
	}
	*s, f.in = f.in[:length], f.in[length:]
}

func text[T ~string](f *form, t *T) {
	s, length := string(*t), uint64(len(*t))
	f.number(&length)
	if f.bytes(&s, int(length)); !f.writing {
		*t = T(s)
	}
}

// ending is a text that shares its beginning with another one.
func (f *form) ending(s *string, of string) {
	shared := uint64(0)
	for int(shared) < min(len(*s), len(of)) && (*s)[shared] == of[shared] {
		shared++
	}
	rest := (*s)[shared:]
	f.number(&shared)
	if text(f, &rest); !f.writing {
		*s = of[:shared] + rest
	}
}

// frequent returns words that are in many objects.
func frequent() [frequentWords]string {
	return [...]string{
		"", "TCP", "UDP", "SCTP", "IPv4", "IPv6", "http", "https", "metrics", "grpc", "None", "ClientIP",
		"ClusterIP", "NodePort", "LoadBalancer", "ExternalName", "Cluster", "Local", "VIP", "Proxy",
	}
}

const frequentWords = 20

// fresh is the number of a new word: 0 is no word, below are the frequent ones, above the earlier ones.
const fresh uint64 = 1 + frequentWords

func (f *form) numberOf(word string) uint64 {
	known := frequent()
	if i := slices.Index(known[:], word); i >= 0 {
		return uint64(i) + 1
	}
	if i := slices.Index(f.words, word); i >= 0 {
		return uint64(i) + fresh + 1
	}
	return fresh
}

func (f *form) wordOf(number uint64) string {
	switch {
	case number < fresh:
		return frequent()[number-1]
	case number == fresh:
		return f.words[len(f.words)-1]
	}
	return f.words[number-fresh-1]
}

// maybe is a word, or none.
func maybe[T ~string](f *form, w **T) {
	n, s := uint64(0), ""
	if f.writing && *w != nil {
		s = string(**w)
		n = f.numberOf(s)
	}
	if f.number(&n); n == fresh {
		text(f, &s)
		f.words = append(f.words, s)
	}
	if !f.writing && n > 0 {
		*w = new(T(f.wordOf(n)))
	}
}

// word is a text that occurs more than once, or in many objects.
func word[T ~string](f *form, w *T) {
	p := w
	if maybe(f, &p); !f.writing {
		*w = *p
	}
}

// address takes only the bytes of the address, if it is in its usual form.
func (f *form) address(s *string) {
	var b []byte
	if f.writing {
		if a, err := netip.ParseAddr(*s); err == nil && a.Zone() == "" && a.String() == *s {
			b = a.AsSlice()
		}
	}
	short(f, s, b, func(b []byte) string {
		a, _ := netip.AddrFromSlice(b) // it was one
		return a.String()
	})
}

// uid is a UUID in all known clusters.
func (f *form) uid(u *types.UID) {
	var b []byte
	if f.writing {
		half, err := hex.DecodeString(strings.ReplaceAll(string(*u), "-", ""))
		if err == nil && len(half) == 16 && uuid(half) == string(*u) {
			b = half
		}
	}
	short(f, u, b, uuid)
}

func uuid(b []byte) string {
	h := hex.EncodeToString(b)
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}

// short is a text that b can stand for. If b is empty, the text is written in full.
func short[T ~string](f *form, t *T, b []byte, long func([]byte) string) {
	length, written := uint64(len(b)), string(b)
	if f.number(&length); length == 0 {
		text(f, t)
		return
	}
	if f.bytes(&written, int(length)); !f.writing {
		*t = T(long([]byte(written)))
	}
}

// list counts its elements. An empty list and none are the same.
func list[T any](f *form, all *[]T, each func(*T)) {
	n := uint64(len(*all))
	if f.number(&n); !f.writing && n > 0 {
		*all = make([]T, n)
	}
	for i := range *all {
		each(&(*all)[i])
	}
}

func optional[T any](f *form, p **T, each func(*T)) {
	there := *p != nil
	if f.flag(&there); !there {
		return
	}
	if !f.writing {
		*p = new(T)
	}
	each(*p)
}
