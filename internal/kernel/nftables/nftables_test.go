// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

func open(t testing.TB) *Conn {
	t.Helper()
	testkit.Namespace(t)
	c, err := Open(state.IPv4, state.IPv6)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func base() state.State {
	c := config.Default()
	c.Firewall = state.OnNFTables
	rows := plan.Base(c)
	return rows.State()
}

func TestTheKernelTakesAllRules(t *testing.T) {
	c := open(t)
	if err := c.Try(t.Context(), base()); err != nil {
		t.Fatal(err)
	}
}
