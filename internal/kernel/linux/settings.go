// SPDX-License-Identifier: Apache-2.0

package linux

import (
	"context"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

type settingsStore = kernel.Store[state.SysctlName, string]

// settings is the table of sysctls and of IPVS' timeouts, which are settings too, but no files.
type settings struct {
	sysctls, timeouts settingsStore
	listed            []state.SysctlName // timeouts
}

// settingsOf divides names into sysctls and timeouts.
func settingsOf(names []state.SysctlName) (sysctls, timeouts []state.SysctlName) {
	for _, n := range names {
		if isTimeout(n) {
			timeouts = append(timeouts, n)
		} else {
			sysctls = append(sysctls, n)
		}
	}
	return sysctls, timeouts
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
