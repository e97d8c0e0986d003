// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
)

// parseAddr reads an address as older versions of the API server do: with leading zeros in IPv4 ("10.180.00.001",
// decimal), which netip refuses. An IPv4 address in IPv6 form is the IPv4 address.
func parseAddr(s string) (netip.Addr, error) {
	a, err := parseForm(s)
	return a.Unmap(), err
}

// parseForm is parseAddr, but keeps the IPv6 form of an IPv4 address.
func parseForm(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		a, err = netip.ParseAddr(withoutZeros(s))
	}
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, fmt.Errorf("%.64q is not an IP address", s)
	}
	return a, nil
}

// parsePrefix reads a network as leniently as parseAddr: with blanks around it, and with bits behind its length. The
// length counts from the first bit as written: an IPv4 network in IPv6 form has 96 bits more.
func parsePrefix(s string) (netip.Prefix, error) {
	text, length, found := strings.Cut(strings.TrimSpace(s), "/")
	a, err := parseForm(text)
	bits, badBits := strconv.Atoi(length)
	if a.Is4In6() {
		a, bits = a.Unmap(), bits-96
	}
	if !found || err != nil || badBits != nil || bits < 0 || bits > a.BitLen() {
		return netip.Prefix{}, fmt.Errorf("%.64q is not a network such as 192.0.2.0/24", s)
	}
	return netip.PrefixFrom(a, bits).Masked(), nil
}

func withoutZeros(s string) string {
	parts := strings.Split(s, ".")
	for i, p := range parts {
		if parts[i] = strings.TrimLeft(p, "0"); p != "" && parts[i] == "" {
			parts[i] = "0"
		}
	}
	return strings.Join(parts, ".")
}

// checkFrontend returns why no Service can have address a. Link-local IPv4 addresses are fine: some clusters have their
// Services there.
func checkFrontend(a netip.Addr) error {
	switch {
	case a.IsUnspecified():
		return fmt.Errorf("%v is unspecified", a)
	case a.IsLoopback():
		return fmt.Errorf("%v is a loopback address", a)
	case a.IsMulticast():
		return fmt.Errorf("%v is a multicast address", a)
	case a.Is6() && a.IsLinkLocalUnicast():
		return fmt.Errorf("%v is a link-local address", a)
	case a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return fmt.Errorf("%v is the broadcast address", a)
	}
	return nil
}

// checkEndpoint returns why no endpoint can have address a. The API server refuses the same ones, so that no Service
// can reach into the node (CVE-2021-25737).
func checkEndpoint(a netip.Addr) error {
	if a.IsLinkLocalUnicast() {
		return fmt.Errorf("%v is a link-local address", a)
	}
	return checkFrontend(a)
}

// parseProtocol takes an empty protocol for TCP: objects from files lack the API server's defaults.
func parseProtocol(p corev1.Protocol) (state.Protocol, error) {
	switch p {
	case corev1.ProtocolTCP, "":
		return state.TCP, nil
	case corev1.ProtocolUDP:
		return state.UDP, nil
	case corev1.ProtocolSCTP:
		return state.SCTP, nil
	}
	return 0, fmt.Errorf("%.64q is none of TCP, UDP, SCTP", p)
}

func parsePort(n int32) (uint16, bool) {
	if n < 1 || n > 65535 {
		return 0, false
	}
	return uint16(n), true
}

// maxComment is the kernel's IPSET_MAX_COMMENT_SIZE.
const maxComment = 255

// comment names a Service, or one port of it, in a set entry. Names from the API server are short and plain. In others,
// an underscore replaces what ipset could not save and restore.
func comment(namespace, name, port string) string {
	s := namespace + "/" + name
	if port != "" {
		s += ":" + port
	}
	s = strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' || r == '"' || r == '\\' {
			return '_'
		}
		return r
	}, s)
	return s[:min(len(s), maxComment)]
}

// maxNotes bounds the events and log lines of one broken object.
const maxNotes = 32

// notes collects the notes of a fragment.
type notes struct {
	list []state.Note
	more int
}

func (n *notes) add(r state.Reason, field, format string, args ...any) {
	if len(n.list) == maxNotes {
		n.more++
		return
	}
	n.list = append(n.list, state.Note{Reason: r, Field: field, Message: fmt.Sprintf(format, args...)})
}

func (n *notes) all() []state.Note {
	if n.more == 0 {
		return n.list
	}
	return append(n.list, state.Note{
		Reason: state.TooLong, Message: fmt.Sprintf("%d more of such notes", n.more),
	})
}

// labelProxyName gives a Service to another proxy, with any value.
const labelProxyName = "service.kubernetes.io/service-proxy-name"

// skip reports whether the whole Service is not for us, and notes why.
func (n *notes) skip(s *corev1.Service) bool {
	before := len(n.list)
	if proxy, ok := s.Labels[labelProxyName]; ok {
		n.add(state.SkippedService, "metadata.labels", "the Service is for the proxy %.64q", proxy)
	}
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		n.add(state.SkippedService, "spec.type", "an ExternalName is for DNS alone")
	}
	switch s.Spec.ClusterIP {
	case corev1.ClusterIPNone:
		n.add(state.SkippedService, "spec.clusterIP", "the Service is headless")
	case "":
		n.add(state.SkippedService, "spec.clusterIP", "the Service has no cluster IP")
	}
	return len(n.list) > before
}
