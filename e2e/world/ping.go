// SPDX-License-Identifier: Apache-2.0

package world

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// Types of ICMP and ICMPv6 messages.
const (
	echoRequest, echoReply     = 8, 0
	echoRequestV6, echoReplyV6 = 128, 129
)

// Ping sends one echo request and waits for the answer. The error is ECONNREFUSED for an ICMP error "unreachable".
func (h *Host) Ping(ctx context.Context, to netip.Addr) error {
	if err := h.Do(func() error { return ping(ctx, to) }); err != nil {
		return fmt.Errorf("ping %v from %s: %w", to, h.Name, err)
	}
	return nil
}

func ping(ctx context.Context, to netip.Addr) error {
	network, request, reply := "ip4:icmp", byte(echoRequest), byte(echoReply)
	if to.Is6() {
		network, request, reply = "ip6:ipv6-icmp", echoRequestV6, echoReplyV6
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, to.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(patience)
	}
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	if _, err := conn.Write(echo(request, to)); err != nil {
		return err
	}
	// A host that pings itself also reads its own request.
	answer := make([]byte, 512)
	for {
		n, _, err := conn.(*net.IPConn).ReadFromIP(answer)
		if err != nil {
			return err
		}
		if n > 0 && answer[0] == reply {
			return nil
		}
	}
}

// echo returns a request without content. The kernel fills in the checksum of ICMPv6.
func echo(request byte, to netip.Addr) []byte {
	const identifier, sequence = 0x4b, 1
	message := []byte{request, 0, 0, 0, 0, identifier, 0, sequence}
	if to.Is4() {
		sum := ^(uint16(request)<<8 + identifier + sequence)
		message[2], message[3] = byte(sum>>8), byte(sum)
	}
	return message
}
