// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/kube-ipvs/kube-ipvs/e2e/versus/look"
	"github.com/kube-ipvs/kube-ipvs/e2e/versus/report"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// measureRestart measures a start where everything is in place.
func (r *runner) measureRestart(ctx context.Context, run *report.Run) error {
	before, err := r.kernel(ctx, r.text)
	if err != nil {
		return err
	}
	if err := r.daemon.stop(ctx); err != nil {
		return err
	}
	var notices *look.Notices
	err = r.node().Do(func() (err error) {
		notices, err = look.WatchNotices()
		return err
	})
	if err != nil {
		return err
	}
	programs := r.programs()
	restart, err := r.again(ctx)
	count, lost := notices.Close()
	if err := errors.Join(err, lost); err != nil {
		return err
	}
	restart.Notices = count
	for name, ran := range r.programsSince(programs) {
		restart.Programs[name] = ran.Times
	}
	after, err := r.kernel(ctx, r.text)
	if err != nil {
		return err
	}
	if n := state.Diff(before, after).Len(); n > 0 && r.program.written != nil && restart.Written == 0 {
		return fmt.Errorf("says that it wrote nothing, and %d rows are not as they were", n)
	}
	run.Restart = &restart
	r.say("  started again after %.3f s; wrote %d rows by its own word, %d notices of the kernel; ran %v", restart.Took, restart.Written, count, restart.Programs)
	return nil
}

// again starts the program and waits until it says that it is done.
func (r *runner) again(ctx context.Context) (report.Restart, error) {
	restart := report.Restart{Written: -1, Programs: map[string]int{}}
	ctx, cancel := context.WithTimeoutCause(ctx, r.options.limit, errExceeded)
	defer cancel()
	var err error
	if r.daemon, err = r.start(r.program); err != nil {
		return restart, err
	}
	const pause = 20 * time.Millisecond
	for {
		if err := r.daemon.Alive(); err != nil {
			return restart, err
		}
		done, err := r.done(ctx)
		if err != nil {
			return restart, err
		}
		if done {
			break
		}
		if err := sleep(ctx, pause); err != nil {
			return restart, r.late(err, "restart")
		}
	}
	restart.Took = report.Of(time.Since(r.daemon.began))
	text, err := r.daemon.log()
	restart.Written = r.program.rowsWritten(text)
	return restart, err
}

// done reports whether the program says that it is done with what it knew at its start: in its log, if it does, else by
// its health, which is good only then.
func (r *runner) done(ctx context.Context) (bool, error) {
	if r.program.written != nil {
		text, err := r.daemon.log()
		return r.program.rowsWritten(text) >= 0, err
	}
	return r.healthy(ctx)
}

// healthPort is where both programs say whether they are well.
const healthPort = 10256

func (r *runner) healthy(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	status, err := r.get(ctx, fmt.Sprintf("http://127.0.0.1:%d/healthz", healthPort), io.Discard)
	return err == nil && status == http.StatusOK, nil // it may not listen yet
}

// get asks for a page of a program on the node.
func (r *runner) get(ctx context.Context, url string, into io.Writer) (status int, err error) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		err = r.node().Do(func() (err error) {
			var d net.Dialer
			conn, err = d.DialContext(ctx, network, address)
			return err
		})
		return conn, err
	}}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	answer, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(into, answer.Body)
	return answer.StatusCode, errors.Join(err, answer.Body.Close())
}
