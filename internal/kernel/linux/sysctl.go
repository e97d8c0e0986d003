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

// SysctlStore is the table of some named settings. A value is the file's text without the white space around
// it.
type SysctlStore struct {
	root  string
	names []state.SysctlName
}

// OpenSysctls returns the table of the settings names below root, which is /proc/sys but in tests.
func OpenSysctls(root string, names ...state.SysctlName) *SysctlStore {
	return &SysctlStore{root: root, names: names}
}

// List returns the settings that the kernel has. One that it does not have (its module is not loaded, or it
// is too old or too new) has no row.
func (s *SysctlStore) List(ctx context.Context) (map[state.SysctlName]string, error) {
	rows := map[state.SysctlName]string{}
	for _, name := range s.names {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		value, err := os.ReadFile(s.file(name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return nil, fmt.Errorf("reading sysctl %s: %w", name, err)
		default:
			rows[name] = strings.TrimSpace(string(value))
		}
	}
	return rows, nil
}

// Apply writes what is added or updated. It does nothing for what is removed: a setting can't be deleted, and
// what it was before, or who else has come to rely on it, nobody knows. A row that was to be added is one
// that List did not find, so if it is there now, that is drift.
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
			continue
		}
		r.Drift++
	}
	return r
}

// Raise makes a number at least so much, and returns what it was. One that is as large is not written, so
// that it may as well be for reading only.
func (s *SysctlStore) Raise(ctx context.Context, name state.SysctlName, least int) (was int, err error) {
	text, err := os.ReadFile(s.file(name))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("reading sysctl %s: %w", name, absent(name))
	}
	if err != nil {
		return 0, fmt.Errorf("reading sysctl %s: %w", name, err)
	}
	if was, err = strconv.Atoi(strings.TrimSpace(string(text))); err != nil {
		return 0, fmt.Errorf("parsing sysctl %s: %w", name, err)
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
	f, err := os.OpenFile(s.file(name), os.O_WRONLY|os.O_TRUNC, 0) // never O_CREATE
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("writing sysctl %s: %w", name, absent(name))
	}
	if err != nil {
		return fmt.Errorf("writing sysctl %s: %w", name, err)
	}
	_, err = f.WriteString(value + "\n")
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("writing %q to sysctl %s: %w", value, name, err)
	}
	return nil
}

func (s *SysctlStore) file(name state.SysctlName) string {
	return filepath.Join(s.root, filepath.FromSlash(string(name)))
}

// absent says why the kernel may lack a setting.
func absent(name state.SysctlName) error {
	module := module(name)
	if module == "" {
		return fmt.Errorf("this kernel does not have it: %w", fs.ErrNotExist)
	}
	return fmt.Errorf("module %s is not loaded, or this kernel does not have it: %w", module, fs.ErrNotExist)
}

// module is the kernel module that brings a setting, empty if that is not known.
func module(name state.SysctlName) string {
	for _, known := range []struct{ prefix, module string }{
		{"net/ipv4/vs/", "ip_vs"},
		{"net/netfilter/nf_conntrack", "nf_conntrack"},
		{"net/bridge/", "br_netfilter"},
		{"net/ipv6/", "ipv6"},
	} {
		if strings.HasPrefix(string(name), known.prefix) {
			return known.module
		}
	}
	return ""
}
