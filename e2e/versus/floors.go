// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"syscall"
	"time"

	"github.com/kube-ipvs/kube-ipvs/e2e/floor"
	"github.com/kube-ipvs/kube-ipvs/e2e/versus/report"
)

// measureFloor measures the least that the rows can cost which ours makes, on nodes where nothing is.
func (r *runner) measureFloor(ctx context.Context) (report.Floor, error) {
	f := report.Floor{
		Services: r.size.Services, Endpoints: r.size.Endpoints, Binding: r.options.binding(r.program, r.size), Groups: floor.Groups(),
	}
	r.say("floor, %v", r.size)
	for range r.options.starts {
		laps, err := r.sendFloor(ctx)
		if err != nil {
			return report.Floor{}, fmt.Errorf("floor of %v: %w", r.size, err)
		}
		lap := map[string]report.Seconds{}
		for group, took := range laps {
			lap[group] = report.Of(took)
		}
		f.Laps = append(f.Laps, lap)
		r.say("  %v: %v", laps.Sum(), laps)
	}
	for range r.options.starts {
		took, err := r.programming(ctx)
		if err != nil {
			return report.Floor{}, fmt.Errorf("programming of %v: %w", r.size, err)
		}
		f.Ours = append(f.Ours, report.Of(took))
		r.say("  %s: %v", r.program.name, took)
	}
	return f, r.stop()
}

// programming is how long ours takes to write the same rows, by its own word. The API server, which has told all objects just
// before and has yet to tidy up after that, stands still meanwhile: it shares the processor with ours and not with the floor.
func (r *runner) programming(ctx context.Context) (took time.Duration, err error) {
	if err := r.renew(); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, r.options.limit, errExceeded)
	defer cancel()
	if r.daemon, err = r.start(r.program); err != nil {
		return 0, err
	}
	if _, err := r.awaitLog(ctx, r.program.known.Match); err != nil {
		return 0, err
	}
	if err := r.server.Signal(syscall.SIGSTOP); err != nil {
		return 0, err
	}
	text, err := r.awaitLog(ctx, func(text []byte) bool { return r.program.rowsWritten(text) >= 0 })
	if err := errors.Join(err, r.server.Signal(syscall.SIGCONT)); err != nil {
		return 0, err
	}
	return r.program.kernelTook(text), nil
}

// awaitLog waits until the log of the program has what is looked for.
func (r *runner) awaitLog(ctx context.Context, has func([]byte) bool) (text []byte, err error) {
	err = poll(ctx, seldom, func() (bool, error) {
		if err := r.daemon.check(); err != nil {
			return false, err
		}
		text, err = r.daemon.log()
		return has(text), err
	})
	return text, err
}

func (r *runner) sendFloor(ctx context.Context) (laps floor.Laps, err error) {
	if err := r.renew(); err != nil {
		return nil, err
	}
	err = r.node().Do(func() error {
		least, err := floor.Prepare(r.want)
		if err != nil {
			return err
		}
		runtime.GC()
		laps, err = least.Send(ctx)
		return errors.Join(err, least.Close())
	})
	if err != nil {
		return nil, err
	}
	got, err := r.kernel(ctx, r.text)
	if err != nil {
		return nil, err
	}
	return laps, exactly(got, r.want)
}
