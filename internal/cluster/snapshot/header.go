// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"
)

// Header describes a snapshot.
type Header struct {
	Node     string // the node that it belongs to
	Written  time.Time
	Services int
	Length   int64 // bytes in the file after the header
	Plain    int64 // bytes of the records before compression

	sum [sha256.Size]byte // of the bytes after the header
}

const (
	magic      = "kube-ipvs.objs\r\n" // the line end shows conversions of line ends
	version    = 1
	headerSize = 512
	maxName    = 253 // of a Node, as of a DNS subdomain
)

// layout is the header in the file, in big endian. Check is the CRC-32C of everything before it. Other
// versions begin with the same two fields.
type layout struct {
	Magic    [16]byte
	Version  uint32
	Services uint32
	Written  int64 // nanoseconds since 1970
	Length   int64
	Plain    int64
	Sum      [sha256.Size]byte
	Node     [maxName]byte
	Unused   [175]byte
	Check    uint32
}

func check(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// size returns the size of the whole file; 0 if nothing was written.
func (h Header) size() int64 {
	if h.Length == 0 {
		return 0
	}
	return headerSize + h.Length
}

func (h Header) mustBeOf(node string) error {
	if h.Node != node {
		return fmt.Errorf("it is of Node %q, not of %q", h.Node, node)
	}
	return nil
}

func (h Header) marshal() ([]byte, error) {
	if len(h.Node) > maxName || bytes.IndexByte([]byte(h.Node), 0) >= 0 {
		return nil, fmt.Errorf("%q is no name of a Node", h.Node)
	}
	l := layout{
		Version: version, Services: uint32(h.Services), Written: h.Written.UnixNano(),
		Length: h.Length, Plain: h.Plain, Sum: h.sum,
	}
	copy(l.Magic[:], magic)
	copy(l.Node[:], h.Node)
	b, err := binary.Append(nil, binary.BigEndian, l)
	if err != nil {
		return nil, err
	}
	end := len(b) - 4
	binary.BigEndian.PutUint32(b[end:], check(b[:end]))
	return b, nil
}

func parseHeader(b []byte) (Header, error) {
	var l layout
	if _, err := binary.Decode(b, binary.BigEndian, &l); err != nil || string(l.Magic[:]) != magic {
		return Header{}, errors.New("it is no snapshot")
	}
	if l.Version != version {
		return Header{}, fmt.Errorf("it has format %d, this program reads %d", l.Version, version)
	}
	if check(b[:headerSize-4]) != l.Check || l.Length < 0 || l.Plain < 0 {
		return Header{}, errors.New("its header is damaged")
	}
	return Header{
		Node: string(bytes.TrimRight(l.Node[:], "\x00")), Written: time.Unix(0, l.Written), Services: int(l.Services),
		Length: l.Length, Plain: l.Plain, sum: l.Sum,
	}, nil
}
