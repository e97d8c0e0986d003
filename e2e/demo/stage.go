// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kube-ipvs/kube-ipvs/e2e/world"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

const (
	// readyTime is how long kube-ipvs may take until every Service answers.
	readyTime = 30 * time.Second
	// poll is the pause between two checks of a condition.
	poll = 20 * time.Millisecond
	// stopTime is how long kube-ipvs may take to end.
	stopTime = 15 * time.Second
	// logLines is how much of its log is shown after a failure.
	logLines = 30
	// podNetworks are the networks of all pods. Clients elsewhere must be masqueraded: else the answer of another
	// node's pod would not come back through this node.
	podNetworks = "10.244.0.0/16,fd00:10:244::/56"
)

// stage is where the demo takes place.
type stage struct {
	page    page
	options options
	world   *world.World
	// folder is what kube-ipvs watches, and shop is its content.
	folder  string
	shop    shop
	daemon  *world.Program
	streams map[state.Family]*stream
	results []result
}

// show is the demo.
func show(ctx context.Context, o options, p page) error {
	p.heading("kube-ipvs on a small cluster in one Linux kernel (" + kernel() + ")")
	temporary, err := os.MkdirTemp("", "kube-ipvs-demo-")
	if err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	defer os.RemoveAll(temporary)
	s := &stage{page: p, options: o, folder: temporary, streams: map[state.Family]*stream{}}
	defer s.close()
	if err := s.open(ctx); err != nil {
		return s.blame(err)
	}
	s.play(ctx)
	p.heading("Summary")
	p.summary(s.results)
	return s.verdict(ctx)
}

// kernel returns the version of the running kernel.
func kernel() string {
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(release))
}

// open builds the cluster and starts kube-ipvs in it.
func (s *stage) open(ctx context.Context) error {
	started := time.Now()
	var err error
	if s.world, err = world.New(world.Small()); err != nil {
		return err
	}
	if err := s.furnish(); err != nil {
		return err
	}
	var names []string
	for _, h := range s.world.Hosts() {
		names = append(names, h.Name)
	}
	s.page.done(fmt.Sprintf("%d hosts are joined", len(names)), time.Since(started))
	s.page.aside(strings.Join(names, "  "))

	started = time.Now()
	argv := []string{
		s.options.daemon, "run", "--manifests", s.folder, "--hostname-override", "node-1", "--cluster-cidr", podNetworks,
	}
	if s.daemon, err = s.world.Host("node-1").Launch(s.folder, argv...); err != nil {
		return err
	}
	if err := s.awaitServices(ctx); err != nil {
		return err
	}
	s.page.done(fmt.Sprintf("kube-ipvs serves %d Services", len(s.shop)), time.Since(started))
	s.page.aside(strings.Join(argv, " "))
	return nil
}

// furnish copies the manifests and starts the servers of their endpoints.
func (s *stage) furnish() error {
	copied, err := copyManifests(s.options.manifests, s.folder)
	if err != nil {
		return err
	}
	if copied == 0 {
		return fmt.Errorf("find manifests in %s: there are none", s.options.manifests)
	}
	if s.shop, err = readShop(s.folder); err != nil {
		return err
	}
	later, err := readShop(filepath.Join(s.options.manifests, "changed"))
	if err != nil {
		return err
	}
	return s.serve(s.shop, later)
}

// serve starts a server for every endpoint of the shops.
func (s *stage) serve(shops ...shop) error {
	type door struct {
		host     string
		protocol state.Protocol
		port     uint16
	}
	open := map[door]bool{}
	for _, one := range shops {
		for name, svc := range one {
			for _, e := range svc.endpoints {
				host, err := s.hostOf(e.Addr())
				if err != nil {
					return fmt.Errorf("serve %s: %w", name, err)
				}
				d := door{host.Name, svc.protocol, e.Port()}
				if open[d] {
					continue
				}
				open[d] = true
				if err := host.Serve(svc.protocol, e.Port()); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// awaitServices waits until every Service has answered once for each family.
func (s *stage) awaitServices(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyTime, fmt.Errorf("not every Service answered within %v", readyTime))
	defer cancel()
	pod := s.world.Host("pod-client")
	for name, svc := range s.shop {
		for _, f := range families() {
			err := until(ctx, func() (bool, error) {
				short, cancel := context.WithTimeout(ctx, 10*poll)
				defer cancel()
				_, err := pod.Ask(short, svc.protocol, svc.vip(f))
				return err == nil, s.daemon.Alive()
			})
			if err != nil {
				return fmt.Errorf("wait for %s on %v: %w", name, svc.vip(f), err)
			}
		}
	}
	return nil
}

// until checks a condition again and again.
func until(ctx context.Context, holds func() (bool, error)) error {
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		ok, err := holds()
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// play does all steps and shows each.
func (s *stage) play(ctx context.Context) {
	for _, part := range s.parts() {
		s.page.heading(part.title)
		for _, step := range part.steps {
			if ctx.Err() != nil {
				return
			}
			r := result{step.title, step.test(ctx)}
			s.results = append(s.results, r)
			s.page.step(r)
		}
	}
}

// verdict returns an error if anything that was shown is wrong.
func (s *stage) verdict(ctx context.Context) error {
	if ctx.Err() != nil {
		return s.blame(context.Cause(ctx))
	}
	var failed []string
	for _, r := range s.results {
		if !r.passed() {
			failed = append(failed, r.title)
		}
	}
	if len(failed) > 0 {
		return s.blame(errors.New(strings.Join(failed, "; ")))
	}
	return nil
}

// blame adds the daemon's last words to an error.
func (s *stage) blame(err error) error {
	if s.daemon == nil {
		return err
	}
	return fmt.Errorf("%w\n\nThe last lines of kube-ipvs:\n%s", err, s.daemon.LastWords(logLines))
}

func (s *stage) close() {
	for _, one := range s.streams {
		one.close()
	}
	if s.daemon != nil && s.daemon.Alive() == nil {
		// The first error has been reported already.
		_ = s.daemon.Stop(stopTime)
	}
	if s.world != nil {
		s.world.Close()
	}
}

// copyManifests copies the YAML files of a folder and returns how many there are.
func copyManifests(from, to string) (int, error) {
	files, err := filepath.Glob(filepath.Join(from, "*.yaml"))
	if err != nil {
		return 0, err
	}
	for _, f := range files {
		if err := replaceFile(f, filepath.Join(to, filepath.Base(f))); err != nil {
			return 0, err
		}
	}
	return len(files), nil
}

// replaceFile replaces a file by a copy of another: a reader sees either the old or the new one.
func replaceFile(from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("copy manifest: %w", err)
	}
	if err := os.WriteFile(to+".new", text, 0o644); err != nil {
		return fmt.Errorf("copy manifest: %w", err)
	}
	return os.Rename(to+".new", to)
}
