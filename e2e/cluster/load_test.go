// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
	"github.com/kube-ipvs/kube-ipvs/e2e/world"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// patience is how long a service proxy may take to start. Real ones are several programs at once on one processor.
const patience = 2 * time.Minute

// flow is a client that asks at one place again and again: over one connection, or over a new one each time.
type flow struct {
	from     string
	to       netip.AddrPort
	protocol state.Protocol
	long     bool
}

func (f flow) String() string {
	kind := "short"
	if f.long {
		kind = "long"
	}
	return fmt.Sprintf("%s to %v/%v, %s", f.from, f.to, f.protocol, kind)
}

// flowsTo returns clients of each kind for a Service: pods and programs of both nodes at its cluster IPs, and outside
// clients at its node ports and load balancer, by way of one node each.
func flowsTo(svc rig.Service) []flow {
	var list []flow
	for _, f := range families() {
		for _, p := range protocols() {
			port := portOf(svc, p)
			cluster := at(svc.Address(f), port.Number)
			node := at(shared.world.Host("node-1").Addr(f), port.NodePort)
			balancer := at(rig.First(f, svc.LoadBalancers), port.Number)
			for _, long := range []bool{true, false} {
				list = append(list, flow{"pod-client", cluster, p, long}, flow{"pod-e", cluster, p, long},
					flow{"client", node, p, long}, flow{"visitor", balancer, p, long})
			}
			list = append(list, flow{"node-1", cluster, p, false}, flow{"node-2", cluster, p, false})
		}
	}
	return list
}

// awaitAnswers waits until all flows are answered once.
func awaitAnswers(t *testing.T, flows ...flow) {
	t.Helper()
	rig.Until(t, patience, func() error {
		for _, f := range flows {
			if _, err := shared.world.Host(f.from).Ask(t.Context(), f.protocol, f.to); err != nil {
				return fmt.Errorf("%v: %w", f, err)
			}
		}
		return nil
	})
}

// load is flows at work.
type load struct {
	ctx     context.Context
	stop    context.CancelFunc
	pause   time.Duration
	flowing sync.WaitGroup

	mutex   sync.Mutex
	asked   map[flow]int
	failed  []string
	longest time.Duration
}

// startLoad starts flows and waits until each was answered. They ask until the load is ended.
func startLoad(t *testing.T, pause time.Duration, flows ...flow) *load {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	l := &load{ctx: ctx, stop: stop, pause: pause, asked: map[flow]int{}}
	t.Cleanup(func() {
		stop()
		l.flowing.Wait()
	})
	for _, f := range flows {
		l.asked[f] = 0
	}
	for _, f := range flows {
		l.flowing.Go(func() { l.run(f) })
	}
	l.more(t, 1)
	return l
}

// run asks until the load ends, and waits for the last answer.
func (l *load) run(f flow) {
	host := shared.world.Host(f.from)
	var conn *world.Conn
	for l.ctx.Err() == nil {
		begin, err := time.Now(), error(nil)
		if conn == nil {
			conn, err = host.Dial(context.Background(), f.protocol, f.to)
		}
		if err == nil {
			_, err = conn.Ask(context.Background())
		}
		l.count(f, begin, err)
		if conn != nil && (err != nil || !f.long) {
			_ = conn.Close() // the answer has been counted
			conn = nil
		}
		select {
		case <-l.ctx.Done():
		case <-time.After(l.pause):
		}
	}
	if conn != nil {
		_ = conn.Close()
	}
}

func (l *load) count(f flow, begin time.Time, err error) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.asked[f]++
	l.longest = max(l.longest, time.Since(begin))
	if err != nil {
		l.failed = append(l.failed, fmt.Sprintf("%s: %v: %v", begin.Format("15:04:05.000"), f, err))
	}
}

// more waits until every flow has asked so many times more.
func (l *load) more(t *testing.T, times int) {
	t.Helper()
	l.mutex.Lock()
	before := maps.Clone(l.asked)
	l.mutex.Unlock()
	rig.Until(t, rig.Patience, func() error {
		l.mutex.Lock()
		defer l.mutex.Unlock()
		for f, n := range l.asked {
			if n-before[f] < times {
				return fmt.Errorf("%v: asked %d times, want %d", f, n-before[f], times)
			}
		}
		return nil
	})
}

// end ends the load, of which no question may have failed.
func (l *load) end(t *testing.T) {
	t.Helper()
	l.stop()
	l.flowing.Wait()
	sum, long := 0, 0
	for f, n := range l.asked {
		sum += n
		if f.long {
			long++
		}
	}
	t.Logf("%d requests by %d clients, %d of them over one connection each: %d failed; the longest took %v",
		sum, len(l.asked), long, len(l.failed), l.longest.Round(time.Millisecond))
	if n := len(l.failed); n > 0 {
		const most = 20
		t.Errorf("%d requests failed, first\n%s", n, strings.Join(l.failed[:min(n, most)], "\n"))
	}
}
