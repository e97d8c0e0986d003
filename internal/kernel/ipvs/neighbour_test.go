// SPDX-License-Identifier: Apache-2.0

package ipvs

import (
	"context"
	"fmt"
	"maps"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

// serve makes n virtual servers, some of them with a real server.
func serve(t *testing.T, c *Conn, network, n int) map[state.RealServerKey]state.RealServer {
	t.Helper()
	servers := map[state.VirtualServerKey]state.VirtualServer{}
	rows := map[state.RealServerKey]state.RealServer{}
	for i := range n {
		k := virtualKey(fmt.Sprintf("TCP 10.%d.%d.%d:80", network, i/250, i%250+1))
		servers[k] = state.VirtualServer{Scheduler: "rr", Prefix: 32}
		if i%3 > 0 {
			rows[realKey(k.String()+" -> 10.244.0.1:8080")] = state.RealServer{Weight: 1}
		}
	}
	ctx := context.Background()
	r := c.VirtualServers().Apply(ctx, diff.Of(nil, servers, state.VirtualServerKey.Compare))
	q := c.RealServers().Apply(ctx, diff.Of(nil, rows, state.RealServerKey.Compare))
	if len(r.Failed)+len(q.Failed) > 0 {
		t.Fatal(r.Failed, q.Failed)
	}
	return rows
}

// On a node whose containers have virtual servers of their own, /proc alone lost more than half of these (Linux 6.1).
func TestWhatOtherNamespacesHaveHidesNothingOfOurs(t *testing.T) {
	ours := connect(t)
	want := serve(t, ours, 96, 100)
	testkit.Namespace(t)
	theirs := connect(t)
	serve(t, theirs, 97, 250)
	got, err := ours.RealServers().List(context.Background())
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("%d real servers, %v; want %d", len(got), err, len(want))
	}
	round := kernel.NewRound(context.Background())
	before := ours.Traffic().Requests
	_, err = ours.VirtualServers().List(round)
	got, again := ours.RealServers().List(round)
	if err != nil || again != nil || !maps.Equal(got, want) {
		t.Errorf("in a round: %d real servers, %v, %v; want %d", len(got), err, again, len(want))
	}
	hidden := ours.Traffic().Requests - before
	if _, err := ours.RealServers().List(round); err != nil || ours.Traffic().Requests-before != 2*hidden {
		t.Errorf("%d requests to list both tables, then %d in all: the virtual servers of an earlier list must not count; %v",
			hidden, ours.Traffic().Requests-before, err)
	}
	if got, err := ours.Connections(context.Background()); err != nil || len(got) != len(want) {
		t.Errorf("connections of %d real servers, %v; want %d", len(got), err, len(want))
	}
}
