// SPDX-License-Identifier: Apache-2.0

package proxyconfig

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
)

// Config is what the pair means. Its error is config.Complaints, each with the path of a field.
func (p Pair) Config() (config.Config, []string, error) {
	x := conversion{Pair: p, to: config.Default()}
	x.mode()
	x.node()
	x.client()
	x.serving()
	x.conntrack()
	x.log()
	x.masquerade()
	x.localDetector()
	x.nodePorts()
	x.ipvs()
	x.own()
	x.check()
	return x.to, x.advice(), x.found.Err()
}

// conversion is a pair on its way to be a Config.
type conversion struct {
	Pair
	to    config.Config
	found config.Complaints
}

// mode asks for ipvs. Who wrote another one chose it, and it is not ours to take one for another in silence;
// a flag overrules the file, for a node that shares its file with nodes on which kube-proxy still runs in
// that mode.
func (x *conversion) mode() {
	m := x.Proxy.Mode
	x.found.Unless(m == "" || m == modeIPVS, "mode",
		"%q is not what kube-ipvs does: set it to %s, or start with --proxy-mode=%[2]s to overrule the file", m, modeIPVS)
	const externalIPs = gateExternalIPs
	if on, said := x.Proxy.FeatureGates[externalIPs]; said {
		x.to.IgnoreExternalIPs = !on
	}
}

func (x *conversion) node() {
	said := x.Proxy.HostnameOverride
	x.to.Hostname = strings.ToLower(strings.TrimSpace(said))
	x.found.Unless(said == "" || x.to.Hostname != "", "hostnameOverride", "%q is blank", said)
	if a := x.address("bindAddress", x.Proxy.BindAddress); !a.IsUnspecified() {
		x.to.BindAddress = a
	}
	x.to.OOMScoreAdj = int(*x.Proxy.OOMScoreAdj)
}

func (x *conversion) client() {
	c := x.Proxy.ClientConnection
	x.to.Client = config.Client{
		Kubeconfig:         c.Kubeconfig,
		Master:             x.Own.Master,
		AcceptContentTypes: c.AcceptContentTypes,
		ContentType:        c.ContentType,
		QPS:                c.QPS,
		Burst:              int(c.Burst),
	}
	for i, text := range x.Own.APIServerAddresses {
		x.to.APIServers = append(x.to.APIServers, x.address(at("apiServerAddresses", i), text))
	}
	for i, text := range x.Own.APIServers {
		server := x.addressPort(at("apiServers", i), text)
		x.to.Client.Servers = append(x.to.Client.Servers, server)
		if server.IsValid() && !slices.Contains(x.to.APIServers, server.Addr()) {
			x.to.APIServers = append(x.to.APIServers, server.Addr())
		}
	}
}

func (x *conversion) serving() {
	x.to.Serving = config.Serving{
		Healthz:   x.listener("healthzBindAddress", x.Proxy.HealthzBindAddress),
		Metrics:   x.listener("metricsBindAddress", x.Proxy.MetricsBindAddress),
		HardFail:  x.Proxy.BindAddressHardFail,
		Profiling: x.Proxy.EnableProfiling,
		Traffic:   int(x.Own.TrafficMetricsServices),
	}
}

// listener is where to serve: nowhere if the port is 0, which kube-proxy's document has no word for and its
// flags for ports call so.
func (x *conversion) listener(path, text string) netip.AddrPort {
	if a := x.addressPort(path, text); a.Port() != 0 {
		return a
	}
	return netip.AddrPort{}
}

func (x *conversion) conntrack() {
	c := x.Proxy.Conntrack
	x.to.Conntrack = config.Conntrack{
		MaxPerCore:     *c.MaxPerCore,
		Min:            *c.Min,
		TCPEstablished: c.TCPEstablishedTimeout.Duration,
		TCPCloseWait:   c.TCPCloseWaitTimeout.Duration,
		TCPBeLiberal:   c.TCPBeLiberal,
		UDP:            c.UDPTimeout.Duration,
		UDPStream:      c.UDPStreamTimeout.Duration,
	}
}

func (x *conversion) log() {
	l := x.Proxy.Logging
	x.to.Log = config.Log{Verbosity: int(l.Verbosity), JSON: l.Format == "json"}
	x.found.Unless(x.to.Log.JSON || l.Format == "text", "logging.format", "%q is none of json, text", l.Format)
}

func (x *conversion) masquerade() {
	t := x.Proxy.IPTables
	x.to.MasqueradeAll = t.MasqueradeAll
	if bit := *t.MasqueradeBit; bit >= 0 && bit < 32 {
		x.to.MasqueradeBit = uint8(bit)
	} else {
		x.found.Add("iptables.masqueradeBit", "%d is not in 0..31", bit)
	}
}

func (x *conversion) localDetector() {
	x.to.PodCIDRs = x.networks("clusterCIDR", words(x.Proxy.ClusterCIDR))
	d, detect := &x.to.LocalDetector, x.Proxy.DetectLocal
	switch x.Proxy.DetectLocalMode {
	case localByCluster:
		if d.CIDRs = x.to.PodCIDRs; len(d.CIDRs) > 0 {
			d.Kind = config.DetectCIDR
		}
	case localByNode:
		d.Kind = config.DetectNodeCIDR
	case localByBridge:
		d.Kind, d.Interface = config.DetectBridge, detect.BridgeInterface
	case localByPrefix:
		d.Kind, d.Interface = config.DetectPrefix, detect.InterfaceNamePrefix
	default:
		x.found.Add("detectLocalMode", "%q is none of %s", x.Proxy.DetectLocalMode,
			strings.Join([]string{localByCluster, localByNode, localByBridge, localByPrefix}, ", "))
	}
}

func (x *conversion) ipvs() {
	i := x.Proxy.IPVS
	if i.Scheduler != "" {
		x.to.Scheduler = i.Scheduler
	}
	x.to.ExcludeCIDRs = x.networks("ipvs.excludeCIDRs", i.ExcludeCIDRs)
	x.to.StrictARP = i.StrictARP
	x.to.SyncPeriod, x.to.MinSyncPeriod = i.SyncPeriod.Duration, i.MinSyncPeriod.Duration
	x.to.TCPTimeout = x.tcpTimeout()
	x.to.TCPFinTimeout, x.to.UDPTimeout = i.TCPFinTimeout.Duration, i.UDPTimeout.Duration
}

func (p Pair) tcpTimeout() time.Duration {
	if said := p.Proxy.IPVS.TCPTimeout.Duration; said != 0 {
		return said
	}
	return p.Own.IdleTCPTimeout.Duration
}

func (x *conversion) own() {
	o := x.Own
	x.to.ServiceCIDRs = x.networks("serviceCIDRs", o.ServiceCIDRs)
	x.to.ExternalIPCIDRs = x.networks("externalIPCIDRs", o.ExternalIPCIDRs)
	x.to.RemoteHairpins = o.RemoteHairpins
	x.to.AnswerPing = o.AnswerPing
	x.to.VIPBinding = config.VIPBinding(o.VIPBinding)
	x.to.DrainTimeout = o.DrainTimeout.Duration
	x.to.Snapshot = config.Snapshot{File: o.Snapshot.File, MaxBytes: o.Snapshot.MaxBytes}
}

// check adds what Validate has to say, but for fields about which there is a complaint already.
func (x *conversion) check() {
	var more config.Complaints
	if !errors.As(x.to.Validate(), &more) {
		return
	}
	paths := x.paths()
	told := slices.Clone(x.found)
	for _, c := range more {
		field, _, _ := strings.Cut(c.Field, "[")
		c.Field = paths[field] + strings.TrimPrefix(c.Field, field)
		if !slices.ContainsFunc(told, func(t config.Complaint) bool { return t.Field == c.Field }) {
			x.found = append(x.found, c)
		}
	}
}

func at(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }
