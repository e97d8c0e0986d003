// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/kube-ipvs/kube-ipvs/e2e/world"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

const (
	// replacedFile is the manifest that changes; one of its endpoints replaces the other.
	replacedFile = "shop-web.yaml"
	oldEndpoint  = "pod-b"
	newEndpoint  = "pod-c"
	// settleTime is how much later than the new endpoint's first answer the old one must be out of use: kube-ipvs
	// writes both at once, but not in one instant.
	settleTime = 500 * time.Millisecond
	// replaceTime is how long the new endpoint may take to answer.
	replaceTime = 20 * time.Second
	// enough requests of a family show how they spread.
	enough = 60
)

// answer is the result of one request, and its times.
type answer struct {
	began, ended time.Time
	server       string
	err          error
}

// load is clients that ask over new connections, again and again.
type load struct {
	stop    chan struct{}
	running sync.WaitGroup
	mu      sync.Mutex
	answers []answer
}

// client is a host and the address that it asks.
type client struct {
	from *world.Host
	to   netip.AddrPort
}

func startLoad(ctx context.Context, p state.Protocol, clients []client) *load {
	l := &load{stop: make(chan struct{})}
	for _, c := range clients {
		l.running.Go(func() { l.run(ctx, c, p) })
	}
	return l
}

func (l *load) run(ctx context.Context, c client, p state.Protocol) {
	for ctx.Err() == nil {
		a := answer{began: time.Now()}
		reply, err := ask(ctx, c.from, p, c.to)
		a.ended, a.server, a.err = time.Now(), reply.Server, err
		l.mu.Lock()
		l.answers = append(l.answers, a)
		l.mu.Unlock()
		select {
		case <-l.stop:
			return
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// soFar returns the answers until now.
func (l *load) soFar() []answer {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.answers)
}

// end lets every client get its last answer.
func (l *load) end() []answer {
	close(l.stop)
	l.running.Wait()
	return l.answers
}

// replacement is one endpoint that takes the place of another at a time.
type replacement struct {
	old, new string
	at       time.Time
}

// first returns when the new endpoint answered first; zero if it has not.
func (r replacement) first(answers []answer) (first time.Time) {
	for _, a := range answers {
		if a.err == nil && a.server == r.new && (first.IsZero() || a.ended.Before(first)) {
			first = a.ended
		}
	}
	return first
}

// settledAnswers returns how many requests began after the old endpoint had to be out of use.
func (r replacement) settledAnswers(answers []answer) int {
	first := r.first(answers)
	if first.IsZero() {
		return 0
	}
	n := 0
	for _, a := range answers {
		if a.began.After(first.Add(settleTime)) {
			n++
		}
	}
	return n
}

// judge sums up the answers before and after.
func (r replacement) judge(answers []answer) (t tally) {
	var before, after tally
	var last time.Time
	first := r.first(answers)
	for _, a := range answers {
		reply := world.Reply{Server: a.server}
		t.count(reply, a.err)
		switch {
		case a.began.Before(r.at):
			before.count(reply, a.err)
		case !first.IsZero() && a.began.After(first.Add(settleTime)):
			after.count(reply, a.err)
		}
		if a.server == r.old && a.began.After(last) {
			last = a.began
		}
	}
	t.note("%d requests over new connections, %d failed", t.asked, t.failed)
	t.note("before  %s", before.bars())
	t.note("after   %s", after.bars())
	if first.IsZero() {
		t.complain(fmt.Errorf("%s never answered", r.new))
		return t
	}
	if n := after.servers[r.old]; n > 0 {
		t.complain(fmt.Errorf("%s answered %d new connections more than %v after %s first did", r.old, n, settleTime, r.new))
	}
	t.note("from the file's change to %s's first answer: %v; to %s's last new connection: %v", r.new,
		first.Sub(r.at).Round(time.Millisecond), r.old, max(0, last.Sub(r.at).Round(time.Millisecond)))
	return t
}

// replaceEndpoint replaces an endpoint while clients ask, and while one connection to it stays open.
func (s *stage) replaceEndpoint(ctx context.Context) map[state.Family]*tally {
	tested := map[state.Family]*tally{}
	loads := map[state.Family]*load{}
	for _, f := range families() {
		tested[f] = &tally{}
		if err := s.openStream(ctx, f); err != nil {
			tested[f].complain(err)
			return tested
		}
	}
	web := s.shop["shop/web"]
	for _, f := range families() {
		loads[f] = startLoad(ctx, web.protocol, []client{
			{s.world.Host("pod-client"), web.vip(f)},
			{s.world.Host("node-1"), web.vip(f)},
			{s.world.Host("client"), s.nodePort("shop/web", f)},
		})
	}
	r, err := s.replace(ctx, loads)
	for _, f := range families() {
		t := r.judge(loads[f].end())
		open := s.streams[f].take()
		t.note("the connection to %s that was open goes on: %d requests, %d failed", r.old, open.asked, open.failed)
		t.add(open)
		if err != nil {
			t.complain(err)
		}
		tested[f] = &t
	}
	return tested
}

// replace changes the manifest under load and waits until that has taken effect.
func (s *stage) replace(ctx context.Context, loads map[state.Family]*load) (replacement, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, replaceTime, fmt.Errorf("the change did not show within %v", replaceTime))
	defer cancel()
	r := replacement{old: oldEndpoint, new: newEndpoint, at: time.Now()}
	err := awaitEach(ctx, loads, func(answers []answer) bool { return len(answers) >= enough })
	if err != nil {
		return r, err
	}
	r.at = time.Now()
	err = replaceFile(filepath.Join(s.options.manifests, "changed", replacedFile), filepath.Join(s.folder, replacedFile))
	if err != nil {
		return r, err
	}
	if s.shop, err = readShop(s.folder); err != nil {
		return r, err
	}
	return r, awaitEach(ctx, loads, func(answers []answer) bool { return r.settledAnswers(answers) >= enough })
}

func awaitEach(ctx context.Context, loads map[state.Family]*load, holds func([]answer) bool) error {
	return until(ctx, func() (bool, error) {
		for _, l := range loads {
			if !holds(l.soFar()) {
				return false, nil
			}
		}
		return true, nil
	})
}

// openStream opens the connection that has to stay.
func (s *stage) openStream(ctx context.Context, f state.Family) error {
	web := s.shop["shop/web"]
	for range mostRequests {
		one, err := openStream(ctx, s.world.Host("pod-client"), web.protocol, web.vip(f))
		if err != nil {
			return err
		}
		if one.first.Server == oldEndpoint {
			s.streams[f] = one
			go one.run(ctx)
			return nil
		}
		if err := one.conn.Close(); err != nil {
			return err
		}
	}
	return errors.New("open a connection to " + oldEndpoint + ": it never answers")
}
