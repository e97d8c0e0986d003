// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/e2e/world"
)

// tally is the result of some requests.
type tally struct {
	asked  int
	failed int
	// servers is how often each host answered.
	servers map[string]int
	// wrong is the first complaint; nil if all went well.
	wrong error
	// notes are shown instead of how the requests spread.
	notes []string
}

// count counts a request and its answer.
func (t *tally) count(reply world.Reply, err error) {
	t.asked++
	if err != nil {
		t.failed++
		t.complain(err)
		return
	}
	if t.servers == nil {
		t.servers = map[string]int{}
	}
	t.servers[reply.Server]++
}

// complain keeps the first complaint.
func (t *tally) complain(err error) {
	if t.wrong == nil {
		t.wrong = err
	}
}

// add counts all of another tally.
func (t *tally) add(o tally) {
	t.asked += o.asked
	t.failed += o.failed
	for name, n := range o.servers {
		if t.servers == nil {
			t.servers = map[string]int{}
		}
		t.servers[name] += n
	}
	t.complain(o.wrong)
}

// answeredBy reports whether every one of the hosts has answered.
func (t *tally) answeredBy(hosts []string) bool {
	return !slices.ContainsFunc(hosts, func(h string) bool { return t.servers[h] == 0 })
}

// note adds a line.
func (t *tally) note(format string, args ...any) {
	t.notes = append(t.notes, fmt.Sprintf(format, args...))
}

// onlyBy complains unless all of the hosts answered and no others did.
func (t *tally) onlyBy(hosts []string) {
	for _, h := range hosts {
		if t.servers[h] == 0 {
			t.complain(fmt.Errorf("%s answered none of %d requests", h, t.asked))
		}
	}
	for _, h := range slices.Sorted(maps.Keys(t.servers)) {
		if !slices.Contains(hosts, h) {
			t.complain(fmt.Errorf("%s answered, which is no endpoint", h))
		}
	}
}

// barWidth is the length of all bars of a line together.
const barWidth = 24

// lines returns what to show.
func (t *tally) lines() []string {
	if len(t.notes) > 0 {
		return t.notes
	}
	return []string{t.bars()}
}

// bars draws how the requests spread.
func (t *tally) bars() string {
	total := 0
	for _, n := range t.servers {
		total += n
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(t.servers)) {
		n := t.servers[name]
		bar := strings.Repeat("#", max(1, (n*barWidth+total/2)/total))
		parts = append(parts, fmt.Sprintf("%s %s %d", name, bar, n))
	}
	return strings.Join(parts, "  ")
}
