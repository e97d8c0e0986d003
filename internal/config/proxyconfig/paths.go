// SPDX-License-Identifier: Apache-2.0

package proxyconfig

import "github.com/kube-ipvs/kube-ipvs/internal/config"

// paths are the fields that package config may complain about, by their paths in the documents.
func (x *conversion) paths() map[string]string {
	device := "detectLocal.bridgeInterface"
	if x.to.LocalDetector.Kind == config.DetectPrefix {
		device = "detectLocal.interfaceNamePrefix"
	}
	tcpTimeout := "ipvs.tcpTimeout"
	if x.Proxy.IPVS.TCPTimeout.Duration == 0 {
		tcpTimeout = "idleTCPTimeout"
	}
	return map[string]string{
		"APIServers":               "apiServerAddresses",
		"BindAddress":              "bindAddress",
		"Client.Burst":             "clientConnection.burst",
		"Client.QPS":               "clientConnection.qps",
		"Client.Servers":           "apiServers",
		"Conntrack.MaxPerCore":     "conntrack.maxPerCore",
		"Conntrack.Min":            "conntrack.min",
		"Conntrack.TCPCloseWait":   "conntrack.tcpCloseWaitTimeout",
		"Conntrack.TCPEstablished": "conntrack.tcpEstablishedTimeout",
		"Conntrack.UDP":            "conntrack.udpTimeout",
		"Conntrack.UDPStream":      "conntrack.udpStreamTimeout",
		"DrainTimeout":             "drainTimeout",
		"ExcludeCIDRs":             "ipvs.excludeCIDRs",
		"ExternalIPCIDRs":          "externalIPCIDRs",
		"Hostname":                 "hostnameOverride",
		"LocalDetector.CIDRs":      "clusterCIDR",
		"LocalDetector.Interface":  device,
		"Log.Verbosity":            "logging.verbosity",
		"MinSyncPeriod":            "ipvs.minSyncPeriod",
		"NodePortAddresses":        "nodePortAddresses",
		"NodePortRange":            "nodePortRange",
		"OOMScoreAdj":              "oomScoreAdj",
		"Scheduler":                "ipvs.scheduler",
		"ServiceCIDRs":             "serviceCIDRs",
		"Serving.Healthz":          "healthzBindAddress",
		"Serving.Metrics":          "metricsBindAddress",
		"Serving.Traffic":          "trafficMetricsServices",
		"Snapshot.MaxBytes":        "snapshot.maxBytes",
		"SyncPeriod":               "ipvs.syncPeriod",
		"TCPFinTimeout":            "ipvs.tcpFinTimeout",
		"TCPTimeout":               tcpTimeout,
		"VIPBinding":               "vipBinding",
		"UDPTimeout":               "ipvs.udpTimeout",
	}
}
