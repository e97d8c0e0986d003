// SPDX-License-Identifier: Apache-2.0

package netlink

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// read works for a time, in pieces between which it may pause, and returns how long it took.
func read(ctx context.Context, work time.Duration) time.Duration {
	began := time.Now()
	const piece = time.Millisecond
	for done := time.Duration(0); done < work; done += piece {
		time.Sleep(piece)
		Pause(ctx)
	}
	return time.Since(began)
}

func TestPacedReadersLeaveTheProcessorToOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const work = time.Second
		if took := read(t.Context(), work); took != work {
			t.Errorf("without any pace it takes %v, want %v", took, work)
		}
		if took := read(Paced(t.Context()), work); took != work*(workFor+pauseFor)/workFor {
			t.Errorf("paced it takes %v, want %v", took, work*(workFor+pauseFor)/workFor)
		}
		if took := read(Unpaced(Paced(t.Context())), work); took != work {
			t.Errorf("unpaced again it takes %v, want %v", took, work)
		}
	})
}

func TestNoPauseAfterTheContextHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(Paced(t.Context()))
		cancel()
		if took := read(ctx, time.Second); took != time.Second {
			t.Errorf("took %v", took)
		}
	})
}
