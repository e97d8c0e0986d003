// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"math"
	"net/netip"
	"strings"
	"testing"
)

func TestDefaultIsValid(t *testing.T) {
	if err := Default().Validate(); err != nil {
		t.Error(err)
	}
	if mark := Default().Mark(); mark != 0x4000 {
		t.Errorf("mark %#x, want kube-proxy's 0x4000", mark)
	}
}

// change is a change of the default configuration, and how the error begins; empty: valid.
type change struct {
	make func(*Config)
	want string
}

func TestValidateNamesTheField(t *testing.T) {
	for _, changes := range []map[string]change{changes(), networkChanges()} {
		for name, c := range changes {
			t.Run(name, func(t *testing.T) {
				cfg := Default()
				c.make(&cfg)
				err := cfg.Validate()
				if (err == nil) != (c.want == "") || err != nil && !strings.HasPrefix(err.Error(), c.want) {
					t.Errorf("got %v, want %q", err, c.want)
				}
			})
		}
	}
}

func changes() map[string]change {
	return map[string]change{
		"no scheduler":           {func(c *Config) { c.Scheduler = "" }, "Scheduler: empty"},
		"long scheduler":         {func(c *Config) { c.Scheduler = strings.Repeat("r", 16) }, "Scheduler: "},
		"scheduler of two words": {func(c *Config) { c.Scheduler = "r r" }, "Scheduler: "},
		"longest scheduler":      {func(c *Config) { c.Scheduler = strings.Repeat("r", 15) }, ""},
		"bit 31":                 {func(c *Config) { c.MasqueradeBit = 31 }, ""},
		"bit 32":                 {func(c *Config) { c.MasqueradeBit = 32 }, "MasqueradeBit: 32 is not in 0..31"},
		"no binding":             {func(c *Config) { c.VIPBinding = "" }, `VIPBinding: "" is none of address, route`},
		"routes":                 {func(c *Config) { c.VIPBinding = RouteBinding }, ""},
		"no sync period":         {func(c *Config) { c.SyncPeriod = 0 }, "SyncPeriod: 0s"},
		"negative drain":         {func(c *Config) { c.DrainTimeout = -1 }, "DrainTimeout: -1ns"},
		"no drain":               {func(c *Config) { c.DrainTimeout = 0 }, ""},
		"host name":              {func(c *Config) { c.Hostname = "ip-10-0-0-1.ec2.internal" }, ""},
		"host name in capitals":  {func(c *Config) { c.Hostname = "Node" }, "Hostname: "},
		"long host name":         {func(c *Config) { c.Hostname = strings.Repeat("n", 254) }, "Hostname: "},
		"unbounded requests":     {func(c *Config) { c.Client.QPS = -1 }, ""},
		"no number of requests":  {func(c *Config) { c.Client.QPS = float32(math.Inf(1)) }, "Client.QPS: "},
		"negative burst":         {func(c *Config) { c.Client.Burst = -1 }, "Client.Burst: -1 is below 0"},
		"no burst":               {func(c *Config) { c.Client.Burst = 0 }, "Client.Burst: 0 lets no request through, at 5 a second"},
		"no burst, no bound":     {func(c *Config) { c.Client.Burst, c.Client.QPS = 0, -1 }, ""},
		"served nowhere":         {func(c *Config) { c.Serving.Healthz, c.Serving.Metrics = netip.AddrPort{}, netip.AddrPort{} }, ""},
		"negative traffic":       {func(c *Config) { c.Serving.Traffic = -1 }, "Serving.Traffic: "},
		"no snapshot":            {func(c *Config) { c.Snapshot.MaxBytes = 0 }, "Snapshot.MaxBytes: 0 is not above 0"},
		"negative conntrack":     {func(c *Config) { c.Conntrack.UDPStream = -1 }, "Conntrack.UDPStream: -1ns is below 0"},
		"kept conntrack":         {func(c *Config) { c.Conntrack = Conntrack{} }, ""},
		"OOM score":              {func(c *Config) { c.OOMScoreAdj = -1001 }, "OOMScoreAdj: -1001 is not in -1000..1000"},
		"negative verbosity":     {func(c *Config) { c.Log.Verbosity = -1 }, "Log.Verbosity: "},
		"collecting for long":    {func(c *Config) { c.MinSyncPeriod = c.SyncPeriod + 1 }, "MinSyncPeriod: 30.000000001s is longer"},
		"collecting as long":     {func(c *Config) { c.MinSyncPeriod = c.SyncPeriod }, ""},
	}
}

// networkChanges are those of networks, addresses and interfaces.
func networkChanges() map[string]change {
	v4, v6 := netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00::/56")
	mapped := netip.MustParsePrefix("::ffff:10.0.0.0/104")
	cidrs := func(c *Config, p ...netip.Prefix) {
		c.LocalDetector = LocalDetector{Kind: DetectCIDR, CIDRs: p}
	}
	iface := func(c *Config, k DetectorKind, name string) {
		c.LocalDetector = LocalDetector{Kind: k, Interface: name}
	}
	return map[string]change{
		"a CIDR of each family": {func(c *Config) { cidrs(c, v6, v4) }, ""},
		"no CIDR":               {func(c *Config) { cidrs(c) }, ""},
		"two of a family":       {func(c *Config) { cidrs(c, v4, v6, v4) }, "LocalDetector.CIDRs[2]: 10.244.0.0/16 is the second"},
		"no CIDR at all":        {func(c *Config) { cidrs(c, netip.Prefix{}) }, "LocalDetector.CIDRs[0]: not a CIDR"},
		"IPv4 in IPv6":          {func(c *Config) { cidrs(c, mapped) }, "LocalDetector.CIDRs[0]: ::ffff:"},
		"bad NodePort network":  {func(c *Config) { c.NodePortAddresses = []netip.Prefix{v4, {}} }, "NodePortAddresses[1]: "},
		"two NodePort networks": {func(c *Config) { c.NodePortAddresses = []netip.Prefix{v4, v4} }, ""},
		"bad API server":        {func(c *Config) { c.APIServers = []netip.Addr{v4.Addr(), mapped.Addr()} }, "APIServers[1]: ::ffff:"},
		"no API server":         {func(c *Config) { c.APIServers = []netip.Addr{{}} }, "APIServers[0]: "},
		"link-local API server": {func(c *Config) { c.APIServers = []netip.Addr{netip.MustParseAddr("fe80::1%eth0")} }, "APIServers[0]: "},
		"bridge":                {func(c *Config) { iface(c, DetectBridge, "cni0.100") }, ""},
		"no bridge":             {func(c *Config) { iface(c, DetectBridge, "") }, "LocalDetector.Interface: empty"},
		"bridge that is a flag": {func(c *Config) { iface(c, DetectBridge, "-j") }, "LocalDetector.Interface: "},
		"two lines of a rule":   {func(c *Config) { iface(c, DetectBridge, "a\nb") }, "LocalDetector.Interface: "},
		"longest bridge":        {func(c *Config) { iface(c, DetectBridge, strings.Repeat("b", 15)) }, ""},
		"long prefix":           {func(c *Config) { iface(c, DetectPrefix, strings.Repeat("b", 15)) }, "LocalDetector.Interface: "},
		"prefix with plus":      {func(c *Config) { iface(c, DetectPrefix, "veth+") }, "LocalDetector.Interface: "},
		"unknown detector":      {func(c *Config) { iface(c, 9, "") }, "LocalDetector.Kind: 9"},
		"link-local node":       {func(c *Config) { c.BindAddress = netip.MustParseAddr("fe80::1%eth0") }, "BindAddress: "},
		"server without port":   {func(c *Config) { c.Client.Servers = []netip.AddrPort{netip.AddrPortFrom(v4.Addr(), 0)} }, "Client.Servers[0]: "},
		"served at no port":     {func(c *Config) { c.Serving.Metrics = netip.AddrPortFrom(v6.Addr(), 0) }, "Serving.Metrics: "},
	}
}

func TestValidateNamesAllFields(t *testing.T) {
	err := Config{MasqueradeBit: 40}.Validate()
	if err == nil {
		t.Fatal("valid")
	}
	for _, field := range []string{"Scheduler", "MasqueradeBit", "SyncPeriod"} {
		if !strings.Contains(err.Error(), field+": ") {
			t.Errorf("%s is not in: %v", field, err)
		}
	}
}

func TestKernel(t *testing.T) {
	for _, c := range []struct {
		release string
		want    Kernel
		delays  bool
	}{
		{"6.1.0-13-amd64", Kernel{Major: 6, Minor: 1}, false},
		{"5.9.0", Kernel{Major: 5, Minor: 9}, false},
		{"5.8.18-300.fc33.x86_64", Kernel{Major: 5, Minor: 8}, true},
		{"4.18.0-553.el8_10.x86_64", Kernel{Major: 4, Minor: 18}, true},
		{"4.1", Kernel{Major: 4, Minor: 1}, true},
		{"4.0.9", Kernel{Major: 4, Minor: 0}, false},
		{"3.10.0-1160.el7.x86_64", Kernel{Major: 3, Minor: 10}, false},
	} {
		k, err := ParseKernel(c.release)
		if err != nil || k != c.want || k.DelaysReuse() != c.delays {
			t.Errorf("%s: %v, %v, delays %v; want %v, %v", c.release, k, err, k.DelaysReuse(), c.want, c.delays)
		}
	}
	for _, bad := range []string{"", "six", "6", "6.x"} {
		if k, err := ParseKernel(bad); err == nil {
			t.Errorf("%q is read as %v", bad, k)
		}
	}
	if (Kernel{}).Before(99, 0) || (Kernel{}).DelaysReuse() {
		t.Error("an unknown kernel is an old one")
	}
}

func FuzzParseKernel(f *testing.F) {
	f.Add("6.1.0-13-amd64")
	f.Add("4.18")
	f.Add("5.10+")
	f.Fuzz(func(t *testing.T, release string) {
		k, err := ParseKernel(release)
		if err != nil {
			return
		}
		again := fmt.Sprintf("%d.%d", k.Major, k.Minor)
		if back, err := ParseKernel(again); err != nil || back != k || k.Major < 0 || k.Minor < 0 {
			t.Errorf("release %q is version %+v, and %q is %+v, %v", release, k, again, back, err)
		}
	})
}
