// SPDX-License-Identifier: Apache-2.0

package app

import (
	"fmt"
	"net/netip"
	"slices"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
	"github.com/kube-ipvs/kube-ipvs/internal/plan"
	"github.com/kube-ipvs/kube-ipvs/internal/ports"
	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// listeners are the ports of Services that this program serves: health checks, and NodePorts on localhost.
type listeners struct {
	config config.Config
	checks *ports.HealthChecks
	local  *ports.Loopback
}

// newListeners returns listeners without open ports. Health checks of Services fail while healthy returns false.
func newListeners(c config.Config, log *zap.Logger, healthy func() bool, n *Notices) listeners {
	return listeners{
		config: c,
		checks: ports.NewHealthChecks(ports.HealthCheckOptions{
			Healthy: healthy,
			Report: func(service types.NamespacedName, port uint16, err error) {
				logPort(log, "health check port", service, zap.Uint16("port", port), err)
				if err != nil {
					n.port(service, reasonHealthCheck, fmt.Sprintf("could not open health check port %d: %v", port, err))
				}
			},
		}),
		local: ports.NewLoopback(ports.LoopbackOptions{
			Report: func(service types.NamespacedName, f state.Forward, err error) {
				logPort(log, "NodePort on localhost", service, zap.Stringer("forward", f), err)
				if err != nil {
					n.port(service, reasonLocalhost, fmt.Sprintf("could not open NodePort on localhost: %v: %v", f, err))
				}
			},
		}),
	}
}

func logPort(log *zap.Logger, what string, service types.NamespacedName, which zap.Field, err error) {
	log = log.With(zap.String("what", what), zap.Stringer("service", service), which)
	if err != nil {
		log.Warn("could not open port of a Service; trying again", zap.Error(err))
		return
	}
	log.Info("port of a Service opened")
}

// Set takes what a Service needs; the zero Fragment needs nothing.
func (l listeners) Set(service types.NamespacedName, f plan.Fragment) {
	l.checks.Set(service, f.HealthCheck)
	l.local.Set(service, f.Forwards)
}

// Follow opens the health check ports at the addresses where n serves NodePorts.
func (l listeners) Follow(n plan.Node) {
	l.checks.Addresses(ports.Listening(nodePortNetworks(l.config, n), n.Addresses))
}

// nodePortNetworks returns the networks in which n serves NodePorts. A family without any has all addresses.
func nodePortNetworks(c config.Config, n plan.Node) []netip.Prefix {
	networks := slices.Clone(c.NodePortAddresses)
	if !c.NodePortPrimary {
		return networks
	}
	for _, f := range []state.Family{state.IPv4, state.IPv6} {
		// Otherwise a family without a known address would be served everywhere.
		networks = append(networks, netip.PrefixFrom(f.Unspecified(), f.Bits()))
	}
	for _, ip := range n.IPs {
		networks = append(networks, netip.PrefixFrom(ip, ip.BitLen()))
	}
	return networks
}

// Close closes all ports, and the connections through those on localhost.
func (l listeners) Close() {
	l.checks.Close()
	l.local.Close()
}
