// SPDX-License-Identifier: Apache-2.0

// Package linux is the kernel that this process runs on: all adapters together, for the network namespace of the thread
// that opens it. It adds the table of sysctls, and the limits of the machine and of this process.
package linux

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/conntrack"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/ipset"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/iptables"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/ipvs"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/link"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/nft"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel/nftables"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// Ours says what is ours by name, and which sysctls we want to know.
type Ours struct {
	Firewall state.Firewall // that holds our rows; the other one is opened too if it has some
	Both     bool           // the other one is opened even if it has none of ours, to see it
	Set      func(state.SetName) bool
	Chain    func(name string) bool
	Sysctls  []state.SysctlName
	Families []state.Family // that have chains of ours
	Tables   []string       // of nftables, which we remove
}

// Kernel is the kernel of one network namespace. One goroutine uses it at a time, locked to a thread of that namespace
// unless the process has only one.
type Kernel struct {
	IPVS      *ipvs.Conn
	Sets      *ipset.Conn                                        // nil: the firewall is nftables, and no ipset is ours
	Rules     *iptables.Conn                                     // nil: the firewall is nftables, and no rule of iptables is ours
	Table     *nftables.Conn                                     // nil: the firewall is iptables, and no table of nftables is ours
	nft       *nft.Conn                                          // nil: there are no tables of nftables to remove
	tables    *kernel.Tables                                     // nil: not asked for yet
	old       *kernel.RetiringStore[state.ChainKey, state.Chain] // chains of iptables that are only to be removed
	beyond    error                                              // why rules of iptables that may be ours can't be reached
	Link      *link.Conn
	Conntrack *conntrack.Conn
	sysctls   *SysctlStore
	timeouts  []state.SysctlName // of IPVS, which are no files
	ours      Ours
	closers   []io.Closer
}

// Open opens all adapters. An error names the one that failed.
func Open(ctx context.Context, ours Ours) (k *Kernel, err error) {
	k = unconnected(ours)
	defer func() {
		if err != nil {
			err = errors.Join(err, k.Close())
		}
	}()
	err = k.connect()
	k.Conntrack = keep(k, &err, conntrack.Open)
	if err != nil {
		return k, err
	}
	if ours.Firewall == state.OnNFTables {
		return k, k.openBesideNFTables(ctx)
	}
	return k, k.openBesideIPTables(ctx)
}

func unconnected(ours Ours) *Kernel {
	sysctls := slices.DeleteFunc(slices.Clone(ours.Sysctls), isTimeout)
	timeouts := slices.DeleteFunc(slices.Clone(ours.Sysctls), func(n state.SysctlName) bool { return !isTimeout(n) })
	return &Kernel{sysctls: OpenSysctls(sysctlRoot(), sysctls...), timeouts: timeouts, ours: ours}
}

// connect opens the connections by which tables are read and written, but for the rules of iptables.
func (k *Kernel) connect() (err error) {
	k.IPVS = keep(k, &err, ipvs.Open)
	k.Link = keep(k, &err, link.Open)
	if k.ours.Firewall == state.OnNFTables {
		k.Table = keep(k, &err, k.openTable)
	} else {
		k.Sets = keep(k, &err, k.openSets)
	}
	if len(k.ours.Tables) > 0 {
		k.nft = keep(k, &err, func() (*nft.Conn, error) { return nft.Open(k.ours.Tables...) })
	}
	return err
}

func (k *Kernel) openTable() (*nftables.Conn, error) { return nftables.Open(k.ours.Families...) }

func (k *Kernel) openSets() (*ipset.Conn, error) {
	return ipset.Open(func(n state.SetName) bool { return k.ours.Set(n) || n.Temporary() })
}

// hostSysctls is where a pod can write the machine's sysctls: /proc/sys is read-only in unprivileged containers.
const hostSysctls = "/host/proc/sys"

func sysctlRoot() string {
	if _, err := os.Stat(hostSysctls + "/net"); err == nil {
		return hostSysctls
	}
	return "/proc/sys"
}

// keep opens an adapter that Close closes, unless there is an error already.
func keep[C io.Closer](k *Kernel, err *error, open func() (C, error)) (c C) {
	if *err != nil {
		return c
	}
	if c, *err = open(); *err == nil {
		k.closers = append(k.closers, c)
	}
	return c
}

// Close closes all adapters. What is in the kernel stays.
func (k *Kernel) Close() error {
	var err error
	for _, c := range k.closers {
		err = errors.Join(err, c.Close())
	}
	return err
}

// Tables returns the stores of the kernel.
func (k *Kernel) Tables() kernel.Tables {
	if k.tables != nil {
		return *k.tables
	}
	t := kernel.Tables{
		Sysctls:        settings{k.sysctls, k.IPVS.Timeouts(), k.timeouts},
		Links:          k.Link.Links(),
		VirtualServers: k.IPVS.VirtualServers(),
		RealServers:    k.IPVS.RealServers(),
		Addresses:      k.Link.Addresses(),
	}
	k.rows(&t)
	if k.nft != nil {
		t.Chains = k.nft.Beside(t.Chains)
	}
	k.tables = &t
	return t
}

// Flush removes the conntrack entries of all flows.
func (k *Kernel) Flush(ctx context.Context, flows []state.Flow) (int, error) {
	return k.Conntrack.Flush(ctx, flows)
}

// Connections returns the connections of the real servers of some virtual servers.
func (k *Kernel) Connections(ctx context.Context, servers []state.VirtualServerKey) (map[state.RealServerKey]state.Connections, error) {
	return k.IPVS.ConnectionsOf(ctx, servers)
}

// Families returns the IP families of this thread's network namespace: IPv6 unless it is off for every device.
func Families() []state.Family {
	off, err := os.ReadFile("/proc/sys/net/ipv6/conf/all/disable_ipv6")
	if err != nil || strings.TrimSpace(string(off)) == "1" {
		return []state.Family{state.IPv4}
	}
	return []state.Family{state.IPv4, state.IPv6}
}
