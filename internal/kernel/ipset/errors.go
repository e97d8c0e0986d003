// SPDX-License-Identifier: Apache-2.0

package ipset

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// explain puts the kernel's refusal into words where it is one of ipset's own numbers, which the system has
// no text for. bitmap says what type of set refused: the numbers from errHashFull on depend on it.
func explain(refusal error, bitmap bool) error {
	var number unix.Errno
	if !errors.As(refusal, &number) {
		return refusal
	}
	words := ownWords(number)
	if number >= errHashFull && bitmap {
		words = bitmapWords(number)
	} else if number >= errHashFull {
		words = hashWords(number)
	}
	if words == "" {
		return refusal
	}
	return fmt.Errorf("%s (%w)", words, refusal)
}

func ownWords(number unix.Errno) string {
	switch number {
	case unix.ENOENT:
		return "the set does not exist"
	case errProtocol:
		return "the set's type or IP family does not take such a request"
	case errFindType:
		return "the kernel has no such set type"
	case errMaxSets:
		return "the kernel can't hold more sets"
	case errBusy, errReferenced:
		return "the set is in use by an iptables rule or another set"
	case errTypeMismatch:
		return "sets of different types can't be swapped"
	case errExist:
		return "the entry exists already or is missing"
	case errInvalidCIDR:
		return "the prefix length is not one that ipset can hold (it has no /0)"
	case errFamily:
		return "the IP family is not that of the set"
	case errIPv4:
		return "the set wants an IPv4 address"
	case errIPv6:
		return "the set wants an IPv6 address"
	case errComment:
		return "the set's entries carry no comments"
	}
	return ""
}

func hashWords(number unix.Errno) string {
	switch number {
	case errHashFull:
		return "the set is full"
	case errHashElement:
		return "the set can't hold the zero address"
	case errHashProto, errHashNoProto:
		return "the set can't hold the protocol"
	}
	return ""
}

func bitmapWords(number unix.Errno) string {
	if number == errBitmapRange {
		return "the port is outside the set's range"
	}
	return ""
}

// full is the refusal of an entry because its set has maxElem of them.
func full(name state.SetName, maxElem uint32, refusal error) error {
	return fmt.Errorf("set %s is full: it takes at most %d entries (maxelem) (%w)", name, maxElem, refusal)
}
