// SPDX-License-Identifier: Apache-2.0

package proxyconfig

import (
	"cmp"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	logsapi "k8s.io/component-base/logs/api/v1"
	netutils "k8s.io/utils/net"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
)

// The default ports.
const (
	healthzPort = "10256"
	metricsPort = "10249"
)

// Complete gives the unset fields of kube-proxy's document kube-proxy's defaults. A field that was set to zero counts
// as unset: kubeadm's document says "0s" for most periods.
func (p *Pair) Complete() {
	c, x := config.Default(), &p.Proxy
	x.TypeMeta = metav1.TypeMeta{Kind: ProxyKind, APIVersion: ProxyVersion}
	orElse(&x.DetectLocalMode, localByCluster)
	p.completeAddresses()
	orPoint(&x.OOMScoreAdj, int32(c.OOMScoreAdj))
	orElse(&x.ConfigSyncPeriod.Duration, 15*time.Minute)
	orElse(&x.ClientConnection.ContentType, c.Client.ContentType)
	orElse(&x.ClientConnection.QPS, c.Client.QPS)
	orElse(&x.ClientConnection.Burst, int32(c.Client.Burst))
	orPoint(&x.IPTables.MasqueradeBit, int32(c.MasqueradeBit))
	orPoint(&x.IPTables.LocalhostNodePorts, true)
	orElse(&x.IPTables.SyncPeriod.Duration, 30*time.Second)
	orElse(&x.IPTables.MinSyncPeriod.Duration, time.Second)
	orElse(&x.IPVS.SyncPeriod.Duration, c.SyncPeriod)
	orPoint(&x.NFTables.MasqueradeBit, int32(c.MasqueradeBit))
	orElse(&x.NFTables.SyncPeriod.Duration, 30*time.Second)
	orElse(&x.NFTables.MinSyncPeriod.Duration, time.Second)
	orPoint(&x.Conntrack.MaxPerCore, c.Conntrack.MaxPerCore)
	orPoint(&x.Conntrack.Min, c.Conntrack.Min)
	orPoint(&x.Conntrack.TCPEstablishedTimeout, duration(c.Conntrack.TCPEstablished))
	orPoint(&x.Conntrack.TCPCloseWaitTimeout, duration(c.Conntrack.TCPCloseWait))
	logsapi.SetRecommendedLoggingConfiguration(&x.Logging)
}

// completeAddresses gives addresses their ports. Unset ones get the family of bindAddress.
func (p *Pair) completeAddresses() {
	x := &p.Proxy
	orElse(&x.BindAddress, "0.0.0.0")
	everywhere, here := "0.0.0.0", "127.0.0.1"
	if netutils.IsIPv6String(x.BindAddress) {
		everywhere, here = "::", "::1"
	}
	x.HealthzBindAddress = WithPort(cmp.Or(x.HealthzBindAddress, everywhere), healthzPort)
	x.MetricsBindAddress = WithPort(cmp.Or(x.MetricsBindAddress, here), metricsPort)
}

// WithPort returns the address with that port if it has none. Text that is no address stays as it is.
func WithPort(text, port string) string {
	a, ok := address(text)
	switch {
	case !ok:
		return text
	case a.Is4():
		return text + ":" + port
	}
	return "[" + text + "]:" + port
}

// orElse sets what is zero, and orPoint what is absent.
func orElse[T comparable](to *T, value T) { *to = cmp.Or(*to, value) }

func orPoint[T any](to **T, value T) {
	if *to == nil {
		*to = &value
	}
}
