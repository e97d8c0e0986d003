// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"slices"
	"time"

	"github.com/prometheus/procfs"
	"gonum.org/v1/gonum/floats"
)

// calm is how long a program is left alone before it is taken to have nothing left to do.
const calm = 5 * time.Second

// measureSteady measures some time without changes.
func (r *runner) measureSteady(ctx context.Context, run *Run) {
	check(sleep(ctx, calm))
	began, programs, last := time.Now(), r.programs.Seen(), r.cpu()
	var seconds []float64
	for len(seconds) == 0 || time.Since(began) < r.options.steady {
		check(sleep(ctx, time.Second))
		now := r.cpu()
		seconds = append(seconds, now-last)
		last = now
	}
	s := &Steady{
		Lasted: time.Since(began).Seconds(), CPU: floats.Sum(seconds), Busy: slices.Max(seconds), Quiet: median(seconds),
		Programs: map[string]int{}, CPUPerProgram: map[string]float64{},
	}
	status := must(must(procfs.NewProc(r.daemon.Pid())).NewStatus())
	s.Resident, s.Peak = int64(status.VmRSS), int64(status.VmHWM)
	for name, ran := range r.programs.Since(programs) {
		s.Programs[name], s.CPUPerProgram[name] = ran.Times, ran.CPU.Seconds()
	}
	run.Steady = s
	r.say("  CPU %.2f s in %.0f s, resident %d MiB, at most %d MiB; ran %v", s.CPU, s.Lasted, s.Resident>>20, s.Peak>>20, s.Programs)
}

// cpu is for how many seconds the program, and those of its children that have ended, were on a processor.
func (r *runner) cpu() float64 {
	const ticks = 100 // a second, for every program that asks
	s := must(must(procfs.NewProc(r.daemon.Pid())).Stat())
	return float64(int(s.UTime+s.STime)+s.CUTime+s.CSTime) / ticks
}
