// SPDX-License-Identifier: Apache-2.0

package reconcile

import "time"

// schedule is what is due when: a heap, with the first on top.
type schedule[K any] struct{ rows []appointment[K] }

type appointment[K any] struct {
	at  time.Time
	key K
}

func (s *schedule[K]) push(at time.Time, k K) {
	s.rows = append(s.rows, appointment[K]{at, k})
	for i := len(s.rows) - 1; i > 0; {
		parent := (i - 1) / 2
		if !s.rows[i].at.Before(s.rows[parent].at) {
			return
		}
		s.rows[i], s.rows[parent] = s.rows[parent], s.rows[i]
		i = parent
	}
}

// pop takes the first off, which there has to be.
func (s *schedule[K]) pop() {
	last := len(s.rows) - 1
	s.rows[0] = s.rows[last]
	s.rows[last] = appointment[K]{}
	s.rows = s.rows[:last]
	if last == 0 {
		s.rows = nil
	}
	for i := 0; ; {
		first := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(s.rows); child++ {
			if s.rows[child].at.Before(s.rows[first].at) {
				first = child
			}
		}
		if first == i {
			return
		}
		s.rows[i], s.rows[first] = s.rows[first], s.rows[i]
		i = first
	}
}
