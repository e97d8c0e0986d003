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

// setting are flags, and the values of the fields that they set.
type setting struct {
	flags string
	want  map[string]any
}

// sets is a setting of one field.
func sets(field, flags string, want any) setting { return setting{flags, map[string]any{field: want}} }

// settings returns flags for each way to set something.
func settings() []setting { return append(nodeSettings(), serviceSettings()...) }

// nodeSettings are about this node, its servers and its API server.
func nodeSettings() []setting {
	addresses := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("fd00::1")}
	return []setting{
		sets("Hostname", "--hostname-override=Node-1", "node-1"),
		sets("BindAddress", "--bind-address=192.0.2.7", netip.MustParseAddr("192.0.2.7")),
		sets("Client.Kubeconfig", "--kubeconfig=/k", "/k"),
		sets("Client.Master", "--master=https://192.0.2.1", "https://192.0.2.1"),
		sets("Client.ContentType", "--kube-api-content-type=a/b", "a/b"),
		sets("Client.QPS", "--kube-api-qps=7.5", float32(7.5)),
		sets("Client.Burst", "--kube-api-burst=20", 20),
		{"--api-servers=192.0.2.1:6443,[fd00::1]:443 --api-server-addresses=192.0.2.1,::ffff:192.0.2.2", map[string]any{
			"Client.Servers": []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:6443"), netip.MustParseAddrPort("[fd00::1]:443")},
			"APIServers":     addresses,
		}},
		sets("APIServers", "--api-server-addresses=192.0.2.1,::ffff:192.0.2.2,fd00::1", addresses),
		sets("Serving.Healthz", "--healthz-bind-address=127.0.0.1:80", netip.MustParseAddrPort("127.0.0.1:80")),
		sets("Serving.Healthz", "--healthz-bind-address=127.0.0.1", netip.MustParseAddrPort("127.0.0.1:10256")),
		sets("Serving.Healthz", "--healthz-bind-address=127.0.0.1 --healthz-port=80", netip.MustParseAddrPort("127.0.0.1:80")),
		sets("Serving.Healthz", "--healthz-bind-address=127.0.0.1:81 --healthz-port=80", netip.MustParseAddrPort("127.0.0.1:81")),
		sets("Serving.Healthz", "--healthz-port=80", netip.MustParseAddrPort("0.0.0.0:10256")),
		sets("Serving.Healthz", "--healthz-port=0", netip.AddrPort{}),
		sets("Serving.Healthz", "--healthz-bind-address=", netip.MustParseAddrPort("0.0.0.0:10256")),
		sets("Serving.Metrics", "--metrics-bind-address=0.0.0.0:0", netip.AddrPort{}),
		sets("Serving.Metrics", "--metrics-bind-address=0.0.0.0", netip.MustParseAddrPort("0.0.0.0:10249")),
		sets("Serving.Metrics", "--metrics-bind-address=::1 --metrics-port=80", netip.MustParseAddrPort("[::1]:80")),
		sets("Serving.Metrics", "--metrics-port=0", netip.AddrPort{}),
		{"--bind-address=fd00::7", map[string]any{
			"BindAddress":     netip.MustParseAddr("fd00::7"),
			"Serving.Healthz": netip.MustParseAddrPort("[::]:10256"), "Serving.Metrics": netip.MustParseAddrPort("[::1]:10249"),
		}},
		sets("Serving.HardFail", "--bind-address-hard-fail", true),
		sets("Serving.Profiling", "--profiling", true),
		sets("Serving.Traffic", "--traffic-metrics-services=0", 0),
		sets("Snapshot.File", "--snapshot-file=/s", "/s"),
		sets("Snapshot.MaxBytes", "--snapshot-max-bytes=1", int64(1)),
		sets("Conntrack.MaxPerCore", "--conntrack-max-per-core=0", int32(0)),
		sets("Conntrack.Min", "--conntrack-min=0", int32(0)),
		sets("Conntrack.TCPEstablished", "--conntrack-tcp-timeout-established=0", time.Duration(0)),
		sets("Conntrack.TCPCloseWait", "--conntrack-tcp-timeout-close-wait=1m", time.Minute),
		sets("Conntrack.TCPBeLiberal", "--conntrack-tcp-be-liberal", true),
		sets("Conntrack.UDP", "--conntrack-udp-timeout=1m", time.Minute),
		sets("Conntrack.UDPStream", "--conntrack-udp-timeout-stream=1m", time.Minute),
		sets("OOMScoreAdj", "--oom-score-adj=0", 0),
		sets("Log.Verbosity", "-v=4", 4),
		sets("Log.Verbosity", "-v 4", 4),
		sets("Log.Verbosity", "--v=4", 4),
		sets("Log.JSON", "--logging-format=json", true),
	}
}

// serviceSettings are about how Services are served.
func serviceSettings() []setting {
	return []setting{
		sets("IgnoreExternalIPs", "--feature-gates=AllowServiceExternalIPs=false", true),
		sets("Scheduler", "--ipvs-scheduler=mh", "mh"),
		sets("Scheduler", "--ipvs-scheduler=", "rr"),
		sets("MasqueradeAll", "--masquerade-all", true),
		sets("MasqueradeBit", "--iptables-masquerade-bit=15", uint8(15)),
		{"--cluster-cidr=10.244.0.0/16,fd00::1/56", map[string]any{
			"LocalDetector": config.LocalDetector{Kind: config.DetectCIDR, CIDRs: prefixes("10.244.0.0/16", "fd00::/56")},
			"PodCIDRs":      prefixes("10.244.0.0/16", "fd00::/56"),
		}},
		{"--detect-local-mode=NodeCIDR --cluster-cidr=10.244.0.0/16", map[string]any{
			"LocalDetector": config.LocalDetector{Kind: config.DetectNodeCIDR}, "PodCIDRs": prefixes("10.244.0.0/16"),
		}},
		sets("LocalDetector", "--detect-local-mode=BridgeInterface --pod-bridge-interface=cni0", config.LocalDetector{Kind: config.DetectBridge, Interface: "cni0"}),
		sets("LocalDetector", "--detect-local-mode=InterfaceNamePrefix --pod-interface-name-prefix=veth", config.LocalDetector{Kind: config.DetectPrefix, Interface: "veth"}),
		sets("LocalDetector", "--pod-bridge-interface=cni0", config.LocalDetector{}),
		sets("StrictARP", "--ipvs-strict-arp", true),
		sets("SyncPeriod", "--ipvs-sync-period=1m", time.Minute),
		sets("MinSyncPeriod", "--ipvs-min-sync-period=1s", time.Second),
		sets("NodePortAddresses", "--nodeport-addresses=192.0.2.7/24,fd00::/64", prefixes("192.0.2.0/24", "fd00::/64")),
		sets("NodePortAddresses", "--nodeport-addresses=192.0.2.7/24 --nodeport-addresses=fd00::/64", prefixes("192.0.2.0/24", "fd00::/64")),
		sets("NodePortPrimary", "--nodeport-addresses=primary", true),
		sets("NodePortAddresses", "--nodeport-addresses=192.0.2.7/24,all", prefixes("192.0.2.0/24", "0.0.0.0/0", "::/0")),
		sets("NodePortRange", "--service-node-port-range=20000-25000", config.PortRange{First: 20000, Last: 25000}),
		sets("NodePortRange", "--service-node-port-range=0-0", config.PortRange{}),
		sets("NodePortSourceRanges", "--nodeport-source-ranges", true),
		sets("LocalhostNodePorts", "--localhost-nodeports", true),
		sets("RemoteHairpins", "--remote-hairpins", true),
		sets("VIPBinding", "--vip-binding=route", config.RouteBinding),
		sets("FirewallChoice", "--firewall=iptables", config.IPTablesFirewall),
		sets("AnswerPing", "--answer-ping", true),
		sets("ServiceCIDRs", "--service-cidrs=10.96.0.0/12,fd00:96::/112", prefixes("10.96.0.0/12", "fd00:96::/112")),
		sets("ExternalIPCIDRs", "--external-ip-cidrs=203.0.113.0/24,2001:db8:e::/48", prefixes("203.0.113.0/24", "2001:db8:e::/48")),
		sets("ExcludeCIDRs", "--ipvs-exclude-cidrs=198.51.100.0/24", prefixes("198.51.100.0/24")),
		sets("TCPTimeout", "--ipvs-tcp-timeout=900s", 15*time.Minute),
		sets("TCPTimeout", "--ipvs-tcp-timeout=0 --idle-tcp-timeout=0", time.Duration(0)),
		sets("TCPTimeout", "--idle-tcp-timeout=4h", 4*time.Hour),
		sets("TCPFinTimeout", "--ipvs-tcpfin-timeout=2m", 2*time.Minute),
		sets("UDPTimeout", "--ipvs-udp-timeout=5m", 5*time.Minute),
		sets("DrainTimeout", "--drain-timeout=0", time.Duration(0)),
	}
}

// started runs a command line and returns the daemon that it would start.
func started(t *testing.T, line string) (Daemon, int, string) {
	t.Helper()
	var got Daemon
	w := newWorld()
	w.env.Run = func(_ context.Context, d Daemon) error { got = d; return nil }
	status, _, stderr := w.run(t, line)
	return got, status, stderr
}

// fieldOf returns a field by its path.
func fieldOf(c *config.Config, path string) reflect.Value {
	v := reflect.ValueOf(c).Elem()
	for name := range strings.SplitSeq(path, ".") {
		v = v.FieldByName(name)
	}
	return v
}

func compare() cmp.Option {
	return cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}, netip.AddrPort{})
}

func TestEveryFieldOfTheConfigurationHasAFlag(t *testing.T) {
	// What the node has is not chosen, and kube-proxy has no flag for the last one.
	reached := []string{"Families", "Firewall", "Kernel", "Schedulers", "Client.AcceptContentTypes"}
	for _, s := range settings() {
		got, status, stderr := started(t, "run "+s.flags)
		if status != ExitOK {
			t.Errorf("%s: status %d, stderr %q", s.flags, status, stderr)
			continue
		}
		want := config.Default()
		for field, value := range s.want {
			fieldOf(&want, field).Set(reflect.ValueOf(value))
			reached = append(reached, field)
		}
		if d := cmp.Diff(want, got.Config, compare()); d != "" {
			t.Errorf("%s: not what it should change (-want +got):\n%s", s.flags, d)
		}
	}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[config.Config]()) {
		if slices.Contains(reached, f.Name) {
			continue
		}
		if f.Type.Kind() != reflect.Struct || f.Type == reflect.TypeFor[netip.Addr]() {
			t.Errorf("no flag sets %s", f.Name)
			continue
		}
		for _, inner := range reflect.VisibleFields(f.Type) {
			if name := f.Name + "." + inner.Name; !slices.Contains(reached, name) {
				t.Errorf("no flag sets %s", name)
			}
		}
	}
}

func TestComplaintsNameTheFlag(t *testing.T) {
	for line, want := range map[string]string{
		"--ipvs-scheduler=-":                                            `kube-ipvs: --ipvs-scheduler: "-" is not`,
		"--ipvs-tcp-timeout=-1s":                                        "kube-ipvs: --ipvs-tcp-timeout: -1s is not",
		"--idle-tcp-timeout=-1s":                                        "kube-ipvs: --idle-tcp-timeout: -1s is not",
		"--ipvs-tcpfin-timeout=1ms":                                     "kube-ipvs: --ipvs-tcpfin-timeout: 1ms is not",
		"--ipvs-udp-timeout=9999h":                                      "kube-ipvs: --ipvs-udp-timeout: 9999h0m0s is not",
		"--ipvs-sync-period=-1s":                                        "kube-ipvs: --ipvs-sync-period: -1s is not",
		"--ipvs-min-sync-period=1h":                                     "kube-ipvs: --ipvs-min-sync-period: 1h0m0s is longer",
		"--drain-timeout=-1s":                                           "kube-ipvs: --drain-timeout: -1s is",
		"--iptables-masquerade-bit=32":                                  "kube-ipvs: --iptables-masquerade-bit: 32 is not",
		"--iptables-masquerade-bit=x":                                   `invalid argument "x" for "--iptables-masquerade-bit"`,
		"--service-node-port-range=2-1":                                 "kube-ipvs: --service-node-port-range: 2-1 is no range",
		"--service-node-port-range=30000":                               `kube-ipvs: --service-node-port-range: "30000" is not a range of ports`,
		"--service-cidrs=10.96.0.0":                                     `kube-ipvs: --service-cidrs: "10.96.0.0" is not a CIDR`,
		"--service-cidrs=::ffff:10.0.0.0/104":                           "kube-ipvs: --service-cidrs: ::ffff:10.0.0.0/104 is an IPv4 network",
		"--ipvs-exclude-cidrs=x":                                        `kube-ipvs: --ipvs-exclude-cidrs: "x" is not a CIDR`,
		"--nodeport-addresses=primary,10.0.0.0/8,primary":               "kube-ipvs: --nodeport-addresses: primary is there already",
		"--nodeport-addresses=secondary":                                `kube-ipvs: --nodeport-addresses: "secondary" is neither a CIDR`,
		"--api-server-addresses=kubernetes.default":                     `kube-ipvs: --api-server-addresses: "kubernetes.default" is not an IP address`,
		"--api-servers=192.0.2.1":                                       `kube-ipvs: --api-servers: "192.0.2.1" is not an IP address and a port`,
		"--cluster-cidr=10.0.0.0/8,11.0.0.0/8":                          "kube-ipvs: --cluster-cidr: 11.0.0.0/8 is the second one",
		"--detect-local-mode=BridgeInterface --pod-bridge-interface=-j": `kube-ipvs: --pod-bridge-interface: "-j" is not a name`,
		"--detect-local-mode=BridgeInterface":                           "kube-ipvs: detectLocal.bridgeInterface: empty",
		"--detect-local-mode=Guess":                                     `kube-ipvs: --detect-local-mode: "Guess" is none of`,
		"--proxy-mode=iptables":                                         `kube-ipvs: --proxy-mode: "iptables" is not what kube-ipvs does`,
		"--feature-gates=x":                                             `for "--feature-gates" flag`,
		"--hostname-override=$(NODE_NAME)":                              "kube-ipvs: --hostname-override: ",
		"--healthz-bind-address=localhost:80":                           `kube-ipvs: --healthz-bind-address: "localhost:80" is not an IP address and a port`,
		"--healthz-port=99999 --healthz-bind-address=::1":               `kube-ipvs: --healthz-bind-address: "[::1]:99999" is not`,
		"--firewall=ipfw":                                               `kube-ipvs: --firewall: "ipfw" is none of auto, nftables, iptables`,
		"--vip-binding=both":                                            `kube-ipvs: --vip-binding: "both" is none of address, route`,
		"--oom-score-adj=1001":                                          "kube-ipvs: --oom-score-adj: 1001 is not",
		"--kube-api-qps=NaN":                                            "kube-ipvs: --kube-api-qps: NaN is no number",
		"--logging-format=xml":                                          `kube-ipvs: --logging-format: "xml" is none of`,
		"-v=-1":                                                         `for "-v, --v" flag`,
		"--ipvs-scheduler=- --drain-timeout=-1s":                        `--ipvs-scheduler: "-" is not a name`,
		"--snapshot-max-bytes=0":                                        "kube-ipvs: --snapshot-max-bytes: 0 is not above 0",
		"--conntrack-min=-1":                                            "kube-ipvs: --conntrack-min: -1 is below 0",
		"--version=perhaps":                                             `for "--version" flag`,
		"--pod-interface-name-prefix=a --no-such-flag":                  "unknown flag: --no-such-flag",
	} {
		w := newWorld()
		status, stdout, stderr := w.run(t, "run "+line)
		wanted := ExitUsage
		if strings.Contains(want, "detectLocal.") { // no given flag sets it
			wanted = ExitFailed
		}
		if status != wanted || stdout != "" || !strings.Contains(stderr, want) {
			t.Errorf("%s: status %d, stderr %q, want status %d and %q", line, status, stderr, wanted, want)
		}
	}
}
