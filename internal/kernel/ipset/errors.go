// SPDX-License-Identifier: Apache-2.0

package ipset

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// explain adds words to ipset's own error numbers. From errHashFull on they depend on the type of the set.
func explain(refusal error, bitmap bool) error {
	number, ok := errors.AsType[unix.Errno](refusal)
	if !ok {
		return refusal
	}
	words := refusals()[number]
	if number >= errHashFull && bitmap {
		words = ""
		if number == errBitmapRange {
			words = "the port is outside the set's range"
		}
	}
	if words == "" {
		return refusal
	}
	return fmt.Errorf("%s (%w)", words, refusal)
}

func refusals() map[unix.Errno]string {
	return map[unix.Errno]string{
		unix.ENOENT:     "the set does not exist",
		errProtocol:     "the set's type or IP family does not take such a request",
		errFindType:     "the kernel has no such set type",
		errMaxSets:      "the kernel can't hold more sets",
		errBusy:         "the set is in use by an iptables rule or another set",
		errReferenced:   "the set is in use by an iptables rule or another set",
		errTypeMismatch: "sets of different types can't be swapped",
		errExist:        "the entry exists already or is missing",
		errInvalidCIDR:  "the prefix length is not one that ipset can hold (it has no /0)",
		errFamily:       "the IP family is not that of the set",
		errIPv4:         "the set takes an IPv4 address",
		errIPv6:         "the set takes an IPv6 address",
		errComment:      "the set's entries carry no comments",
		errHashFull:     "the set is full",
		errHashElement:  "the set can't hold the zero address",
		errHashProto:    "the set can't hold the protocol",
		errHashNoProto:  "the set can't hold the protocol",
	}
}
