// SPDX-License-Identifier: Apache-2.0

package ipvs

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	moby "github.com/moby/ipvs"
	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/diff"
	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

type (
	virtualDelta = diff.Delta[state.VirtualServerKey, state.VirtualServer]
	realDelta    = diff.Delta[state.RealServerKey, state.RealServer]
	virtualRow   = diff.Row[state.VirtualServerKey, state.VirtualServer]
	realRow      = diff.Row[state.RealServerKey, state.RealServer]
)

var plain = state.VirtualServer{Scheduler: "rr", Prefix: 32}

// connect opens IPVS in a network namespace of the test's own.
func connect(t testing.TB) *Conn {
	t.Helper()
	testkit.Namespace(t)
	c, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	testkit.CloseAtEnd(t, c)
	return c
}

// apply applies d and fails the test if that did not succeed or if the drift is not as expected.
func apply[K, V comparable](t testing.TB, s kernel.Store[K, V], d diff.Delta[K, V], drift int) {
	t.Helper()
	result := s.Apply(context.Background(), d)
	for _, err := range result.Failed {
		t.Fatalf("%d rows failed: %v", len(result.Failed), err)
	}
	if result.Drift != drift {
		t.Fatalf("drift %d, want %d", result.Drift, drift)
	}
}

func expect[K, V comparable](t testing.TB, s kernel.Store[K, V], want map[K]V) {
	t.Helper()
	got, err := s.List(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got, exact); d != "" {
		t.Fatal(d)
	}
}

// expectFailures compares the failed rows, and whether each error says text.
func expectFailures[K comparable](t *testing.T, result kernel.Result[K], want map[K]string) {
	t.Helper()
	for k, err := range result.Failed {
		if text, ok := want[k]; !ok || err.Error() != text {
			t.Errorf("%v failed with\n\t%v, want\n\t%s", k, err, text)
		}
	}
	for k := range want {
		if _, ok := result.Failed[k]; !ok {
			t.Errorf("%v has not failed", k)
		}
	}
}

func virtualsOf(want map[state.VirtualServerKey]state.VirtualServer) virtualDelta {
	return diff.Of(nil, want, state.VirtualServerKey.Compare)
}

func realsOf(want map[state.RealServerKey]state.RealServer) realDelta {
	return diff.Of(nil, want, state.RealServerKey.Compare)
}

func TestEveryKindOfRowIsListedAsItWasApplied(t *testing.T) {
	c := connect(t)
	virtuals, reals := someVirtualServers(), someRealServers()
	expect(t, c.VirtualServers(), map[state.VirtualServerKey]state.VirtualServer{})
	expect(t, c.RealServers(), map[state.RealServerKey]state.RealServer{})
	apply(t, c.VirtualServers(), virtualsOf(virtuals), 0)
	apply(t, c.RealServers(), realsOf(reals), 0)
	expect(t, c.VirtualServers(), virtuals)
	expect(t, c.RealServers(), reals)

	// Everything is changed in place: nothing of the old value may stay.
	var vd virtualDelta
	for k, old := range maps.Clone(virtuals) {
		v := state.VirtualServer{Scheduler: "wlc", Prefix: uint8(k.Family().Bits())}
		if old.Flags&state.Persistent == 0 {
			v = state.VirtualServer{Scheduler: "mh", Prefix: 20, Flags: state.Persistent | state.Sched2, Timeout: 33}
		}
		vd.Update = append(vd.Update, diff.Change[state.VirtualServerKey, state.VirtualServer]{Key: k, Old: old, New: v})
		virtuals[k] = v
	}
	var rd realDelta
	for k, old := range maps.Clone(reals) {
		v := state.RealServer{Weight: 10 - old.Weight%10, Method: state.Route}
		rd.Update = append(rd.Update, diff.Change[state.RealServerKey, state.RealServer]{Key: k, Old: old, New: v})
		reals[k] = v
	}
	apply(t, c.VirtualServers(), vd, 0)
	apply(t, c.RealServers(), rd, 0)
	expect(t, c.VirtualServers(), virtuals)
	expect(t, c.RealServers(), reals)

	apply(t, c.RealServers(), diff.Of(reals, nil, state.RealServerKey.Compare), 0)
	expect(t, c.RealServers(), map[state.RealServerKey]state.RealServer{})
	apply(t, c.VirtualServers(), diff.Of(virtuals, nil, state.VirtualServerKey.Compare), 0)
	expect(t, c.VirtualServers(), map[state.VirtualServerKey]state.VirtualServer{})
}

func TestVirtualServersReachTheirValueWhateverWasThere(t *testing.T) {
	c := connect(t)
	s := c.VirtualServers()
	k := virtualKey("TCP 10.96.0.1:80")
	lc := state.VirtualServer{Scheduler: "lc", Prefix: 32}
	apply(t, s, virtualDelta{Update: []diff.Change[state.VirtualServerKey, state.VirtualServer]{{Key: k, Old: lc, New: plain}}}, 1)
	expect(t, s, map[state.VirtualServerKey]state.VirtualServer{k: plain})
	apply(t, s, virtualDelta{Add: []virtualRow{{Key: k, Value: lc}}}, 1)
	expect(t, s, map[state.VirtualServerKey]state.VirtualServer{k: lc})
	apply(t, s, virtualDelta{Remove: []virtualRow{{Key: k, Value: lc}}}, 0)
	apply(t, s, virtualDelta{Remove: []virtualRow{{Key: k, Value: lc}}}, 1)
	expect(t, s, map[state.VirtualServerKey]state.VirtualServer{})
}

func TestRealServersReachTheirValueWhateverWasThere(t *testing.T) {
	c := connect(t)
	s := c.RealServers()
	k := realKey("TCP 10.96.0.1:80 -> 10.0.0.9:8080")
	one, none := state.RealServer{Weight: 1}, state.RealServer{}
	apply(t, c.VirtualServers(), virtualDelta{Add: []virtualRow{{Key: k.Server, Value: plain}}}, 0)
	apply(t, s, realDelta{Update: []diff.Change[state.RealServerKey, state.RealServer]{{Key: k, Old: one, New: none}}}, 1)
	expect(t, s, map[state.RealServerKey]state.RealServer{k: none})
	apply(t, s, realDelta{Add: []realRow{{Key: k, Value: one}}}, 1)
	expect(t, s, map[state.RealServerKey]state.RealServer{k: one})
	apply(t, s, realDelta{Remove: []realRow{{Key: k, Value: one}}}, 0)
	apply(t, s, realDelta{Remove: []realRow{{Key: k, Value: one}}}, 1)
	apply(t, c.VirtualServers(), virtualDelta{Remove: []virtualRow{{Key: k.Server, Value: plain}}}, 0)
	apply(t, s, realDelta{Remove: []realRow{{Key: k, Value: one}}}, 1) // gone with its virtual server
}

func TestRealServersOfAnAbsentVirtualServerFail(t *testing.T) {
	c := connect(t)
	added, updated := realKey("TCP 10.96.0.1:80 -> 10.0.0.9:8080"), realKey("FWM 256 IPv6 -> [fd00::9]:8080")
	result := c.RealServers().Apply(context.Background(), realDelta{
		Add:    []realRow{{Key: added, Value: state.RealServer{Weight: 1}}},
		Update: []diff.Change[state.RealServerKey, state.RealServer]{{Key: updated, New: state.RealServer{Weight: 1}}},
	})
	expectFailures(t, result, map[state.RealServerKey]string{
		added:   "adding real server TCP 10.96.0.1:80 -> 10.0.0.9:8080: its virtual server is absent: file does not exist (no such process)",
		updated: "updating real server FWM 256 IPv6 -> [fd00::9]:8080: its virtual server is absent: file does not exist (no such process)",
	})
	for k, err := range result.Failed {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%v: %v does not wrap fs.ErrNotExist", k, err)
		}
	}
	if result.Drift != 0 {
		t.Errorf("drift %d", result.Drift)
	}
}

func TestInAMixedBatchExactlyTheBadRowsFail(t *testing.T) {
	c := connect(t)
	there, gone := virtualKey("TCP 10.96.0.1:80"), virtualKey("TCP 10.96.0.2:80")
	good, bad := virtualKey("TCP 10.96.0.3:80"), virtualKey("TCP [fd00::3]:80")
	badMask, badSwap := virtualKey("UDP [fd00::4]:53"), virtualKey("UDP 10.96.0.4:53")
	noEngine := virtualKey("UDP 10.96.0.5:53")
	apply(t, c.VirtualServers(), virtualDelta{Add: []virtualRow{{Key: there, Value: plain}, {Key: badSwap, Value: plain}}}, 0)
	result := c.VirtualServers().Apply(context.Background(), virtualDelta{
		Remove: []virtualRow{{Key: gone, Value: plain}},
		Update: []diff.Change[state.VirtualServerKey, state.VirtualServer]{{Key: badSwap, Old: plain, New: state.VirtualServer{Scheduler: "zyx", Prefix: 32}}},
		Add: []virtualRow{
			{Key: there, Value: plain},
			{Key: bad, Value: state.VirtualServer{Scheduler: "xyz", Prefix: 128}},
			{Key: badMask, Value: state.VirtualServer{Scheduler: "rr", Prefix: 129}},
			{Key: noEngine, Value: state.VirtualServer{Scheduler: "rr", Prefix: 32, Engine: "nope"}},
			{Key: good, Value: plain},
		},
	})
	expectFailures(t, result, map[state.VirtualServerKey]string{
		badSwap:  `updating virtual server UDP 10.96.0.4:53: scheduler "zyx": not in this kernel: no such file or directory`,
		bad:      `adding virtual server TCP [fd00::3]:80: scheduler "xyz": not in this kernel: no such file or directory`,
		badMask:  `adding virtual server UDP [fd00::4]:53: invalid argument`,
		noEngine: `adding virtual server UDP 10.96.0.5:53: scheduler "rr" or persistence engine "nope": not in this kernel: no such file or directory`,
	})
	if result.Drift != 2 {
		t.Errorf("drift %d, want one for the row that was there and one for that which was not", result.Drift)
	}
	expect(t, c.VirtualServers(), map[state.VirtualServerKey]state.VirtualServer{there: plain, badSwap: plain, good: plain})

	ok, otherFamily := realKey("TCP 10.96.0.1:80 -> 10.0.0.9:8080"), realKey("TCP 10.96.0.1:80 -> [fd00::9]:8080")
	heavy, orphan := realKey("TCP 10.96.0.1:80 -> 10.0.0.8:8080"), realKey("TCP 10.96.0.2:80 -> 10.0.0.8:8080")
	reals := c.RealServers().Apply(context.Background(), realDelta{Add: []realRow{
		{Key: heavy, Value: state.RealServer{Weight: 1 << 31}},
		{Key: otherFamily, Value: state.RealServer{Weight: 1}},
		{Key: orphan, Value: state.RealServer{Weight: 1}},
		{Key: ok, Value: state.RealServer{Weight: 1}},
	}})
	expectFailures(t, reals, map[state.RealServerKey]string{
		heavy:       "adding real server TCP 10.96.0.1:80 -> 10.0.0.8:8080: numerical result out of range",
		otherFamily: "adding real server TCP 10.96.0.1:80 -> [fd00::9]:8080: invalid argument",
		orphan:      "adding real server TCP 10.96.0.2:80 -> 10.0.0.8:8080: its virtual server is absent: file does not exist (no such process)",
	})
	expect(t, c.RealServers(), map[state.RealServerKey]state.RealServer{ok: {Weight: 1}})
}

func TestALargeTableTakesFewCalls(t *testing.T) {
	c := connect(t)
	virtuals, reals := fleet(2000, 5)
	apply(t, c.VirtualServers(), virtualsOf(virtuals), 0)
	apply(t, c.RealServers(), realsOf(reals), 0)
	if calls := c.Traffic().Calls; calls > 30 {
		t.Errorf("%d calls for 12000 rows", calls)
	}
	expect(t, c.VirtualServers(), virtuals)
	before := c.Traffic()
	expect(t, c.RealServers(), reals)
	if n := c.Traffic().Requests - before.Requests; n != 1 { // which virtual servers there are
		t.Errorf("listing real servers sent %d requests, want 1", n)
	}

	// All of them are there already: 10,000 answers, and a second round.
	before = c.Traffic()
	apply(t, c.RealServers(), realsOf(reals), len(reals))
	if calls := c.Traffic().Calls - before.Calls; calls > 60 {
		t.Errorf("%d calls to find 10000 rows there", calls)
	}
	expect(t, c.RealServers(), reals)

	apply(t, c.VirtualServers(), diff.Of(virtuals, nil, state.VirtualServerKey.Compare), 0)
	result := c.RealServers().Apply(context.Background(), realsOf(reals))
	if len(result.Failed) != len(reals) || result.Drift != 0 {
		t.Errorf("%d rows failed, drift %d; want all %d to fail", len(result.Failed), result.Drift, len(reals))
	}
	apply(t, c.RealServers(), diff.Of(reals, nil, state.RealServerKey.Compare), len(reals))
}

func TestAVirtualServerWithManyRealServersIsListedWhole(t *testing.T) {
	c := connect(t)
	k := virtualKey("TCP 10.96.0.1:80")
	reals := map[state.RealServerKey]state.RealServer{}
	for i := range 5000 {
		a := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 8080)
		reals[state.RealServerKey{Server: k, Address: a}] = state.RealServer{Weight: uint32(i % 100)}
	}
	apply(t, c.VirtualServers(), virtualDelta{Add: []virtualRow{{Key: k, Value: plain}}}, 0)
	apply(t, c.RealServers(), realsOf(reals), 0)
	expect(t, c.RealServers(), reals)
	u, err := c.Counters(context.Background())
	if err != nil || len(u.RealServers) != len(reals) || len(u.VirtualServers) != 1 {
		t.Errorf("counters of %d real and %d virtual servers, %v", len(u.RealServers), len(u.VirtualServers), err)
	}
}

func TestWhatOthersMadeIsListedToo(t *testing.T) {
	c := connect(t)
	h, err := moby.New("")
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	service := moby.Service{
		Address: net.ParseIP("192.0.2.1"), Protocol: 6, Port: 25, AddressFamily: unix.AF_INET,
		SchedName: moby.SourceHashing, Flags: 0x1 | 0x8, Timeout: 100, Netmask: 0x00ffffff,
	}
	marked := moby.Service{FWMark: 7, AddressFamily: unix.AF_INET6, SchedName: moby.WeightedRoundRobin, Netmask: 128}
	dest := moby.Destination{
		Address: net.ParseIP("192.0.2.2"), Port: 25, Weight: 7, ConnectionFlags: moby.ConnectionFlagTunnel,
		AddressFamily: unix.AF_INET, UpperThreshold: 100, LowerThreshold: 50,
	}
	for _, err := range []error{h.NewService(&service), h.NewService(&marked), h.NewDestination(&service, &dest)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	expect(t, c.VirtualServers(), map[state.VirtualServerKey]state.VirtualServer{
		virtualKey("TCP 192.0.2.1:25"): {Scheduler: "sh", Flags: state.Persistent | state.Sched1, Timeout: 100, Prefix: 24},
		virtualKey("FWM 7 IPv6"):       {Scheduler: "wrr", Prefix: 128},
	})
	key := realKey("TCP 192.0.2.1:25 -> 192.0.2.2:25")
	expect(t, c.RealServers(), map[state.RealServerKey]state.RealServer{key: {Weight: 7, Method: state.Tunnel}})
	u, err := c.Counters(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[state.RealServerKey]RealServerUsage{key: {Upper: 100, Lower: 50}}, u.RealServers, exact); d != "" {
		t.Error(d)
	}
}

// A virtual server of any protocol can be made through netlink; nothing is ever scheduled by it, but it must not hide
// the others.
func TestVirtualServersOfOddProtocolsAreListed(t *testing.T) {
	c := connect(t)
	virtuals, reals := map[state.VirtualServerKey]state.VirtualServer{}, map[state.RealServerKey]state.RealServer{}
	for p := range 256 {
		k := state.VirtualServerKey{Address: netip.MustParseAddrPort("10.0.0.1:80"), Protocol: state.Protocol(p)}
		virtuals[k] = state.VirtualServer{Scheduler: "none", Prefix: 32}
		reals[state.RealServerKey{Server: k, Address: netip.MustParseAddrPort("10.0.0.9:0")}] = state.RealServer{Weight: 1}
	}
	apply(t, c.VirtualServers(), virtualsOf(virtuals), 0)
	apply(t, c.RealServers(), realsOf(reals), 0)
	expect(t, c.VirtualServers(), virtuals)
	expect(t, c.RealServers(), reals)
}

func TestAConnKeepsItsNamespace(t *testing.T) {
	c := connect(t)
	reals := map[state.RealServerKey]state.RealServer{realKey("TCP 10.96.0.1:80 -> 10.0.0.9:8080"): {Weight: 1}}
	apply(t, c.VirtualServers(), virtualDelta{Add: []virtualRow{{Key: virtualKey("TCP 10.96.0.1:80"), Value: plain}}}, 0)
	testkit.Namespace(t) // another one
	apply(t, c.RealServers(), realsOf(reals), 0)
	expect(t, c.RealServers(), reals)
	expect(t, c.VirtualServers(), map[state.VirtualServerKey]state.VirtualServer{virtualKey("TCP 10.96.0.1:80"): plain})
}

func TestACancelledContextFailsEveryRow(t *testing.T) {
	c := connect(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	virtuals, _ := fleet(3, 0)
	result := c.VirtualServers().Apply(ctx, virtualsOf(virtuals))
	if len(result.Failed) != 3 {
		t.Errorf("%d rows failed", len(result.Failed))
	}
	for k, err := range result.Failed {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%v: %v", k, err)
		}
	}
	if _, err := c.RealServers().List(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := c.VirtualServers().List(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestOpenWithoutPermission(t *testing.T) {
	testkit.Namespace(t) // no other test uses this thread
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&header, &none[0]); err != nil {
		t.Fatal(err)
	}
	_, err := Open()
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "it takes CAP_NET_ADMIN") {
		t.Errorf("%v", err)
	}
}

func TestAFamilyThatIsNotThereIsLoadedOnce(t *testing.T) {
	c := connect(t)
	for _, c2 := range []struct {
		name    string
		loading error
		want    string
	}{
		{"the module is not there either", errors.New("exit status 1"), "the kernel has no NO-SUCH: unsupported operation: exit status 1"},
		{"the module is of no use", nil, "the kernel has no NO-SUCH, not even with its module: unsupported operation"},
	} {
		loads := 0
		_, err := c.resolve("NO-SUCH", func() error { loads++; return c2.loading })
		if !errors.Is(err, errors.ErrUnsupported) || err.Error() != c2.want || loads != 1 {
			t.Errorf("%s: %v after %d attempts to load it", c2.name, err, loads)
		}
	}
	if _, err := c.resolve(familyName, func() error { t.Error("loaded"); return nil }); err != nil {
		t.Error(err)
	}
}
