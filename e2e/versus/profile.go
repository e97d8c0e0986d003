// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// metricsPort is where both programs serve profiles, if their configuration says so.
const metricsPort = 10249

// profile keeps a profile of the program's CPU time if the options say so, from when it listens until the returned function
// is called. Several starts leave the profile of the last.
func (r *runner) profile(phase string) (stop func()) {
	if !r.options.profiles {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := r.keepProfiles(ctx, phase); err != nil {
			r.say("  no profile: %v", err)
		}
	}()
	return func() {
		cancel()
		<-ended
	}
}

// profileLength is how long one profile is: it is whole only at its end.
const profileLength = 3 * time.Second

func (r *runner) keepProfiles(ctx context.Context, phase string) error {
	url := fmt.Sprintf("http://127.0.0.1:%d/debug/pprof/profile?seconds=%.0f", metricsPort, profileLength.Seconds())
	for n := 0; ctx.Err() == nil; {
		var text bytes.Buffer
		status, err := r.get(context.WithoutCancel(ctx), url, &text)
		if err != nil || status != http.StatusOK {
			const pause = 20 * time.Millisecond
			_ = sleep(ctx, pause) // the loop looks at ctx
			continue
		}
		name := fmt.Sprintf("%s-%v-%s-%d.pprof", r.program.name, r.size, strings.ReplaceAll(phase, " ", "-"), n)
		if err := os.WriteFile(filepath.Join(r.options.folder, name), text.Bytes(), 0o644); err != nil {
			return err
		}
		n++
	}
	return nil
}
