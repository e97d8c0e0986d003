// SPDX-License-Identifier: Apache-2.0

// Package commands tests on a real kernel what the commands read, and that only one daemon runs in a network namespace.
package commands

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/kube-ipvs/kube-ipvs/internal/app"
	"github.com/kube-ipvs/kube-ipvs/internal/cli"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/render"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

// exotic are virtual servers of all kinds that ipvsadm can write. No two addresses of a family are so far apart that
// ipvsadm sorts them wrong.
const exotic = `-A -t 10.96.0.1:443 -s rr
-a -t 10.96.0.1:443 -r 10.244.1.1:6443 -m -w 1
-a -t 10.96.0.1:443 -r 10.244.1.10:6443 -m -w 0
-a -t 10.96.0.1:443 -r 10.244.1.9:6443 -m -w 65535
-A -t 10.96.0.2:0 -s wrr -p 360
-a -t 10.96.0.2:0 -r 10.244.1.1:0 -g -w 7
-A -t 10.96.0.2:80 -s sh -b sh-fallback,sh-port
-a -t 10.96.0.2:80 -r 10.244.1.2:80 -i -w 1 --tun-type ipip
-A -t 100.64.0.1:65535 -s wlc
-A -t 100.64.0.2:80 -s rr -b flag-1,flag-3
-A -u 10.96.0.1:53 -s lc -p 60 -M 255.255.0.0
-A -u 10.96.0.1:54 -s rr -o
-A -u 10.96.0.1:5060 -s rr -p 60 --pe sip -o -b flag-2
-A --sctp-service 10.96.0.1:80 -s sed
-a --sctp-service 10.96.0.1:80 -r 10.244.1.1:8080 -m -w 3
-A -t [fd00::1]:443 -s mh -p 10800 -b mh-fallback,mh-port
-a -t [fd00::1]:443 -r [fd00:1111:2222:3333:4444:5555:6666:7777]:65535 -m -w 1
-A -t [fd00:1111:2222:3333:4444:5555:6666:7777]:65535 -s mh -b mh-port
-A -u [fd00::1]:53 -s rr -p 60 -M 64
-A -f 1 -s nq
-a -f 1 -r 10.244.1.1:0 -m -w 1
-A -f 256 -6 -s rr -p 1 -M 48 -o
-a -f 256 -6 -r [fd00::2]:80 -m -w 1
-A -f 257 -6 -s rr
`

// tool runs a program in the test's network namespace.
func tool(t *testing.T, stdin string, argv ...string) string {
	t.Helper()
	var stderr bytes.Buffer
	c := exec.Command(argv[0], argv[1:]...)
	c.Stdin, c.Stderr = strings.NewReader(stdin), &stderr
	out, err := c.Output()
	if err != nil || stderr.Len() > 0 {
		t.Fatalf("%v: %v\n%s", argv, err, stderr.String())
	}
	return string(out)
}

// view returns all that the kernel reports now.
func view(t *testing.T) render.View {
	t.Helper()
	s, seen := read(t)
	return render.Join(s, seen, plan.ServerEntries)
}

func read(t *testing.T) (state.State, render.Observed) {
	t.Helper()
	k, err := app.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	}()
	s, err := k.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	seen, err := k.Observe(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	return s, seen
}

func plain(t *testing.T, v render.View, c render.Columns) string {
	return written(t, func(w io.Writer) error { return render.Plain(w, v, c) })
}

func written(t *testing.T, write func(io.Writer) error) string {
	t.Helper()
	var b strings.Builder
	if err := write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// equalListings compares our listing with ipvsadm's. It retries while ipvsadm's changes, so that both show the same
// counters and rates.
func equalListings(t *testing.T, c render.Columns, options ...string) string {
	t.Helper()
	argv := append([]string{"ipvsadm", "-L", "-n"}, options...)
	for deadline := time.Now().Add(time.Minute); ; {
		want := tool(t, "", argv...)
		got := plain(t, view(t), c)
		if tool(t, "", argv...) != want && time.Now().Before(deadline) {
			continue
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%v (-ipvsadm +ours):\n%s", argv, d)
		}
		return got
	}
}

func TestTextIsIpvsadmsByteForByte(t *testing.T) {
	testkit.Namespace(t)
	equalListings(t, render.Connections)
	tool(t, exotic, "ipvsadm", "--restore")
	equalListings(t, render.Connections)
	equalListings(t, render.Traffic, "--stats")
	equalListings(t, render.Rates, "--rate")
}

func TestNumbersAreIpvsadmsToo(t *testing.T) {
	testkit.Namespace(t)
	tool(t, "", "ip", "address", "add", "10.96.0.10/32", "dev", "lo")
	tool(t, "", "ip", "address", "add", "10.244.1.1/32", "dev", "lo")
	tool(t, "-A -u 10.96.0.10:53 -s rr\n-a -u 10.96.0.10:53 -r 10.244.1.1:5353 -m -w 1\n"+
		"-A -t 10.96.0.10:80 -s rr -p 300\n-a -t 10.96.0.10:80 -r 10.244.1.1:8080 -m -w 1\n", "ipvsadm", "--restore")
	packets(t, "10.96.0.10:53", "10.244.1.1:5353", 100)
	connections(t, "10.96.0.10:80", "10.244.1.1:8080", 3)

	// One UDP connection; three TCP connections, which stay open.
	text := equalListings(t, render.Connections)
	for _, want := range []string{
		"UDP  10.96.0.10:53 rr\n  -> 10.244.1.1:5353              Masq    1      0          1         \n",
		"TCP  10.96.0.10:80 rr persistent 300\n  -> 10.244.1.1:8080              Masq    1      3          0         \n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	// The kernel sums up its counters and estimates its rates every other second.
	until(t, render.Traffic, "--stats", func(text string) bool {
		return strings.Contains(text, "UDP  10.96.0.10:53                       1      100        0   102800        0\n")
	})
	until(t, render.Rates, "--rate", func(text string) bool {
		return strings.Contains(text, "UDP  10.96.0.10:53") && !strings.Contains(text, "UDP  10.96.0.10:53                       0        0")
	})
}

// until compares listings until one has the right text.
func until(t *testing.T, c render.Columns, option string, right func(string) bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		text := equalListings(t, c, option)
		if right(text) || t.Failed() {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s never is as it should be:\n%s", option, text)
		}
	}
}

// packets sends n packets of 1000 bytes to address, on one connection.
func packets(t *testing.T, address, server string, n int) {
	t.Helper()
	l, err := net.ListenPacket("udp", server)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	c, err := net.Dial("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	for range n {
		if _, err := c.Write(make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		if err := l.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := l.ReadFrom(make([]byte, 2000)); err != nil {
			t.Fatal(err)
		}
	}
}

// connections makes n connections to address that stay open.
func connections(t *testing.T, address, server string, n int) {
	t.Helper()
	l, err := net.Listen("tcp", server)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	for range n {
		c, err := net.DialTimeout("tcp", address, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
	}
}

func TestSaveIsWhatIpvsadmSavesAndRestores(t *testing.T) {
	testkit.Namespace(t)
	save := func() string {
		return written(t, func(w io.Writer) error { return render.Save(w, view(t)) })
	}
	tool(t, exotic, "ipvsadm", "--restore")
	if d := cmp.Diff(tool(t, "", "ipvsadm", "-S", "-n"), save()); d != "" {
		t.Errorf("saved (-ipvsadm +ours):\n%s", d)
	}

	// What ipvsadm -S forgets or breaks.
	tool(t, "-A -f 4294967295 -s rr\n-a -f 4294967295 -r 10.244.1.1:80 -m -w 1 -x 100 -y 50\n", "ipvsadm", "--restore")
	saved, rows := save(), rowsOf(t)
	tool(t, "", "ipvsadm", "-C")
	if got := save(); got != "" {
		t.Fatalf("after clearing all, there is\n%s", got)
	}
	tool(t, saved, "ipvsadm", "--restore")
	if d := cmp.Diff(saved, save()); d != "" {
		t.Errorf("saved again (-before +after):\n%s", d)
	}
	if d := cmp.Diff(rows, rowsOf(t)); d != "" {
		t.Errorf("restored rows (-before +after):\n%s", d)
	}
}

// rowsOf returns the virtual and real servers in the kernel, with their limits.
func rowsOf(t *testing.T) state.State {
	t.Helper()
	s := state.New()
	for _, v := range view(t).VirtualServers {
		s.VirtualServers[v.Key] = v.Row
		for _, r := range v.RealServers {
			s.RealServers[state.RealServerKey{Server: v.Key, Address: r.Address}] = r.Row
		}
	}
	return s
}

// execute runs a command as the program does.
func execute(t *testing.T, line string) (status int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	status = cli.Execute(t.Context(), cli.Env{
		Stdout:     &out,
		Stderr:     &err,
		OpenKernel: func() (cli.Kernel, error) { return app.Open() },
		Running:    app.Running,
		Stored:     app.Stored,
		Barriers:   app.Barriers,
	}, strings.Fields(line))
	return status, out.String(), err.String()
}

// makeServices makes rows of Services, known and unknown, with the standard tools.
func makeServices(t *testing.T) {
	t.Helper()
	tool(t, "", "ip", "link", "add", "kube-ipvs0", "type", "dummy")
	for _, a := range []string{"10.96.0.1", "10.96.0.9", "fd00::1"} {
		tool(t, "", "ip", "address", "add", a, "dev", "kube-ipvs0")
	}
	tool(t, `create KUBE-CLUSTER-IP hash:ip,port comment
add KUBE-CLUSTER-IP 10.96.0.1,tcp:443 comment "default/kubernetes:https"
add KUBE-CLUSTER-IP 10.96.0.2,sctp:80 comment "shop/gone"
create KUBE-6-CLUSTER-IP hash:ip,port family inet6
add KUBE-6-CLUSTER-IP fd00::1,tcp:443
create KUBE-NODE-PORT-UDP bitmap:port range 0-65535 comment
add KUBE-NODE-PORT-UDP 30053 comment "kube-system/kube-dns:dns"
create OTHER hash:ip,port comment
add OTHER 10.96.0.3,tcp:80 comment "other/other:other"
`, "ipset", "restore")
	tool(t, `-A -t 10.96.0.1:443 -s rr
-a -t 10.96.0.1:443 -r 172.16.0.2:6443 -m -w 1
-a -t 10.96.0.1:443 -r 172.16.0.3:6443 -m -w 0
-A -t 10.96.0.3:80 -s rr
-A -u 127.0.0.1:30053 -s rr
-A -t [fd00::1]:443 -s rr
-A -f 256 -s rr
`, "ipvsadm", "--restore")
}

func TestDumpNamesTheServicesOfTheKernelsRows(t *testing.T) {
	testkit.Namespace(t)
	makeServices(t)
	const absent = "kube-ipvs is not running in this network namespace: what follows is what it, or another proxy, left in the kernel.\n"

	status, stdout, stderr := execute(t, "dump")
	if status != cli.ExitOK || stderr != absent {
		t.Errorf("status %d, stderr %q, want 0 and %q", status, stderr, absent)
	}
	title, rest, _ := strings.Cut(stdout, "\n")
	if want, _, _ := strings.Cut(tool(t, "", "ipvsadm", "-L", "-n"), "\n"); title != want {
		t.Errorf("the title is %q, want %q", title, want)
	}
	if d := cmp.Diff(`Prot LocalAddress:Port Scheduler Flags  Service
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  10.96.0.1:443 rr                   default/kubernetes:https
  -> 172.16.0.2:6443              Masq    1      0          0         
  -> 172.16.0.3:6443              Masq    0      0          0         
TCP  10.96.0.3:80 rr                    -
UDP  127.0.0.1:30053 rr                 kube-system/kube-dns:dns
TCP  [fd00::1]:443 rr                   ?
FWM  256 rr                             ?
`, rest); d != "" {
		t.Errorf("text (-want +got):\n%s", d)
	}

	release, err := app.Hold()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = release() }()
	status, stdout, stderr = execute(t, "dump -o wide")
	if status != cli.ExitOK || stderr != "" {
		t.Errorf("status %d, stderr %q, want 0 and nothing", status, stderr)
	}
	if d := cmp.Diff(`SERVICE                   PROT  FAMILY  ADDRESS          SCHEDULER  WEIGHT  ACTIVE  INACTIVE  AFFINITY  FLAGS  SET                 BOUND  NOTES
default/kubernetes:https  TCP   IPv4    10.96.0.1:443    rr         1       0       0         -         -      KUBE-CLUSTER-IP     yes    1 of 2 draining
  ->                                    172.16.0.2:6443  Masq       1       0       0
  ->                                    172.16.0.3:6443  Masq       0       0       0                                                     draining
-                         TCP   IPv4    10.96.0.3:80     rr         0       0       0         -         -      -                   no     no real servers
kube-system/kube-dns:dns  UDP   IPv4    127.0.0.1:30053  rr         0       0       0         -         -      KUBE-NODE-PORT-UDP  -      no real servers
?                         TCP   IPv6    [fd00::1]:443    rr         0       0       0         -         -      KUBE-6-CLUSTER-IP   yes    no real servers
?                         FWM   IPv4    256              rr         0       0       0         -         -      -                   -      no real servers

Set entries without a virtual server:
  KUBE-CLUSTER-IP 10.96.0.2,sctp:80  shop/gone

Addresses on kube-ipvs0 without a virtual server:
  10.96.0.9
`, stdout); d != "" {
		t.Errorf("wide (-want +got):\n%s", d)
	}
}

func TestWithoutThePrivilegeThereIsOneSentence(t *testing.T) {
	testkit.Namespace(t) // this thread ends with the test, and so does what it lacks
	dropNetAdmin(t)
	if _, err := app.Open(); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("opening: %v, want %v", err, fs.ErrPermission)
	}
	status, stdout, stderr := execute(t, "dump")
	const want = "kube-ipvs: reading IPVS needs root, or CAP_NET_ADMIN in the initial user namespace\n"
	if status != cli.ExitFailed || stdout != "" || stderr != want {
		t.Errorf("status %d, stdout %q, stderr %q, want 1 and %q", status, stdout, stderr, want)
	}
}

// dropNetAdmin removes CAP_NET_ADMIN from this thread.
func dropNetAdmin(t *testing.T) {
	t.Helper()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		t.Fatal(err)
	}
	sets[0].Effective &^= 1 << unix.CAP_NET_ADMIN
	if err := unix.Capset(&header, &sets[0]); err != nil {
		t.Fatal(err)
	}
}
