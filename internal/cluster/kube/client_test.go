// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
)

// name is what certificates are for. It is no name that can be resolved.
const name = "api.cluster.invalid"

// authority signs certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t}
	var pair tls.Certificate
	pair, a.key = a.sign(&x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	a.cert = pair.Leaf
	return a
}

func (a *authority) sign(c *x509.Certificate) (tls.Certificate, *ecdsa.PrivateKey) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	c.SerialNumber, c.NotBefore, c.NotAfter = big.NewInt(time.Now().UnixNano()), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	if err != nil {
		a.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, key
}

// fakeAPI is an API fakeAPI with no objects.
type fakeAPI struct {
	*httptest.Server
	name string

	mutex  sync.Mutex
	status int
	tokens []string
	header http.Header // of the last request
	users  []string
	hold   chan struct{} // watches last until it is closed
}

// serve starts a fakeAPI with a certificate for host.
func (a *authority) serve(name, host string) *fakeAPI {
	s := &fakeAPI{name: name, status: http.StatusOK, hold: make(chan struct{})}
	s.Server = httptest.NewUnstartedServer(s)
	pair, _ := a.sign(&x509.Certificate{DNSNames: []string{host}})
	clients := x509.NewCertPool()
	clients.AddCert(a.cert)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: clients, ClientAuth: tls.VerifyClientCertIfGiven}
	s.EnableHTTP2 = true
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	a.t.Cleanup(func() {
		s.end()
		s.Close()
	})
	return s
}

func (s *fakeAPI) end() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	select {
	case <-s.hold:
	default:
		close(s.hold)
	}
}

// kill takes the fakeAPI away from one moment to the next.
func (s *fakeAPI) kill() {
	_ = s.Listener.Close()
	s.CloseClientConnections()
}

func (s *fakeAPI) address() netip.AddrPort {
	return netip.MustParseAddrPort(s.Listener.Addr().String())
}

func (s *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mutex.Lock()
	s.tokens = append(s.tokens, r.Header.Get("Authorization"))
	s.header = r.Header
	user := ""
	if len(r.TLS.PeerCertificates) > 0 {
		user = r.TLS.PeerCertificates[0].Subject.CommonName
	}
	s.users = append(s.users, user)
	status := s.status
	s.mutex.Unlock()
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if r.URL.Query().Get("watch") != "" && status == http.StatusOK {
		w.(http.Flusher).Flush()
		select {
		case <-s.hold:
		case <-r.Context().Done():
		}
		return
	}
	fmt.Fprintf(w, `{"apiVersion":"v1","kind":"ServiceList","metadata":{"resourceVersion":%q}}`, s.name)
}

// kubeconfig writes a file that trusts a.
func (a *authority) kubeconfig(user string) string {
	ca := filepath.Join(a.t.TempDir(), "ca.crt")
	a.write(ca, "CERTIFICATE", a.cert.Raw)
	file := filepath.Join(a.t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://%s:6443", certificate-authority: %s}}]
users: [{name: u, user: {%s}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
`, name, ca, user)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return file
}

func (a *authority) write(path, kind string, der []byte) {
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

// connect is a client whose ring starts with the first fakeAPI.
func (a *authority) connect(user string, servers ...netip.AddrPort) (*APIClient, *ring) {
	rc, err := loadRESTConfig(config.Client{Kubeconfig: a.kubeconfig(user)})
	if err != nil {
		a.t.Fatal(err)
	}
	rc.QPS = -1
	r := newRing(servers, 0)
	r.dialer.Timeout, r.answer = 300*time.Millisecond, 300*time.Millisecond
	r.carry(rc)
	c, err := newAPIClient(rc)
	if err != nil {
		a.t.Fatal(err)
	}
	return c, r
}

// who is the fakeAPI that answers.
func who(c *APIClient) (string, error) {
	var list corev1.ServiceList
	err := c.Core().Get().Resource("services").Do(context.Background()).Into(&list)
	return list.ResourceVersion, err
}

// wantWho wants a fakeAPI to answer after so many failures.
func wantWho(t *testing.T, c *APIClient, failures int, want string) {
	t.Helper()
	for range failures {
		if _, err := who(c); err == nil {
			break
		}
	}
	if got, err := who(c); got != want || err != nil {
		t.Errorf("%q answered, want %q: %v", got, want, err)
	}
}

// full is a answerListener that takes no connection: what comes is dropped without a word, as by a machine
// that is off.
func full(t *testing.T) netip.AddrPort {
	l, err := listenWithoutRoom()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	for range 4 { // the kernel's queue is for one or two
		c, err := net.DialTimeout("tcp", l.address.String(), time.Second)
		if err != nil {
			return l.address
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	t.Fatal("the listener still takes connections")
	return netip.AddrPort{}
}

// mute is a answerListener that takes connections and says nothing.
func mute(t *testing.T) netip.AddrPort {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return netip.MustParseAddrPort(l.Addr().String())
}

// closed is an address where nobody listens.
func closed(t *testing.T) netip.AddrPort {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	return netip.MustParseAddrPort(l.Addr().String())
}

func TestTheFirstServerThatWorksIsUsed(t *testing.T) {
	a, stranger := newAuthority(t), newAuthority(t)
	for what, c := range map[string]struct {
		first    netip.AddrPort
		failures int // until the next one is tried: what is noticed after connecting costs a request
	}{
		"nobody listens":                 {closed(t), 0},
		"connections are dropped":        {full(t), 0},
		"connections are never answered": {mute(t), 1},
		"a certificate of another CA":    {stranger.serve("bad", name).address(), 1},
		"a certificate for another name": {a.serve("bad", "other.invalid").address(), 1},
	} {
		t.Run(what, func(t *testing.T) {
			good := a.serve("good", name)
			client, _ := a.connect("token: x", c.first, good.address())
			began := time.Now()
			wantWho(t, client, c.failures, "good")
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

func TestAWrongCertificateIsRefused(t *testing.T) {
	a, stranger := newAuthority(t), newAuthority(t)
	for _, bad := range []*fakeAPI{stranger.serve("bad", name), a.serve("bad", "other.invalid")} {
		client, _ := a.connect("token: secret", bad.address())
		if _, err := who(client); err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("the error is %v", err)
		}
		if len(bad.tokens) != 0 {
			t.Errorf("it was sent %v", bad.tokens)
		}
	}
}

func TestAServerThatGoesAwayIsReplacedAndNotComeBackTo(t *testing.T) {
	a := newAuthority(t)
	one, two := a.serve("one", name), a.serve("two", name)
	client, r := a.connect("token: x", one.address(), two.address())
	wantWho(t, client, 0, "one")
	wantWho(t, client, 0, "one")
	w, err := client.Core().Get().Resource("services").Param("watch", "true").Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	one.kill()
	if _, more := <-w.ResultChan(); more {
		t.Error("the watch goes on")
	}
	wantWho(t, client, 1, "two")
	again := a.serve("one again", name)
	r.mutex.Lock()
	r.servers[0] = again.address()
	r.mutex.Unlock()
	wantWho(t, client, 0, "two")
	two.kill()
	wantWho(t, client, 1, "one again")
}

func TestAServerThatOnlyFailsIsLeft(t *testing.T) {
	a := newAuthority(t)
	sick, good := a.serve("sick", name), a.serve("good", name)
	sick.status = http.StatusInternalServerError
	client, _ := a.connect("token: x", sick.address(), good.address())
	w, err := client.Core().Get().Resource("services").Param("watch", "true").Watch(t.Context())
	if err == nil {
		w.Stop()
		t.Fatal("the watch began")
	}
	wantWho(t, client, 2, "good")
	// One such answer among good ones means nothing.
	good.mutex.Lock()
	good.status = http.StatusServiceUnavailable
	good.mutex.Unlock()
	_, _ = who(client)
	good.mutex.Lock()
	good.status = http.StatusOK
	good.mutex.Unlock()
	wantWho(t, client, 0, "good")
}

func TestAllThatIsAskedSharesOneConnection(t *testing.T) {
	a := newAuthority(t)
	s := a.serve("one", name)
	client, r := a.connect("token: x", s.address())
	for range 3 {
		w, err := client.Core().Get().Resource("services").Param("watch", "true").Watch(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer w.Stop()
		if _, err := client.Discovery().Get().Resource("endpointslices").Param("watch", "true").Watch(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if len(r.open) != 1 {
		t.Errorf("%d connections are open", len(r.open))
	}
}

func TestClientCertificatesAreReadAgain(t *testing.T) {
	a := newAuthority(t)
	one, two := a.serve("one", name), a.serve("two", name)
	folder := t.TempDir()
	cert, key := filepath.Join(folder, "cert"), filepath.Join(folder, "key")
	issue := func(user string) {
		pair, private := a.sign(&x509.Certificate{Subject: pkix.Name{CommonName: user}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
		der, err := x509.MarshalECPrivateKey(private)
		if err != nil {
			t.Fatal(err)
		}
		a.write(cert, "CERTIFICATE", pair.Certificate[0])
		a.write(key, "EC PRIVATE KEY", der)
	}
	issue("first")
	client, _ := a.connect(fmt.Sprintf("client-certificate: %s, client-key: %s", cert, key), one.address(), two.address())
	wantWho(t, client, 0, "one")
	issue("second")
	time.Sleep(1100 * time.Millisecond) // client-go looks at the files once a second at most
	one.kill()
	wantWho(t, client, 1, "two")
	if got := append(slices.Compact(one.users), slices.Compact(two.users)...); !slices.Equal(got, []string{"first", "second"}) {
		t.Errorf("the users were %q", got)
	}
}

func TestATokenStaysAFile(t *testing.T) {
	a := newAuthority(t)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	rc, err := loadRESTConfig(config.Client{Kubeconfig: a.kubeconfig("tokenFile: " + file)})
	if err != nil || rc.BearerTokenFile != file { // client-go reads it again each minute
		t.Errorf("got %v, %v", rc, err)
	}
}

func TestWhoWeAreAndWhereToGo(t *testing.T) {
	a := newAuthority(t)
	file := a.kubeconfig("token: x")
	for what, c := range map[string]struct {
		client config.Client
		host   string
		says   string
	}{
		"a kubeconfig":             {config.Client{Kubeconfig: file}, "https://" + name + ":6443", ""},
		"a URL in its place":       {config.Client{Kubeconfig: file, Master: "https://192.0.2.1:6443"}, "https://192.0.2.1:6443", ""},
		"a URL alone":              {config.Client{Master: "http://127.0.0.1:8080"}, "http://127.0.0.1:8080", ""},
		"nothing":                  {config.Client{}, "", "no pod"},
		"a file that is not there": {config.Client{Kubeconfig: file + "x"}, "", "no such file"},
	} {
		rc, err := loadRESTConfig(c.client)
		switch {
		case c.says != "":
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: the error is %v, want %q", what, err, c.says)
			}
		case err != nil || rc.Host != c.host:
			t.Errorf("%s: got %v, %v", what, rc, err)
		}
	}
}

func TestConnectTakesWhatWasChosen(t *testing.T) {
	a := newAuthority(t)
	s := a.serve("one", name)
	client, err := Connect(config.Client{
		Kubeconfig: a.kubeconfig("token: secret"), Servers: []netip.AddrPort{s.address()}, QPS: 1000, Burst: 1000,
		ContentType: "application/vnd.kubernetes.protobuf", AcceptContentTypes: "application/vnd.kubernetes.protobuf,application/json",
	}, "kube-ipvs/test")
	if err != nil {
		t.Fatal(err)
	}
	wantWho(t, client, 0, "one")
	for key, want := range map[string]string{
		"Authorization": "Bearer secret", "User-Agent": "kube-ipvs/test", "Accept": "application/vnd.kubernetes.protobuf,application/json",
	} {
		if got := s.header.Get(key); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
}
