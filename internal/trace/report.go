// SPDX-License-Identifier: Apache-2.0

package trace

import "github.com/kube-ipvs/kube-ipvs/internal/state"

// The header of a Report. New fields may appear. Existing ones change only with another version.
const (
	ReportVersion = "kube-ipvs/v1"
	ReportKind    = "PacketTrace"
)

// Report is a Verdict for programs, as JSON or YAML. Fields that do not apply are absent; lists are never null.
type Report struct {
	APIVersion string `json:"apiVersion"` // ReportVersion
	Kind       string `json:"kind"`       // ReportKind

	Source        string `json:"source,omitempty"`     // an address; absent if it is not known
	SourcePort    uint16 `json:"sourcePort,omitempty"` // absent: any
	Destination   string `json:"destination"`
	Port          uint16 `json:"port,omitempty"`
	Protocol      string `json:"protocol"` // TCP, UDP, SCTP, ICMP
	FromNode      bool   `json:"fromNode"` // the node itself sent it
	Fate          string `json:"fate"`     // served, refused, dropped, host, forwarded
	By            string `json:"by"`       // what decided: a rule, IPVS, routing
	Sentence      string `json:"sentence"`
	Service       string `json:"service,omitempty"`       // namespace/name:port
	VirtualServer string `json:"virtualServer,omitempty"` // as ipvsadm lists it: TCP 10.96.0.1:443, FWM 256
	Resting       int    `json:"restingRealServers"`      // those of weight 0
	Masqueraded   bool   `json:"masqueraded"`             // all endpoints see an address of this node as the source

	Endpoints []ReportEndpoint `json:"endpoints"` // by address
	Steps     []ReportStep     `json:"steps"`
	Doubts    []string         `json:"doubts"`
}

// ReportEndpoint is an endpoint that may get the packet.
type ReportEndpoint struct {
	Address     string `json:"address"`
	Port        uint16 `json:"port"`
	Weight      uint32 `json:"weight"`
	Forward     string `json:"forward"`     // Masq, Local, Tunnel, Route, Bypass
	Masqueraded bool   `json:"masqueraded"` // it sees an address of this node
	Fate        string `json:"fate"`        // of the packet on the way to it
}

// ReportStep is something that happened on the path.
type ReportStep struct {
	At   string   `json:"at"`
	Text string   `json:"text"`
	Rule string   `json:"rule,omitempty"`
	Only []string `json:"only,omitempty"` // endpoints; absent: all
}

// ReportOf returns v for programs.
func ReportOf(v Verdict) Report {
	p := v.Packet
	r := Report{
		APIVersion: ReportVersion, Kind: ReportKind,
		SourcePort: p.Source.Port(), Destination: p.Destination.Addr().String(), Port: p.Destination.Port(),
		Protocol: p.Protocol.String(), FromNode: v.Node,
		Fate: v.Fate.String(), By: v.By, Sentence: v.Sentence(), Service: v.Service,
		Resting: v.Resting, Masqueraded: v.Masqueraded,
		Endpoints: make([]ReportEndpoint, len(v.Endpoints)),
		Steps:     make([]ReportStep, len(v.Steps)),
		Doubts:    append([]string{}, v.Doubts...),
	}
	if p.Source.Addr().IsValid() {
		r.Source = p.Source.Addr().String()
	}
	if p.Protocol == Ping {
		r.Protocol = "ICMP"
	}
	if v.Server != (state.VirtualServerKey{}) {
		r.VirtualServer = v.Server.String()
	}
	for i, e := range v.Endpoints {
		r.Endpoints[i] = ReportEndpoint{
			Address: e.Address.Addr().String(), Port: e.Address.Port(), Weight: e.Weight,
			Forward: e.Method.String(), Masqueraded: e.Masqueraded, Fate: e.Fate.String(),
		}
	}
	for i, s := range v.Steps {
		r.Steps[i] = ReportStep{At: s.At, Text: s.Text, Rule: s.Rule}
		for _, e := range s.Only {
			r.Steps[i].Only = append(r.Steps[i].Only, e.String())
		}
	}
	return r
}
