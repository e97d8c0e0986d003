// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/kube-ipvs/kube-ipvs/internal/render"
)

// clusterYAML is a small cluster: two nodes, and Services of many kinds.
const clusterYAML = `
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Node
  metadata: {name: n1, labels: {topology.kubernetes.io/zone: a}}
  status: {addresses: [{type: InternalIP, address: 192.0.2.1}, {type: InternalIP, address: "2001:db8::1"}]}
- apiVersion: v1
  kind: Node
  metadata: {name: n2}
  status: {addresses: [{type: InternalIP, address: 192.0.2.2}, {type: Hostname, address: n2}]}
- apiVersion: v1
  kind: Service
  metadata: {name: web, namespace: shop, creationTimestamp: "2026-01-02T00:00:00Z"}
  spec:
    type: LoadBalancer
    externalTrafficPolicy: Local
    healthCheckNodePort: 31000
    clusterIP: 10.96.0.80
    clusterIPs: [10.96.0.80, "fd00:96::80"]
    ipFamilies: [IPv4, IPv6]
    externalIPs: [192.0.2.2, 198.51.100.7, nonsense]
    loadBalancerSourceRanges: [203.0.113.0/24]
    ports: [{name: http, port: 80, nodePort: 30080}, {name: quic, port: 443, protocol: UDP, nodePort: 30443}]
  status: {loadBalancer: {ingress: [{ip: 198.51.100.1}]}}
- apiVersion: v1
  kind: Service
  metadata: {name: rival, namespace: shop, creationTimestamp: "2026-01-03T00:00:00Z"}
  spec:
    clusterIP: 10.96.0.81
    externalIPs: [198.51.100.7]
    ports: [{port: 80}]
- apiVersion: v1
  kind: Service
  metadata: {name: gone, namespace: shop}
  spec: {type: ExternalName, externalName: example.org}
- apiVersion: v1
  kind: Service
  metadata: {name: sctp, namespace: shop, annotations: {kube-ipvs.io/scheduler: mh}}
  spec:
    clusterIP: 10.96.0.82
    type: NodePort
    sessionAffinity: ClientIP
    ports: [{port: 80, protocol: SCTP, nodePort: 30082}]
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
  addressType: IPv4
  endpoints: [{addresses: [10.244.1.10], nodeName: n1}, {addresses: [10.244.2.10], nodeName: n2}]
  ports: [{name: http, port: 8080}, {name: quic, port: 8443, protocol: UDP}]
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  metadata: {name: sctp-1, namespace: shop, labels: {kubernetes.io/service-name: sctp}}
  addressType: IPv4
  endpoints: [{addresses: [10.244.1.11], nodeName: n1}]
  ports: [{port: 8080, protocol: SCTP}]
`

func planned(t *testing.T, manifests, flags string) (status int, stdout, stderr string) {
	t.Helper()
	w := newWorld()
	w.env.Stdin = strings.NewReader(manifests)
	return w.run(t, "plan -f - "+flags)
}

func wantPlanned(t *testing.T, manifests, flags string) (stdout, stderr string) {
	t.Helper()
	status, stdout, stderr := planned(t, manifests, flags)
	if status != ExitOK {
		t.Fatalf("%s: status %d, stderr %q", flags, status, stderr)
	}
	return stdout, stderr
}

func TestPlanSaysWhatIsLeftOutAndWhy(t *testing.T) {
	_, stderr := wantPlanned(t, clusterYAML, "--node n1")
	want := `shop/gone: SkippedService spec.type: an ExternalName is for DNS alone
shop/gone: SkippedService spec.clusterIP: the Service has no cluster IP
shop/web: InvalidAddress spec.externalIPs[2]: "nonsense" is not an IP address
shop/web: ProtectedAddress spec.externalIPs[0]: 192.0.2.2 is the address of node n2; not served there
shop/rival: Conflict: TCP 198.51.100.7:80 is served by shop/web, which is older or comes first by name
`
	if d := cmp.Diff(want, stderr); d != "" {
		t.Errorf("notes (-want +got):\n%s", d)
	}
}

func TestPlanAsTextIsAStateOfOneNode(t *testing.T) {
	for flags, want := range map[string][]string{
		"--node n1 --firewall nftables":                 {"nft:KUBE-INSIDE = map:ip,port:port IPv4 comment", "nft:KUBE-CLUSTER-IP 10.96.0.80,tcp:80", "IPv4 nft-nat KUBE-SERVICES", "IPv4 nft-nat OUTPUT -> KUBE-SERVICES", "!  KUBE-"},
		"--node n1":                                     {"TCP 198.51.100.1:80 -> 10.244.1.10:8080", "TCP 192.0.2.1:30080 -> 10.244.1.10:8080", "!TCP 198.51.100.1:80 -> 10.244.2.10:8080", "!TCP 192.0.2.2"},
		"--node n2":                                     {"TCP 198.51.100.1:80 -> 10.244.2.10:8080", "TCP 192.0.2.2:30080 -> 10.244.2.10:8080", "!TCP 192.0.2.1"},
		"--node n1 --node-addresses 192.0.2.9":          {"TCP 192.0.2.9:30080 = rr", "TCP 192.0.2.1:30080 = rr"},
		"--node n1 --api-server-addresses 198.51.100.7": {"!TCP 198.51.100.7:80"},
		"--node n1 --nodeport-addresses 10.0.0.0/8":     {"!TCP 192.0.2.1:30080"},
		"--node n1 --ipvs-scheduler wlc":                {"TCP 198.51.100.1:80 = wlc", "SCTP 10.96.0.82:80 = mh"},
		"--node n1 --answer-ping":                       {"--icmp-type 8"},
		"--node n1 --ipvs-udp-timeout 90s":              {"ipvs/timeout/udp = 90"},
	} {
		stdout, _ := wantPlanned(t, clusterYAML, flags)
		for _, line := range want {
			absent := strings.HasPrefix(line, "!")
			if strings.Contains(stdout, strings.TrimPrefix(line, "!")) == absent {
				t.Errorf("%s: %q, in\n%s", flags, line, stdout)
			}
		}
		s, err := render.ParseState(strings.NewReader(stdout))
		if err != nil || len(s.VirtualServers) == 0 {
			t.Errorf("%s: read back: %v", flags, err)
		}
	}
}

func TestPlanForProgramsHasTheNotesAndTheSameRows(t *testing.T) {
	text, _ := wantPlanned(t, clusterYAML, "--node n1")
	s, err := render.ParseState(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	asJSON, stderr := wantPlanned(t, clusterYAML, "--node n1 -o json")
	asYAML, _ := wantPlanned(t, clusterYAML, "--node n1 -o yaml")
	var p, q render.Plan
	if err := json.Unmarshal([]byte(asJSON), &p); err != nil || stderr != "" {
		t.Fatalf("%v, stderr %q", err, stderr)
	}
	if err := yaml.UnmarshalStrict([]byte(asYAML), &q); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(p, q); d != "" {
		t.Errorf("JSON and YAML differ:\n%s", d)
	}
	if p.Kind != "Plan" || p.APIVersion != "kube-ipvs/v1" || p.Node != "n1" || len(p.Notes) != 5 {
		t.Errorf("%s %s of %s with %d notes", p.APIVersion, p.Kind, p.Node, len(p.Notes))
	}
	reals := 0
	for _, v := range p.VirtualServers {
		reals += len(v.RealServers)
	}
	got := []int{len(p.Sysctls), len(p.Sets), len(p.Entries), len(p.Chains), len(p.Jumps), len(p.Links), len(p.VirtualServers), reals, len(p.Addresses)}
	want := []int{len(s.Sysctls), len(s.Sets), len(s.Entries), len(s.Chains), len(s.Jumps), len(s.Links), len(s.VirtualServers), len(s.RealServers), len(s.Addresses)}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("numbers of rows (-text +JSON):\n%s", d)
	}
	for _, v := range p.VirtualServers {
		if v.Mark == 0 && !strings.HasPrefix(v.Service, "shop/") {
			t.Errorf("%s:%d is of Service %q", v.Address, v.Port, v.Service)
		}
	}
}

func TestSavedSectionsAreWhatEachToolGets(t *testing.T) {
	all, _ := wantPlanned(t, clusterYAML, "--node n1 -o save")
	var joined string
	for _, tool := range []string{"sysctl", "ipset", "iptables", "ip6tables", "ipvsadm", "ip"} {
		one, stderr := wantPlanned(t, clusterYAML, "--node n1 -o "+tool)
		joined += "# -o " + tool + "\n" + one
		if one == "" || !strings.Contains(stderr, "shop/rival: Conflict") {
			t.Errorf("-o %s: stdout %q, stderr %q", tool, one, stderr)
		}
	}
	if d := cmp.Diff(joined, all); d != "" {
		t.Errorf("-o save is not all of them:\n%s", d)
	}
	all, _ = wantPlanned(t, clusterYAML, "--node n1 --firewall nftables -o save")
	joined = ""
	for _, tool := range []string{"sysctl", "nft", "ipvsadm", "ip"} {
		one, _ := wantPlanned(t, clusterYAML, "--node n1 --firewall nftables -o "+tool)
		joined += "# -o " + tool + "\n" + one
	}
	if d := cmp.Diff(joined, all); d != "" {
		t.Errorf("-o save is not all of them, in nftables:\n%s", d)
	}
}

func TestAnOutputOfTheOtherFirewallSaysWhichOneItIs(t *testing.T) {
	for flags, want := range map[string]string{
		"--firewall iptables -o nft":       "-o nft: the firewall is iptables (--firewall): see -o ipset, -o iptables and -o ip6tables",
		"--firewall nftables -o ipset":     "-o ipset: the firewall is nftables (--firewall): see -o nft",
		"--firewall nftables -o iptables":  "-o iptables: the firewall is nftables (--firewall): see -o nft",
		"--firewall nftables -o ip6tables": "-o ip6tables: the firewall is nftables (--firewall): see -o nft",
	} {
		status, stdout, stderr := planned(t, clusterYAML, "--node n1 "+flags)
		if status != ExitUsage || stdout != "" || !strings.HasPrefix(stderr, "kube-ipvs: "+want+"\n") {
			t.Errorf("%s: status %d, stdout %q, stderr %q", flags, status, stdout, stderr)
		}
	}
	byChoice, _ := wantPlanned(t, clusterYAML, "--node n1 --firewall nftables -o nft")
	if byOutput, _ := wantPlanned(t, clusterYAML, "--node n1 -o nft"); byOutput != byChoice {
		t.Errorf("with auto, -o nft prints\n%s", byOutput)
	}
	for _, line := range []string{
		"table ip kube-ipvs {\n", "table ip6 kube-ipvs {\n",
		"\tset KUBE-CLUSTER-IP {\n\t\ttype ipv4_addr . inet_proto . inet_service\n\t\telements = { 10.96.0.80 . tcp . 80 comment \"shop/web:http\",\n",
		"\tmap KUBE-INSIDE {\n\t\ttype ipv4_addr . inet_proto . inet_service : inet_service\n\t\telements = { 198.51.100.1 . tcp . 80 comment \"shop/web:http\" : 32849,\n",
		"\t\tflags interval\n", " . 203.0.113.0/24 comment \"shop/web:http\"",
		"\tchain nat-OUTPUT {\n\t\ttype nat hook output priority -101; policy accept;\n\t\tjump nat-KUBE-SERVICES comment \"kubernetes service portals\"\n\t}\n",
	} {
		if !strings.Contains(byChoice, line) {
			t.Errorf("no %q in\n%s", line, byChoice)
		}
	}
}

func TestWhichNodeIsMeant(t *testing.T) {
	node := func(name string) string { return "---\napiVersion: v1\nkind: Node\nmetadata: {name: " + name + "}\n" }
	many := ""
	for _, name := range strings.Fields("a b c d e f g h i j k l") {
		many += node(name)
	}
	for _, c := range []struct {
		manifests, flags string
		status           int
		want             string
	}{
		{node("n1"), "-o json", ExitOK, `"node": "n1"`},
		{node("n1"), "-o json --node n1", ExitOK, `"node": "n1"`},
		{"", "-o json --node n1", ExitOK, `"node": "n1"`},
		{"", "", ExitOK, "NoNodeAddress: no address of the node is known (--node-addresses): NodePorts are left out"},
		{node("n1"), "--node n2", ExitFailed, `--node: there is no Node "n2", but n1`},
		{node("n1") + node("n2"), "", ExitFailed, "--node is missing: there are n1, n2"},
		{many, "", ExitFailed, "--node is missing: there are a, b, c, d, e, f, g, h, i, j and 2 more"},
	} {
		status, stdout, stderr := planned(t, c.manifests, c.flags)
		if status != c.status || !strings.Contains(stdout+stderr, c.want) {
			t.Errorf("%q: status %d, stderr %q, stdout %.200q, want %d and %q", c.flags, status, stderr, stdout, c.status, c.want)
		}
	}
}

func TestPlanNamesWhatCannotBeReadByFileAndLine(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "a.yaml")
	if err := os.WriteFile(name, []byte("apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec:\n  ports: [{port: x}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := newWorld()
	status, stdout, stderr := w.run(t, "plan -f "+dir+" -f none.yaml")
	want := "kube-ipvs: " + name + `:5: Service default/web: spec.ports[0].port: expected number, got string "x"` + "\n" +
		"none.yaml: cannot be read: open none.yaml: no such file or directory\n"
	if status != ExitFailed || stdout != "" || stderr != want {
		t.Errorf("status %d, stdout %q, stderr %q, want %q", status, stdout, stderr, want)
	}
	for line, want := range map[string]string{
		"plan":                         "kube-ipvs: -f is missing",
		"plan -f - -o xml":             `kube-ipvs: output "xml" is none of text, json,`,
		"plan -f - --ipvs-scheduler=-": `kube-ipvs: --ipvs-scheduler: "-" is not a name`,
		"plan -f - --node-addresses=x": `for "--node-addresses" flag: "x" is not an IP address`,
	} {
		w.env.Stdin = strings.NewReader("")
		if status, _, stderr := w.run(t, line); status != ExitUsage || !strings.Contains(stderr, want) {
			t.Errorf("%s: status %d, stderr %q, want %q", line, status, stderr, want)
		}
	}
}

func TestProblemsThatBreakNoFileAreNotes(t *testing.T) {
	const manifest = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {clusterIP: None, typo: 1}\n"
	_, stderr := wantPlanned(t, manifest, "--node-addresses 192.0.2.1")
	for _, want := range []string{"Manifest: stdin:4: Service default/web: spec.typo: unknown field\n", "default/web: SkippedService spec.clusterIP: the Service is headless\n"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("stderr %q, want %q", stderr, want)
		}
	}
}

// A Service whose address two older ones claim gets one note, about the one that won.
func TestAConflictIsToldOfItsLoserOnly(t *testing.T) {
	service := func(name, created string) string {
		return "---\napiVersion: v1\nkind: Service\nmetadata: {name: " + name + ", creationTimestamp: \"" + created + "\"}\n" +
			"spec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}\n"
	}
	manifests := service("a", "2026-01-03T00:00:00Z") + service("b", "2026-01-01T00:00:00Z") + service("c", "2026-01-02T00:00:00Z")
	_, stderr := wantPlanned(t, manifests, "--node-addresses 192.0.2.1")
	want := `default/c: Conflict: TCP 10.96.0.1:80 is served by default/b, which is older or comes first by name
default/a: Conflict: TCP 10.96.0.1:80 is served by default/b, which is older or comes first by name
`
	if d := cmp.Diff(want, stderr); d != "" {
		t.Errorf("notes (-want +got):\n%s", d)
	}
}

func FuzzPlan(f *testing.F) {
	f.Add(clusterYAML)
	f.Add("{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}}")
	f.Add("apiVersion: v1\nkind: Node\nmetadata: {name: n1}\nstatus: {addresses: [{type: InternalIP, address: x}]}\n")
	place := regexp.MustCompile(`^kube-ipvs: (stdin:\d+: |stdin: |--node is missing: )`)
	f.Fuzz(func(t *testing.T, manifests string) {
		for _, o := range namesOf(planOutputs()) {
			status, stdout, stderr := planned(t, manifests, "--node-addresses 192.0.2.1,2001:db8::1 -o "+o)
			if status != ExitOK {
				if status != ExitFailed || !place.MatchString(stderr) {
					t.Fatalf("-o %s: status %d, stderr %q", o, status, stderr)
				}
				return
			}
			checkOutput(t, o, stdout)
		}
	})
}

func checkOutput(t *testing.T, output, text string) {
	t.Helper()
	switch output {
	case "text":
		s, err := render.ParseState(strings.NewReader(text))
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		var again strings.Builder
		if err := render.State(&again, s); err != nil || again.String() != text {
			t.Fatalf("read back it is\n%s", again.String())
		}
	case "json":
		if !json.Valid([]byte(text)) {
			t.Fatalf("no JSON:\n%s", text)
		}
	case "ipvsadm":
		timeouts, servers, _ := strings.Cut(text, "\n")
		if !strings.HasPrefix(timeouts, "--set ") {
			t.Fatalf("no timeouts in\n%s", text)
		}
		mustBeIpvsadms(t, servers)
	}
}

// mustBeIpvsadms fails unless each line is one that ipvsadm --restore reads, and real servers follow their virtual server.
func mustBeIpvsadms(t *testing.T, servers string) {
	t.Helper()
	const key = `(-t \S+:\d+|-u \S+:\d+|--sctp-service \S+:\d+|-f \d+(?: -6)?)`
	virtual := regexp.MustCompile(`^-A ` + key + ` -s [a-z]+( -p \d+( -M \S+)?)?( --pe \w+)?( -o)?( -b [a-z0-9,-]+)?$`)
	real := regexp.MustCompile(`^-a ` + key + ` -r \S+:\d+ -[mig] -w \d+( -x \d+)?( -y \d+)?( --tun-type ipip)?$`)
	seen := map[string]bool{}
	var last string
	for line := range strings.Lines(servers) {
		line = strings.TrimSuffix(line, "\n")
		if v := virtual.FindStringSubmatch(line); v != nil {
			last = v[1]
		} else if r := real.FindStringSubmatch(line); r == nil || r[1] != last {
			t.Fatalf("line %q in\n%s", line, servers)
		}
		if seen[line] {
			t.Fatalf("line %q is there twice in\n%s", line, servers)
		}
		seen[line] = true
	}
}
