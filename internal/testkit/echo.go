// SPDX-License-Identifier: Apache-2.0

package testkit

import (
	"net"
	"net/netip"
	"testing"
)

// Echo answers UDP packets at a loopback address, and returns where.
func Echo(t *testing.T) netip.AddrPort {
	t.Helper()
	server, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	go func() {
		packet := make([]byte, 2000)
		for {
			n, from, err := server.ReadFromUDPAddrPort(packet)
			if err != nil {
				return
			}
			if _, err := server.WriteToUDPAddrPort(packet[:n], from); err != nil {
				return
			}
		}
	}()
	return server.LocalAddr().(*net.UDPAddr).AddrPort()
}
