// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
)

// What flags can hold beside what cobra knows. A list may be given in parts, by
// the same flag several times.

type cidrs []netip.Prefix

func (*cidrs) Type() string     { return "CIDRs" }
func (l *cidrs) String() string { return joined(*l) }

func (l *cidrs) Set(text string) error {
	return each(text, func(word string) error {
		p, err := netip.ParsePrefix(word)
		if err != nil {
			return fmt.Errorf("%q is not a CIDR such as 10.244.0.0/16", word)
		}
		*l = append(*l, p.Masked())
		return nil
	})
}

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

// nodePortAddresses are networks or the one word primary.
type nodePortAddresses struct {
	networks cidrs
	primary  bool
}

func (*nodePortAddresses) Type() string { return "CIDRs" }

func (n *nodePortAddresses) String() string {
	if n.primary {
		return "primary"
	}
	return n.networks.String()
}

func (n *nodePortAddresses) Set(text string) error {
	err := each(text, func(word string) error {
		if word == "primary" {
			n.primary = true
			return nil
		}
		return n.networks.Set(word)
	})
	if err == nil && n.primary && len(n.networks) > 0 {
		return fmt.Errorf("primary does not go together with networks")
	}
	return err
}

type portRange config.PortRange

func (*portRange) Type() string     { return "FIRST-LAST" }
func (r *portRange) String() string { return fmt.Sprintf("%d-%d", r.First, r.Last) }

func (r *portRange) Set(text string) error {
	first, last, _ := strings.Cut(strings.TrimSpace(text), "-")
	from, err := strconv.ParseUint(first, 10, 16)
	to, err2 := strconv.ParseUint(last, 10, 16)
	if err != nil || err2 != nil {
		return fmt.Errorf("%q is not a range of ports such as 30000-32767", text)
	}
	r.First, r.Last = uint16(from), uint16(to)
	return nil
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
