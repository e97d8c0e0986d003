// SPDX-License-Identifier: Apache-2.0

package proxyconfig

import (
	"cmp"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	logsapi "k8s.io/component-base/logs/api/v1"
	"k8s.io/kube-proxy/config/v1alpha1"
	netutils "k8s.io/utils/net"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
)

// The ports of an address without one.
const (
	healthzPort = "10256"
	metricsPort = "10249"
)

// Complete gives all fields of kube-proxy's document that are unset the values that kube-proxy gives them. It
// can't be told from their absence if they were set to zero: kubeadm's document says "0s" for most periods.
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
	completeIPTables(&x.IPTables, c)
	orElse(&x.IPVS.SyncPeriod.Duration, c.SyncPeriod)
	completeNFTables(&x.NFTables, c)
	completeConntrack(&x.Conntrack, c.Conntrack)
	logsapi.SetRecommendedLoggingConfiguration(&x.Logging)
}

// completeAddresses gives addresses their ports. Those that are unset become of the family of bindAddress.
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

// WithPort is the address with that port if it has none. What is no address stays, for who will complain
// about it.
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

func completeIPTables(x *v1alpha1.KubeProxyIPTablesConfiguration, c config.Config) {
	orPoint(&x.MasqueradeBit, int32(c.MasqueradeBit))
	orPoint(&x.LocalhostNodePorts, true)
	orElse(&x.SyncPeriod.Duration, 30*time.Second)
	orElse(&x.MinSyncPeriod.Duration, time.Second)
}

func completeNFTables(x *v1alpha1.KubeProxyNFTablesConfiguration, c config.Config) {
	orPoint(&x.MasqueradeBit, int32(c.MasqueradeBit))
	orElse(&x.SyncPeriod.Duration, 30*time.Second)
	orElse(&x.MinSyncPeriod.Duration, time.Second)
}

func completeConntrack(x *v1alpha1.KubeProxyConntrackConfiguration, c config.Conntrack) {
	orPoint(&x.MaxPerCore, c.MaxPerCore)
	orPoint(&x.Min, c.Min)
	orPoint(&x.TCPEstablishedTimeout, duration(c.TCPEstablished))
	orPoint(&x.TCPCloseWaitTimeout, duration(c.TCPCloseWait))
}

// orElse gives what is zero a value, and orPoint what is absent.
func orElse[T comparable](to *T, value T) { *to = cmp.Or(*to, value) }

func orPoint[T any](to **T, value T) {
	if *to == nil {
		*to = &value
	}
}
