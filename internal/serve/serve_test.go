// SPDX-License-Identifier: Apache-2.0

package serve

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

var anyPort = netip.MustParseAddrPort("127.0.0.1:0")

func hello() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") })
}

// get returns the answer of an address.
func get(at netip.AddrPort) (string, error) {
	client := http.Client{Timeout: testkit.Patience, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := client.Get("http://" + at.String() + "/")
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	return string(text), err
}

func TestAPortIsServedAndFreeAfterwards(t *testing.T) {
	var s *Server
	testkit.LeavesNoGoroutine(t, func() { s.Close() })
	s, err := Start(Options{What: "test", At: anyPort, Pages: hello()})
	if err != nil {
		t.Fatal(err)
	}
	at := s.Addr()
	if text, err := get(at); text != "hello" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
	s.Close()
	l, err := net.Listen("tcp", at.String())
	if err != nil {
		t.Fatalf("after Close: %v", err)
	}
	l.Close()
	if s.Addr().IsValid() {
		t.Errorf("still at %v", s.Addr())
	}
}

// What handlers read is closed when Close has returned.
func TestNobodyIsBeingAnsweredAfterClose(t *testing.T) {
	started, ended := make(chan struct{}), make(chan struct{})
	s, err := Start(Options{What: "test", At: anyPort, Pages: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		defer close(ended)
		close(started)
		<-r.Context().Done() // its client is lost; it does not notice at once
		for range 1000 {
			runtime.Gosched()
		}
	})})
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan error, 1)
	go func(at netip.AddrPort) { _, err := get(at); asked <- err }(s.Addr())
	<-started
	s.Close()
	select {
	case <-ended:
	default:
		t.Error("a handler is at work after Close")
	}
	if err := <-asked; err == nil {
		t.Error("a client got an answer that was never written")
	}
}

func TestAnAnswerThatIsBeingWrittenIsNotCutOffByClose(t *testing.T) {
	started, goOn := make(chan struct{}), make(chan struct{})
	s, err := Start(Options{What: "test", At: anyPort, Pages: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "hello, ")
		w.(http.Flusher).Flush()
		close(started)
		<-goOn
		_, _ = io.WriteString(w, "world")
	})})
	if err != nil {
		t.Fatal(err)
	}
	at := s.Addr()
	type answer struct {
		text string
		err  error
	}
	answers, closed := make(chan answer, 1), make(chan struct{})
	go func() {
		text, err := get(at)
		answers <- answer{text, err}
	}()
	<-started
	go func() { defer close(closed); s.Close() }()
	for s.Addr().IsValid() {
		runtime.Gosched()
	}
	close(goOn)
	if a := <-answers; a != (answer{text: "hello, world"}) {
		t.Errorf("%q, %v", a.text, a.err)
	}
	<-closed
}

func TestAPortThatIsTakenIsServedOnceItIsFree(t *testing.T) {
	other, err := net.Listen("tcp", anyPort.String())
	if err != nil {
		t.Fatal(err)
	}
	at := other.Addr().(*net.TCPAddr).AddrPort()
	reports := make(chan error, 10)
	var s *Server
	testkit.LeavesNoGoroutine(t, func() { s.Close() })
	s, err = Start(Options{What: "test", At: at, Pages: hello(), Report: func(err error) { reports <- err }})
	if err != nil {
		t.Fatal(err)
	}
	same := func(got, want error) bool { return errors.Is(got, want) }
	testkit.WantReports(t, reports, same, error(syscall.EADDRINUSE))
	other.Close()
	testkit.WantReports(t, reports, same, nil)
	if text, err := get(at); text != "hello" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
}

func TestWhoFailsHardFailsAtOnce(t *testing.T) {
	other, err := net.Listen("tcp", anyPort.String())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	at := other.Addr().(*net.TCPAddr).AddrPort()
	if _, err := Start(Options{What: "healthz", At: at, Pages: hello(), HardFail: true}); !errors.Is(err, syscall.EADDRINUSE) || !strings.HasPrefix(err.Error(), "open port of healthz: ") {
		t.Errorf("got %v", err)
	}
}

func TestAPortThatBreaksIsOpenedAnew(t *testing.T) {
	reports := make(chan error, 10)
	var s *Server
	testkit.LeavesNoGoroutine(t, func() { s.Close() })
	s, err := Start(Options{What: "test", At: anyPort, Pages: hello(), Report: func(err error) { reports <- err }})
	if err != nil {
		t.Fatal(err)
	}
	s.mutex.Lock()
	s.listener.Close()
	s.mutex.Unlock()
	same := func(got, want error) bool { return errors.Is(got, want) }
	testkit.WantReports(t, reports, same, net.ErrClosed)
	testkit.WantReports(t, reports, same, nil)
	if text, err := get(s.Addr()); text != "hello" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
}

func TestTheUnspecifiedAddressIsThatOfBothFamilies(t *testing.T) {
	var s *Server
	testkit.LeavesNoGoroutine(t, func() { s.Close() })
	s, err := Start(Options{What: "test", At: netip.MustParseAddrPort("0.0.0.0:0"), Pages: hello()})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{"127.0.0.1", "::1"} {
		if text, err := get(netip.AddrPortFrom(netip.MustParseAddr(a), s.Addr().Port())); text != "hello" || err != nil {
			t.Errorf("%s: %q, %v", a, text, err)
		}
	}
}

// page asks for one path.
func page(mux http.Handler, path string) (code int, kind, text string) {
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w.Code, w.Header().Get("Content-Type"), w.Body.String()
}

func TestThePagesBesideTheMetrics(t *testing.T) {
	const plain = "text/plain; charset=utf-8"
	started := time.Now().Add(-90 * time.Second)
	mux := Pages{
		Metrics: hello(), Mode: "ipvs", Version: "v1.2.3", Started: started,
		Configz: func() []byte { return []byte(`{"kubeproxy.config.k8s.io":{}}`) },
		Flagz:   func() string { return "v=2\n" },
	}.Mux()
	for _, c := range []struct {
		path string
		code int
		kind string
		text string
	}{
		{"/healthz", 200, plain, "ok"},
		{"/healthz/ping", 200, plain, "ok"},
		{"/proxyMode", 200, plain, "ipvs"},
		{"/metrics", 200, plain, "hello"},
		{"/configz", 200, "application/json", `{"kubeproxy.config.k8s.io":{}}`},
		{"/flagz", 200, plain, fmt.Sprintf(warning, "flags") + "v=2\n"},
		{"/", 404, plain, "404 page not found\n"},
		{"/livez", 404, plain, "404 page not found\n"},
		{"/debug/pprof/", 404, plain, "404 page not found\n"},
	} {
		code, kind, text := page(mux, c.path)
		if code != c.code || kind != c.kind || text != c.text {
			t.Errorf("%s: got %d %q %q, want %d %q %q", c.path, code, kind, text, c.code, c.kind, c.text)
		}
	}
	code, _, text := page(mux, "/statusz")
	for _, want := range []string{
		"\nkube-ipvs statusz\nWarning: ", "\nBinary version: v1.2.3\n", "\nUp: 1m30s\n", "Started: " + started.UTC().Format(time.RFC3339),
		"\nPaths: /configz /flagz /healthz /healthz/ping /metrics /proxyMode /statusz\n",
	} {
		if code != 200 || !strings.Contains(text, want) {
			t.Errorf("/statusz: %d %q lacks %q", code, text, want)
		}
	}
}

func TestWhatIsNotGivenIsNotServed(t *testing.T) {
	mux := Pages{Mode: "ipvs"}.Mux()
	for _, path := range []string{"/metrics", "/configz", "/flagz"} {
		if code, _, _ := page(mux, path); code != 404 {
			t.Errorf("%s: %d", path, code)
		}
	}
	if _, _, text := page(mux, "/statusz"); !strings.Contains(text, "\nPaths: /healthz /healthz/ping /proxyMode /statusz\n") {
		t.Errorf("/statusz: %q", text)
	}
}

func TestProfilesAreServedOnlyIfAskedFor(t *testing.T) {
	mux := Pages{Profiling: true}.Mux()
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/heap?debug=1", "/debug/pprof/goroutine?debug=1"} {
		if code, _, text := page(mux, path); code != 200 || text == "" {
			t.Errorf("%s: %d %q", path, code, text)
		}
	}
}

// Addr returns where the server listens, or an invalid address if it does not.
func (s *Server) Addr() netip.AddrPort {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.listener == nil {
		return netip.AddrPort{}
	}
	return s.listener.Addr().(*net.TCPAddr).AddrPort()
}
