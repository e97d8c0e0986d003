// SPDX-License-Identifier: Apache-2.0

package cli

import (
	cliflag "k8s.io/component-base/cli/flag"
	logsapi "k8s.io/component-base/logs/api/v1"
)

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
	b.duration("ipvs-tcpfin-timeout", "ipvs.tcpFinTimeout", &x.TCPFinTimeout, "the same after a FIN; 0: the kernel's value")
	b.duration("ipvs-udp-timeout", "ipvs.udpTimeout", &x.UDPTimeout, "the same for UDP; 0: the kernel's value")
}

func (b *boundFlags) proxyConntrack() {
	x := &b.pair.Proxy.Conntrack
	b.number("conntrack-max-per-core", "conntrack.maxPerCore", x.MaxPerCore, "tracked connections per processor; 0: the kernel's value")
	b.number("conntrack-min", "conntrack.min", x.Min, "least number of tracked connections")
	b.duration("conntrack-tcp-timeout-established", "conntrack.tcpEstablishedTimeout", x.TCPEstablishedTimeout, "how long an idle TCP connection is tracked; 0: the kernel's value")
	b.duration("conntrack-tcp-timeout-close-wait", "conntrack.tcpCloseWaitTimeout", x.TCPCloseWaitTimeout, "the same in CLOSE_WAIT")
	b.boolean("conntrack-tcp-be-liberal", "conntrack.tcpBeLiberal", &x.TCPBeLiberal, "treat TCP packets out of the window as valid")
	b.duration("conntrack-udp-timeout", "conntrack.udpTimeout", &x.UDPTimeout, "how long a UDP flow without answers is tracked; 0: the kernel's value")
	b.duration("conntrack-udp-timeout-stream", "conntrack.udpStreamTimeout", &x.UDPStreamTimeout, "the same with answers")
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
