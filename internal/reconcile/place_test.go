// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit/mem"
)

const hostPort = "-p tcp -m tcp --dport 80 -j DNAT --to-destination 192.0.2.9:80"

var portal = state.JumpKey{Family: state.IPv4, Table: state.NAT, From: "PREROUTING", To: natServices.Name}

// push puts another program's rule before our jump.
func push(k *mem.Kernel) {
	v := k.State.Jumps[portal]
	v.Behind = hostPort
	k.State.Jumps[portal] = v
}

func (b *bench) inPlace() bool { return b.kernel.State.Jumps[portal].Behind == "" }

func TestAJumpComesBackToItsPlaceAtTheNextAuditAndAtAStart(t *testing.T) {
	b := syncedBench(t, 1)
	push(b.kernel)
	b.pass(t, 31*time.Second)
	b.mustEqualDesired(t, "after the audit")
	if b.core.audit.drift != [state.Tables]int{state.Jumps: 1} {
		t.Errorf("the audit found %v, want one jump", b.core.audit.drift)
	}
	push(b.kernel)
	b.restart(nil)
	b.pass(t, time.Second)
	if !b.inPlace() {
		t.Error("a start left the jump where it was")
	}
}

func TestTwoThatWantTheFirstPlaceDoNotFightForEver(t *testing.T) {
	b := syncedBench(t, 1)
	moves := 0
	for range 100 { // audits
		push(b.kernel)
		b.pass(t, 31*time.Second)
		if b.inPlace() {
			moves++
		}
	}
	if moves != maxMoves {
		t.Errorf("the jump was brought back %d times, want %d", moves, maxMoves)
	}
	want := []Displaced{{portal, hostPort}}
	if got := b.core.Displaced(); !slices.Equal(got, want) {
		t.Errorf("given up: %v, want %v", got, want)
	}
	if b.core.audit.drift != [state.Tables]int{} {
		t.Errorf("what was given up counts as drift: %v", b.core.audit.drift)
	}

	v := b.kernel.State.Jumps[portal]
	v.Behind = ""
	b.kernel.State.Jumps[portal] = v
	b.pass(t, 31*time.Second)
	if got := b.core.Displaced(); len(got) > 0 {
		t.Errorf("given up although in its place: %v", got)
	}
	push(b.kernel)
	b.pass(t, 31*time.Second)
	b.mustEqualDesired(t, "after the other had gone and come back")
}

func TestWhoComesBetweenNowAndThenIsNoRival(t *testing.T) {
	b := syncedBench(t, 1)
	for range 3 * maxMoves {
		push(b.kernel)
		b.pass(t, moveHolds+time.Minute)
		b.mustEqualDesired(t, "after the audit")
	}
}

func TestAFightIsLoggedOnceAndSoIsItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := mem.New()
		seen, logs := observer.New(zapcore.InfoLevel)
		l := NewLoop(testOptions(), Kernel{Tables: k.Tables(), Flusher: nil, Connections: nil}, zap.New(seen), nil)
		now := time.Now()
		work := func() {
			l.core.audit.due = now
			for w := l.core.Ready(now); !w.Empty(); w = l.core.Ready(now) {
				o, _ := l.do(t.Context(), w, now)
				l.advance(w, o, now, now)
			}
			now = now.Add(time.Minute)
		}
		l.core.Step(Upsert{Fragment: base()}, now)
		l.core.Step(Synced{}, now)
		work()
		for range maxMoves + 3 {
			push(k)
			work()
		}
		v := k.State.Jumps[portal]
		v.Behind = ""
		k.State.Jumps[portal] = v
		work()
		work()
		fought := logs.FilterMessage("another program puts its rules before ours again and again; leaving ours where they are")
		if fought.Len() != 1 || fought.All()[0].ContextMap()["behind"] != hostPort {
			t.Errorf("logged %v, want one warning with the rule", fought.All())
		}
		if ended := logs.FilterMessage("our rules are in their place again"); ended.Len() != 1 {
			t.Errorf("logged %v, want one line on the end", ended.All())
		}
	})
}
