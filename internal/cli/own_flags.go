// SPDX-License-Identifier: Apache-2.0

package cli

// Flags that kube-proxy does not have, and its --master, which its document has no field for. They count
// beside any file.

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
	b.duration("idle-tcp-timeout", "idleTCPTimeout", &x.IdleTCPTimeout, "how long IPVS keeps an idle TCP connection if --ipvs-tcp-timeout is 0; 0: the kernel's value")
}

func (b *boundFlags) ownDaemon() {
	b = b.override()
	x := &b.pair.Own
	b.text("master", "master", &x.Master, "URL of the API server, in place of the kubeconfig's")
	b.duration("drain-timeout", "drainTimeout", &x.DrainTimeout, "how long a removed endpoint keeps its connections")
	b.text("snapshot-file", "snapshot.file", &x.Snapshot.File, "file for the last objects of the API server, for a start without it; none: no snapshot")
	b.Int64Var(&x.Snapshot.MaxBytes, b.bind("snapshot-max-bytes", "snapshot.maxBytes"), x.Snapshot.MaxBytes, "largest size of that file")
	b.number("traffic-metrics-services", "trafficMetricsServices", &x.TrafficMetricsServices, "most Services with traffic metrics of their own")
}
