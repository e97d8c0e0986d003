// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
)

func prefixes(list ...string) []netip.Prefix {
	var parsed []netip.Prefix
	for _, s := range list {
		parsed = append(parsed, netip.MustParsePrefix(s))
	}
	return parsed
}

// settings are a flag for each way to choose something, and what it makes of
// the field, or of a part of it.
var settings = []struct {
	field, flag string
	want        any
}{
	{"Scheduler", "--ipvs-scheduler=mh", "mh"},
	{"MasqueradeAll", "--masquerade-all", true},
	{"MasqueradeBit", "--iptables-masquerade-bit=15", uint8(15)},
	{"LocalDetector", "--cluster-cidr=10.244.0.0/16,fd00::1/56", config.LocalDetector{Kind: config.DetectCIDR, CIDRs: prefixes("10.244.0.0/16", "fd00::/56")}},
	{"LocalDetector", "--pod-bridge-interface=cni0", config.LocalDetector{Kind: config.DetectBridge, Interface: "cni0"}},
	{"LocalDetector", "--pod-interface-name-prefix=veth", config.LocalDetector{Kind: config.DetectPrefix, Interface: "veth"}},
	{"StrictARP", "--ipvs-strict-arp", true},
	{"SyncPeriod", "--ipvs-sync-period=1m", time.Minute},
	{"NodePortAddresses", "--nodeport-addresses=192.0.2.7/24,fd00::/64", prefixes("192.0.2.0/24", "fd00::/64")},
	{"NodePortAddresses", "--nodeport-addresses=192.0.2.7/24 --nodeport-addresses=fd00::/64", prefixes("192.0.2.0/24", "fd00::/64")},
	{"NodePortPrimary", "--nodeport-addresses=primary", true},
	{"NodePortRange", "--service-node-port-range=20000-25000", config.PortRange{First: 20000, Last: 25000}},
	{"NodePortRange", "--service-node-port-range=0-0", config.PortRange{}},
	{"NodePortSourceRanges", "--nodeport-source-ranges", true},
	{"LocalhostNodePorts", "--localhost-nodeports", true},
	{"RemoteHairpins", "--remote-hairpins", true},
	{"AnswerPing", "--answer-ping", true},
	{"ServiceCIDRs", "--service-cidrs=10.96.0.0/12,fd00:96::/112", prefixes("10.96.0.0/12", "fd00:96::/112")},
	{"ExcludeCIDRs", "--ipvs-exclude-cidrs=198.51.100.0/24", prefixes("198.51.100.0/24")},
	{"APIServers", "--api-server-addresses=192.0.2.1,::ffff:192.0.2.2,fd00::1", []netip.Addr{
		netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("fd00::1"),
	}},
	{"TCPTimeout", "--ipvs-tcp-timeout=900s", 15 * time.Minute},
	{"TCPFinTimeout", "--ipvs-tcpfin-timeout=2m", 2 * time.Minute},
	{"UDPTimeout", "--ipvs-udp-timeout=5m", 5 * time.Minute},
	{"DrainTimeout", "--drain-timeout=0", time.Duration(0)},
}

func TestEveryFieldOfTheConfigurationHasAFlag(t *testing.T) {
	reached := []string{"Families", "Kernel", "Schedulers"} // known of the node, not chosen
	for _, s := range settings {
		var got config.Config
		w := newWorld()
		w.env.Run = func(_ context.Context, d Daemon) error { got = d.Config; return nil }
		if status, _, stderr := w.run(t, "run --manifests DIR "+s.flag); status != ExitOK {
			t.Errorf("%s: status %d, stderr %q", s.flag, status, stderr)
			continue
		}
		want := config.Default()
		reflect.ValueOf(&want).Elem().FieldByName(s.field).Set(reflect.ValueOf(s.want))
		if d := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); d != "" {
			t.Errorf("%s: not what it should change (-want +got):\n%s", s.flag, d)
		}
		reached = append(reached, s.field)
	}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[config.Config]()) {
		if !slices.Contains(reached, f.Name) {
			t.Errorf("no flag sets %s", f.Name)
		}
	}
}

func TestComplaintsNameTheFlag(t *testing.T) {
	for line, want := range map[string]string{
		"--ipvs-scheduler=":                                  "kube-ipvs: --ipvs-scheduler: empty",
		"--ipvs-tcp-timeout=-1s":                             "kube-ipvs: --ipvs-tcp-timeout: -1s is not",
		"--ipvs-tcpfin-timeout=1ms":                          "kube-ipvs: --ipvs-tcpfin-timeout: 1ms is not",
		"--ipvs-udp-timeout=9999h":                           "kube-ipvs: --ipvs-udp-timeout: 9999h0m0s is not",
		"--ipvs-sync-period=0s":                              "kube-ipvs: --ipvs-sync-period: 0s is not",
		"--drain-timeout=-1s":                                "kube-ipvs: --drain-timeout: -1s is",
		"--iptables-masquerade-bit=32":                       "kube-ipvs: --iptables-masquerade-bit: 32 is not",
		"--iptables-masquerade-bit=256":                      `invalid argument "256" for "--iptables-masquerade-bit"`,
		"--service-node-port-range=2-1":                      "kube-ipvs: --service-node-port-range: 2-1 is no range",
		"--service-node-port-range=30000":                    `for "--service-node-port-range" flag: "30000" is not a range of ports`,
		"--service-node-port-range=1-65536":                  `for "--service-node-port-range" flag: "1-65536" is not a range of ports`,
		"--service-cidrs=10.96.0.0":                          `for "--service-cidrs" flag: "10.96.0.0" is not a CIDR`,
		"--service-cidrs=::ffff:10.0.0.0/104":                "kube-ipvs: --service-cidrs: ::ffff:10.0.0.0/104 is an IPv4 network",
		"--ipvs-exclude-cidrs=x":                             `for "--ipvs-exclude-cidrs" flag: "x" is not a CIDR`,
		"--nodeport-addresses=primary,10.0.0.0/8":            `for "--nodeport-addresses" flag: primary does not go`,
		"--nodeport-addresses=secondary":                     `for "--nodeport-addresses" flag: "secondary" is not a CIDR`,
		"--api-server-addresses=kubernetes.default":          `for "--api-server-addresses" flag: "kubernetes.default" is not an IP address`,
		"--api-server-addresses=fe80::1%eth0":                `for "--api-server-addresses" flag: "fe80::1%eth0" is not an IP address`,
		"--cluster-cidr=10.0.0.0/8,11.0.0.0/8":               "kube-ipvs: --cluster-cidr: 11.0.0.0/8 is the second one",
		"--pod-bridge-interface=-j":                          `kube-ipvs: --pod-bridge-interface: "-j" is not a name`,
		"--pod-interface-name-prefix=veth+":                  `kube-ipvs: --pod-interface-name-prefix: "veth+" is not a name`,
		"--pod-bridge-interface=a --cluster-cidr=10.0.0.0/8": "only one of --cluster-cidr, --pod-bridge-interface and",
		"--ipvs-scheduler= --drain-timeout=-1s":              "--ipvs-scheduler: empty; --drain-timeout: -1s is",
	} {
		w := newWorld()
		status, stdout, stderr := w.run(t, "run --manifests DIR "+line)
		if status != ExitUsage || stdout != "" || !strings.Contains(stderr, want) {
			t.Errorf("%s: status %d, stderr %q, want status 2 and %q", line, status, stderr, want)
		}
	}
}

func TestRunNeedsManifests(t *testing.T) {
	w := newWorld()
	if status, _, stderr := w.run(t, "run"); status != ExitUsage || !strings.Contains(stderr, "--manifests is missing") {
		t.Errorf("status %d, stderr %q", status, stderr)
	}
}
