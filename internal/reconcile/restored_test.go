// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"testing"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// What was known some time ago is made at once. What was made since then, by a daemon that is gone, stays until all is
// known.
func TestWhatIsRestoredIsMadeAndNothingIsRemoved(t *testing.T) {
	known, newer := server(1, state.TCP), server(2, state.TCP)
	b := newBench(nil)
	b.step(Upsert{Owner: owner(1), Fragment: service(known, 1, 2)})
	b.step(Upsert{Owner: owner(2), Fragment: service(newer, 1, 2)})
	b.step(Synced{})
	b.settle(t)
	before := len(b.kernel.State.RealServers)

	b.core = NewCore(testOptions()) // another daemon
	b.step(Upsert{Fragment: base()})
	b.step(Upsert{Owner: owner(1), Fragment: service(known, 2, 2)}) // it knows another endpoint
	b.step(Restored{})
	b.pass(t, 5*time.Minute)
	if got, want := len(b.kernel.State.RealServers), before+1; got != want {
		t.Errorf("%d real servers, want %d: all that were there, and a new one", got, want)
	}
	for k, r := range b.kernel.State.RealServers {
		if r.Weight == 0 {
			t.Errorf("%v takes no new connections, though it is not known whether it should go", k)
		}
	}

	b.step(Synced{})
	b.pass(t, 5*time.Minute)
	b.mustEqualDesired(t, "when all is known")
}
