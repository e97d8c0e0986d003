// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"testing"
	"time"
)

const ourLog = `2026-11-21T20:38:41.222Z	info	configuration	{"proxyMode": "ipvs"}
2026-11-21T20:38:41.822Z	info	kernel synced	{"cause": "start", "rows": 20157, "took": "1.5s", "virtual servers": 1000}
2026-11-21T20:38:41.922Z	info	kernel synced	{"cause": "start", "rows": 1, "took": "250ms", "addresses": 1}
2026-11-21T20:38:42.022Z	info	start completed	{"written": 20158}
2026-11-21T20:38:43.022Z	info	kernel synced	{"cause": "change", "rows": 1, "took": "2ms"}
`

const theirLog = `I1121 20:38:57.322640     904 server_linux.go:53] "Using iptables proxy"
W1121 20:38:57.322640     904 proxier.go:1] "The ipvs proxier is now deprecated and may be removed in a future release."
I1121 20:38:58.322640     904 shared_informer.go:320] Caches are synced for service config
`

func TestALogInWhichNothingFailedHasNoComplaint(t *testing.T) {
	if list := newOurs("", "").complaints([]byte(ourLog)); len(list) > 0 {
		t.Errorf("ours complains: %q", list)
	}
	if list := newTheirs("", "").complaints([]byte(theirLog)); len(list) > 0 {
		t.Errorf("theirs complains: %q", list)
	}
}

func TestWhatFailedIsFoundInALog(t *testing.T) {
	for name, c := range map[string]struct {
		program program
		log     string
		line    string
	}{
		"ours, a warning": {newOurs("", ""), ourLog, `2026-11-21T20:38:42.022Z	warn	kernel refused some rows; trying them again	{"refused": 3}`},
		"ours, an error":  {newOurs("", ""), ourLog, `2026-11-21T20:38:42.022Z	error	out of order	{}`},
		"ours, a panic":   {newOurs("", ""), ourLog, `panic: runtime error`},
		"theirs, a restore": {newTheirs("", ""), theirLog,
			`E1121 20:38:58.1     904 proxier.go:1494] "Failed to execute iptables-restore" err="exit status 1" rules=""`},
		"theirs, a chain":          {newTheirs("", ""), theirLog, `E1121 20:38:58.1     904 proxier.go:1] "Failed to ensure chain exists" table="nat"`},
		"theirs, a restore of old": {newTheirs("", ""), theirLog, `I1121 20:38:58.1     904 proxier.go:1] "iptables-restore failed" err="x"`},
	} {
		if list := c.program.complaints([]byte(c.log + c.line + "\n")); !slices.Equal(list, []string{c.line}) {
			t.Errorf("%s: complaints %q, want the line %q", name, list, c.line)
		}
	}
}

func TestOursTellsWhatItsStartCost(t *testing.T) {
	p := newOurs("", "")
	if n := p.rowsWritten([]byte(ourLog)); n != 20158 {
		t.Errorf("%d rows, want 20158", n)
	}
	if took := p.kernelTook([]byte(ourLog)); took != 1750*time.Millisecond {
		t.Errorf("%v in the kernel, want 1.75s", took)
	}
	if n := p.rowsWritten(nil); n != -1 {
		t.Errorf("%d rows before it says so, want -1", n)
	}
	if n := newTheirs("", "").rowsWritten([]byte(ourLog)); n != -1 {
		t.Errorf("%d rows of theirs, want -1: it does not say", n)
	}
}
