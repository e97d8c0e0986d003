// SPDX-License-Identifier: Apache-2.0

package packets

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
	"github.com/kube-ipvs/kube-ipvs/e2e/world"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// silence is how long a client waits where packets must be dropped.
const silence = 500 * time.Millisecond

// patience is how long an answer may take: long enough for the second try of a client whose first was lost.
const patience = 3 * time.Second

// seen is the address that a server sees its client with.
type seen string

const (
	// own is the client's own address.
	own seen = "client"
	// masked is the node's address on the way to the server.
	masked seen = "node"
)

// fate is what happens to connections: servers answer, or they are refused, or dropped.
type fate struct {
	Answers         map[string]seen
	Refused, Silent bool
}

// keeping is a fate: these servers answer and see the client's own address.
func keeping(servers ...string) fate { return fate{Answers: map[string]seen{}}.with(own, servers) }

// masking is a fate: these servers answer and see the node's address.
func masking(servers ...string) fate { return fate{Answers: map[string]seen{}}.with(masked, servers) }

// refused is a fate: the client gets an error at once.
func refused() fate { return fate{Refused: true} }

// silent is a fate: the client gets no packet at all.
func silent() fate { return fate{Silent: true} }

// and joins the answers of both.
func (f fate) and(other fate) fate {
	both := fate{Answers: maps.Clone(f.Answers)}
	maps.Copy(both.Answers, other.Answers)
	return both
}

func (f fate) with(s seen, servers []string) fate {
	for _, name := range servers {
		f.Answers[name] = s
	}
	return f
}

func (f fate) String() string {
	if f.Refused {
		return "refused"
	}
	if f.Silent {
		return "silence"
	}
	var words []string
	for _, name := range slices.Sorted(maps.Keys(f.Answers)) {
		words = append(words, fmt.Sprintf("%s (sees %s)", name, f.Answers[name]))
	}
	return strings.Join(words, ", ")
}

// cell is a client, the place where it asks a Service, and its fate: in each family, over each protocol.
type cell struct {
	client  string
	where   frontend
	service string
	want    fate
}

func (c cell) String() string {
	return fmt.Sprintf("%s asks %s at its %s", c.client, c.service, c.where)
}

// cells returns all cells of clients with the same fate.
func cells(clients []string, where []frontend, services []string, want fate) []cell {
	var list []cell
	for _, service := range services {
		for _, f := range where {
			for _, client := range clients {
				list = append(list, cell{client, f, service, want})
			}
		}
	}
	return list
}

// finding is what happened to connections in one family and over one protocol.
type finding struct {
	p    state.Protocol
	to   netip.AddrPort
	got  fate
	each map[string]int
	err  error
}

// explore asks in each family and over each protocol.
func (s *stage) explore(ctx context.Context, c cell, svc rig.Service) (list []finding) {
	for _, f := range families() {
		for _, p := range protocols() {
			list = append(list, s.find(ctx, c, p, c.where.at(s, svc, f, p)))
		}
	}
	return list
}

// find asks as often as there are endpoints: in one round of a round robin each of them answers once.
func (s *stage) find(ctx context.Context, c cell, p state.Protocol, to netip.AddrPort) finding {
	limit := patience
	switch {
	case c.want.Silent, missesRefusals(p) && c.want.Refused:
		limit = silence
	case c.want.Refused:
		limit = rig.Patience
	}
	found := finding{p: p, to: to, each: map[string]int{}}
	for range max(1, len(c.want.Answers)) {
		ctx, cancel := context.WithTimeout(ctx, limit)
		reply, err := s.World.Host(c.client).Ask(ctx, p, to)
		cancel()
		switch {
		case err == nil:
			if found.got.Answers == nil {
				found.got.Answers = map[string]seen{}
			}
			found.got.Answers[reply.Server] = s.seen(c.client, reply)
			found.each[reply.Server]++
		case errors.Is(err, syscall.EPERM):
			found.got.Silent, found.got.Refused = c.want.Silent, !c.want.Silent
		case isRefusal(err):
			found.got.Refused = true
		case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
			found.got.Silent = true
		default:
			found.err = err
		}
		if err != nil {
			break // the others are not spared, but the time to wait for them is
		}
	}
	return found
}

// missesRefusals reports whether clients of a protocol may not notice a refusal: an ICMP error that arrives while the
// socket is busy does not end the setup of an SCTP association, which goes on for minutes.
func missesRefusals(p state.Protocol) bool { return p == state.SCTP }

// isRefusal reports whether the client was refused: with a packet, or, for a client on the node over UDP, with the
// result of its own system call. The latter does not show what other clients would get.
func isRefusal(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.EPERM)
}

// check compares what was found with what is wanted.
func (found finding) check(t *testing.T, want fate) {
	t.Helper()
	if found.err != nil {
		t.Errorf("%v/%v: %v", found.to, found.p, found.err)
	}
	if missesRefusals(found.p) && want.Refused && found.got.Answers == nil {
		return
	}
	if diff := cmp.Diff(want, found.got); diff != "" {
		t.Errorf("%v/%v: got %v, want %v", found.to, found.p, found.got, want)
	}
	for name, n := range found.each {
		if n != 1 {
			t.Errorf("%v/%v: %s answered %d times in one turn of a round robin", found.to, found.p, name, n)
		}
	}
}

// seen returns how the server saw the client; an address of neither client nor node is returned itself.
func (s *stage) seen(client string, r world.Reply) seen {
	f := state.FamilyOf(r.Client.Addr())
	way := s.Node.Addr(f)
	if s.isOnNode(r.Server) {
		way = gateway(f)
	}
	switch {
	case r.Client.Addr() == way && r.Server != s.Node.Name:
		return masked
	case r.Client.Addr() == s.World.Host(client).Addr(f):
		return own
	}
	return seen(r.Client.Addr().String())
}

func (s *stage) isOnNode(pod string) bool {
	return slices.ContainsFunc(world.Small().Nodes[0].Pods, func(p world.Pod) bool { return p.Name == pod })
}
