// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
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
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
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

// fakeAPI is an API server without objects.
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

// serve starts a server with a certificate for host.
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

// kill ends the server at once.
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

// connect returns a client whose ring starts at the first server.
func (a *authority) connect(user string, servers ...netip.AddrPort) (*Client, *ring) {
	rc, err := loadRESTConfig(config.Client{Kubeconfig: a.kubeconfig(user)})
	if err != nil {
		a.t.Fatal(err)
	}
	rc.QPS = -1
	r := newRing(servers, 0)
	r.dialer.Timeout, r.answer = 300*time.Millisecond, 300*time.Millisecond
	r.carry(rc)
	c, err := newClient(rc)
	if err != nil {
		a.t.Fatal(err)
	}
	return c, r
}

// who returns the name of the server that answers.
func who(c *Client) (string, error) {
	var list corev1.ServiceList
	err := c.Core.Get().Resource("services").Do(context.Background()).Into(&list)
	return list.ResourceVersion, err
}

// wantWho fails unless the server of this name answers after at most so many failures.
func wantWho(t *testing.T, c *Client, failures int, want string) {
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

// full returns the address of a listener that drops connections, like a machine that is off.
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

// mute returns the address of a listener that accepts connections and sends nothing.
func mute(t *testing.T) netip.AddrPort {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return netip.MustParseAddrPort(l.Addr().String())
}

// closed returns an address without a listener.
func closed(t *testing.T) netip.AddrPort {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	return netip.MustParseAddrPort(l.Addr().String())
}

// roomless is a listening socket with the shortest queue there is.
type roomless struct {
	fd      int
	address netip.AddrPort
}

func listenWithoutRoom() (roomless, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return roomless{}, err
	}
	l := roomless{fd: fd}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return l, err
	}
	if err := unix.Listen(fd, 0); err != nil {
		return l, err
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return l, err
	}
	in, ok := name.(*unix.SockaddrInet4)
	if !ok {
		return l, fmt.Errorf("the name is a %T", name)
	}
	l.address = netip.AddrPortFrom(netip.AddrFrom4(in.Addr), uint16(in.Port))
	return l, nil
}

func (l roomless) Close() error { return unix.Close(l.fd) }
