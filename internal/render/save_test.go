// SPDX-License-Identifier: Apache-2.0

package render_test

import (
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-ipvs/kube-ipvs/internal/render"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

func save(t *testing.T, s state.State) string {
	t.Helper()
	v := render.Join(s, render.Observed{}, claims)
	return written(t, func(w io.Writer) error { return render.Save(w, v) })
}

func TestSaveWritesWhatIpvsadmRestores(t *testing.T) {
	equal(t, save(t, sample()), `-A -t 10.96.0.1:443 -s rr
-a -t 10.96.0.1:443 -r 192.0.2.1:6443 -m -w 1
-a -t 10.96.0.1:443 -r 192.0.2.2:6443 -m -w 0
-A -t 172.16.0.5:30080 -s sh -b sh-fallback,sh-port
-a -t 172.16.0.5:30080 -r 10.244.1.5:8080 -m -w 0
-A -u 10.96.0.10:53 -s wlc -p 60 -M 255.255.255.0 --pe sip -o
-A --sctp-service 10.200.0.1:80 -s rr -b flag-1,flag-3
-a --sctp-service 10.200.0.1:80 -r 10.244.1.6:80 -g -w 65535 -x 100 -y 50
-A -t [fd00::1]:443 -s mh -p 10800 -b mh-port
-a -t [fd00::1]:443 -r [fd00:1::5]:8443 -m -w 3
-A -f 256 -s lc
-a -f 256 -r 10.244.1.7:0 -i -w 1 --tun-type ipip
-A -f 4294967295 -6 -s rr -p 1 -M 64
`)
}

func TestWhatIsSavedIsReadBack(t *testing.T) {
	want := sample()
	got, err := render.ParseSave(strings.NewReader(save(t, want)))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want.VirtualServers, got.VirtualServers, comparable()); d != "" {
		t.Errorf("virtual servers differ:\n%s", d)
	}
	if d := cmp.Diff(want.RealServers, got.RealServers, comparable()); d != "" {
		t.Errorf("real servers differ:\n%s", d)
	}
}

func TestSavedTextIsReadStrictly(t *testing.T) {
	const server = "-A -t 10.96.0.1:443 -s rr\n"
	for _, c := range []struct{ text, want string }{
		{"-A -t 10.96.0.1:443 -s rr", "does not end"},
		{server + "\n", `line 2: reading "": "" is no word`},
		{"# comment\n", "neither -A nor -a"},
		{"-A -t 10.96.0.1:443\n", "not written as it should be"},
		{"-A -t 10.96.0.1:443 -s rr \n", "not written as it should be"},
		{"-A -t 10.96.0.1:443 -s rr\r\n", `"rr\r" is no word`},
		{"-A  -t 10.96.0.1:443 -s rr\n", `"" is no word`},
		{"-A -t [fe80::1%]:443 -s rr\n", "zone"},
		{"-A -t 10.96.0.1:443 -s rr -o -p 60\n", "not written as it should be"},
		{"-A -t 10.96.0.1:443 -s rr -M 255.255.255.255\n", "not written as it should be"},
		{"-A -t 10.96.0.1:443 -s rr -p 60 -M 255.0.255.0\n", "none of an IPv4 client"},
		{"-A -t [fd00::1]:443 -s rr -p 60 -M 129\n", "none of an IPv6 client"},
		{"-A -t 10.96.0.1:443 -s rr -b sh-port\n", `flag "sh-port" is none of scheduler "rr"`},
		{"-A -t 10.96.0.1:443 -s sh -b flag-2\n", "not written as it should be"},
		{"-A -t 10.96.0.1:443 -s sh -b \n", `"" is no word`},
		{"-A -f 0 -s rr\n", "mark 0"},
		{"-A -f -1 -s rr\n", "invalid syntax"},
		{"-A -f 4294967296 -s rr\n", "out of range"},
		{server + server, "there twice"},
		{"-a -t 10.96.0.1:443 -r 192.0.2.1:6443 -m -w 1\n", "no virtual server before it"},
		{server + "-a -t 10.96.0.1:443 -r 192.0.2.1:6443 -m\n", "not written as it should be"},
		{server + "-a -t 10.96.0.1:443 -r 192.0.2.1:6443 -m -w 1\n-a -t 10.96.0.1:443 -r 192.0.2.1:6443 -m -w 2\n", "line 3: row"},
		{server + "-a -t 10.96.0.1:443 -r 192.0.2.1:6443 -i -w 1\n", "not written as it should be"},
		{server + "-a -t 10.96.0.1:443 -r 192.0.2.1:6443 -m -w 1 -x 0\n", "not written as it should be"},
	} {
		s, err := render.ParseSave(strings.NewReader(c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q is read as %v, error %v, want an error with %q", c.text, s.VirtualServers, err, c.want)
		}
	}
}
