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

// Listeners are the ports of Services on which this program itself answers:
// their health checks, and their NodePorts on localhost.
type Listeners struct {
	config config.Config
	checks *ports.HealthChecks
	local  *ports.Loopback
}

// Listen returns Listeners that answer on no port yet. healthy is whether the
// proxy is, for those who ask for the health of a Service. n is told of ports
// that can't be opened.
func Listen(c config.Config, log *zap.Logger, healthy func() bool, n *Notices) Listeners {
	return Listeners{
		config: c,
		checks: ports.NewHealthChecks(ports.HealthCheckOptions{
			Healthy: healthy,
			Report: func(service types.NamespacedName, port uint16, err error) {
				report(log, "health check port", service, zap.Uint16("port", port), err)
				if err != nil {
					n.port(service, reasonHealthCheck, fmt.Sprintf("health check port %d can't be opened: %v", port, err))
				}
			},
		}),
		local: ports.NewLoopback(ports.LoopbackOptions{
			Report: func(service types.NamespacedName, f state.Forward, err error) {
				report(log, "NodePort on localhost", service, zap.Stringer("forward", f), err)
				if err != nil {
					n.port(service, reasonLocalhost, fmt.Sprintf("NodePort can't be opened on localhost: %v: %v", f, err))
				}
			},
		}),
	}
}

func report(log *zap.Logger, what string, service types.NamespacedName, which zap.Field, err error) {
	fields := []zap.Field{zap.String("what", what), zap.Stringer("service", service), which}
	if err != nil {
		log.Warn("port of a Service can't be opened; trying again", append(fields, zap.Error(err))...)
		return
	}
	log.Info("port of a Service is open after all", fields...)
}

// Set takes in what a Service wishes now; the zero fragment is nothing.
func (l Listeners) Set(service types.NamespacedName, f plan.Fragment) {
	l.checks.Set(service, f.HealthCheck)
	l.local.Set(service, f.Forwards)
}

// Follow opens the health check ports where NodePorts are served on n.
func (l Listeners) Follow(n plan.Node) {
	l.checks.Addresses(ports.Listening(nodePortNetworks(l.config, n), n.Addresses))
}

// nodePortNetworks are the networks in which n serves NodePorts; none of a family:
// everywhere.
func nodePortNetworks(c config.Config, n plan.Node) []netip.Prefix {
	networks := slices.Clone(c.NodePortAddresses)
	if c.NodePortPrimary {
		for _, f := range []state.Family{state.IPv4, state.IPv6} {
			// Without this, a family of which no address is known would be
			// served on all of them.
			networks = append(networks, netip.PrefixFrom(f.Unspecified(), f.Bits()))
		}
		for _, ip := range n.IPs {
			networks = append(networks, netip.PrefixFrom(ip, ip.BitLen()))
		}
	}
	return networks
}

// Close closes all ports, and the connections through those on localhost.
func (l Listeners) Close() {
	l.checks.Close()
	l.local.Close()
}
