// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Stat reads the header of a snapshot. The content may still be damaged.
func Stat(file string) (h Header, err error) {
	err = open(file, func(_ *os.File, found Header) error {
		h = found
		return nil
	})
	return h, err
}

// read reads the snapshot of this Node, if it is whole and not larger than limit.
func read(file, node string, limit int64) (h Header, c content, err error) {
	err = open(file, func(f *os.File, found Header) (err error) {
		h = found
		c, err = readContent(f, h, node, limit)
		return err
	})
	return h, c, err
}

// open calls use with a snapshot behind its header. It does not wait for the writer of a pipe.
func open(file string, use func(*os.File, Header) error) error {
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("read snapshot %s: %w", file, cause(err))
	}
	h, err := readHeader(f)
	if err == nil {
		err = use(f, h)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("read snapshot %s: %w", file, err)
	}
	return nil
}

// cause returns err without the path, which the caller adds.
func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

func readHeader(f *os.File) (Header, error) {
	stat, err := f.Stat()
	if err != nil {
		return Header{}, cause(err)
	}
	if !stat.Mode().IsRegular() {
		return Header{}, errors.New("it is no regular file")
	}
	b := make([]byte, headerSize)
	n, err := io.ReadFull(f, b)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return Header{}, fmt.Errorf("it has %d bytes, less than a header", n)
	}
	if err != nil {
		return Header{}, cause(err)
	}
	h, err := parseHeader(b)
	if err == nil && stat.Size()-headerSize != h.Length {
		err = fmt.Errorf("it has %d bytes after the header, which says %d", stat.Size()-headerSize, h.Length)
	}
	return h, err
}

// readContent checks the checksum before it decodes anything.
func readContent(f io.ReadSeeker, h Header, node string, limit int64) (content, error) {
	if err := h.mustBeOf(node); err != nil {
		return content{}, err
	}
	if size := max(h.size(), h.Plain); size > limit {
		return content{}, fmt.Errorf("it has %d bytes, more than %d", size, limit)
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, io.LimitReader(f, h.Length)); err != nil {
		return content{}, cause(err)
	}
	if [sha256.Size]byte(sum.Sum(nil)) != h.sum {
		return content{}, errors.New("its content is damaged: the checksum is another")
	}
	if _, err := f.Seek(headerSize, io.SeekStart); err != nil {
		return content{}, cause(err)
	}
	plain, err := gzip.NewReader(bufio.NewReader(io.LimitReader(f, h.Length)))
	if err != nil {
		return content{}, err
	}
	counted := &io.LimitedReader{R: plain, N: h.Plain + 1}
	c, err := decode(counted)
	if err == nil && (counted.N != 1 || len(c.services) != h.Services) {
		return content{}, errors.New("it holds something else than its header says")
	}
	return c, err
}

// write replaces the snapshot by c, or keeps the old one whole. It returns the new header.
func write(file string, h Header, limit int64, c content) (Header, error) {
	h.Services = len(c.services)
	fresh := file + ".new" // always the same, so what a crash leaves is replaced
	folder := filepath.Dir(file)
	err := os.MkdirAll(folder, 0o700)
	if err == nil {
		h, err = writeNew(fresh, h, limit, c)
	}
	if err == nil {
		err = os.Rename(fresh, file)
	}
	if err != nil {
		_ = os.Remove(fresh) // to leave no half file on a disk that may be full
		return Header{}, fmt.Errorf("write snapshot %s: %w", file, cause(err))
	}
	if err := syncFolder(folder); err != nil {
		return Header{}, fmt.Errorf("write snapshot %s: sync folder: %w", file, cause(err))
	}
	return h, nil
}

// writeNew writes a file and syncs it. Only root may read it: it has all Services of the cluster.
func writeNew(file string, h Header, limit int64, c content) (Header, error) {
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Header{}, err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return Header{}, err
	}
	h, err = writeAll(f, h, limit, c)
	if err == nil {
		err = f.Sync()
	}
	return h, errors.Join(err, f.Close())
}

// writeAll writes the content first and the header last, when its sums are known.
func writeAll(f *os.File, h Header, limit int64, c content) (Header, error) {
	if _, err := f.Seek(headerSize, io.SeekStart); err != nil {
		return h, err
	}
	sum := sha256.New()
	out := bufio.NewWriterSize(io.MultiWriter(f, sum), 64<<10)
	plain, err := writeContent(out, limit, c)
	if err == nil {
		err = out.Flush()
	}
	if err != nil {
		return h, err
	}
	end, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return h, err
	}
	h.Plain, h.Length, h.sum = plain, end-headerSize, [sha256.Size]byte(sum.Sum(nil))
	if h.size() > limit {
		return h, errTooLarge
	}
	b, err := h.marshal()
	if err == nil {
		_, err = f.WriteAt(b, 0)
	}
	return h, err
}

// writeContent compresses the records at the fastest level, and returns their length before.
func writeContent(w io.Writer, limit int64, c content) (int64, error) {
	z, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return 0, err
	}
	e := encoder{w: z, room: limit}
	if err := e.content(c); err != nil {
		return 0, err
	}
	return limit - e.room, z.Close()
}

func syncFolder(folder string) error {
	f, err := os.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

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

// layout is the header in big endian. Check is the CRC-32C of the rest. Versions share the first two fields.
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
	if len(h.Node) > maxName || strings.Contains(h.Node, "\x00") {
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
