// SPDX-License-Identifier: Apache-2.0

package cli

// Our own flags, and kube-proxy's --master, which its document has no word for.
// They count beside any file.

func (b *boundFlags) ownPlanning() {
	x := &b.pair.Own
	b.yes("localhost-nodeports", "localhostNodePorts", &x.LocalhostNodePorts, "serve NodePorts at the loopback addresses too")
	b.yes("nodeport-source-ranges", "nodePortSourceRanges", &x.NodePortSourceRanges, "guard NodePorts too by spec.loadBalancerSourceRanges")
	b.text("service-node-port-range", "nodePortRange", &x.NodePortRange, "the API server's range of NodePorts, from which masquerade takes no source ports; 0-0: none")
	b.list("external-ip-cidrs", "externalIPCIDRs", &x.ExternalIPCIDRs, "networks that the external IPs of Services may be of; none: all")
	b.list("service-cidrs", "serviceCIDRs", &x.ServiceCIDRs, "networks of cluster IPs: what is sent there to no Service is dropped")
	b.list("api-server-addresses", "apiServerAddresses", &x.APIServerAddresses, "addresses of API servers, of which no Service may take one")
	b.list("api-servers", "apiServers", &x.APIServers, "IP:port of API servers to try in turn in place of the kubeconfig's; no Service may take their addresses")
	b.yes("remote-hairpins", "remoteHairpins", &x.RemoteHairpins, "masquerade pods of other nodes that reach themselves through this one")
	b.yes("answer-ping", "answerPing", &x.AnswerPing, "answer ICMP echo requests to Service addresses")
	b.text("vip-binding", "vipBinding", &x.VIPBinding, "how the node takes packets to Service addresses: address, as kube-proxy does, or route, for thousands of them")
	b.time("idle-tcp-timeout", "idleTCPTimeout", &x.IdleTCPTimeout, "time for which IPVS keeps an idle TCP connection if --ipvs-tcp-timeout is 0; 0: as the kernel has it")
	b.hold("localhost-nodeports", "nodeport-source-ranges", "service-node-port-range", "service-cidrs", "external-ip-cidrs", "api-server-addresses",
		"api-servers", "remote-hairpins", "answer-ping", "vip-binding", "idle-tcp-timeout")
}

func (b *boundFlags) ownDaemon() {
	x := &b.pair.Own
	b.text("master", "master", &x.Master, "URL of the API server in place of the kubeconfig's")
	b.time("drain-timeout", "drainTimeout", &x.DrainTimeout, "time after which a removed endpoint loses the connections it still has")
	b.text("snapshot-file", "snapshot.file", &x.Snapshot.File, "file to keep the API server's last objects in, for a start without it; none: nowhere")
	b.Int64Var(&x.Snapshot.MaxBytes, "snapshot-max-bytes", x.Snapshot.MaxBytes, "bound of that file's size")
	b.names["snapshot.maxBytes"] = "snapshot-max-bytes"
	b.number("traffic-metrics-services", "trafficMetricsServices", &x.TrafficMetricsServices, "of how many Services at most the metrics count the traffic one by one")
	b.hold("master", "drain-timeout", "snapshot-file", "snapshot-max-bytes", "traffic-metrics-services")
}
