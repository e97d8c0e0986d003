// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"context"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

func TestARuleIsTriedAndNothingIsLeft(t *testing.T) {
	c := open(t)
	for _, tried := range []struct {
		rule string
		want bool
	}{
		{"-j NETMAP --to " + state.JoinedNetwork(state.IPv4).String(), true},
		{"-j RETURN", true},
		{"-j NONESUCH", false},
		{"-m set --match-set KUBE-NONESUCH dst -j RETURN", false},
	} {
		counted(t, c, 1, "trying "+tried.rule, func() {
			if got, err := c.Takes(context.Background(), state.IPv4, "KUBE-A", tried.rule); err != nil || got != tried.want {
				t.Errorf("%s: %v, %v; want %v", tried.rule, got, err, tried.want)
			}
		})
		equal(t, c.Chains(), chainTable{})
	}
	if got, err := c.Takes(context.Background(), state.IPv6, "KUBE-A", "-j NETMAP --to "+state.JoinedNetwork(state.IPv6).String()); err != nil || !got {
		t.Errorf("IPv6: %v, %v", got, err)
	}
}
