// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit/mem"
)

// The other tables are those of the kernel in memory, which nothing here refers to.
func TestOurTableKeepsTheContract(t *testing.T) {
	testkit.Contract(t, state.OnNFTables, func(t testing.TB) kernel.Tables {
		c, all := open(t), mem.New().Tables()
		all.Sets, all.Entries, all.Chains, all.Jumps = c.Sets(), c.Entries(), c.Chains(), c.Jumps()
		return all
	})
}
