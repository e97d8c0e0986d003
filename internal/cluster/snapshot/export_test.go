// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
)

// The tests of a whole daemon are outside of this package, as the daemon imports it. They use what is here.

// Script is an API server whose calls a test makes.
type Script = script

// NewScript returns a Script that has made no call.
func NewScript() Script { return newScript() }

// Say makes the calls that the lines stand for, all at once.
func (s script) Say(lines ...string) {
	s.calls <- func(sink cluster.Sink) {
		for _, line := range lines {
			says(line)(sink)
		}
	}
	synctest.Wait()
}

// KeepService writes a snapshot with one Service, as an earlier run would have left it.
func KeepService(t *testing.T, written time.Time, name, ip, slice string) string {
	return keep(t, written, shop(name, ip, slice))
}
