// SPDX-License-Identifier: Apache-2.0

package ipvs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel/netlink"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

const (
	// listingPath is the calling thread's: /proc/net is that of the process's first thread.
	listingPath = "/proc/thread-self/net/ip_vs"

	// listingAttempts is how often a listing that contradicts itself is read.
	listingAttempts = 5
)

// Open connects to the IPVS of the calling thread's network namespace, and loads the kernel module if needed. The error
// wraps errors.ErrUnsupported if there is no IPVS, and fs.ErrPermission if it may not be used.
func Open() (*Conn, error) {
	socket, err := netlink.Open(unix.NETLINK_GENERIC)
	if err != nil {
		return nil, fmt.Errorf("opening IPVS: %w", err)
	}
	c := &Conn{socket: socket}
	if c.family, err = c.resolve(familyName, loadModule); err == nil {
		err = c.probe()
	}
	if err == nil {
		c.listing, err = os.Open(listingPath)
	}
	if err != nil {
		return nil, fmt.Errorf("opening IPVS: %w", errors.Join(err, socket.Close()))
	}
	return c, nil
}

// probe changes nothing but needs the permission to: resolving the family needs none.
func (c *Conn) probe() error {
	c.requests.Reset()
	begin(&c.requests, c.family, commandGetInfo)
	if err := c.socket.Ask(context.Background(), &c.requests, nil); err != nil {
		return fmt.Errorf("using IPVS (it takes CAP_NET_ADMIN): %w", err)
	}
	return nil
}

func loadModule() error {
	output, err := exec.Command("modprobe", "ip_vs").CombinedOutput()
	if err != nil {
		return fmt.Errorf("modprobe ip_vs: %w %s", err, bytes.TrimSpace(output))
	}
	return nil
}

// resolve finds the number of a generic netlink family. If it is missing, it calls load and looks again.
func (c *Conn) resolve(name string, load func() error) (uint16, error) {
	family, err := c.askFamily(name)
	if !errors.Is(err, unix.ENOENT) {
		return family, err
	}
	loading := load()
	family, err = c.askFamily(name)
	if !errors.Is(err, unix.ENOENT) {
		return family, err
	}
	if loading != nil {
		return 0, fmt.Errorf("the kernel has no %s: %w: %w", name, errors.ErrUnsupported, loading)
	}
	return 0, fmt.Errorf("the kernel has no %s, not even with its module: %w", name, errors.ErrUnsupported)
}

func (c *Conn) askFamily(name string) (uint16, error) {
	c.requests.Reset()
	c.requests.Begin(unix.GENL_ID_CTRL, 0)
	c.requests.Raw(unix.CTRL_CMD_GETFAMILY, familyVersion, 0, 0)
	c.requests.String(unix.CTRL_ATTR_FAMILY_NAME, name)
	var family uint16
	err := c.socket.Ask(context.Background(), &c.requests, func(body []byte) (err error) {
		family, err = decodeFamily(body)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("resolving netlink family %s: %w", name, err)
	}
	return family, nil
}

func decodeFamily(body []byte) (uint16, error) {
	attributes, err := netlink.ParseBody(body, unix.GENL_HDRLEN)
	if err != nil {
		return 0, err
	}
	id := attributes.Get(unix.CTRL_ATTR_FAMILY_ID).Uint16()
	if id == 0 {
		return 0, errors.New("message without a family number")
	}
	return id, nil
}

// dumpVirtualServers reads all virtual servers, and keeps of each row what of returns.
func dumpVirtualServers[V any](ctx context.Context, c *Conn, of func(seenVirtualServer) V) (map[state.VirtualServerKey]V, error) {
	c.requests.Reset()
	begin(&c.requests, c.family, commandGetService)
	rows, err := dump(ctx, c, c.room.servers, func(body []byte) (state.VirtualServerKey, V, error) {
		k, v, err := decodeVirtualServer(body)
		return k, of(v), err
	})
	if err != nil {
		return nil, fmt.Errorf("dumping virtual servers: %w", err)
	}
	return rows, nil
}

func dumpRealServers[V any](ctx context.Context, c *Conn, k state.VirtualServerKey, of func(seenRealServer) V) (map[state.RealServerKey]V, error) {
	c.requests.Reset()
	encodeGet(&c.requests, c.family, commandGetDest, k)
	rows, err := dump(ctx, c, 0, func(body []byte) (state.RealServerKey, V, error) {
		key, v, err := decodeRealServer(body, k)
		return key, of(v), err
	})
	if err != nil {
		return nil, fmt.Errorf("dumping real servers of %v: %w", k, err)
	}
	return rows, nil
}

// dump sends the dump request in c.requests. The kernel continues a dump by counting rows, so a change during it can
// show a row twice: then the dump is repeated.
func dump[K comparable, V any](ctx context.Context, c *Conn, expected int, decode func([]byte) (K, V, error)) (map[K]V, error) {
	var rows map[K]V
	err := c.socket.Dump(ctx, &c.requests, func() func([]byte) error {
		rows = make(map[K]V, expected)
		return func(body []byte) error {
			k, v, err := decode(body)
			if err != nil {
				return err
			}
			return insert(rows, k, v)
		}
	})
	if err != nil {
		return nil, err
	}
	return rows, nil
}

// insert adds a row. One that is there already shows that the table changed while it was read.
func insert[K comparable, V any](rows map[K]V, k K, v V) error {
	if _, ok := rows[k]; ok {
		return fmt.Errorf("%v appears twice: %w", k, netlink.ErrInterrupted)
	}
	rows[k] = v
	return nil
}

// readRealServers reads all real servers from /proc, which is fifteen times faster than a dump for each virtual server.
// But where other network namespaces have virtual servers too, /proc leaves out some of ours at the end of each page:
// the kernel goes on from a count of ours (ip_vs_info_array) that it made of all (ip_vs_info_seq_next). Those are
// dumped one by one.
//
// It calls begin for each attempt, and what that returns for the real servers of each virtual server.
func (c *Conn) readRealServers(ctx context.Context, begin func() keeper) error {
	l, err := c.readListing(ctx, begin)
	if err != nil {
		return err
	}
	servers, err := c.takeVirtualServers(ctx)
	if err != nil {
		return err
	}
	for k := range servers {
		if _, listed := l.servers[k]; listed {
			continue
		}
		rows, err := dumpRealServers(ctx, c, k, func(r seenRealServer) seenRealServer { return r })
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
		if err := l.keepRows(k, rows); err != nil {
			return err
		}
	}
	return nil
}

// realServerRows reads all real servers into a map, and keeps of each what of returns.
func realServerRows[V any](ctx context.Context, c *Conn, of func(seenRealServer) V) (rows map[state.RealServerKey]V, err error) {
	err = c.readRealServers(ctx, func() keeper {
		rows = make(map[state.RealServerKey]V, c.room.rows)
		return insertRows(rows, of)
	})
	if err != nil {
		return nil, err
	}
	return rows, nil
}

// readListing reads /proc, again if the listing contradicts itself because it changed. It does not keep the text.
func (c *Conn) readListing(ctx context.Context, begin func() keeper) (l listing, err error) {
	for range listingAttempts {
		if err := ctx.Err(); err != nil {
			return listing{}, err
		}
		if _, err := c.listing.Seek(0, io.SeekStart); err != nil {
			return listing{}, fmt.Errorf("reading %s: %w", listingPath, err)
		}
		if l, err = parseListing(paced{ctx, c.listing}, c.room.servers, begin()); !errors.Is(err, netlink.ErrInterrupted) {
			if err == nil {
				c.room = room{len(l.servers), l.rows}
			}
			return l, err
		}
		ctx = netlink.Unpaced(ctx)
	}
	return listing{}, err
}

// paced pauses between the pages of a text.
type paced struct {
	ctx  context.Context
	text io.Reader
}

func (p paced) Read(b []byte) (int, error) {
	netlink.Pause(p.ctx)
	return p.text.Read(b)
}
