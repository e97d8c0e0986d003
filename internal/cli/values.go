// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"net/netip"
	"strings"
)

// listFlag is a comma-separated list. The first flag replaces the default, others add to it.
type listFlag[T any] struct {
	to    *[]T
	kind  string
	parse func(string) (T, error)
	given bool
}

func wordList(to *[]string) *listFlag[string] {
	return &listFlag[string]{to: to, kind: "list", parse: func(word string) (string, error) { return word, nil }}
}

func addressList(to *[]netip.Addr) *listFlag[netip.Addr] {
	return &listFlag[netip.Addr]{to: to, kind: "addresses", parse: func(word string) (netip.Addr, error) {
		a, err := netip.ParseAddr(word)
		if err != nil || a.Zone() != "" {
			return a, fmt.Errorf("%q is not an IP address", word)
		}
		return a.Unmap(), nil
	}}
}

func networkList(to *[]netip.Prefix) *listFlag[netip.Prefix] {
	return &listFlag[netip.Prefix]{to: to, kind: "CIDRs", parse: func(word string) (netip.Prefix, error) {
		p, err := netip.ParsePrefix(word)
		if err != nil {
			return p, fmt.Errorf("%q is not a CIDR such as 10.96.0.0/16", word)
		}
		return p.Masked(), nil
	}}
}

func (l *listFlag[T]) Type() string { return l.kind }

func (l *listFlag[T]) String() string {
	var words []string
	if l.to != nil { // pflag compares with the zero value
		for _, v := range *l.to {
			words = append(words, fmt.Sprint(v))
		}
	}
	return strings.Join(words, ",")
}

func (l *listFlag[T]) Set(text string) error {
	if !l.given {
		*l.to, l.given = nil, true
	}
	for word := range strings.SplitSeq(text, ",") {
		if word = strings.TrimSpace(word); word == "" {
			continue
		}
		v, err := l.parse(word)
		if err != nil {
			return err
		}
		*l.to = append(*l.to, v)
	}
	return nil
}
