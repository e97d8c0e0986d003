// SPDX-License-Identifier: Apache-2.0

package netlink

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// read works for a time, in pieces between which it may rest, and returns how long it took.
func read(ctx context.Context, work time.Duration) time.Duration {
	began := time.Now()
	const piece = time.Millisecond
	for done := time.Duration(0); done < work; done += piece {
		time.Sleep(piece)
		Rest(ctx)
	}
	return time.Since(began)
}

func TestUnhurriedReadersLeaveTheProcessorToOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const work = time.Second
		if took := read(t.Context(), work); took != work {
			t.Errorf("without any pace it takes %v, want %v", took, work)
		}
		if took := read(Unhurried(t.Context()), work); took != work*(stretch+rest)/stretch {
			t.Errorf("unhurried it takes %v, want %v", took, work*(stretch+rest)/stretch)
		}
		if took := read(Hurried(Unhurried(t.Context())), work); took != work {
			t.Errorf("hurried again it takes %v, want %v", took, work)
		}
	})
}

func TestNobodyRestsWhenTheContextHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(Unhurried(t.Context()))
		cancel()
		if took := read(ctx, time.Second); took != time.Second {
			t.Errorf("took %v", took)
		}
	})
}
