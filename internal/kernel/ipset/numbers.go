// SPDX-License-Identifier: Apache-2.0

package ipset

import "golang.org/x/sys/unix"

// The numbers of linux/netfilter/ipset/ip_set.h that are needed here.
const (
	subsystem        = 6 // NFNL_SUBSYS_IPSET
	oldestProtocol   = 6 // kernels before 4.20
	newestProtocol   = 7
	flagListHeader   = 1 << 2 // IPSET_FLAG_LIST_HEADER
	maxNameLength    = 31     // IPSET_MAXNAMELEN without the final NUL
	maxCommentLength = 255
)

// Commands.
const (
	commandProtocol = 1
	commandCreate   = 2
	commandDestroy  = 3
	commandSwap     = 6
	commandList     = 7
	commandAdd      = 9
	commandDelete   = 10
	commandType     = 13
)

// Attributes of a command.
const (
	attrProtocol    = 1
	attrSetName     = 2
	attrTypeName    = 3
	attrSetName2    = 3 // of a swap
	attrRevision    = 4
	attrFamily      = 5
	attrFlags       = 6
	attrContent     = 7 // IPSET_ATTR_DATA: one header or one entry
	attrEntries     = 8 // IPSET_ATTR_ADT: a list of attrContent
	attrProtocolMin = 10
)

// Attributes of a header or an entry.
const (
	attrIP      = 1
	attrPort    = 4
	attrPortTo  = 5
	attrTimeout = 6
	attrProto   = 7
	attrBits    = 8 // IPSET_ATTR_CADT_FLAGS

	attrHashSize = 18
	attrMaxElem  = 19
	attrNetmask  = 20

	attrIP2      = 20
	attrCIDR2    = 21
	attrBytes    = 24
	attrPackets  = 25
	attrComment  = 26
	attrSKBMark  = 27
	attrSKBPrio  = 28
	attrSKBQueue = 29
	attrPad      = 30

	attrIPv4 = 1
	attrIPv6 = 2
)

// Bits of attrBits.
const (
	bitNoMatch   = 1 << 2
	bitCounters  = 1 << 3
	bitComment   = 1 << 4
	bitForceAdd  = 1 << 5
	bitSKBInfo   = 1 << 6
	bitsOfSet    = bitCounters | bitComment | bitForceAdd | bitSKBInfo
	lastPort     = 65535
	hashSize     = 1024 // kube-proxy's; the kernel doubles it when it fills
	networkOrder = unix.NLA_F_NET_BYTEORDER
)

// ipset's own error numbers. They lie above all of the system's.
const (
	errProtocol     unix.Errno = 4097
	errFindType     unix.Errno = 4098
	errMaxSets      unix.Errno = 4099
	errBusy         unix.Errno = 4100
	errTypeMismatch unix.Errno = 4102
	errExist        unix.Errno = 4103
	errInvalidCIDR  unix.Errno = 4104
	errFamily       unix.Errno = 4106
	errReferenced   unix.Errno = 4108
	errIPv4         unix.Errno = 4109
	errIPv6         unix.Errno = 4110
	errComment      unix.Errno = 4112

	// From here on they mean different things in different types of set.
	errHashFull    unix.Errno = 4352
	errHashElement unix.Errno = 4353
	errHashProto   unix.Errno = 4354
	errHashNoProto unix.Errno = 4355
	errBitmapRange unix.Errno = 4352
)
