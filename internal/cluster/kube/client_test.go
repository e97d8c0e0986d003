// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
)

func TestTheFirstServerThatWorksIsUsed(t *testing.T) {
	a, stranger := newAuthority(t), newAuthority(t)
	for what, c := range map[string]struct {
		first    netip.AddrPort
		failures int // until the next one is tried: what is noticed after connecting costs a request
	}{
		"no listener":                    {closed(t), 0},
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
	w, err := client.Core.Get().Resource("services").Param("watch", "true").Watch(t.Context())
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
	w, err := client.Core.Get().Resource("services").Param("watch", "true").Watch(t.Context())
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
		w, err := client.Core.Get().Resource("services").Param("watch", "true").Watch(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer w.Stop()
		if _, err := client.Discovery.Get().Resource("endpointslices").Param("watch", "true").Watch(t.Context()); err != nil {
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
