// SPDX-License-Identifier: Apache-2.0

package ipvs

import (
	"fmt"
	"slices"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

func TestSchedulersOfTheKernelAreFound(t *testing.T) {
	c := connect(t)
	got, err := c.Schedulers(t.Context(), "rr", "nonsense", "mh", "sh", "", "wrr")
	if want := []string{"rr", "mh", "sh", "wrr"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
	expect(t, c.VirtualServers(), map[state.VirtualServerKey]state.VirtualServer{})
}

func TestWhatIsWhereSchedulersAreTriedStays(t *testing.T) {
	c := connect(t)
	rows := map[state.VirtualServerKey]state.VirtualServer{}
	add := func(port int) {
		t.Helper()
		k := virtualKey(fmt.Sprintf("TCP 198.51.100.0:%d", port))
		rows[k] = plain
		apply(t, c.VirtualServers(), virtualDelta{Add: []virtualRow{{Key: k, Value: plain}}}, 0)
	}
	add(trialPort)
	got, err := c.Schedulers(t.Context(), "sh", "nonsense")
	if err != nil || !slices.Equal(got, []string{"sh"}) {
		t.Errorf("%q, %v", got, err)
	}
	expect(t, c.VirtualServers(), rows)
	for port := 1; port < trialPorts; port++ {
		add(trialPort + port)
	}
	const want = `trying scheduler "sh": all 16 virtual servers for trials exist already`
	if got, err := c.Schedulers(t.Context(), "sh"); err == nil || err.Error() != want {
		t.Errorf("%q, %v", got, err)
	}
	expect(t, c.VirtualServers(), rows)
}

func TestATrialThatWasKilledIsRemovedByTheNext(t *testing.T) {
	c := connect(t)
	other := virtualKey("TCP 198.51.100.0:20003") // another program's, without real servers
	apply(t, c.VirtualServers(), virtualDelta{Add: []virtualRow{{Key: other, Value: plain}}}, 0)
	for n := range uint16(trialPorts) {
		if k := trialKey(n); k != other { // killed again and again
			if err := c.change(t.Context(), virtualServerRow{add, k, trial("rr")}); err != nil {
				t.Fatal(err)
			}
		}
	}
	got, err := c.Schedulers(t.Context(), "rr", "nonsense", "wrr")
	if want := []string{"rr", "wrr"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
	expect(t, c.VirtualServers(), map[state.VirtualServerKey]state.VirtualServer{other: plain})
}
