// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// at returns a time of the tests' clock.
func at(ms int) time.Time { return time.UnixMilli(1_000_000 + int64(ms)) }

// by is an answer that took five milliseconds.
func by(server string, ms int) answer {
	return answer{began: at(ms), ended: at(ms + 5), server: server}
}

func TestAReplacementIsJudgedByWhoAnsweredWhen(t *testing.T) {
	swap := replacement{old: "pod-b", new: "pod-c", at: at(100)}
	const late = 160 + 501
	for name, c := range map[string]struct {
		answers []answer
		failed  int
		// wrong is a part of the complaint; empty if there must be none.
		wrong string
	}{
		"the old endpoint answers until the new one does": {
			answers: []answer{by("pod-a", 0), by("pod-b", 10), by("pod-b", 120), by("pod-c", 155), by("pod-c", late)},
		},
		"a request that began before the old one had to be out of use counts as before": {
			answers: []answer{by("pod-c", 155), by("pod-b", 160+500)},
		},
		"the old endpoint answers long after": {
			answers: []answer{by("pod-c", 155), by("pod-b", late)},
			wrong:   "pod-b answered 1 new connections more than 500ms after pod-c first did",
		},
		"the new endpoint never answers": {
			answers: []answer{by("pod-a", 155), by("pod-a", late)},
			wrong:   "pod-c never answered",
		},
		"a request fails": {
			answers: []answer{by("pod-c", 155), {began: at(120), ended: at(130), err: errors.New("refused")}},
			failed:  1,
			wrong:   "refused",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := swap.judge(c.answers)
			if got.asked != len(c.answers) || got.failed != c.failed {
				t.Errorf("%d asked, %d failed, want %d and %d", got.asked, got.failed, len(c.answers), c.failed)
			}
			switch {
			case c.wrong == "" && got.wrong != nil:
				t.Errorf("complaint %v, want none", got.wrong)
			case c.wrong != "" && (got.wrong == nil || !strings.Contains(got.wrong.Error(), c.wrong)):
				t.Errorf("complaint %v, want %q", got.wrong, c.wrong)
			}
		})
	}
}

func TestTheTimesOfAReplacementAreShown(t *testing.T) {
	swap := replacement{old: "pod-b", new: "pod-c", at: at(100)}
	got := swap.judge([]answer{by("pod-b", 10), by("pod-c", 155), by("pod-b", 142), by("pod-c", 700), by("pod-c", 120)})
	want := "from the file's change to pod-c's first answer: 25ms; to pod-b's last new connection: 42ms"
	if last := got.notes[len(got.notes)-1]; last != want {
		t.Errorf("shown %q, want %q", last, want)
	}
}
