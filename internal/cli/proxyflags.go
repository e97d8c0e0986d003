// SPDX-License-Identifier: Apache-2.0

package cli

import (
	cliflag "k8s.io/component-base/cli/flag"
	logsapi "k8s.io/component-base/logs/api/v1"
)

// kube-proxy's flags, by its names and with its defaults. Of what the daemon
// alone needs to know, planning is not asked.

func (b *boundFlags) proxyPlanning() {
	x := &b.pair.Proxy
	b.text("proxy-mode", "mode", (*string)(&x.Mode), "ipvs, whatever --config says; there is no other")
	b.hold("proxy-mode")
	b.value("feature-gates", "featureGates", cliflag.NewMapStringBool(&x.FeatureGates), "AllowServiceExternalIPs=false leaves out spec.externalIPs; others are without effect")
	b.text("bind-address", "bindAddress", &x.BindAddress, "address in place of that of its family in the Node object; nothing listens there")
	b.number("iptables-masquerade-bit", "iptables.masqueradeBit", x.IPTables.MasqueradeBit, "bit of the packet mark that asks for masquerade")
	b.yes("masquerade-all", "iptables.masqueradeAll", &x.IPTables.MasqueradeAll, "masquerade all traffic to cluster IPs")
	b.text("detect-local-mode", "detectLocalMode", (*string)(&x.DetectLocalMode), "how local traffic is told from the rest, which is masqueraded to cluster IPs: ClusterCIDR, NodeCIDR, BridgeInterface, InterfaceNamePrefix")
	b.text("cluster-cidr", "clusterCIDR", &x.ClusterCIDR, "for ClusterCIDR: pod networks, at most one of a family, comma-separated")
	b.text("pod-bridge-interface", "detectLocal.bridgeInterface", &x.DetectLocal.BridgeInterface, "for BridgeInterface: the bridge that pods are behind")
	b.text("pod-interface-name-prefix", "detectLocal.interfaceNamePrefix", &x.DetectLocal.InterfaceNamePrefix, "for InterfaceNamePrefix: what the names of pod interfaces begin with")
	b.list("nodeport-addresses", "nodePortAddresses", &x.NodePortAddresses, "networks of the node addresses that serve NodePorts, and words: primary for those of the Node object, localhost for the loopback addresses too, all; none: all addresses")
	b.proxyIPVS()
	b.proxyConntrack()
}

func (b *boundFlags) proxyIPVS() {
	x := &b.pair.Proxy.IPVS
	b.text("ipvs-scheduler", "ipvs.scheduler", &x.Scheduler, "scheduler of virtual servers, by the kernel's name (default rr)")
	b.list("ipvs-exclude-cidrs", "ipvs.excludeCIDRs", &x.ExcludeCIDRs, "networks in which nothing is made, changed or removed")
	b.yes("ipvs-strict-arp", "ipvs.strictARP", &x.StrictARP, "do not answer ARP for Service addresses")
	b.time("ipvs-tcp-timeout", "ipvs.tcpTimeout", &x.TCPTimeout, "time for which IPVS keeps an idle TCP connection; 0: as --idle-tcp-timeout says")
	b.time("ipvs-tcpfin-timeout", "ipvs.tcpFinTimeout", &x.TCPFinTimeout, "the same after a FIN; 0: as the kernel has it")
	b.time("ipvs-udp-timeout", "ipvs.udpTimeout", &x.UDPTimeout, "the same for UDP; 0: as the kernel has it")
}

func (b *boundFlags) proxyConntrack() {
	x := &b.pair.Proxy.Conntrack
	b.number("conntrack-max-per-core", "conntrack.maxPerCore", x.MaxPerCore, "connections to track for each processor; 0: as the kernel has it")
	b.number("conntrack-min", "conntrack.min", x.Min, "connections to track at least")
	b.time("conntrack-tcp-timeout-established", "conntrack.tcpEstablishedTimeout", x.TCPEstablishedTimeout, "time for which an idle TCP connection is tracked; 0: as the kernel has it")
	b.time("conntrack-tcp-timeout-close-wait", "conntrack.tcpCloseWaitTimeout", x.TCPCloseWaitTimeout, "the same in CLOSE_WAIT")
	b.yes("conntrack-tcp-be-liberal", "conntrack.tcpBeLiberal", &x.TCPBeLiberal, "take TCP packets out of the window for valid")
	b.time("conntrack-udp-timeout", "conntrack.udpTimeout", &x.UDPTimeout, "time for which a UDP flow without answers is tracked; 0: as the kernel has it")
	b.time("conntrack-udp-timeout-stream", "conntrack.udpStreamTimeout", &x.UDPStreamTimeout, "the same with answers")
}

func (b *boundFlags) proxyDaemon() {
	x := &b.pair.Proxy
	b.text("hostname-override", "hostnameOverride", &x.HostnameOverride, "name of this Node, if it is not the host's")
	b.hold("hostname-override")
	b.text("kubeconfig", "clientConnection.kubeconfig", &x.ClientConnection.Kubeconfig, "file that says how to reach the API server; none: as a pod does")
	b.text("kube-api-content-type", "clientConnection.contentType", &x.ClientConnection.ContentType, "content type of requests to the API server")
	b.Float32Var(&x.ClientConnection.QPS, "kube-api-qps", x.ClientConnection.QPS, "requests to the API server a second")
	b.names["clientConnection.qps"] = "kube-api-qps"
	b.number("kube-api-burst", "clientConnection.burst", &x.ClientConnection.Burst, "requests to the API server at once")
	b.text("healthz-bind-address", "healthzBindAddress", &x.HealthzBindAddress, "address and port of /healthz and /livez; port 0: nowhere")
	b.text("metrics-bind-address", "metricsBindAddress", &x.MetricsBindAddress, "address and port of /metrics; port 0: nowhere")
	b.yes("bind-address-hard-fail", "bindAddressHardFail", &x.BindAddressHardFail, "end if one of these addresses is taken, in place of trying again")
	b.yes("profiling", "enableProfiling", &x.EnableProfiling, "serve /debug/pprof where the metrics are")
	b.number("oom-score-adj", "oomScoreAdj", x.OOMScoreAdj, "how readily the kernel ends this program, -1000..1000")
	b.time("ipvs-sync-period", "ipvs.syncPeriod", &x.IPVS.SyncPeriod, "time between two full comparisons with the kernel")
	b.time("ipvs-min-sync-period", "ipvs.minSyncPeriod", &x.IPVS.MinSyncPeriod, "time from one write to the kernel to the next; 0: a change is written at once")
	b.proxyLogging()
	b.proxyIdle()
}

// proxyLogging are the flags that count beside --config too.
func (b *boundFlags) proxyLogging() {
	x := &b.pair.Proxy.Logging
	b.VarP(logsapi.VerbosityLevelPflag(&x.Verbosity), "v", "v", "how much is logged: more from 2 on, all from 4 on")
	b.names["logging.verbosity"] = "v"
	b.text("logging-format", "logging.format", &x.Format, "form of the log: text or json")
	b.value("vmodule", "logging.vmodule", logsapi.VModuleConfigurationPflag(&x.VModule), "without effect")
	b.DurationVar(&x.FlushFrequency.Duration.Duration, "log-flush-frequency", x.FlushFrequency.Duration.Duration, "without effect: each line is written at once")
	b.names["logging.flushFrequency"] = "log-flush-frequency"
	b.yes("log-text-split-stream", "logging.options.text.splitStream", &x.Options.Text.SplitStream, "without effect")
	b.value("log-text-info-buffer-size", "logging.options.text.infoBufferSize", &x.Options.Text.InfoBufferSize, "without effect")
	b.yes("log-json-split-stream", "logging.options.json.splitStream", &x.Options.JSON.SplitStream, "without effect")
	b.value("log-json-info-buffer-size", "logging.options.json.infoBufferSize", &x.Options.JSON.InfoBufferSize, "without effect")
	b.hold("v", "logging-format", "vmodule", "log-flush-frequency", "log-text-split-stream", "log-text-info-buffer-size",
		"log-json-split-stream", "log-json-info-buffer-size")
}

// proxyIdle are flags that mean nothing here.
func (b *boundFlags) proxyIdle() {
	x := &b.pair.Proxy
	const none = "without effect"
	b.time("config-sync-period", "configSyncPeriod", &x.ConfigSyncPeriod, none)
	b.time("iptables-sync-period", "iptables.syncPeriod", &x.IPTables.SyncPeriod, none)
	b.time("iptables-min-sync-period", "iptables.minSyncPeriod", &x.IPTables.MinSyncPeriod, none)
	b.yes("iptables-localhost-nodeports", "iptables.localhostNodePorts", x.IPTables.LocalhostNodePorts, none+", as in kube-proxy's ipvs mode: see --localhost-nodeports")
	b.text("show-hidden-metrics-for-version", "showHiddenMetricsForVersion", &x.ShowHiddenMetricsForVersion, none)
}
