// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"runtime"
	"time"

	"github.com/kube-ipvs/kube-ipvs/e2e/versus/look"
	"github.com/kube-ipvs/kube-ipvs/e2e/versus/report"
)

// measureCold measures starts on a node where nothing is. The program of the last one goes on.
func (r *runner) measureCold(ctx context.Context, run *report.Run) error {
	for range r.options.starts {
		c, err := r.cold(ctx)
		if err != nil {
			return err
		}
		run.Cold = append(run.Cold, c)
		r.say("  started after %.3f s, of which %.3f s in the kernel; CPU %.2f s", c.Took, c.Kernel, c.CPU)
		if c.Took > report.Of(r.options.limit/time.Duration(2*r.options.starts)) {
			break // once is enough of what takes minutes
		}
	}
	return nil
}

func (r *runner) cold(ctx context.Context) (c report.Cold, err error) {
	if err := r.renew(); err != nil {
		return c, err
	}
	runtime.GC()
	whole := ctx // a look at all rows is finished even if the program's time is over meanwhile
	ctx, cancel := context.WithTimeoutCause(ctx, r.options.limit, errExceeded)
	defer cancel()
	if r.daemon, err = r.start(r.program); err != nil {
		return c, err
	}
	stop := r.profile(phaseCold)
	defer stop()
	var bad error
	for {
		if err := r.awaitRows(ctx, &c); err != nil {
			return c, cmp.Or(bad, r.late(err, "cold start"))
		}
		if bad = r.worked(whole); bad == nil {
			return c, r.account(whole, &c)
		}
		r.say("  not yet: %v", bad)
		if said := r.daemon.check(); said != nil {
			return c, said
		}
		select {
		case <-ctx.Done():
			return c, bad
		case <-time.After(time.Second):
		}
		// The numbers were right and the rows were not: from now on what counts is when a look at all rows begins.
		c.Again = true
	}
}

// late is an error as one of too little time, if it is that and nothing else is wrong.
func (r *runner) late(err error, what string) error {
	if bad := r.daemon.check(); bad != nil {
		return bad
	}
	if errors.Is(err, errExceeded) {
		return exceeded{what, r.options.limit}
	}
	return err
}

// awaitRows waits until all rows seem to be there and the last Service answers. Which it is that comes last is the
// program's choice.
func (r *runner) awaitRows(ctx context.Context, c *report.Cold) error {
	well := r.wellBeing()
	err := poll(ctx, seldom, func() (bool, error) {
		if err := well(); err != nil {
			return false, err
		}
		return r.present(ctx)
	})
	if err != nil {
		return err
	}
	c.Rows = report.Of(time.Since(r.daemon.began))
	err = poll(ctx, often, func() (bool, error) {
		return r.answered(ctx, r.size.Services-1) == nil, well()
	})
	c.Took = report.Of(time.Since(r.daemon.began))
	if c.Again {
		c.Rows = c.Took
	}
	return err
}

// wellBeing is an error once the program has ended or says that something did not work. It reads the log now and then.
func (r *runner) wellBeing() func() error {
	next := time.Now().Add(time.Second)
	return func() error {
		if time.Now().Before(next) {
			return nil
		}
		next = time.Now().Add(time.Second)
		return r.daemon.check()
	}
}

// account adds what the start cost the program, by its own word and the kernel's.
func (r *runner) account(ctx context.Context, c *report.Cold) error {
	cpu, err := look.Program(r.daemon.Pid()).CPU()
	if err != nil {
		return err
	}
	c.CPU = report.Of(cpu)
	if r.program.kernel == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return poll(ctx, often, func() (bool, error) {
		text, err := r.daemon.log()
		c.Kernel = report.Of(r.program.kernelTook(text))
		return r.program.rowsWritten(text) >= 0, err
	})
}
