// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"github.com/spf13/pflag"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cliflag "k8s.io/component-base/cli/flag"
	logsapi "k8s.io/component-base/logs/api/v1"

	"github.com/kube-ipvs/kube-ipvs/internal/config/proxyconfig"
)

// boundFlags are flags that set fields of a pair of documents.
type boundFlags struct {
	*pflag.FlagSet
	pair  *proxyconfig.Pair
	names map[string]string // of the flags, by the paths of their fields

	// overriding are the flags that count beside --config too. kube-proxy ignores most of its flags then, and a command
	// line that it took must mean the same.
	overriding map[string]bool
	overrides  bool // whether the next flags are overriding
}

func newBoundFlags(f *pflag.FlagSet, p *proxyconfig.Pair) *boundFlags {
	return &boundFlags{FlagSet: f, pair: p, names: map[string]string{}, overriding: map[string]bool{}}
}

// override returns b for adding overriding flags.
func (b *boundFlags) override() *boundFlags {
	o := *b
	o.overrides = true
	return &o
}

// bind records which field a flag sets, and returns the flag's name.
func (b *boundFlags) bind(name, path string) string {
	b.names[path] = name
	if b.overrides {
		b.overriding[name] = true
	}
	return name
}

func (b *boundFlags) text(name, path string, to *string, usage string) {
	b.StringVar(to, b.bind(name, path), *to, usage)
}

func (b *boundFlags) boolean(name, path string, to *bool, usage string) {
	b.BoolVar(to, b.bind(name, path), *to, usage)
}

func (b *boundFlags) number(name, path string, to *int32, usage string) {
	b.Int32Var(to, b.bind(name, path), *to, usage)
}

func (b *boundFlags) duration(name, path string, to *metav1.Duration, usage string) {
	b.DurationVar(&to.Duration, b.bind(name, path), to.Duration, usage)
}

func (b *boundFlags) list(name, path string, to *[]string, usage string) {
	b.value(name, path, wordList(to), usage+", comma-separated")
}

func (b *boundFlags) value(name, path string, v pflag.Value, usage string) {
	b.Var(v, b.bind(name, path), usage)
}

// kube-proxy's flags, with its names and defaults.

const noEffect = "no effect"

// proxyPlanning adds the flags that plans depend on.
func (b *boundFlags) proxyPlanning() {
	x := &b.pair.Proxy
	b.override().text("proxy-mode", "mode", (*string)(&x.Mode), "only ipvs; overrides the mode of --config")
	b.value("feature-gates", "featureGates", cliflag.NewMapStringBool(&x.FeatureGates), "AllowServiceExternalIPs=false ignores spec.externalIPs; others have no effect")
	b.text("bind-address", "bindAddress", &x.BindAddress, "replaces the Node object's address of the same family; nothing listens there")
	b.number("iptables-masquerade-bit", "iptables.masqueradeBit", x.IPTables.MasqueradeBit, "bit of the packet mark that requests masquerade")
	b.boolean("masquerade-all", "iptables.masqueradeAll", &x.IPTables.MasqueradeAll, "masquerade all traffic to cluster IPs")
	b.text("detect-local-mode", "detectLocalMode", (*string)(&x.DetectLocalMode), "how to detect local traffic; other traffic to cluster IPs is masqueraded: ClusterCIDR, NodeCIDR, BridgeInterface, InterfaceNamePrefix")
	b.text("cluster-cidr", "clusterCIDR", &x.ClusterCIDR, "for ClusterCIDR: pod networks, at most one of each family, comma-separated")
	b.text("pod-bridge-interface", "detectLocal.bridgeInterface", &x.DetectLocal.BridgeInterface, "for BridgeInterface: the bridge of the pods")
	b.text("pod-interface-name-prefix", "detectLocal.interfaceNamePrefix", &x.DetectLocal.InterfaceNamePrefix, "for InterfaceNamePrefix: prefix of the names of pod interfaces")
	b.list("nodeport-addresses", "nodePortAddresses", &x.NodePortAddresses, "networks of the node addresses that serve NodePorts, or words: primary (those of the Node object), localhost (the loopback addresses too), all; none: all addresses")
	b.proxyIPVS()
	b.proxyConntrack()
}

func (b *boundFlags) proxyIPVS() {
	x := &b.pair.Proxy.IPVS
	b.text("ipvs-scheduler", "ipvs.scheduler", &x.Scheduler, "scheduler of virtual servers, by the kernel's name (default rr)")
	b.list("ipvs-exclude-cidrs", "ipvs.excludeCIDRs", &x.ExcludeCIDRs, "networks in which nothing is created, changed or removed")
	b.boolean("ipvs-strict-arp", "ipvs.strictARP", &x.StrictARP, "do not answer ARP for Service addresses")
	b.duration("ipvs-tcp-timeout", "ipvs.tcpTimeout", &x.TCPTimeout, "how long IPVS keeps an idle TCP connection; 0: as --idle-tcp-timeout")
	b.duration("ipvs-tcpfin-timeout", "ipvs.tcpFinTimeout", &x.TCPFinTimeout, "how long IPVS keeps a TCP connection after a FIN; 0: the kernel's value")
	b.duration("ipvs-udp-timeout", "ipvs.udpTimeout", &x.UDPTimeout, "how long IPVS keeps an idle UDP flow; 0: the kernel's value")
}

func (b *boundFlags) proxyConntrack() {
	x := &b.pair.Proxy.Conntrack
	b.number("conntrack-max-per-core", "conntrack.maxPerCore", x.MaxPerCore, "tracked connections per processor; 0: the kernel's value")
	b.number("conntrack-min", "conntrack.min", x.Min, "least number of tracked connections")
	b.duration("conntrack-tcp-timeout-established", "conntrack.tcpEstablishedTimeout", x.TCPEstablishedTimeout, "how long an idle TCP connection is tracked; 0: the kernel's value")
	b.duration("conntrack-tcp-timeout-close-wait", "conntrack.tcpCloseWaitTimeout", x.TCPCloseWaitTimeout, "how long a TCP connection in CLOSE_WAIT is tracked")
	b.boolean("conntrack-tcp-be-liberal", "conntrack.tcpBeLiberal", &x.TCPBeLiberal, "treat TCP packets out of the window as valid")
	b.duration("conntrack-udp-timeout", "conntrack.udpTimeout", &x.UDPTimeout, "how long a UDP flow without answers is tracked; 0: the kernel's value")
	b.duration("conntrack-udp-timeout-stream", "conntrack.udpStreamTimeout", &x.UDPStreamTimeout, "how long a UDP flow with answers is tracked")
}

// proxyDaemon adds the flags that only the daemon needs.
func (b *boundFlags) proxyDaemon() {
	x := &b.pair.Proxy
	b.override().text("hostname-override", "hostnameOverride", &x.HostnameOverride, "name of this Node, if it is not the hostname")
	b.text("kubeconfig", "clientConnection.kubeconfig", &x.ClientConnection.Kubeconfig, "kubeconfig for the API server; none: the pod's service account")
	b.text("kube-api-content-type", "clientConnection.contentType", &x.ClientConnection.ContentType, "content type of requests to the API server")
	b.Float32Var(&x.ClientConnection.QPS, b.bind("kube-api-qps", "clientConnection.qps"), x.ClientConnection.QPS, "requests to the API server per second")
	b.number("kube-api-burst", "clientConnection.burst", &x.ClientConnection.Burst, "requests to the API server at once")
	b.text("healthz-bind-address", "healthzBindAddress", &x.HealthzBindAddress, "address and port of /healthz and /livez; port 0: off")
	b.text("metrics-bind-address", "metricsBindAddress", &x.MetricsBindAddress, "address and port of /metrics; port 0: off")
	b.boolean("bind-address-hard-fail", "bindAddressHardFail", &x.BindAddressHardFail, "exit if one of these addresses is in use, instead of trying again")
	b.boolean("profiling", "enableProfiling", &x.EnableProfiling, "serve /debug/pprof beside the metrics")
	b.number("oom-score-adj", "oomScoreAdj", x.OOMScoreAdj, "how readily the kernel kills this program, -1000..1000")
	b.duration("ipvs-sync-period", "ipvs.syncPeriod", &x.IPVS.SyncPeriod, "time between two full comparisons with the kernel")
	b.duration("ipvs-min-sync-period", "ipvs.minSyncPeriod", &x.IPVS.MinSyncPeriod, "least time between two writes to the kernel; 0: write every change at once")
	b.override().proxyLogging()

	b.duration("config-sync-period", "configSyncPeriod", &x.ConfigSyncPeriod, noEffect)
	b.duration("iptables-sync-period", "iptables.syncPeriod", &x.IPTables.SyncPeriod, noEffect)
	b.duration("iptables-min-sync-period", "iptables.minSyncPeriod", &x.IPTables.MinSyncPeriod, noEffect)
	b.boolean("iptables-localhost-nodeports", "iptables.localhostNodePorts", x.IPTables.LocalhostNodePorts, noEffect+", as in kube-proxy's ipvs mode: see --localhost-nodeports")
	b.text("show-hidden-metrics-for-version", "showHiddenMetricsForVersion", &x.ShowHiddenMetricsForVersion, noEffect)
}

func (b *boundFlags) proxyLogging() {
	x := &b.pair.Proxy.Logging
	b.VarP(logsapi.VerbosityLevelPflag(&x.Verbosity), b.bind("v", "logging.verbosity"), "v", "how much is logged: more from 2 on, everything from 4 on")
	b.text("logging-format", "logging.format", &x.Format, "format of the log: text or json")
	b.value("vmodule", "logging.vmodule", logsapi.VModuleConfigurationPflag(&x.VModule), noEffect)
	b.DurationVar(&x.FlushFrequency.Duration.Duration, b.bind("log-flush-frequency", "logging.flushFrequency"), x.FlushFrequency.Duration.Duration, noEffect+": each line is written at once")
	b.boolean("log-text-split-stream", "logging.options.text.splitStream", &x.Options.Text.SplitStream, noEffect)
	b.value("log-text-info-buffer-size", "logging.options.text.infoBufferSize", &x.Options.Text.InfoBufferSize, noEffect)
	b.boolean("log-json-split-stream", "logging.options.json.splitStream", &x.Options.JSON.SplitStream, noEffect)
	b.value("log-json-info-buffer-size", "logging.options.json.infoBufferSize", &x.Options.JSON.InfoBufferSize, noEffect)
}

// Flags that kube-proxy does not have, and its --master, which its document has no field for. They count beside any
// file.

func (b *boundFlags) ownPlanning() {
	b = b.override()
	x := &b.pair.Own
	b.boolean("localhost-nodeports", "localhostNodePorts", &x.LocalhostNodePorts, "serve NodePorts at the loopback addresses too")
	b.boolean("nodeport-source-ranges", "nodePortSourceRanges", &x.NodePortSourceRanges, "apply spec.loadBalancerSourceRanges to NodePorts too")
	b.text("service-node-port-range", "nodePortRange", &x.NodePortRange, "the API server's range of NodePorts, which masquerade does not use as source ports; 0-0: none")
	b.list("external-ip-cidrs", "externalIPCIDRs", &x.ExternalIPCIDRs, "networks that may hold external IPs of Services; none: all")
	b.list("service-cidrs", "serviceCIDRs", &x.ServiceCIDRs, "networks of cluster IPs; packets to unused addresses there are dropped")
	b.list("api-server-addresses", "apiServerAddresses", &x.APIServerAddresses, "addresses of API servers, which no Service may take")
	b.list("api-servers", "apiServers", &x.APIServers, "IP:port of API servers, tried in turn in place of the kubeconfig's; no Service may take their addresses")
	b.boolean("remote-hairpins", "remoteHairpins", &x.RemoteHairpins, "masquerade pods of other nodes that reach themselves through this node")
	b.boolean("answer-ping", "answerPing", &x.AnswerPing, "answer ICMP echo requests to Service addresses")
	b.text("vip-binding", "vipBinding", &x.VIPBinding, "how the node accepts packets to Service addresses: address, as kube-proxy does, or route, for thousands of them")
	b.text("firewall", "firewall", &x.Firewall, "what holds the rules: nftables, iptables (with ipset), or auto: nftables where the kernel takes them")
	b.duration("idle-tcp-timeout", "idleTCPTimeout", &x.IdleTCPTimeout, "how long IPVS keeps an idle TCP connection if --ipvs-tcp-timeout is 0; 0: the kernel's value")
}

func (b *boundFlags) ownDaemon() {
	b = b.override()
	x := &b.pair.Own
	b.text("master", "master", &x.Master, "URL of the API server, in place of the kubeconfig's")
	b.duration("drain-timeout", "drainTimeout", &x.DrainTimeout, "how long a removed endpoint keeps its connections")
	b.text("snapshot-file", "snapshot.file", &x.Snapshot.File, "file for the last objects of the API server, for a start without it; none: no snapshot")
	b.Int64Var(&x.Snapshot.MaxBytes, b.bind("snapshot-max-bytes", "snapshot.maxBytes"), x.Snapshot.MaxBytes, "largest size of --snapshot-file")
	b.number("traffic-metrics-services", "trafficMetricsServices", &x.TrafficMetricsServices, "most Services with traffic metrics of their own")
}
