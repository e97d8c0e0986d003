// SPDX-License-Identifier: Apache-2.0

package ports

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

var (
	web  = types.NamespacedName{Namespace: "shop", Name: "web"}
	mail = types.NamespacedName{Namespace: "shop", Name: "mail"}
)

type report struct {
	service types.NamespacedName
	port    uint16
	err     error
}

// started is a HealthChecks with its reports.
type started struct {
	*HealthChecks
	healthy atomic.Bool
	reports chan report
}

func start(t *testing.T, list string) *started {
	t.Helper()
	s := &started{reports: make(chan report, 100)}
	testkit.LeavesNoGoroutine(t, func() { s.Close() })
	s.healthy.Store(true)
	s.HealthChecks = NewHealthChecks(HealthCheckOptions{
		Healthy: s.healthy.Load,
		Report:  func(service types.NamespacedName, port uint16, err error) { s.reports <- report{service, port, err} },
	})
	s.Addresses(addresses(list))
	return s
}

// wantReports checks that exactly these reports come next.
func (s *started) wantReports(t *testing.T, want ...report) {
	t.Helper()
	testkit.WantReports(t, s.reports, func(got, want report) bool {
		return got.service == want.service && got.port == want.port && errors.Is(got.err, want.err)
	}, want...)
}

func at(address string, port uint16) string {
	return net.JoinHostPort(address, strconv.Itoa(int(port)))
}

// freePorts returns n ports that are free in both families and protocols, and stay so: the kernel never picks one as
// low as these.
func freePorts(t *testing.T, n int) []uint16 {
	t.Helper()
	var ports []uint16
	for range 100 {
		port := 20000 + rand.IntN(12000)
		l, err := net.ListenTCP("tcp", &net.TCPAddr{Port: port})
		if err != nil {
			continue
		}
		defer l.Close()
		u, err := net.ListenUDP("udp", &net.UDPAddr{Port: port})
		if err != nil {
			continue
		}
		u.Close()
		ports = append(ports, uint16(port))
		if len(ports) == n {
			return ports
		}
	}
	t.Fatal("no ports are free")
	return nil
}

func freePort(t *testing.T) uint16 {
	t.Helper()
	return freePorts(t, 1)[0]
}

// occupy takes a port like another program, until it is closed.
func occupy(t *testing.T, protocol state.Protocol, at string) io.Closer {
	t.Helper()
	var c io.Closer
	var err error
	if protocol == state.TCP {
		c, err = net.Listen("tcp", at)
	} else {
		c, err = net.ListenPacket("udp", at)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func local(port uint16, endpoints int) state.HealthCheck {
	return state.HealthCheck{Port: port, IPv4: state.Health{Served: true, Endpoints: endpoints}}
}

// weight returns the weight in the answer at an address, or "refused".
func weight(t *testing.T, at string) string {
	t.Helper()
	client := http.Client{Timeout: testkit.Patience, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := client.Get("http://" + at)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return "refused"
	} else if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	return r.Header.Get("X-Load-Balancing-Endpoint-Weight")
}

func wantWeight(t *testing.T, at, want string) {
	t.Helper()
	if got := weight(t, at); got != want {
		t.Errorf("%s: got %s, want %s", at, got, want)
	}
}

func TestEachFamilyHasItsOwnAnswer(t *testing.T) {
	four, six := state.Health{Served: true, Endpoints: 4}, state.Health{Served: true, Endpoints: 6}
	for _, c := range []struct {
		name         string
		four, six    state.Health
		want4, want6 string
	}{
		{"both", four, six, "4", "6"},
		{"IPv4 alone", four, state.Health{}, "4", "refused"},
		{"IPv6 alone", state.Health{}, six, "refused", "6"},
		{"none", state.Health{}, state.Health{}, "refused", "refused"},
		{"both again", four, six, "4", "6"},
	} {
		for _, list := range []string{"127.0.0.1 ::1", "0.0.0.0 ::"} {
			t.Run(c.name+" on "+list, func(t *testing.T) {
				h := start(t, list)
				port := freePort(t)
				h.Set(web, state.HealthCheck{Port: port, IPv4: c.four, IPv6: c.six})
				wantWeight(t, at("127.0.0.1", port), c.want4)
				wantWeight(t, at("::1", port), c.want6)
				h.wantReports(t)
			})
		}
	}
}

func TestAPortIsClosedWhenItsServiceLeavesIt(t *testing.T) {
	h := start(t, "0.0.0.0 ::")
	ports := freePorts(t, 2)
	first, second := ports[0], ports[1]
	h.Set(web, local(first, 1))
	wantWeight(t, at("127.0.0.1", first), "1")
	h.Set(web, local(second, 2))
	wantWeight(t, at("127.0.0.1", first), "refused")
	wantWeight(t, at("127.0.0.1", second), "2")
	h.Set(web, state.HealthCheck{})
	wantWeight(t, at("127.0.0.1", second), "refused")
	h.Set(web, state.HealthCheck{})
	h.wantReports(t)
}

func TestPortsFollowTheAddresses(t *testing.T) {
	h := start(t, "")
	port := freePort(t)
	h.Set(web, local(port, 1))
	for _, c := range []struct{ list, one, two, three string }{
		{"", "refused", "refused", "refused"},
		{"127.0.0.1 127.0.0.2", "1", "1", "refused"},
		{"127.0.0.3 127.0.0.2", "refused", "1", "1"},
		{"0.0.0.0", "1", "1", "1"},
		{"127.0.0.2 0.0.0.0", "1", "1", "1"},
		{"127.0.0.1", "1", "refused", "refused"},
		{"::", "refused", "refused", "refused"},
	} {
		h.Addresses(addresses(c.list))
		for a, want := range map[string]string{"127.0.0.1": c.one, "127.0.0.2": c.two, "127.0.0.3": c.three} {
			if got := weight(t, at(a, port)); got != want {
				t.Errorf("on %q, %s: got %s, want %s", c.list, a, got, want)
			}
		}
	}
	h.wantReports(t)
}

func TestConnectionsToAddressesThatStaySurvive(t *testing.T) {
	h := start(t, "127.0.0.1 127.0.0.2")
	port := freePort(t)
	h.Set(web, local(port, 1))
	stays, goes := dial(t, at("127.0.0.1", port)), dial(t, at("127.0.0.2", port))
	defer stays.Close()
	defer goes.Close()
	// The server knows both once they had an answer.
	for _, conn := range []net.Conn{stays, goes} {
		wantOK(t, conn)
	}
	h.Addresses(addresses("127.0.0.1 127.0.0.3"))
	wantOK(t, stays)
	if _, err := io.Copy(io.Discard, goes); err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a connection to an address that is gone: %v, want its end", err)
	}
}

// wantOK sends HEAD, whose answer has no body.
func wantOK(t *testing.T, conn net.Conn) {
	t.Helper()
	if _, err := io.WriteString(conn, "HEAD / HTTP/1.1\r\nHost: lb\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 1024)
	n, err := conn.Read(got)
	if !strings.HasPrefix(string(got[:n]), "HTTP/1.1 200 OK\r\n") {
		t.Errorf("got %q, %v, want 200", got[:n], err)
	}
}

func TestAPortIsOpenOnAllAddressesOrNone(t *testing.T) {
	h := start(t, "127.0.0.1 192.0.2.1 ::1") // the second is not of this machine
	port := freePort(t)
	c := local(port, 1)
	c.IPv6 = state.Health{Served: true, Endpoints: 6}
	h.Set(web, c)
	h.wantReports(t, report{web, port, syscall.EADDRNOTAVAIL})
	wantWeight(t, at("127.0.0.1", port), "refused")
	wantWeight(t, at("::1", port), "6")
	h.Addresses(addresses("127.0.0.1 ::1"))
	h.wantReports(t, report{web, port, nil})
	wantWeight(t, at("127.0.0.1", port), "1")
}

func TestAnAddressThatCannotBeUsedDoesNotHarmThoseInUse(t *testing.T) {
	h := start(t, "127.0.0.1")
	port := freePort(t)
	h.Set(web, local(port, 1))
	h.Addresses(addresses("127.0.0.1 127.0.0.2 192.0.2.1"))
	h.wantReports(t, report{web, port, syscall.EADDRNOTAVAIL})
	wantWeight(t, at("127.0.0.1", port), "1")
	wantWeight(t, at("127.0.0.2", port), "refused")
	h.Set(web, local(port, 2))
	wantWeight(t, at("127.0.0.1", port), "2")
	h.Addresses(addresses("127.0.0.1 127.0.0.2"))
	h.wantReports(t, report{web, port, nil})
	wantWeight(t, at("127.0.0.2", port), "2")
}

func TestTheSecondServiceWaitsForThePortOfTheFirst(t *testing.T) {
	h := start(t, "0.0.0.0 ::")
	port := freePort(t)
	h.Set(web, local(port, 1))
	h.Set(mail, local(port, 2))
	h.wantReports(t, report{mail, port, syscall.EADDRINUSE})
	wantWeight(t, at("127.0.0.1", port), "1")
	h.Set(mail, local(port, 3))
	h.Set(web, state.HealthCheck{})
	h.wantReports(t, report{mail, port, nil}) // at once
	wantWeight(t, at("127.0.0.1", port), "3")
}

func TestServicesMaySwapPorts(t *testing.T) {
	h := start(t, "127.0.0.1")
	ports := freePorts(t, 2)
	one, two := ports[0], ports[1]
	h.Set(web, local(one, 1))
	h.Set(mail, local(two, 2))
	h.Set(web, local(two, 1))
	h.Set(mail, local(one, 2))
	h.wantReports(t, report{web, two, syscall.EADDRINUSE}, report{web, two, nil})
	wantWeight(t, at("127.0.0.1", one), "2")
	wantWeight(t, at("127.0.0.1", two), "1")
}

func TestAPortThatAStrangerHasIsOpenedWhenItLeaves(t *testing.T) {
	h := start(t, "127.0.0.1")
	port := freePort(t)
	s := occupy(t, state.TCP, at("127.0.0.1", port))
	h.Set(web, local(port, 1))
	h.wantReports(t, report{web, port, syscall.EADDRINUSE})
	s.Close()
	h.wantReports(t, report{web, port, nil})
	wantWeight(t, at("127.0.0.1", port), "1")
}

func TestWhatIsNotWantedAnyMoreIsNotOpenedLater(t *testing.T) {
	h := start(t, "127.0.0.1")
	port := freePort(t)
	s := occupy(t, state.TCP, at("127.0.0.1", port))
	h.Set(web, local(port, 1))
	h.wantReports(t, report{web, port, syscall.EADDRINUSE})
	h.Set(web, state.HealthCheck{})
	s.Close()
	h.Set(mail, local(port, 2)) // would fail if the other had it
	h.wantReports(t)
	wantWeight(t, at("127.0.0.1", port), "2")
}

func TestAPortThatBreaksIsOpenedAnew(t *testing.T) {
	h := start(t, "127.0.0.1")
	port := freePort(t)
	h.Set(web, local(port, 1))
	h.mutex.Lock()
	h.checks[checkKey{web, state.IPv4}].servers[netip.MustParseAddr("127.0.0.1")].listener.Close()
	h.mutex.Unlock()
	h.wantReports(t, report{web, port, net.ErrClosed}, report{web, port, nil})
	wantWeight(t, at("127.0.0.1", port), "1")
}

func TestCloseFreesThePortsForGood(t *testing.T) {
	h := start(t, "0.0.0.0 ::")
	port := freePort(t)
	h.Set(web, local(port, 1))
	h.Set(mail, local(port, 1))
	conn := dial(t, at("127.0.0.1", port))
	defer conn.Close()
	h.Close()
	occupy(t, state.TCP, at("", port))
	h.Set(web, local(port, 1))
	h.Addresses(addresses("127.0.0.1"))
	h.Close()
	h.wantReports(t, report{mail, port, syscall.EADDRINUSE})
}

func TestManyMayCallAtOnce(t *testing.T) {
	h := start(t, "127.0.0.1")
	var calls sync.WaitGroup
	ports := freePorts(t, 8)
	for i, port := range ports {
		service := types.NamespacedName{Namespace: "shop", Name: fmt.Sprint(i)}
		calls.Go(func() {
			for count := range 50 {
				h.Set(service, local(port, count))
				if count%10 == 9 {
					h.Set(service, state.HealthCheck{})
				}
			}
			h.Set(service, local(port, i))
		})
	}
	calls.Go(func() {
		for i := range 50 {
			h.Addresses(addresses([]string{"127.0.0.1", "127.0.0.1 127.0.0.2", "0.0.0.0"}[i%3]))
			h.healthy.Store(i%2 == 0)
		}
		h.Addresses(addresses("127.0.0.2"))
	})
	calls.Wait()
	for i, port := range ports {
		wantWeight(t, at("127.0.0.2", port), fmt.Sprint(i))
	}
}
