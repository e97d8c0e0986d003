// SPDX-License-Identifier: Apache-2.0

package ports

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

// ask sends a request and returns the whole answer, without the date.
func ask(t *testing.T, at, request string) string {
	t.Helper()
	conn := dial(t, at)
	defer conn.Close()
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile(`(?m)^Date: [^\r]+`).ReplaceAllString(string(all), "Date: then")
}

// dial connects, with a deadline.
func dial(t *testing.T, at string) net.Conn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", at, testkit.Patience)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.SetDeadline(time.Now().Add(testkit.Patience)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func wantAnswer(status, weight int, healthy bool) (head, body string) {
	body = fmt.Sprintf("{\n\t\"service\": {\n\t\t\"namespace\": \"shop\",\n\t\t\"name\": \"web\"\n\t},\n"+
		"\t\"localEndpoints\": %d,\n\t\"serviceProxyHealthy\": %v\n}", weight, healthy)
	head = fmt.Sprintf("HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nX-Content-Type-Options: nosniff\r\n"+
		"X-Load-Balancing-Endpoint-Weight: %d\r\nDate: then\r\nContent-Length: %d\r\nConnection: close\r\n\r\n",
		status, http.StatusText(status), weight, len(body))
	return head, body
}

func TestALoadBalancerIsToldByteByByte(t *testing.T) {
	h := start(t, "127.0.0.1 ::1")
	port := freePort(t)
	for _, c := range []struct {
		name      string
		endpoints int
		healthy   bool
		status    int
	}{
		{"no endpoints", 0, true, 503},
		{"one", 1, true, 200},
		{"many", 1234, true, 200},
		{"many, but an unhealthy proxy", 7, false, 503},
		{"nothing is well", 0, false, 503},
	} {
		h.healthy.Store(c.healthy)
		h.Set(web, state.HealthCheck{Port: port, IPv4: state.Health{Served: true, Endpoints: c.endpoints}, IPv6: state.Health{Served: true}})
		head, body := wantAnswer(c.status, c.endpoints, c.healthy)
		if got := ask(t, at("127.0.0.1", port), "GET / HTTP/1.1\r\nHost: lb\r\nConnection: close\r\n\r\n"); got != head+body {
			t.Errorf("%s: got %q, want %q", c.name, got, head+body)
		}
		head, body = wantAnswer(503, 0, c.healthy)
		if got := ask(t, at("::1", port), "GET / HTTP/1.1\r\nHost: lb\r\nConnection: close\r\n\r\n"); got != head+body {
			t.Errorf("%s, IPv6: got %q, want %q", c.name, got, head+body)
		}
	}
}

func TestAnyPathAndMethodIsAnswered(t *testing.T) {
	h := start(t, "127.0.0.1")
	port := freePort(t)
	h.Set(web, local(port, 2))
	head, body := wantAnswer(200, 2, true)
	for _, c := range []struct{ request, want string }{
		{"GET /", head + body},
		{"GET /healthz?x=y#z", head + body},
		{"GET //a/../b", head + body},
		{"GET http://elsewhere/", head + body},
		{"POST /", head + body},
		{"DELETE /a", head + body},
		{"OPTIONS *", head + body},
		{"ASK /", head + body},
		{"HEAD /", head},
	} {
		got := ask(t, at("127.0.0.1", port), c.request+" HTTP/1.1\r\nHost: lb\r\nConnection: close\r\n\r\n")
		if got != c.want {
			t.Errorf("%s: got %q, want %q", c.request, got, c.want)
		}
	}
	old := strings.NewReplacer("HTTP/1.1", "HTTP/1.0", "Connection: close\r\n", "").Replace(head)
	if got := ask(t, at("127.0.0.1", port), "GET / HTTP/1.0\r\n\r\n"); got != old+body {
		t.Errorf("HTTP/1.0: got %q, want %q", got, old+body)
	}
}

func TestNewCountsReachAConnectionThatStaysOpen(t *testing.T) {
	h := start(t, "127.0.0.1")
	port := freePort(t)
	h.Set(web, local(port, 0))
	conn := dial(t, at("127.0.0.1", port))
	defer conn.Close()
	answers := bufio.NewReader(conn)
	for count, status := range []int{503, 200, 200} {
		h.Set(web, local(port, count))
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: lb\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		r, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, body := wantAnswer(status, count, true)
		if got, err := io.ReadAll(r.Body); err != nil || string(got) != body || r.StatusCode != status {
			t.Errorf("got %d %q %v, want %d %q", r.StatusCode, got, err, status, body)
		}
	}
	h.wantReports(t)
}
