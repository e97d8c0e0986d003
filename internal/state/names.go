// SPDX-License-Identifier: Apache-2.0

package state

// The sets of kube-proxy's IPVS mode, by their IPv4 names (For). With the same names a takeover finds them, and CNIs
// that look into them keep working.
const (
	SetLoopBack               SetName = "KUBE-LOOP-BACK"
	SetClusterIP              SetName = "KUBE-CLUSTER-IP"
	SetExternalIP             SetName = "KUBE-EXTERNAL-IP"
	SetExternalIPLocal        SetName = "KUBE-EXTERNAL-IP-LOCAL"
	SetLoadBalancer           SetName = "KUBE-LOAD-BALANCER"
	SetLoadBalancerFW         SetName = "KUBE-LOAD-BALANCER-FW"
	SetLoadBalancerLocal      SetName = "KUBE-LOAD-BALANCER-LOCAL"
	SetLoadBalancerSourceIP   SetName = "KUBE-LOAD-BALANCER-SOURCE-IP"
	SetLoadBalancerSourceCIDR SetName = "KUBE-LOAD-BALANCER-SOURCE-CIDR"
	SetNodePortTCP            SetName = "KUBE-NODE-PORT-TCP"
	SetNodePortLocalTCP       SetName = "KUBE-NODE-PORT-LOCAL-TCP"
	SetNodePortUDP            SetName = "KUBE-NODE-PORT-UDP"
	SetNodePortLocalUDP       SetName = "KUBE-NODE-PORT-LOCAL-UDP"
	SetNodePortSCTP           SetName = "KUBE-NODE-PORT-SCTP-HASH"
	SetNodePortLocalSCTP      SetName = "KUBE-NODE-PORT-LOCAL-SCTP-HASH"
	SetHealthCheckNodePort    SetName = "KUBE-HEALTH-CHECK-NODE-PORT"
	SetIPVSIPs                SetName = "KUBE-IPVS-IPS"
)

// The sets that only kube-ipvs has. The last three are of older versions.
const (
	SetInside      SetName = "KUBE-INSIDE"
	SetInsideNode  SetName = "KUBE-INSIDE-NODE"
	SetServers     SetName = "KUBE-IPVS-SERVERS"
	SetNodeIPs     SetName = "KUBE-NODE-IPS"
	SetNoLocal     SetName = "KUBE-NO-LOCAL"
	SetAllPorts    SetName = "KUBE-ALL-PORTS"
	SetClusterMark SetName = "KUBE-CLUSTER-MARK"
	SetMark        SetName = "KUBE-SERVICE-MARK"
	SetMarkMasq    SetName = "KUBE-SERVICE-MARK-MASQ"
)

// The chains of kube-proxy's IPVS mode, which are ours too.
const (
	ChainServices     = "KUBE-SERVICES"
	ChainPostrouting  = "KUBE-POSTROUTING"
	ChainNodePort     = "KUBE-NODE-PORT" // in nat and in filter
	ChainLoadBalancer = "KUBE-LOAD-BALANCER"
	ChainMarkMasq     = "KUBE-MARK-MASQ"
	ChainForward      = "KUBE-FORWARD"
	ChainFirewall     = "KUBE-PROXY-FIREWALL"
	ChainSourceRanges = "KUBE-SOURCE-RANGES-FIREWALL" // in filter; ours in mangle too
	ChainIPVSFilter   = "KUBE-IPVS-FILTER"
	ChainIPVSOut      = "KUBE-IPVS-OUT-FILTER"
)

// The chains that only kube-ipvs has.
const (
	ChainInside       = "KUBE-INSIDE"        // in nat, for clients in the cluster
	ChainAllEndpoints = "KUBE-ALL-ENDPOINTS" // in nat, behind ChainInside
	ChainOutput       = "KUBE-NODE-OUTPUT"   // in mangle
	ChainNoLocal      = "KUBE-NO-LOCAL"      // of older versions
	ChainTrial        = "KUBE-IPVS-TRIAL"    // to try rules in; a killed process leaves it behind
)

// The chains of other programs: of kube-proxy's iptables mode, and of kubelet.
const (
	ChainNodePorts        = "KUBE-NODEPORTS" // in nat for NodePorts, in filter for health checks
	ChainExternalServices = "KUBE-EXTERNAL-SERVICES"
	ChainProxyCanary      = "KUBE-PROXY-CANARY"
	ChainIPTablesHint     = "KUBE-IPTABLES-HINT"
	ChainKubeletCanary    = "KUBE-KUBELET-CANARY"
)

// For returns the name of a set for family f, by its IPv4 name. Two of the IPv6 names are longer than the kernel allows
// (IPSET_MAXNAMELEN, without the final NUL); like kube-proxy, For cuts them.
func (n SetName) For(f Family) SetName {
	if f == IPv4 {
		return n
	}
	const longest = 31
	name := "KUBE-6" + n[len("KUBE"):]
	return intern(name[:min(len(name), longest)])
}
