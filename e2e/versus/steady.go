// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"time"

	"github.com/kube-ipvs/kube-ipvs/e2e/versus/look"
	"github.com/kube-ipvs/kube-ipvs/e2e/versus/report"
)

// calm is how long a program is left alone before it is taken to have nothing left to do.
const calm = 5 * time.Second

// measureSteady measures some time without changes.
func (r *runner) measureSteady(ctx context.Context, run *report.Run) error {
	p := look.Program(r.daemon.Pid())
	if err := sleep(ctx, calm); err != nil {
		return err
	}
	before, programs := time.Now(), r.programs()
	seconds, err := secondsOf(ctx, p, r.options.steady)
	if err != nil {
		return err
	}
	s := &report.Steady{Lasted: report.Of(time.Since(before)), Programs: map[string]int{}, CPUPerProgram: map[string]report.Seconds{}}
	for _, one := range seconds {
		s.CPU += one
	}
	s.Busy, s.Quiet = report.Quantile(seconds, 1), report.Median(seconds)
	if s.Resident, s.Peak, err = p.Memory(); err != nil {
		return err
	}
	for name, ran := range r.programsSince(programs) {
		s.Programs[name], s.CPUPerProgram[name] = ran.Times, report.Of(ran.CPU)
	}
	run.Steady = s
	r.say("  CPU %.2f s in %.0f s, resident %d MiB, at most %d MiB; ran %v", s.CPU, s.Lasted, s.Resident>>20, s.Peak>>20, s.Programs)
	return nil
}

// secondsOf are the CPU times of a process in each second of some time.
func secondsOf(ctx context.Context, p look.Program, lasting time.Duration) ([]report.Seconds, error) {
	last, err := p.CPU()
	if err != nil {
		return nil, err
	}
	var list []report.Seconds
	for end := time.Now().Add(lasting); time.Now().Before(end); {
		if err := sleep(ctx, time.Second); err != nil {
			return nil, err
		}
		now, err := p.CPU()
		if err != nil {
			return nil, err
		}
		list = append(list, report.Of(now-last))
		last = now
	}
	return list, nil
}

// programs are those that have ended so far, of which the kernel tells.
func (r *runner) programs() map[string]look.Ran {
	if r.ended == nil {
		return nil
	}
	return r.ended.Seen()
}

func (r *runner) programsSince(before map[string]look.Ran) map[string]look.Ran {
	if r.ended == nil {
		return nil
	}
	return r.ended.Since(before)
}

// sleep waits, unless ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
