// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"flag"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
	"github.com/kube-ipvs/kube-ipvs/e2e/world"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// kills is how often kube-ipvs is killed.
const kills = 50

// halfWay is a kill that left a change written in part.
const halfWay = "half-way"

var seed = flag.Uint64("seed", 0, "of the moments to kill kube-ipvs at; 0: any")

// moments are the times after its beginning at which a change is written: in one burst, and much later what has
// drained.
type moments struct{ first, burst, last time.Duration }

func momentsOf(began time.Time, writes []rig.Line) moments {
	var m moments
	for i, w := range writes {
		end := w.Time.Sub(began)
		if i == 0 {
			m.first = end - w.Took()
		}
		if w.Fields["cause"] != "time" {
			m.burst = end
		}
		m.last = end
	}
	return m
}

// any returns a moment of the change: one in three at any time of it, the others while the burst is written.
func (m moments) any(random *rand.Rand) time.Duration {
	const early = 50 * time.Millisecond // no two runs are alike
	from, to := m.first-early, m.burst+early
	if random.IntN(3) == 0 {
		from, to = 0, m.last
	}
	return from + time.Duration(random.Float64()*float64(to-from))
}

// siege is a city whose kube-ipvs is killed again and again.
type siege struct {
	*city
	daemon *rig.Daemon
	held   map[state.Family]*world.Conn

	change, start moments
	tally         map[string]int
	longest       time.Duration // from a start to the desired rows
}

func newSiege(t *testing.T, random *rand.Rand) *siege {
	t.Helper()
	r := rig.New(t)
	serve(t, r, "pod-a", "pod-b", "pod-c", "pod-d")
	s := &siege{city: newCity(t, r, random), tally: map[string]int{}}
	s.rise(t, s.settle(t))
	s.held = dial(t, r, steady(0))
	answers(t, s.held, "pod-a")
	began := time.Now()
	s.Await(t, rig.Patience, s.move(t))
	s.change = momentsOf(began, s.since(t, began))
	t.Logf("the change of all Services is written from %v to %v, and what has drained until %v; after a start from %v to %v",
		s.change.first, s.change.burst, s.change.last, s.start.first, s.start.burst)
	return s
}

// since returns the daemon's writes since a moment.
func (s *siege) since(t *testing.T, began time.Time) []rig.Line {
	t.Helper()
	var list []rig.Line
	for _, w := range s.daemon.Writes(t) {
		if w.Time.After(began) {
			list = append(list, w)
		}
	}
	return list
}

// rise starts kube-ipvs and waits until the kernel holds the wanted rows.
func (s *siege) rise(t *testing.T, want state.State) {
	t.Helper()
	began := time.Now()
	s.daemon = s.Start(t)
	s.daemon.AwaitStart(t)
	s.Await(t, rig.Patience, want)
	s.longest = max(s.longest, time.Since(began))
	if m := momentsOf(began, s.daemon.Writes(t)); m.burst > 0 { // otherwise nothing was left to write
		s.start = m
	}
}

// strike kills kube-ipvs while all Services change, or while it starts after they have changed, and counts what it
// left.
func (s *siege) strike(t *testing.T, old state.State) state.State {
	t.Helper()
	var want state.State
	var when string
	switch s.random.IntN(6) {
	case 0:
		when = "in a start"
		want = s.restart(t, "")
	case 1:
		when = "in a start without rules"
		want = s.restart(t, perFamily("{iptables} -t nat -F; {iptables} -t filter -F; {iptables} -t nat -X; {iptables} -t filter -X"))
	default:
		when = "in a change"
		want = s.move(t)
		time.Sleep(s.change.any(s.random)) // a random moment is what this is about
	}
	s.daemon.Kill()
	s.tally[when]++
	s.tally[s.left(t, old, want)]++
	return want
}

// restart stops kube-ipvs, changes all Services, does some damage and starts kube-ipvs again.
func (s *siege) restart(t *testing.T, damage string) state.State {
	t.Helper()
	s.daemon.Stop(t)
	want := s.move(t)
	if damage != "" {
		mustShell(t, s.Rig, damage)
	}
	s.daemon = s.Start(t)
	time.Sleep(s.start.any(s.random)) // a random moment is what this is about
	return want
}

// left returns how much of a change the kernel holds.
func (s *siege) left(t *testing.T, old, want state.State) string {
	t.Helper()
	switch have := s.KernelWithout(t, want); {
	case rig.Differ(have, want) == nil:
		return "after the last row"
	case rig.Differ(have, old) == nil:
		return "before the first row"
	}
	return halfWay
}

// TestNothingIsLostOrLeftOverHoweverOftenKubeIPVSIsKilled is about a crash at any instruction: the next start recovers
// from whatever the last one left.
func TestNothingIsLostOrLeftOverHoweverOftenKubeIPVSIsKilled(t *testing.T) {
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	t.Logf("run it again with -seed %d", *seed)
	s := newSiege(t, rand.New(rand.NewPCG(*seed, 0)))
	want := s.settle(t)
	for n := range kills {
		want = s.strike(t, want)
		s.rise(t, want)
		answers(t, s.held, "pod-a")
		if t.Failed() {
			t.Fatalf("after kill %d", n+1)
		}
	}
	t.Logf("%d kills: %v; each time all rows were right within %v of the start", kills, s.tally, s.longest)
	if s.tally[halfWay] == 0 {
		t.Errorf("no kill of %d left a change half-way", kills)
	}
	mustHold(t, s.Rig, want)
}
