// SPDX-License-Identifier: Apache-2.0

package render

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

func FuzzParseSave(f *testing.F) {
	f.Add("-A -t 10.96.0.1:443 -s rr\n-a -t 10.96.0.1:443 -r 192.0.2.1:6443 -m -w 1\n")
	f.Add("-A -u [fd00::1]:53 -s wlc -p 60 -M 64 --pe sip -o -b flag-3\n")
	f.Add("-A --sctp-service 10.96.0.1:80 -s sh -p 1 -M 255.255.0.0 -b sh-port\n-a --sctp-service 10.96.0.1:80 -r 10.0.0.1:1 -g -w 7\n")
	f.Add("-A -f 256 -6 -s sh -b sh-fallback,sh-port\n-a -f 256 -6 -r [fd00::2]:0 -i -w 0 -x 2 -y 1 --tun-type ipip\n")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseSave(strings.NewReader(text))
		if err != nil {
			return
		}
		v := Join(s, Observed{}, func(state.VirtualServerKey) []state.SetEntry { return nil })
		var again strings.Builder
		if err := Save(&again, v); err != nil {
			t.Fatal(err)
		}
		sameLines(t, text, again.String())
		back, err := ParseSave(strings.NewReader(again.String()))
		if err != nil {
			t.Fatalf("%q is written as %q, which is not read: %v", text, again.String(), err)
		}
		if d := state.Diff(s, back); d.Len() != 0 {
			t.Errorf("%q is read, written and read as another state: %+v", text, d)
		}
	})
}

const everyTable = `sysctls
  net/ipv4/vs/conntrack = 1
  "net/o\x20dd" = "4096\t131072 6291456"
sets
  KUBE-CLUSTER-IP = hash:ip,port IPv4 maxelem 1048576 comment
  KUBE-NODE-PORT-TCP = bitmap:port
  nft:KUBE-ALL-PORTS = map:ip,port:ip IPv4 comment
entries
  KUBE-CLUSTER-IP 10.96.0.1,tcp:443 = "default/kubernetes:https"
  KUBE-SOURCE fd00::1,udp:53,fd00::/64 = "a \"b\""
  KUBE-NODE-PORT-TCP 30080 = ""
  nft:KUBE-ALL-PORTS 10.96.0.1,tcp:443 = "default/kubernetes:https"
chains
  IPv4 nat KUBE-SERVICES
    -m comment --comment "a = b" -j KUBE-MARK-MASQ
    -j RETURN
  IPv4 nft-nat KUBE-SERVICES
    [immediate 1=1]
  IPv6 mangle KUBE-EMPTY
jumps
  IPv4 nat PREROUTING -> KUBE-SERVICES = -m comment --comment "a = b" -j KUBE-SERVICES
  IPv4 nft-nat OUTPUT -> KUBE-SERVICES = -j KUBE-SERVICES
    [asleep]
links
  kube-ipvs0 = dummy
virtual servers
  TCP 10.96.0.1:443 = rr
  FWM 9 IPv6 = sh flags persistent,ops,flag-1,0xffffffc2 timeout 60 prefix 64 engine sip
real servers
  TCP 10.96.0.1:443 -> 192.0.2.1:6443 = Masq weight 1
  FWM 9 IPv6 -> [fd00::2]:0 = Tunnel weight 0 upper 2 lower 1
addresses
  10.96.0.1
  fd00::1
`

func FuzzParseState(f *testing.F) {
	f.Add(everyTable)
	for section := range strings.SplitAfterSeq(strings.ReplaceAll(everyTable, "\n  ", "\x00  "), "\n") {
		f.Add(strings.ReplaceAll(section, "\x00", "\n"))
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseState(strings.NewReader(text))
		if err != nil {
			return
		}
		var again, nft strings.Builder
		if err := errors.Join(State(&again, s), NFT(&nft, s)); err != nil {
			t.Fatal(err)
		}
		back, err := ParseState(strings.NewReader(again.String()))
		if err != nil {
			t.Fatalf("%q is written as %q, which is not read: %v", text, again.String(), err)
		}
		if d := state.Diff(s, back); d.Len() != 0 {
			t.Errorf("%q is read, written and read as another state: %+v", text, d)
		}
		sameRows(t, text, again.String())
	})
}

func TestTheSeedOfTheFuzzersIsRead(t *testing.T) {
	if _, err := ParseState(strings.NewReader(everyTable)); err != nil {
		t.Error(err)
	}
}

// sameLines checks that two texts have the same lines, in any order.
func sameLines(t *testing.T, a, b string) {
	t.Helper()
	linesA, linesB := strings.Split(a, "\n"), strings.Split(b, "\n")
	slices.Sort(linesA)
	slices.Sort(linesB)
	if !slices.Equal(linesA, linesB) {
		t.Errorf("%q is written as %q", a, b)
	}
}

// sameRows is sameLines without titles: State leaves out the title of an empty table.
func sameRows(t *testing.T, a, b string) {
	t.Helper()
	rows := func(text string) string {
		lines := slices.DeleteFunc(strings.Split(text, "\n"), func(l string) bool { return !strings.HasPrefix(l, inSection) })
		return strings.Join(lines, "\n")
	}
	sameLines(t, rows(a), rows(b))
}
