// SPDX-License-Identifier: Apache-2.0

package linux

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// SysctlStore is the table of some named sysctls. A value is the text of a file without outer white space.
type SysctlStore struct {
	root  string
	names []state.SysctlName
}

// OpenSysctls returns the table of the sysctls names below root.
func OpenSysctls(root string, names ...state.SysctlName) *SysctlStore {
	return &SysctlStore{root: root, names: names}
}

// List returns the sysctls that the kernel has. One without its module, or of another version, has no row.
func (s *SysctlStore) List(ctx context.Context) (map[state.SysctlName]string, error) {
	rows := map[state.SysctlName]string{}
	for _, name := range s.names {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		value, err := os.ReadFile(s.file(name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading sysctl %s: %w", name, err)
		}
		rows[name] = strings.TrimSpace(string(value))
	}
	return rows, nil
}

// Apply writes what is added or updated, and ignores removals: a sysctl can't be deleted. List did not find a row to
// add, so if it is there now, that is drift.
func (s *SysctlStore) Apply(ctx context.Context, d diff.Delta[state.SysctlName, string]) kernel.Result[state.SysctlName] {
	var r kernel.Result[state.SysctlName]
	for _, change := range d.Update {
		if err := s.write(ctx, change.Key, change.New); err != nil {
			r.Fail(change.Key, err)
		}
	}
	for _, row := range d.Add {
		if err := s.write(ctx, row.Key, row.Value); err != nil {
			r.Fail(row.Key, err)
		} else {
			r.Drift++
		}
	}
	return r
}

// Raise sets a number to at least least, and returns what it was. A read-only one may be large enough.
func (s *SysctlStore) Raise(ctx context.Context, name state.SysctlName, least int) (was int, err error) {
	text, err := os.ReadFile(s.file(name))
	if err == nil {
		was, err = strconv.Atoi(strings.TrimSpace(string(text)))
	}
	if err != nil {
		return 0, fmt.Errorf("reading sysctl %s: %w", name, explain(name, err))
	}
	if was >= least {
		return was, nil
	}
	return was, s.write(ctx, name, strconv.Itoa(least))
}

func (s *SysctlStore) write(ctx context.Context, name state.SysctlName, value string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := writeFile(s.file(name), value+"\n"); err != nil {
		return fmt.Errorf("writing sysctl %s: %w", name, explain(name, err))
	}
	return nil
}

func (s *SysctlStore) file(name state.SysctlName) string {
	return filepath.Join(s.root, filepath.FromSlash(string(name)))
}

// explain says why the kernel may lack a sysctl, if that is what err means.
func explain(name state.SysctlName, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, known := range []struct{ prefix, module string }{
		{"net/ipv4/vs/", "ip_vs"},
		{"net/netfilter/nf_conntrack", "nf_conntrack"},
		{"net/bridge/", "br_netfilter"},
		{"net/ipv6/", "ipv6"},
	} {
		if strings.HasPrefix(string(name), known.prefix) {
			return fmt.Errorf("module %s is not loaded, or this kernel does not have it: %w", known.module, fs.ErrNotExist)
		}
	}
	return fmt.Errorf("this kernel does not have it: %w", fs.ErrNotExist)
}

type settingsStore = kernel.Store[state.SysctlName, string]

// settings is the table of sysctls and of IPVS' timeouts, which are settings too, but no files.
type settings struct {
	sysctls, timeouts settingsStore
	listed            []state.SysctlName // timeouts
}

func isTimeout(n state.SysctlName) bool {
	return n == state.TCPTimeout || n == state.TCPFinTimeout || n == state.UDPTimeout
}

func (s settings) List(ctx context.Context) (map[state.SysctlName]string, error) {
	rows, err := s.sysctls.List(ctx)
	if err != nil || len(s.listed) == 0 {
		return rows, err
	}
	timeouts, err := s.timeouts.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, n := range s.listed {
		rows[n] = timeouts[n]
	}
	return rows, nil
}

func (s settings) Apply(ctx context.Context, d diff.Delta[state.SysctlName, string]) kernel.Result[state.SysctlName] {
	timeouts, sysctls := kernel.Split(d, func(n state.SysctlName, _ string) bool { return isTimeout(n) })
	r := s.sysctls.Apply(ctx, sysctls)
	r.Merge(s.timeouts.Apply(ctx, timeouts))
	return r
}
