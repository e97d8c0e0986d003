// SPDX-License-Identifier: Apache-2.0

package proxyconfig

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

func prefixes(list ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, s := range list {
		all = append(all, netip.MustParsePrefix(s))
	}
	return all
}

func addresses(list ...string) []netip.Addr {
	var all []netip.Addr
	for _, s := range list {
		all = append(all, netip.MustParseAddr(s))
	}
	return all
}

// wants are fields of a Config and their expected values.
type wants map[string]any

// meaningless is for settings without effect: only the warning names them.
var meaningless wants

// effect is a field of a document and its effect on the Config. A path may come with others that it needs.
type effect struct {
	path, yaml string
	want       wants
}

const head = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: ipvs\n"
const ownHead = "apiVersion: kube-ipvs.io/v1alpha1\nkind: KubeIPVSConfiguration\n"

func proxyEffects() []effect {
	return []effect{
		{"featureGates", "featureGates: {AllowServiceExternalIPs: false}", wants{"IgnoreExternalIPs": true}},
		{"featureGates", "featureGates: {AllowServiceExternalIPs: true}", wants{}},
		{"featureGates.Unknown", "featureGates: {Unknown: true}", meaningless},
		{"clientConnection.kubeconfig", "clientConnection: {kubeconfig: /k}", wants{"Client.Kubeconfig": "/k"}},
		{"clientConnection.acceptContentTypes", "clientConnection: {acceptContentTypes: a/b}", wants{"Client.AcceptContentTypes": "a/b"}},
		{"clientConnection.contentType", "clientConnection: {contentType: a/b}", wants{"Client.ContentType": "a/b"}},
		{"clientConnection.qps", "clientConnection: {qps: 7.5}", wants{"Client.QPS": float32(7.5)}},
		{"clientConnection.burst", "clientConnection: {burst: 20}", wants{"Client.Burst": 20}},
		{"logging.format", "logging: {format: json}", wants{"Log.JSON": true}},
		{"logging.flushFrequency", "logging: {flushFrequency: 1s}", meaningless},
		{"logging.verbosity", "logging: {verbosity: 4}", wants{"Log.Verbosity": 4}},
		{"logging.vmodule", "logging: {vmodule: [{filePattern: a, verbosity: 3}]}", meaningless},
		{"logging.options.text.splitStream", "logging: {options: {text: {splitStream: true}}}", meaningless},
		{"logging.options.text.infoBufferSize", "logging: {options: {text: {infoBufferSize: 1Ki}}}", meaningless},
		{"logging.options.json.splitStream", "logging: {options: {json: {splitStream: true}}}", meaningless},
		{"logging.options.json.infoBufferSize", "logging: {options: {json: {infoBufferSize: 1Ki}}}", meaningless},
		{"hostnameOverride", "hostnameOverride: ' Node-1 '", wants{"Hostname": "node-1"}},
		{"bindAddress", "bindAddress: 192.0.2.7", wants{"BindAddress": netip.MustParseAddr("192.0.2.7")}},
		{"bindAddress", "bindAddress: 192.0.2.007", wants{"BindAddress": netip.MustParseAddr("192.0.2.7")}},
		{"bindAddress", "bindAddress: '::'", wants{
			"Serving.Healthz": netip.MustParseAddrPort("[::]:10256"), "Serving.Metrics": netip.MustParseAddrPort("[::1]:10249"),
		}},
		{"healthzBindAddress", "healthzBindAddress: 127.0.0.1", wants{"Serving.Healthz": netip.MustParseAddrPort("127.0.0.1:10256")}},
		{"healthzBindAddress", "healthzBindAddress: '::1'", wants{"Serving.Healthz": netip.MustParseAddrPort("[::1]:10256")}},
		{"healthzBindAddress", "healthzBindAddress: '[::1]:80'", wants{"Serving.Healthz": netip.MustParseAddrPort("[::1]:80")}},
		{"healthzBindAddress", "healthzBindAddress: 0.0.0.0:0", wants{"Serving.Healthz": netip.AddrPort{}}},
		{"metricsBindAddress", "metricsBindAddress: 0.0.0.0", wants{"Serving.Metrics": netip.MustParseAddrPort("0.0.0.0:10249")}},
		{"bindAddressHardFail", "bindAddressHardFail: true", wants{"Serving.HardFail": true}},
		{"enableProfiling", "enableProfiling: true", wants{"Serving.Profiling": true}},
		{"showHiddenMetricsForVersion", "showHiddenMetricsForVersion: '1.35'", meaningless},
		{"mode", "", wants{}},
		{"oomScoreAdj", "oomScoreAdj: 0", wants{"OOMScoreAdj": 0}},
		{"conntrack.maxPerCore", "conntrack: {maxPerCore: 0}", wants{"Conntrack.MaxPerCore": int32(0)}},
		{"conntrack.min", "conntrack: {min: 1}", wants{"Conntrack.Min": int32(1)}},
		{"conntrack.tcpEstablishedTimeout", "conntrack: {tcpEstablishedTimeout: 0s}", wants{"Conntrack.TCPEstablished": time.Duration(0)}},
		{"conntrack.tcpCloseWaitTimeout", "conntrack: {tcpCloseWaitTimeout: 1m}", wants{"Conntrack.TCPCloseWait": time.Minute}},
		{"conntrack.tcpBeLiberal", "conntrack: {tcpBeLiberal: true}", wants{"Conntrack.TCPBeLiberal": true}},
		{"conntrack.udpTimeout", "conntrack: {udpTimeout: 1m}", wants{"Conntrack.UDP": time.Minute}},
		{"conntrack.udpStreamTimeout", "conntrack: {udpStreamTimeout: 1m}", wants{"Conntrack.UDPStream": time.Minute}},
		{"configSyncPeriod", "configSyncPeriod: 1m", meaningless},
		{"portRange", "portRange: 1-2", meaningless},
		{"windowsRunAsService", "windowsRunAsService: true", meaningless},
	}
}

// modeEffects are the fields of kube-proxy's modes, and of how they find pods and NodePorts.
func modeEffects() []effect {
	return []effect{
		{"iptables.masqueradeBit", "iptables: {masqueradeBit: 0}", wants{"MasqueradeBit": uint8(0)}},
		{"iptables.masqueradeAll", "iptables: {masqueradeAll: true}", wants{"MasqueradeAll": true}},
		{"iptables.localhostNodePorts", "iptables: {localhostNodePorts: true}", wants{}},
		{"iptables.localhostNodePorts", "iptables: {localhostNodePorts: false}", meaningless},
		{"iptables.syncPeriod", "iptables: {syncPeriod: 1m}", meaningless},
		{"iptables.minSyncPeriod", "iptables: {minSyncPeriod: 2s}", meaningless},
		{"ipvs.syncPeriod", "ipvs: {syncPeriod: 1m}", wants{"SyncPeriod": time.Minute}},
		{"ipvs.minSyncPeriod", "ipvs: {minSyncPeriod: 2s}", wants{"MinSyncPeriod": 2 * time.Second}},
		{"ipvs.scheduler", "ipvs: {scheduler: mh}", wants{"Scheduler": "mh"}},
		{"ipvs.excludeCIDRs", "ipvs: {excludeCIDRs: [198.51.100.7/24, fd00::/64]}", wants{"ExcludeCIDRs": prefixes("198.51.100.0/24", "fd00::/64")}},
		{"ipvs.strictARP", "ipvs: {strictARP: true}", wants{"StrictARP": true}},
		{"ipvs.tcpTimeout", "ipvs: {tcpTimeout: 900s}", wants{"TCPTimeout": 15 * time.Minute}},
		{"ipvs.tcpTimeout", "ipvs: {tcpTimeout: 0s}", wants{}},
		{"ipvs.tcpFinTimeout", "ipvs: {tcpFinTimeout: 2m}", wants{"TCPFinTimeout": 2 * time.Minute}},
		{"ipvs.udpTimeout", "ipvs: {udpTimeout: 5m}", wants{"UDPTimeout": 5 * time.Minute}},
		{"nftables.masqueradeBit", "nftables: {masqueradeBit: 15}", meaningless},
		{"nftables.masqueradeAll", "nftables: {masqueradeAll: true}", meaningless},
		{"nftables.syncPeriod", "nftables: {syncPeriod: 1m}", meaningless},
		{"nftables.minSyncPeriod", "nftables: {minSyncPeriod: 2s}", meaningless},
		{"winkernel.networkName", "winkernel: {networkName: net}", meaningless},
		{"winkernel.sourceVip", "winkernel: {sourceVip: 10.0.0.1}", meaningless},
		{"winkernel.enableDSR", "winkernel: {enableDSR: true}", meaningless},
		{"winkernel.rootHnsEndpointName", "winkernel: {rootHnsEndpointName: net}", meaningless},
		{"winkernel.forwardHealthCheckVip", "winkernel: {forwardHealthCheckVip: true}", meaningless},
		{"detectLocalMode", "detectLocalMode: NodeCIDR\nclusterCIDR: 10.244.0.0/16", wants{"LocalDetector.Kind": config.DetectNodeCIDR, "PodCIDRs": prefixes("10.244.0.0/16")}},
		{"detectLocal.bridgeInterface", "detectLocalMode: BridgeInterface\ndetectLocal: {bridgeInterface: cni0}", wants{
			"LocalDetector.Kind": config.DetectBridge, "LocalDetector.Interface": "cni0",
		}},
		{"detectLocal.bridgeInterface", "detectLocal: {bridgeInterface: cni0}", meaningless},
		{"detectLocal.interfaceNamePrefix", "detectLocalMode: InterfaceNamePrefix\ndetectLocal: {interfaceNamePrefix: veth}", wants{
			"LocalDetector.Kind": config.DetectPrefix, "LocalDetector.Interface": "veth",
		}},
		{"detectLocal.interfaceNamePrefix", "detectLocalMode: NodeCIDR\ndetectLocal: {interfaceNamePrefix: veth}", wants{"LocalDetector.Kind": config.DetectNodeCIDR}},
		{"clusterCIDR", "clusterCIDR: '10.244.0.0/16, fd00:244::1/56'", wants{
			"LocalDetector.Kind": config.DetectCIDR, "LocalDetector.CIDRs": prefixes("10.244.0.0/16", "fd00:244::/56"),
			"PodCIDRs": prefixes("10.244.0.0/16", "fd00:244::/56"),
		}},
		{"clusterCIDR", "clusterCIDR: 010.244.0.0/16", wants{
			"LocalDetector.Kind": config.DetectCIDR, "LocalDetector.CIDRs": prefixes("10.244.0.0/16"),
			"PodCIDRs": prefixes("10.244.0.0/16"),
		}},
		{"nodePortAddresses", "nodePortAddresses: [192.0.2.7/24]", wants{"NodePortAddresses": prefixes("192.0.2.0/24")}},
		{"nodePortAddresses", "nodePortAddresses: [primary]", wants{"NodePortPrimary": true}},
		{"nodePortAddresses", "nodePortAddresses: [all]", wants{"NodePortAddresses": prefixes("0.0.0.0/0", "::/0")}},
		{"nodePortAddresses", "nodePortAddresses: [localhost]", wants{"NodePortAddresses": prefixes("127.0.0.0/8", "::1/128"), "LocalhostNodePorts": true}},
		{"nodePortAddresses", "nodePortAddresses: [127.0.0.0/8, '::1/128']", wants{"NodePortAddresses": prefixes("127.0.0.0/8", "::1/128")}},
		{"nodePortAddresses", "nodePortAddresses: [10.0.0.0/8, localhost, primary]", wants{
			"NodePortPrimary": true, "NodePortAddresses": prefixes("10.0.0.0/8", "127.0.0.0/8", "::1/128"), "LocalhostNodePorts": true,
		}},
	}
}

func ownEffects() []effect {
	return []effect{
		{"apiServers", "apiServers: ['192.0.2.1:6443', '[fd00::1]:443']", wants{
			"Client.Servers": []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:6443"), netip.MustParseAddrPort("[fd00::1]:443")},
			"APIServers":     addresses("192.0.2.1", "fd00::1"),
		}},
		{"apiServerAddresses", "apiServerAddresses: [192.0.2.1, '::ffff:192.0.2.2']", wants{"APIServers": addresses("192.0.2.1", "192.0.2.2")}},
		{"master", "master: https://192.0.2.1", wants{"Client.Master": "https://192.0.2.1"}},
		{"externalIPCIDRs", "externalIPCIDRs: [203.0.113.7/24]", wants{"ExternalIPCIDRs": prefixes("203.0.113.0/24")}},
		{"serviceCIDRs", "serviceCIDRs: [10.96.0.0/12]", wants{"ServiceCIDRs": prefixes("10.96.0.0/12")}},
		{"nodePortRange", "nodePortRange: 20000-25000", wants{"NodePortRange": config.PortRange{First: 20000, Last: 25000}}},
		{"nodePortRange", "nodePortRange: 0-0", wants{"NodePortRange": config.PortRange{}}},
		{"nodePortSourceRanges", "nodePortSourceRanges: true", wants{"NodePortSourceRanges": true}},
		{"localhostNodePorts", "localhostNodePorts: true", wants{"LocalhostNodePorts": true}},
		{"remoteHairpins", "remoteHairpins: true", wants{"RemoteHairpins": true}},
		{"answerPing", "answerPing: true", wants{"AnswerPing": true}},
		{"vipBinding", "vipBinding: route", wants{"VIPBinding": config.RouteBinding}},
		{"firewall", "firewall: nftables", wants{"FirewallChoice": config.NFTablesFirewall, "Firewall": state.OnNFTables}},
		{"drainTimeout", "drainTimeout: 0s", wants{"DrainTimeout": time.Duration(0)}},
		{"idleTCPTimeout", "idleTCPTimeout: 0s", wants{"TCPTimeout": time.Duration(0)}},
		{"snapshot.file", "snapshot: {file: /s}", wants{"Snapshot.File": "/s"}},
		{"snapshot.maxBytes", "snapshot: {maxBytes: 1}", wants{"Snapshot.MaxBytes": int64(1)}},
		{"trafficMetricsServices", "trafficMetricsServices: 0", wants{"Serving.Traffic": 0}},
	}
}

// compare shows netip values.
func compare() cmp.Option {
	return cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}, netip.AddrPort{})
}

func TestEveryFieldOfADocumentHasItsEffect(t *testing.T) {
	var tested []string
	reached := []string{"Families", "Kernel.Major", "Kernel.Minor", "Kernel.NoNetmap", "Schedulers"} // of the node, not configured
	for _, e := range slices.Concat(proxyEffects(), modeEffects(), ownEffects()) {
		text := head + e.yaml
		if slices.ContainsFunc(ownEffects(), func(o effect) bool { return o.path == e.path }) {
			text = head + "---\n" + ownHead + e.yaml
		}
		t.Run(e.yaml, func(t *testing.T) { e.check(t, text) })
		tested = append(tested, e.path)
		reached = slices.AppendSeq(reached, maps.Keys(e.want))
	}
	for _, document := range []any{Default().Proxy, Default().Own} {
		for path := range leaves(reflect.ValueOf(document), "") {
			if !slices.Contains(tested, path) {
				t.Errorf("%s: no effect of it is tested", path)
			}
		}
	}
	for field := range leaves(reflect.ValueOf(config.Default()), "") {
		if !slices.Contains(reached, field) {
			t.Errorf("%s: no field of a document sets it", field)
		}
	}
}

func (e effect) check(t *testing.T, text string) {
	p := Default()
	if odd, err := p.ReadConfig([]byte(text)); err != nil || len(odd) > 0 {
		t.Fatalf("warnings %q, error %v", odd, err)
	}
	got, _, err := p.Config()
	if err != nil {
		t.Fatal(err)
	}
	want := config.Default()
	for field, value := range e.want {
		leaves(reflect.ValueOf(&want).Elem(), "")[field].Set(reflect.ValueOf(value))
	}
	if d := cmp.Diff(want, got, compare()); d != "" {
		t.Errorf("not what it should change (-want +got):\n%s", d)
	}
	if named := slices.Contains(p.Meaningless(), e.path); e.want == nil && !named {
		t.Errorf("it has no effect, and is not named: %q", p.Meaningless())
	}
}

func TestWhoWroteNothingHasTheDefaults(t *testing.T) {
	got, _, err := Default().Config()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(config.Default(), got, compare()); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	if names := Default().Meaningless(); len(names) > 0 {
		t.Errorf("without effect: %q", names)
	}
}

func read(t *testing.T, name string) (Pair, []string) {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	p := Default()
	warnings, err := p.ReadConfig(text)
	if err != nil {
		t.Fatal(err)
	}
	return p, warnings
}

func TestTheDocumentOfKubeadmIsTakenAsItIs(t *testing.T) {
	p, warnings := read(t, "kubeadm.yaml")
	got, advice, err := p.Config()
	if err != nil {
		t.Fatal(err)
	}
	want := config.Default()
	want.Client.Kubeconfig = "/var/lib/kube-proxy/kubeconfig.conf"
	want.LocalDetector = config.LocalDetector{Kind: config.DetectCIDR, CIDRs: prefixes("10.244.0.0/16")}
	want.PodCIDRs = prefixes("10.244.0.0/16")
	if d := cmp.Diff(want, got, compare()); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	all := append(warnings, advice...)
	if len(all) != 2 || !strings.HasPrefix(all[0], "mode: empty") || !strings.HasPrefix(all[1], "nodePortAddresses: none") {
		t.Errorf("warnings %q", all)
	}
	if names := p.Meaningless(); len(names) > 0 {
		t.Errorf("without effect: %q", names)
	}
}

func TestAFileWithEveryFieldIsTakenAsItIs(t *testing.T) {
	p, warnings := read(t, "every-field.yaml")
	for _, documents := range [][2]any{{p.Proxy, Default().Proxy}, {p.Own, Default().Own}} {
		standard := leaves(reflect.ValueOf(documents[1]), "")
		for path, leaf := range leaves(reflect.ValueOf(documents[0]), "") {
			if path != "mode" && reflect.DeepEqual(leaf.Interface(), standard[path].Interface()) {
				t.Errorf("%s is as it is by default", path)
			}
		}
	}
	c, advice, err := p.Config()
	if err != nil || len(warnings) > 0 || len(advice) > 0 {
		t.Fatalf("error %v, warnings %q, advice %q", err, warnings, advice)
	}
	want := strings.Fields(`featureGates.ContextualLogging configSyncPeriod detectLocal.interfaceNamePrefix
		iptables.localhostNodePorts iptables.minSyncPeriod iptables.syncPeriod logging.flushFrequency
		logging.options.json.infoBufferSize logging.options.json.splitStream logging.options.text.infoBufferSize
		logging.options.text.splitStream logging.vmodule nftables.masqueradeAll nftables.masqueradeBit nftables.minSyncPeriod
		nftables.syncPeriod portRange showHiddenMetricsForVersion windowsRunAsService winkernel.enableDSR
		winkernel.forwardHealthCheckVip winkernel.networkName winkernel.rootHnsEndpointName winkernel.sourceVip`)
	if d := cmp.Diff(want, p.Meaningless()); d != "" {
		t.Errorf("without effect, -want +got:\n%s", d)
	}
	if got := fmt.Sprint(c.APIServers); got != "[192.0.2.10 192.0.2.11 fd00:192::12]" {
		t.Errorf("protected are %v", got)
	}
}

func TestEveryComplaintHasAPath(t *testing.T) {
	bad := []netip.Prefix{{}}
	c := config.Config{
		Hostname: "Node", BindAddress: netip.MustParseAddr("fe80::1%eth0"), OOMScoreAdj: 2000,
		Client:    config.Client{Servers: []netip.AddrPort{{}}, QPS: float32(math.Inf(1)), Burst: -1},
		Serving:   config.Serving{Healthz: netip.MustParseAddrPort("[::]:0"), Metrics: netip.MustParseAddrPort("[::]:0"), Traffic: -1},
		Conntrack: config.Conntrack{MaxPerCore: -1, Min: -1, TCPEstablished: -1, TCPCloseWait: -1, UDP: -1, UDPStream: -1},
		Log:       config.Log{Verbosity: -1}, MinSyncPeriod: -1, DrainTimeout: -1, TCPTimeout: -1, TCPFinTimeout: -1, UDPTimeout: -1,
		NodePortAddresses: bad, ServiceCIDRs: bad, ExcludeCIDRs: bad, ExternalIPCIDRs: bad, NodePortRange: config.PortRange{First: 2, Last: 1},
		APIServers: []netip.Addr{{}}, LocalDetector: config.LocalDetector{Kind: config.DetectCIDR, CIDRs: bad},
	}
	var found, more config.Complaints
	errors.As(c.Validate(), &found)
	c.LocalDetector = config.LocalDetector{Kind: config.DetectBridge}
	errors.As(c.Validate(), &more)
	paths := (&conversion{Pair: Default(), to: c}).paths()
	complained := map[string]bool{"MasqueradeBit": true} // whose complaint comes from Pair.Config
	for _, complaint := range append(found, more...) {
		field, _, _ := strings.Cut(complaint.Field, "[")
		complained[field] = true
		if paths[field] == "" {
			t.Errorf("%s has no path", field)
		}
	}
	for field := range paths {
		if !complained[field] {
			t.Errorf("no complaint about %s", field)
		}
	}
}

func TestAdvice(t *testing.T) {
	for yaml, want := range map[string][]string{
		"":                             {"nodePortAddresses: none, so"},
		"nodePortAddresses: [primary]": nil,
		"nodePortAddresses: [all]\nclusterCIDR: 10.244.0.0/16,fd00::/56":                   {},
		"nodePortAddresses: [10.0.0.0/8, localhost]\nclusterCIDR: 10.244.0.0/16,fd00::/56": {},
		"nodePortAddresses: [10.0.0.0/8, primary]\nclusterCIDR: 10.244.0.0/16,fd00::/56":   {},
		"nodePortAddresses: [10.0.0.0/8]\nclusterCIDR: 10.244.0.0/16,fd00::/56":            {"nodePortAddresses: none is of IPv6"},
		"nodePortAddresses: ['fd00::/8']\nclusterCIDR: 10.244.0.0/16":                      {"nodePortAddresses: none is of IPv4"},
		"nodePortAddresses: ['fd00::/8']\nclusterCIDR: fd00::/56":                          nil,
		"nodePortAddresses: ['fd00::/8', 10.0.0.0/8]\nipvs: {excludeCIDRs: ['::/0']}":      nil,
		"nodePortAddresses: [10.0.0.0/8]\nipvs: {excludeCIDRs: ['fd00::/64']}":             {"nodePortAddresses: none is of IPv6"},
	} {
		p := Default()
		if _, err := p.ReadConfig([]byte(head + yaml)); err != nil {
			t.Fatal(err)
		}
		_, got, err := p.Config()
		if err != nil || !slices.EqualFunc(got, want, strings.HasPrefix) {
			t.Errorf("%s: got %q, %v, want %q", yaml, got, err, want)
		}
	}
}
