// SPDX-License-Identifier: Apache-2.0

package world_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/e2e/world"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

const port = 8080

func families() []state.Family    { return []state.Family{state.IPv4, state.IPv6} }
func protocols() []state.Protocol { return []state.Protocol{state.TCP, state.UDP, state.SCTP} }

// routing is the small world with forwarding on all nodes.
func routing() world.Topology {
	t := world.Small()
	for i := range t.Nodes {
		t.Nodes[i].Forward = true
	}
	return t
}

func build(t *testing.T, topology world.Topology) *world.World {
	t.Helper()
	w, err := world.New(topology)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

func serve(t *testing.T, w *world.World, hosts ...string) {
	t.Helper()
	for _, name := range hosts {
		for _, p := range protocols() {
			if err := w.Host(name).Serve(p, port); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestServersNameThemselvesAndSeeTheClientsAddress(t *testing.T) {
	w := build(t, routing())
	serve(t, w, "pod-a", "pod-d", "node-1", "node-2", "client")
	for _, way := range []struct{ from, to string }{
		{"pod-a", "pod-a"},
		{"pod-client", "pod-a"},
		{"pod-client", "pod-d"},
		{"pod-d", "pod-a"},
		{"pod-a", "node-1"},
		{"pod-a", "node-2"},
		{"node-2", "pod-a"},
		{"client", "node-1"},
		{"client", "node-2"},
		{"node-1", "client"},
	} {
		for _, f := range families() {
			for _, p := range protocols() {
				t.Run(fmt.Sprintf("%s to %s, %v, %v", way.from, way.to, f, p), func(t *testing.T) {
					from, to := w.Host(way.from), w.Host(way.to)
					reply, err := from.Ask(t.Context(), p, netip.AddrPortFrom(to.Addr(f), port))
					if err != nil {
						t.Fatal(err)
					}
					if reply.Server != to.Name || reply.Client.Addr() != from.Addr(f) {
						t.Errorf("%s got %v, want an answer of %s to %v", from.Name, reply, to.Name, from.Addr(f))
					}
				})
			}
		}
	}
}

func TestANodeReachesItsPodsFromTheirGateway(t *testing.T) {
	w := build(t, world.Small())
	serve(t, w, "pod-a")
	for f, want := range map[state.Family]string{state.IPv4: "10.244.1.1", state.IPv6: "fd00:10:244:1::1"} {
		reply, err := w.Host("node-1").Ask(t.Context(), state.TCP, netip.AddrPortFrom(w.Host("pod-a").Addr(f), port))
		if err != nil {
			t.Fatal(err)
		}
		if got := reply.Client.Addr().String(); got != want {
			t.Errorf("pod-a saw its node as %s, want %s", got, want)
		}
	}
}

func TestAConnectionCanBeAskedAgain(t *testing.T) {
	w := build(t, world.Small())
	serve(t, w, "node-1")
	for _, p := range protocols() {
		c, err := w.Host("client").Dial(t.Context(), p, netip.AddrPortFrom(w.Host("node-1").Addr(state.IPv4), port))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		first, err := c.Ask(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		second, err := c.Ask(t.Context())
		if err != nil || second != first {
			t.Errorf("%v: asked twice over one connection: %v, then %v (%v)", p, first, second, err)
		}
	}
}

func TestANodeForwardsOnlyIfTheTopologySaysSo(t *testing.T) {
	w := build(t, world.Small())
	serve(t, w, "pod-d")
	for _, f := range families() {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		reply, err := w.Host("pod-a").Ask(ctx, state.UDP, netip.AddrPortFrom(w.Host("pod-d").Addr(f), port))
		cancel()
		if err == nil {
			t.Errorf("%v: node-1 forwarded, and %v answered", f, reply)
		}
	}
}

func TestAClientOfAClosedPortIsRefused(t *testing.T) {
	w := build(t, world.Small())
	for _, p := range []state.Protocol{state.TCP, state.UDP, state.SCTP} {
		started := time.Now()
		reply, err := w.Host("client").Ask(t.Context(), p, netip.MustParseAddrPort("192.0.2.1:9"))
		if err == nil {
			t.Errorf("%v: %v answered on a port without a listener", p, reply)
		}
		if waited := time.Since(started); waited > 3*time.Second {
			t.Errorf("%v: the client waited %v instead of being refused: %v", p, waited, err)
		}
	}
}

func TestAQuestionEndsWithItsContext(t *testing.T) {
	w := build(t, world.Small())
	const limit = 100 * time.Millisecond
	for _, p := range protocols() {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		started := time.Now()
		// The client has a route to this address, and node-1 does not forward.
		if _, err := w.Host("client").Ask(ctx, p, netip.MustParseAddrPort("10.96.0.1:80")); err == nil {
			t.Errorf("%v: got an answer where nothing listens", p)
		}
		if waited := time.Since(started); waited < limit*9/10 || waited > limit*40 {
			t.Errorf("%v: the question took %v, want %v", p, waited, limit)
		}
	}
}

func TestCommandsRunOnTheirHost(t *testing.T) {
	w := build(t, world.Small())
	output, err := w.Host("node-1").Run(t.Context(), "cat", "/proc/self/net/dev")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range []string{"lo:", "eth0:", "veth-pod-a:", "veth-pod-client:"} {
		if !strings.Contains(output, link) {
			t.Errorf("node-1 has no link %s in:\n%s", link, output)
		}
	}
	command := exec.CommandContext(t.Context(), "readlink", "/proc/self/ns/net")
	var text strings.Builder
	command.Stdout = &text
	if err := w.Host("pod-a").Start(command); err != nil {
		t.Fatal(err)
	}
	if err := command.Wait(); err != nil {
		t.Fatal(err)
	}
	var want string
	err = w.Host("pod-a").Do(func() (err error) {
		want, err = os.Readlink("/proc/thread-self/ns/net")
		return err
	})
	if err != nil || strings.TrimSpace(text.String()) != want {
		t.Errorf("a command of pod-a ran in %s, want %s (%v)", text.String(), want, err)
	}
}

func TestTheThreadComesBack(t *testing.T) {
	w := build(t, world.Small())
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home := namespaceOfThread(t)
	if err := w.Host("pod-a").Do(func() error { return os.ErrInvalid }); err != os.ErrInvalid {
		t.Errorf("Do returned %v, want what its function returned", err)
	}
	if got := namespaceOfThread(t); got != home {
		t.Errorf("the thread is in %s after Do, want %s", got, home)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = w.Host("pod-a").Do(func() error { runtime.Goexit(); return nil })
	}()
	<-ended
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		// A thread may end while we look.
		if got, err := os.Readlink("/proc/self/task/" + task.Name() + "/ns/net"); err == nil && got != home {
			t.Errorf("a thread stayed in %s", got)
		}
	}
}

func namespaceOfThread(t *testing.T) string {
	t.Helper()
	name, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// A link between two namespaces disappears when the kernel destroys either of them: that is how the test sees it
// happen.
func TestNothingIsLeftOfAClosedWorld(t *testing.T) {
	linksBefore, filesBefore := links(t), openFiles(t)
	w, err := world.New(routing())
	if err != nil {
		t.Fatal(err)
	}
	if got := links(t); got != linksBefore {
		t.Errorf("a world made links where it was built: %s, before: %s", got, linksBefore)
	}
	for i, h := range w.Hosts() {
		serve(t, w, h.Name)
		canary(t, h, fmt.Sprint("canary", i))
	}
	c, err := w.Host("client").Dial(t.Context(), state.TCP, netip.AddrPortFrom(w.Host("node-1").Addr(state.IPv4), port))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Ask(t.Context()); err != nil {
		t.Error(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	w.Close()
	if got := openFiles(t); got != filesBefore {
		t.Errorf("%d files are open after Close, want %d as before", got, filesBefore)
	}
	deadline := time.Now().Add(30 * time.Second)
	for links(t) != linksBefore {
		if time.Now().After(deadline) {
			t.Fatalf("links into the closed world are still there: %s, before: %s", links(t), linksBefore)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// canary joins the test's own namespace to a host.
func canary(t *testing.T, h *world.Host, name string) {
	t.Helper()
	var space *os.File
	err := h.Do(func() (err error) {
		space, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer space.Close()
	pair := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: name, PeerNamespace: netlink.NsFd(space.Fd()),
	}
	if err := netlink.LinkAdd(pair); err != nil {
		t.Fatal(err)
	}
}

func links(t *testing.T) string {
	t.Helper()
	all, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, l := range all {
		names = append(names, l.Attrs().Name)
	}
	return strings.Join(names, " ")
}

// openFiles counts open files without the runtime's own, which come and go.
func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		var s unix.Stat_t
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err == nil && !strings.HasPrefix(target, "anon_inode:") && unix.Stat("/proc/self/fd/"+e.Name(), &s) == nil {
			n++
		}
	}
	return n
}

func TestATopologyThatCannotBeBuiltIsRefused(t *testing.T) {
	twice := world.Small()
	twice.Outside[0].Name = "pod-a"
	deaf := world.Small()
	deaf.Nodes[1].Addresses = deaf.Nodes[1].Addresses[:1]
	for name, topology := range map[string]world.Topology{
		"two hosts of one name": twice, "pods of a family that their node lacks": deaf,
	} {
		if w, err := world.New(topology); err == nil {
			w.Close()
			t.Errorf("%s: a world was built", name)
		}
	}
}
