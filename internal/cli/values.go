// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// What flags can hold beside what cobra knows.

// addresses may be given in parts, by the same flag several times.
type addresses []netip.Addr

func (*addresses) Type() string     { return "addresses" }
func (l *addresses) String() string { return joined(*l) }

func (l *addresses) Set(text string) error {
	return each(text, func(word string) error {
		a, err := netip.ParseAddr(word)
		if err != nil || a.Zone() != "" {
			return fmt.Errorf("%q is not an IP address", word)
		}
		*l = append(*l, a.Unmap())
		return nil
	})
}

// words may be given in parts too. The first part takes the place of what was there.
type words struct {
	to    *[]string
	given bool
}

func (*words) Type() string     { return "list" }
func (w *words) String() string { return strings.Join(*w.to, ",") }

func (w *words) Set(text string) error {
	if !w.given {
		*w.to, w.given = nil, true
	}
	return each(text, func(word string) error {
		*w.to = append(slices.Clip(*w.to), word)
		return nil
	})
}

func each(text string, take func(word string) error) error {
	for word := range strings.SplitSeq(text, ",") {
		if word = strings.TrimSpace(word); word == "" {
			continue
		}
		if err := take(word); err != nil {
			return err
		}
	}
	return nil
}

func joined[T fmt.Stringer](list []T) string {
	var words []string
	for _, e := range list {
		words = append(words, e.String())
	}
	return strings.Join(words, ",")
}
