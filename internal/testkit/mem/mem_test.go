// SPDX-License-Identifier: Apache-2.0

package mem_test

import (
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit/mem"
)

// Rows of the other firewall are there, too: they neither help nor hinder.
func TestTheKernelInMemoryKeepsTheContract(t *testing.T) {
	for _, w := range state.Firewalls() {
		t.Run(w.String(), func(t *testing.T) {
			testkit.Contract(t, w, func(testing.TB) kernel.Tables {
				k := mem.New()
				other := state.OnIPTables + state.OnNFTables - w
				state.Diff(k.State, testkit.FirewallRows(other)).Apply(k.State)
				return k.Tables()
			})
		})
	}
}
