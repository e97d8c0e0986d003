// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
	"testing"
)

// These tests run the lab inside the lab: the kernel there has IPVS, so the inner lab uses namespaces.

// snapshot prints all that a lab must leave as it was.
const snapshot = `
snapshot() {
  ip -o link | cut -d: -f2; ip -o address | cut -c1-40; ls -A /run /run/netns
  cut -d' ' -f1 /proc/modules | sort; cut -d' ' -f2,3 /proc/mounts; ipset list -n; ipvsadm -Sn; iptables -t nat -S
  grep -sx sleep /proc/[0-9]*/comm || :
}
`

// messUp leaves everything it can in the namespaces.
const messUp = `
ip netns add left
ip link add left0 type dummy
ip link set lo down
ipset create LEFT hash:ip
ipvsadm -A -t 10.0.0.1:80 -s ovf
ipvsadm -A -f 9 -s fo
iptables -t nat -A OUTPUT -m statistic --mode random --probability 0.5 -j ACCEPT
touch /run/left; mount -t tmpfs left /mnt
setsid sleep 1000 &
`

func TestInsideIsPrivate(t *testing.T) {
	b := newBench(t)
	out := b.shell(snapshot + fmt.Sprintf(`
ip netns add ours
ipvsadm -A -t 192.0.2.1:80 -s rr
ipset create OURS hash:ip
# Looking loads modules, too: look twice.
snapshot >/dev/null
snapshot >/run/lab/before
LAB=%q
$LAB --check
status=0
$LAB sh -euc '
echo links: $(ip -o link | cut -d: -f2)
echo sysfs: $(ls /sys/class/net)
echo services: $(ipvsadm -Sn) sets: $(ipset list -n) names: $(ip netns list)
echo groups: $(ls /sys/fs/cgroup | grep -c procs)
echo first: $(cat /proc/1/comm)
%s
echo new: $(ipvsadm -Sn) $(ipset list -n) $(ip netns list)
exit 7' || status=$?
echo status: $status
snapshot >/run/lab/after
diff /run/lab/before /run/lab/after && echo unchanged
`, b.lab, messUp))
	wantLines(t, out,
		"this kernel (6.", "links: lo\n", "sysfs: lo\n", "services: sets: names:\n", "groups: 1\n",
		"new: -A -t 10.0.0.1:80 -s ovf -A -f 9 -s fo LEFT left\n",
		"status: 7\n", "unchanged\n")
	if !strings.Contains(out, "has IPVS and ipset; using it\n") {
		t.Errorf("the inner lab does not use the kernel that is there:\n%s", out)
	}
}

// The last of several labs removes the modules that they loaded, and no lab before it does.
func TestInsideModulesStayWhileLabsRun(t *testing.T) {
	b := newBench(t)
	out := b.shell(fmt.Sprintf(`
LAB=%q
cut -d' ' -f1 /proc/modules | sort >/run/lab/before
mkfifo /run/lab/go
$LAB sh -euc 'ipvsadm -A -t 10.0.0.1:80 -s ovf; cat /run/lab/go; ipvsadm -Sn' &
while ! grep -q ip_vs_ovf /proc/modules; do sleep 0.1; done
$LAB sh -euc 'ipvsadm -A -t 10.0.0.1:80 -s fo'
grep -q ip_vs_ovf /proc/modules && echo still there
echo go >/run/lab/go
wait
cut -d' ' -f1 /proc/modules | sort | diff /run/lab/before - && echo unchanged
ls /run
`, b.lab))
	wantLines(t, out, "still there\n", "go\n", "-A -t 10.0.0.1:80 -s ovf\n", "unchanged\n")
	if strings.Contains(out, ".modules") {
		t.Errorf("the ledger is still there:\n%s", out)
	}
}

func TestInsideExitStatusAndStreams(t *testing.T) {
	b := newBench(t)
	out := b.shell(fmt.Sprintf(`
LAB=%q
status() { "$@" && s=0 || s=$?; echo "status: $s"; }
status $LAB true
status $LAB sh -c 'exit 3'
status $LAB sh -c 'kill -9 $$'
status $LAB no-such-command 2>/dev/null
status $LAB /etc/passwd 2>/dev/null
echo input | $LAB cat
$LAB sh -c 'echo error >&2' 2>&1 >/dev/null
$LAB sh -c 'sleep 1000 & setsid sleep 1000 & echo background'
cd /usr/share && X="a  b" $LAB sh -c 'pwd; echo "$X"'
`, b.lab))
	want := "status: 0\nstatus: 3\nstatus: 137\nstatus: 127\nstatus: 126\n" +
		"input\nerror\nbackground\n/usr/share\na  b\n"
	if !strings.HasPrefix(out, want) {
		t.Errorf("got %q, want %q", out, want)
	}
}

func TestInsideSignals(t *testing.T) {
	b := newBench(t)
	out := b.shell(fmt.Sprintf(`
LAB=%q
await() { while [ ! -e $1 ]; do sleep 0.05; done; }

$LAB sh -c "trap 'echo caught; exit 5' TERM; touch /run/lab/a; while :; do sleep 0.05; done" &
await /run/lab/a; kill -TERM $!; wait $! && s=0 || s=$?
echo "caught: $s"

$LAB sh -c "touch /run/lab/b; exec sleep 1000" &
await /run/lab/b; kill -TERM $!; wait $! && s=0 || s=$?
echo "ended: $s"

$LAB sh -c "trap 'touch /run/lab/d' TERM; touch /run/lab/c; while :; do sleep 0.05; done" &
await /run/lab/c; kill -TERM $!; await /run/lab/d; kill -TERM $!; wait $! && s=0 || s=$?
echo "killed: $s"

$LAB sh -c "touch /run/lab/e; exec tail -f /dev/null" &
await /run/lab/e; kill -KILL $!; wait $! || :
while grep -qsx tail /proc/[0-9]*/comm; do sleep 0.05; done
echo nothing left
`, b.lab))
	wantLines(t, out, "caught\ncaught: 5\n", "ended: 143\n", "killed: 137\n", "nothing left\n")
}
