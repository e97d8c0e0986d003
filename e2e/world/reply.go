// SPDX-License-Identifier: Apache-2.0

package world

import (
	"fmt"
	"net/netip"
	"strings"
)

// Reply is a server's answer.
type Reply struct {
	// Server is the name of the host that answered.
	Server string
	// Client is the client's address as the server saw it.
	Client netip.AddrPort
}

// String returns the reply as it is sent: "pod-a 10.244.1.12:40112".
func (r Reply) String() string { return r.Server + " " + r.Client.String() }

// ParseReply reads what String wrote, with or without a line's end.
func ParseReply(s string) (Reply, error) {
	name, client, ok := strings.Cut(strings.TrimSuffix(s, "\n"), " ")
	if !ok || name == "" {
		return Reply{}, fmt.Errorf("parse reply %q: want a name and an address", s)
	}
	a, err := netip.ParseAddrPort(client)
	if err != nil {
		return Reply{}, fmt.Errorf("parse reply %q: %w", s, err)
	}
	return Reply{Server: name, Client: a}, nil
}
