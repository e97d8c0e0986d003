// SPDX-License-Identifier: Apache-2.0

package proxyconfig

import (
	"strings"
	"testing"
)

func TestComplaintsNameThePathOfTheField(t *testing.T) {
	for _, complaints := range []map[string]string{misfitting(), senseless(), senselessOwn()} {
		for yaml, want := range complaints {
			p := Default()
			_, err := p.ReadConfig([]byte(head + yaml))
			if strings.HasPrefix(yaml, "mode:") {
				_, err = p.ReadConfig([]byte(strings.Replace(head, "mode: ipvs\n", "", 1) + yaml))
			}
			if err == nil {
				_, _, err = p.Config()
			}
			if err == nil || !strings.HasPrefix(err.Error(), want) {
				t.Errorf("%s:\ngot  %v\nwant %s", yaml, err, want)
			}
		}
	}
}

// misfitting returns fields whose values do not fit their type, and the complaints.
func misfitting() map[string]string {
	return map[string]string{
		"ipvs: {syncPeriod: 7}":                           "ipvs.syncPeriod: a number, want a string",
		"ipvs: {syncPeriod: abc}":                         `ipvs.syncPeriod: time: invalid duration "abc"`,
		"ipvs: {syncPeriod: a}\nconntrack: {min: b}":      `conntrack.min: a string, want a int32; ipvs.syncPeriod: time: invalid`,
		"nodePortAddresses: [10.0.0.0/8, 7]":              "nodePortAddresses[1]: a number, want a string",
		"nodePortAddresses: primary":                      "nodePortAddresses: a string, want a slice",
		"ipvs: 3":                                         "ipvs: a number, want a struct",
		"mode: {a: b}":                                    "mode: a object, want a string",
		"oomScoreAdj: 99999999999":                        "oomScoreAdj: a number 99999999999, want a int32",
		"logging: {vmodule: [{verbosity: -1}]}":           "logging.vmodule[0].verbosity: a number -1, want a uint32",
		"logging: {options: {text: {infoBufferSize: x}}}": "logging.options.text.infoBufferSize: quantities must match",
	}
}

// senseless returns fields with values that make no sense, and the complaints.
func senseless() map[string]string {
	return map[string]string{
		"mode: iptables":                    `mode: "iptables" is not what kube-ipvs does: set it to ipvs`,
		"mode: nftables":                    `mode: "nftables" is not`,
		"mode: kernelspace":                 `mode: "kernelspace" is not`,
		"hostnameOverride: ' '":             `hostnameOverride: " " is blank`,
		"hostnameOverride: $(NODE_NAME)":    `hostnameOverride: "$(node_name)" is not the name of a Node`,
		"bindAddress: node-1":               `bindAddress: "node-1" is not an IP address`,
		"bindAddress: fe80::1%eth0":         `bindAddress: "fe80::1%eth0" is not an IP address`,
		"healthzBindAddress: ':10256'":      `healthzBindAddress: ":10256" is not an IP address and a port`,
		"healthzBindAddress: '::1:80:'":     `healthzBindAddress: "::1:80:" is not`,
		"metricsBindAddress: 0.0.0.0:70000": `metricsBindAddress: "0.0.0.0:70000" is not`,
		"metricsBindAddress: localhost:80":  `metricsBindAddress: "localhost:80" is not`,
		"clientConnection: {burst: -1}":     "clientConnection.burst: -1 is below 0",
		"logging: {format: xml}":            `logging.format: "xml" is none of json, text`,
		"iptables: {masqueradeBit: 32}":     "iptables.masqueradeBit: 32 is not in 0..31",
		"iptables: {masqueradeBit: -1}":     "iptables.masqueradeBit: -1 is not in 0..31",
		"detectLocalMode: Magic":            `detectLocalMode: "Magic" is none of ClusterCIDR, NodeCIDR, BridgeInterface, InterfaceNamePrefix`,
		"detectLocalMode: BridgeInterface":  "detectLocal.bridgeInterface: empty",
		"detectLocalMode: InterfaceNamePrefix\ndetectLocal: {interfaceNamePrefix: veth+}": `detectLocal.interfaceNamePrefix: "veth+" is not a name`,
		"clusterCIDR: 10.0.0.0/8,11.0.0.0/8":                                              "clusterCIDR[1]: 11.0.0.0/8 is the second one of its family",
		"clusterCIDR: 10.0.0.0":                                                           `clusterCIDR[0]: "10.0.0.0" is not a CIDR`,
		"nodePortAddresses: [10.0.0.0/8, x, '::ffff:10.0.0.0/104']":                       `nodePortAddresses[1]: "x" is neither a CIDR such as 10.244.0.0/16 nor one of primary, localhost, all; nodePortAddresses[2]: ::ffff:10.0.0.0/104 is an IPv4 network`,
		"nodePortAddresses: [primary, localhost, primary, all, localhost]":                "nodePortAddresses[2]: primary is there already; nodePortAddresses[4]: localhost is there already",
		"nodePortAddresses: [localhost, localhos, '::ffff:10.0.0.0/104']":                 `nodePortAddresses[1]: "localhos" is neither a CIDR such as 10.244.0.0/16 nor one of primary, localhost, all; nodePortAddresses[2]: ::ffff:10.0.0.0/104 is an IPv4 network`,
		"oomScoreAdj: 1001":                       "oomScoreAdj: 1001 is not in -1000..1000",
		"conntrack: {maxPerCore: -1}":             "conntrack.maxPerCore: -1 is below 0",
		"conntrack: {min: -1}":                    "conntrack.min: -1 is below 0",
		"conntrack: {tcpEstablishedTimeout: -1s}": "conntrack.tcpEstablishedTimeout: -1s is below 0",
		"conntrack: {tcpCloseWaitTimeout: -1s}":   "conntrack.tcpCloseWaitTimeout: -1s is below 0",
		"conntrack: {udpTimeout: -1s}":            "conntrack.udpTimeout: -1s is below 0",
		"conntrack: {udpStreamTimeout: -1s}":      "conntrack.udpStreamTimeout: -1s is below 0",
		"ipvs: {syncPeriod: -1s}":                 "ipvs.syncPeriod: -1s is not above 0",
		"ipvs: {minSyncPeriod: -1s}":              "ipvs.minSyncPeriod: -1s is below 0",
		"ipvs: {minSyncPeriod: 31s}":              "ipvs.minSyncPeriod: 31s is longer than the period of full comparisons, 30s",
		"ipvs: {scheduler: r r}":                  `ipvs.scheduler: "r r" is not a name`,
		"ipvs: {excludeCIDRs: [10.0.0.0/8, x]}":   `ipvs.excludeCIDRs[1]: "x" is not a CIDR`,
		"ipvs: {tcpTimeout: -1s}":                 "ipvs.tcpTimeout: -1s is not a number of seconds",
		"ipvs: {tcpFinTimeout: 1ms}":              "ipvs.tcpFinTimeout: 1ms is not a number of seconds",
		"ipvs: {udpTimeout: 9999h}":               "ipvs.udpTimeout: 9999h0m0s is not a number of seconds",
	}
}

// senselessOwn returns such fields of our own document.
func senselessOwn() map[string]string {
	return map[string]string{
		"---\n" + ownHead + "apiServers: [a, '192.0.2.1:0']":            `apiServers[0]: "a" is not an IP address and a port such as 192.0.2.1:6443; apiServers[1]: 192.0.2.1:0 has no port`,
		"---\n" + ownHead + "apiServerAddresses: [kubernetes]":          `apiServerAddresses[0]: "kubernetes" is not an IP address`,
		"---\n" + ownHead + "serviceCIDRs: [x]":                         `serviceCIDRs[0]: "x" is not a CIDR`,
		"---\n" + ownHead + "nodePortRange: 2-1":                        "nodePortRange: 2-1 is no range",
		"---\n" + ownHead + "nodePortRange: '30000'":                    `nodePortRange: "30000" is not a range of ports such as`,
		"---\n" + ownHead + "drainTimeout: -1s":                         "drainTimeout: -1s is below 0",
		"---\n" + ownHead + "idleTCPTimeout: 1ms":                       "idleTCPTimeout: 1ms is not a number of seconds",
		"---\n" + ownHead + "snapshot: {maxBytes: 0}":                   "snapshot.maxBytes: 0 is not above 0",
		"---\n" + ownHead + "trafficMetricsServices: -1":                "trafficMetricsServices: -1 is below 0",
		"---\n" + ownHead + "snapshot: {path: /s}\nnodePortRnge: '1-2'": "nodePortRnge: unknown field; snapshot.path: unknown field",
		"---\n" + ownHead + "answerPing: true\nansWerPing: true":        "ansWerPing: unknown field",
		"---\n" + ownHead + "answerPing: true\nanswerPing: true":        `line 8: key "answerPing" already set in map`,
		"---\n" + ownHead + "vipBinding: Route":                         `vipBinding: "Route" is none of address, route`,
		"---\n" + ownHead + "answerPing: 1":                             "answerPing: a number, want a bool",
	}
}

func TestFilesThatAreNoConfiguration(t *testing.T) {
	const two = "it has 2 documents of kind"
	for text, want := range map[string]string{
		"":                                 "it has 0 documents of kind KubeProxyConfiguration, want one",
		"# nothing\n---\n":                 "it has 0 documents of kind KubeProxyConfiguration, want one",
		"hello":                            "it is no mapping of fields",
		"- a":                              "it is no mapping of fields",
		"mode: ipvs":                       "kind <nil> of <nil> is not KubeProxyConfiguration of kubeproxy.config.k8s.io/v1alpha1",
		head + "bindAddress: ::\n":         "yaml: line 4: mapping values are not allowed",
		head + "\tmode: ipvs":              "yaml: ",
		"a: [":                             "yaml: ",
		head + "---\n" + head:              two,
		head + "---\n# x\n---\na: [":       "yaml: line 7",
		head + "---\nkind: Service\n":      "kind Service of <nil> is not KubeProxyConfiguration",
		ownHead:                            "it has 0 documents of kind KubeProxyConfiguration, want one",
		strings.Replace(head, "1", "2", 1): "kind KubeProxyConfiguration of kubeproxy.config.k8s.io/v2alpha1 is not",
	} {
		p := Default()
		if _, err := p.ReadConfig([]byte(text)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q:\ngot  %v\nwant %s", text, err, want)
		}
	}
	for text, want := range map[string]string{
		"":                             "it has 0 documents of kind KubeIPVSConfiguration, want one",
		ownHead + "---\n" + ownHead:    two,
		head:                           "kind KubeProxyConfiguration of kubeproxy.config.k8s.io/v1alpha1 is not KubeIPVSConfiguration of kube-ipvs.io/v1alpha1",
		ownHead + "drainTimeout: [3m]": "drainTimeout: a array, want a string",
	} {
		p := Default()
		if err := p.ReadSettings([]byte(text)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q:\ngot  %v\nwant %s", text, err, want)
		}
	}
}

func TestOddFieldsOfKubeProxysDocumentAreWorthAWarning(t *testing.T) {
	p := Default()
	warnings, err := p.ReadConfig([]byte(head + "bogus: 1\nMode: iptables\nipvs: {strictArp: true}\nmode: ipvs\nhostnameOverride: a\nhostnameOverride: b\n"))
	if err != nil {
		t.Fatal(err)
	}
	const void = ": it has no effect"
	want := `line 7: key "mode" already set in map: the last one counts` + "\n" +
		`line 9: key "hostnameOverride" already set in map: the last one counts` + "\nMode: unknown field" + void + "\nbogus: unknown field" + void + "\nipvs.strictArp: unknown field" + void
	if got := strings.Join(warnings, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if p.Proxy.HostnameOverride != "b" || p.Proxy.IPVS.StrictARP {
		t.Errorf("read as %+v", p.Proxy)
	}
}
