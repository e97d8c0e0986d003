// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// The way back to kube-proxy's IPVS mode ends all steering by marks and gives real servers to the virtual servers that
// packets come to then.
func TestRulesForAllGoAfterTheRealServersThatPacketsMeetThen(t *testing.T) {
	for _, chunk := range []int{1, 3, 1000} {
		b := newChunked(t, chunk)
		key := state.ChainKey{Family: state.IPv4, Table: state.Mangle, Name: "KUBE-STEER"}
		jump := state.JumpKey{Family: state.IPv4, Table: state.Mangle, From: "PREROUTING", To: key.Name}
		rules := state.Fragment{
			Chains: []diff.Row[state.ChainKey, state.Chain]{{Key: key, Value: state.ChainOf("-j RETURN")}},
			Jumps:  []diff.Row[state.JumpKey, state.Jump]{{Key: jump, Value: state.Jump{Rule: "-j KUBE-STEER"}}},
		}
		b.step(Upsert{Owner: owner(0), Fragment: rules})
		for n := range 3 {
			b.step(Upsert{Owner: owner(1 + n), Fragment: service(server(n, state.TCP), 0, 0)})
		}
		b.step(Synced{})
		b.finish(1000)
		b.mustEqualDesired(t, "while there is steering")
		b.step(Delete{Owner: owner(0)})
		for n := range 3 {
			b.step(Upsert{Owner: owner(1 + n), Fragment: service(server(n, state.TCP), 0, 2)})
		}
		for b.write() {
			_, steered := b.kernel.State.Jumps[jump]
			if there := len(b.kernel.State.RealServers); !steered && there < 6 {
				t.Errorf("chunks of %d: nothing steers any more when %d of 6 real servers are there", chunk, there)
			}
		}
		b.mustEqualDesired(t, "at the end")
	}
}
