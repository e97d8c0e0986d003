// SPDX-License-Identifier: Apache-2.0

package file

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// values are the objects of c without where they are.
func values(c contents) []any {
	var all []any
	for _, o := range c.objects {
		switch {
		case o.service != nil:
			all = append(all, o.service)
		case o.slice != nil:
			all = append(all, o.slice)
		default:
			all = append(all, o.node)
		}
	}
	return all
}

// printed are the objects of c as a List in JSON.
func printed(t *testing.T, c contents) []byte {
	t.Helper()
	list, err := json.MarshalIndent(map[string]any{"apiVersion": "v1", "kind": "List", "items": values(c)}, "", "    ")
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// problems returns the problems of c as texts.
func problems(name string, c contents) []string {
	var texts []string
	for _, err := range capped(name, slices.Concat(c.errors, c.notes)) {
		texts = append(texts, err.Error())
	}
	return texts
}

const minimal = `apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  clusterIP: 10.96.0.1
  ports:
  - port: 80
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: web-1
  labels: {kubernetes.io/service-name: web}
addressType: IPv4
endpoints:
- addresses: [10.244.1.10]
ports:
- port: 8080
`

func TestFieldsThatAreLeftOutAreFilledInAsByTheAPIServer(t *testing.T) {
	c := parse("web.yaml", []byte(minimal))
	if len(c.errors)+len(c.notes) > 0 || len(c.objects) != 2 {
		t.Fatalf("contents are %+v", c)
	}
	service := &corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: "10.96.0.1", ClusterIPs: []string{"10.96.0.1"},
			IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}, SessionAffinity: corev1.ServiceAffinityNone,
			InternalTrafficPolicy: new(corev1.ServiceInternalTrafficPolicyCluster),
			Ports:                 []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP}},
		},
	}
	slice := &discoveryv1.EndpointSlice{
		TypeMeta: metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web-1",
			Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{"10.244.1.10"}}},
		Ports:       []discoveryv1.EndpointPort{{Name: new(""), Port: new(int32(8080)), Protocol: new(corev1.ProtocolTCP)}},
	}
	if d := cmp.Diff([]any{service, slice}, values(c)); d != "" {
		t.Errorf("objects (-want +got):\n%s", d)
	}
}

func TestServiceDefaultsDependOnWhatIsThere(t *testing.T) {
	cluster, local := corev1.ServiceExternalTrafficPolicyCluster, corev1.ServiceExternalTrafficPolicyLocal
	both := []corev1.IPFamily{corev1.IPv6Protocol, corev1.IPv4Protocol}
	for name, test := range map[string]struct {
		in  corev1.ServiceSpec
		got func(corev1.ServiceSpec) any
		out any
	}{
		"clusterIP from clusterIPs": {corev1.ServiceSpec{ClusterIPs: []string{"fd00::1", "10.0.0.1"}},
			func(s corev1.ServiceSpec) any { return s.ClusterIP }, "fd00::1"},
		"families from clusterIPs": {corev1.ServiceSpec{ClusterIPs: []string{"fd00::1", "10.0.0.1"}},
			func(s corev1.ServiceSpec) any { return s.IPFamilies }, both},
		"families that are there": {corev1.ServiceSpec{ClusterIP: "10.0.0.1", IPFamilies: both},
			func(s corev1.ServiceSpec) any { return s.IPFamilies }, both},
		"no families of a headless Service": {corev1.ServiceSpec{ClusterIP: "None"},
			func(s corev1.ServiceSpec) any { return s.IPFamilies }, []corev1.IPFamily(nil)},
		"affinity timeout": {corev1.ServiceSpec{SessionAffinity: corev1.ServiceAffinityClientIP},
			func(s corev1.ServiceSpec) any { return *s.SessionAffinityConfig.ClientIP.TimeoutSeconds }, int32(10800)},
		"no affinity, no timeout": {corev1.ServiceSpec{},
			func(s corev1.ServiceSpec) any { return s.SessionAffinityConfig }, (*corev1.SessionAffinityConfig)(nil)},
		"external policy of a NodePort": {corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort},
			func(s corev1.ServiceSpec) any { return s.ExternalTrafficPolicy }, cluster},
		"external policy with external IPs": {corev1.ServiceSpec{ExternalIPs: []string{"192.0.2.9"}},
			func(s corev1.ServiceSpec) any { return s.ExternalTrafficPolicy }, cluster},
		"external policy that is there": {corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, ExternalTrafficPolicy: local},
			func(s corev1.ServiceSpec) any { return s.ExternalTrafficPolicy }, local},
		"no external policy of a ClusterIP": {corev1.ServiceSpec{},
			func(s corev1.ServiceSpec) any { return s.ExternalTrafficPolicy }, corev1.ServiceExternalTrafficPolicy("")},
		"no internal policy of an ExternalName": {corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName},
			func(s corev1.ServiceSpec) any { return s.InternalTrafficPolicy }, (*corev1.ServiceInternalTrafficPolicy)(nil)},
	} {
		s := &corev1.Service{Spec: test.in}
		defaultService(s)
		if d := cmp.Diff(test.out, test.got(s.Spec)); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
	s := &corev1.Service{}
	s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "198.51.100.1"}, {Hostname: "lb.example"}}
	defaultService(s)
	if in := s.Status.LoadBalancer.Ingress; in[0].IPMode == nil || *in[0].IPMode != "VIP" || in[1].IPMode != nil {
		t.Errorf("ingress is %v", in)
	}
}

func TestListsOfAllKinds(t *testing.T) {
	const service = `{apiVersion: v1, kind: Service, metadata: {name: NAME, namespace: shop}}`
	named := func(name string) string { return strings.Replace(service, "NAME", name, 1) }
	content := "# only a comment\n---\n" +
		"apiVersion: v1\nkind: List\nitems:\n- " + named("a") + "\n- apiVersion: v1\n  kind: List\n  items: [" + named("b") + "]\n" +
		"---\napiVersion: v1\nkind: ServiceList\nitems:\n- metadata: {name: c, namespace: shop}\n" +
		"---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSliceList\nmetadata: {resourceVersion: '7'}\nitems:\n" +
		"- metadata: {name: d, labels: {kubernetes.io/service-name: a}}\n  addressType: IPv6\n  endpoints: null\n  ports: null\n" +
		"---\nkind: NodeList\napiVersion: v1\nitems:\n- metadata: {name: e, namespace: odd}\n" +
		"---\nnull\n---\n" +
		"apiVersion: v1\nkind: List\n--- # what follows is not used\n" +
		"apiVersion: apps/v1\nkind: Deployment\nspec: [1, {2: 3}]\n---\napiVersion: v1\nkind: Endpoints\n---\n" +
		"apiVersion: discovery.k8s.io/v1beta1\nkind: EndpointSlice\n---\napiVersion: v1\nkind: Endpoints\n...\n"
	c := parse("all.yaml", []byte(content))
	var got []string
	for _, o := range c.objects {
		got = append(got, o.id.String())
	}
	want := []string{"Service shop/a", "Service shop/b", "Service shop/c", "EndpointSlice default/d", "Node e"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("objects (-want +got):\n%s", d)
	}
	ignored := map[string]int{"apps/v1 Deployment": 1, "v1 Endpoints": 2, "discovery.k8s.io/v1beta1 EndpointSlice": 1}
	if d := cmp.Diff(ignored, c.ignored); d != "" || len(c.errors)+len(c.notes) > 0 {
		t.Errorf("ignored (-want +got):\n%s\n%v", d, problems("all.yaml", c))
	}
}

func TestProblemsNameTheirLineAndField(t *testing.T) {
	const service = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\n" // three lines
	const slice = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: cart-abc\n  namespace: shop\n" +
		"  labels: {kubernetes.io/service-name: cart}\naddressType: IPv4\n" // seven lines
	for name, test := range map[string]struct {
		content string
		want    []string
	}{
		"a word for a number": {slice + "ports:\n- port: http\n",
			[]string{`x.yaml:9: EndpointSlice shop/cart-abc: ports[0].port: expected number, got string "http"`}},
		"in the second document": {minimal + "---\n" + slice + "ports:\n- name: a\n  port: 80\n-\n  port: [80]\n",
			[]string{`x.yaml:31: EndpointSlice shop/cart-abc: ports[1].port: expected number, got list`}},
		"in a list in a list": {"apiVersion: v1\nitems:\n- apiVersion: v1\n  kind: List\n  items:\n  - apiVersion: v1\n    kind: Service\n" +
			"    metadata:\n      name: web\n    spec:\n      clusterIP: 10\nkind: List\n",
			[]string{`x.yaml:11: Service default/web: spec.clusterIP: expected string, got number 10`}},
		"several at once": {service + "spec:\n  ports:\n  - port: true\n  - nodePort: 1.5\n  publishNotReadyAddresses: maybe\n",
			[]string{`x.yaml:6: Service shop/web: spec.ports[0].port: expected number, got bool true`,
				`x.yaml:7: Service shop/web: spec.ports[1].nodePort: expected number, got number 1.5`,
				`x.yaml:8: Service shop/web: spec.publishNotReadyAddresses: expected true or false, got string "maybe"`}},
		"a map for a list": {service + "spec:\n  ports:\n    port: 80\n",
			[]string{`x.yaml:6: Service shop/web: spec.ports: expected list, got map`}},
		"a word for a map": {service + "spec: web\n",
			[]string{`x.yaml:4: Service shop/web: spec: expected map, got string "web"`}},
		"a list for a time": {"apiVersion: v1\nkind: Node\nmetadata:\n  name: n\n  creationTimestamp: [now]\n",
			[]string{`x.yaml:5: Node n: metadata.creationTimestamp: expected single value, got list`}},
		"no quantity": {"apiVersion: v1\nkind: Node\nmetadata:\n  name: n\nstatus:\n  capacity:\n    pods: 110\n    cpu: many\n",
			[]string{`x.yaml:8: Node n: status.capacity[cpu]: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'`}},
		"too large a number": {service + "spec:\n  ports:\n  - port: 4294967376\n",
			[]string{`x.yaml:6: Service shop/web: spec.ports[0].port: expected number of 32 bits, got number 4294967376`}},
		"no port": {service + "spec:\n  ports:\n  - port: 80\n    nodePort: 65536\n  - protocol: TCP\n",
			[]string{`x.yaml:7: Service shop/web: spec.ports[0].nodePort: expected number from 1 to 65535, got 65536`,
				`x.yaml:8: Service shop/web: spec.ports[1].port: expected number from 1 to 65535, got 0`}},
		"unknown words": {service + "spec:\n  type: Nodeport\n  sessionAffinity: clientIP\n  ports:\n  - port: 80\n    protocol: tcp\n",
			[]string{`x.yaml:5: Service shop/web: spec.type: expected one of [ClusterIP NodePort LoadBalancer ExternalName], got "Nodeport"`,
				`x.yaml:6: Service shop/web: spec.sessionAffinity: expected one of [None ClientIP], got "clientIP"`,
				`x.yaml:9: Service shop/web: spec.ports[0].protocol: expected one of [TCP UDP SCTP], got "tcp"`}},
		"no address type": {strings.Replace(slice, "addressType: IPv4\n", "", 1),
			[]string{`x.yaml:1: EndpointSlice shop/cart-abc: addressType: expected one of [IPv4 IPv6 FQDN], got ""`}},
		"two first addresses": {service + "spec:\n  clusterIP: 10.0.0.1\n  clusterIPs:\n  - 10.0.0.2\n",
			[]string{`x.yaml:7: Service shop/web: spec.clusterIPs[0]: "10.0.0.2" is not spec.clusterIP, which is "10.0.0.1"`}},
		"no name": {"apiVersion: v1\nkind: Service\nmetadata:\n  namespace: shop\n",
			[]string{`x.yaml:4: Service shop/: metadata.name: is missing`}},
		"a name twice": {service + "spec:\n  type: NodePort\n  ports: []\n  type: ClusterIP\n",
			[]string{`x.yaml:7: Service shop/web: spec.type: is already defined in line 5`}},
		"a list as name": {service + "spec:\n  [a]: b\n",
			[]string{`x.yaml:5: Service shop/web: spec: expected name, got list`}},
		"no kind":        {"\nmetadata:\n  name: web\n", []string{`x.yaml:2: kind: is missing`}},
		"no version":     {"kind: Service\n", []string{`x.yaml:1: apiVersion: is missing`}},
		"no object":      {"a: 1\n---\n- b\n", []string{`x.yaml:1: kind: is missing`, `x.yaml:3: expected object, got list`}},
		"no list":        {"apiVersion: v1\nkind: List\nitems: {a: b}\n", []string{`x.yaml:3: items: expected list, got map`}},
		"unknown field":  {service + "spec:\n  clusterIp: 10.0.0.1\n", []string{`x.yaml:5: Service shop/web: spec.clusterIp: unknown field`}},
		"of no Service":  {strings.Replace(slice, "service-name", "x", 1), []string{`x.yaml:6: EndpointSlice shop/cart-abc: metadata.labels: kubernetes.io/service-name is missing: the endpoints belong to no Service`}},
		"merged is used": {"x: &a {name: web}\nkind: Service\napiVersion: v1\nmetadata:\n  <<: *a\n  name: api\n  labels: {<<: [*a, *a]}\n", []string{`x.yaml:1: Service default/api: x: unknown field`}},
	} {
		if d := cmp.Diff(test.want, problems("x.yaml", parse("x.yaml", []byte(test.content)))); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}

func TestSyntaxErrorsNameTheirLine(t *testing.T) {
	for name, test := range map[string]struct {
		file, content string
		want          string
	}{
		"too deep":         {"x.yaml", "a: 1\nb: 2\n c: 3\nd: 4\n", `x.yaml:3: no valid YAML: mapping values are not allowed in this context`},
		"too shallow":      {"x.yaml", "items:\n  - a: 1\n    b: 2\n - c: 3\nd: 4\n", `x.yaml:4: no valid YAML: did not find expected key`},
		"no colon":         {"x.yaml", "a: 1\nb\nc: 3\nd: 4\n", `x.yaml:2: no valid YAML: could not find expected ':'`},
		"a tab":            {"x.yaml", "a:\n  b: 1\n\tc: 2\nd: 4\n", `x.yaml:3: no valid YAML: found a tab character that violates indentation`},
		"an open bracket":  {"x.yaml", "a: 1\nb: [1, 2\nc: 3\n", `x.yaml:2: no valid YAML: did not find expected ',' or ']'`},
		"second document":  {"x.yaml", minimal + "---\na: 1\nb: {}}\nc: 3\n", `x.yaml:21: no valid YAML: did not find expected key`},
		"in the last line": {"x.yaml", "a: 1\nb: {}}", `x.yaml:2: no valid YAML: did not find expected key`},
		"carriage return":  {"x.yaml", "a: 1\r\nb: 2\r\n c: 3\r\n", `x.yaml:3: no valid YAML: mapping values are not allowed in this context`},
		"unknown anchor":   {"x.yaml", "a: 1\nb: *c\nd: 1\n", `x.yaml:2: no valid YAML: unknown anchor 'c' referenced`},
		"no JSON":          {"x.json", "{\"a\": 1,\n\"b\": [1,\n\n  2 3]}", `x.json:4: no valid JSON: invalid character '3' after array element`},
		"open JSON":        {"x.json", "{\"a\": 1}\n{\"b\": [1,\n", `x.json:2: no valid JSON: unexpected end`},
		"JSON with a word": {"x.json", "{\"a\":\n  yes}\n", `x.json:2: no valid JSON: invalid character 'y' looking for beginning of value`},
		"deep JSON":        {"x.json", strings.Repeat("[", 1000), `x.json:1: no valid JSON: nested too deeply`},
	} {
		got := problems(test.file, parse(test.file, []byte(test.content)))
		if d := cmp.Diff([]string{test.want}, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}

// Wherever a line goes wrong in a long List, that line is named.
func TestSyntaxErrorsInsideOfALongListNameTheirLine(t *testing.T) {
	content, err := os.ReadFile(demo + "/shop-web.yaml")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(content), "\n"), "\n")
	for i := 2; i < len(lines); i++ {
		broken := slices.Clone(lines)
		broken[i] = strings.Repeat(" ", len(lines[i])-len(strings.TrimLeft(lines[i], " "))) + "a: b: c"
		got := problems("x.yaml", parse("x.yaml", []byte(strings.Join(broken, "\n"))))
		want := fmt.Sprintf("x.yaml:%d: ", i+1)
		if len(got) != 1 || !strings.HasPrefix(got[0], want) {
			t.Errorf("want %s, got %q", want, got)
		}
	}
}

func TestProblemsAreCapped(t *testing.T) {
	content := "apiVersion: v1\nkind: List\nitems: [" + strings.Repeat("1, ", 15) + "]\n"
	got := problems("x.yaml", parse("x.yaml", []byte(content)))
	if len(got) != 11 || got[10] != "x.yaml: and 5 more problems" {
		t.Errorf("problems are %q", got)
	}
}

func TestJSONIsReadAsJSON(t *testing.T) {
	content := `{"apiVersion":"v1","kind":"Service","metadata":{"name":"web","annotations":{"a":"\ud83d\ude00\/","b":"1"}}}` +
		"\n" + `{"apiVersion":"v1","kind":"Service","metadata":{"name":"api","creationTimestamp":null},"spec":{"ports":[{"port":80,"targetPort":"http"}]}}`
	c := parse("two.json", []byte(content))
	if len(c.objects) != 2 || len(c.errors)+len(c.notes) > 0 {
		t.Fatalf("contents are %+v", c)
	}
	if got := c.objects[0].service.Annotations["a"]; got != "\U0001f600/" {
		t.Errorf("annotation is %q", got)
	}
	if o := c.objects[1]; o.line != 2 || o.service.Spec.Ports[0].TargetPort.StrVal != "http" {
		t.Errorf("object is %+v", o)
	}
}

func TestManagedFieldsAreLeftAway(t *testing.T) {
	c := parse("x.yaml", []byte("apiVersion: v1\nkind: Service\nmetadata:\n  name: web\n  managedFields:\n"+
		"  - manager: kubectl\n    fieldsV1: {\"f:spec\": {}}\n  uid: abc\n"))
	if len(c.objects) != 1 || len(c.errors)+len(c.notes) > 0 {
		t.Fatalf("contents are %+v", c)
	}
	if s := c.objects[0].service; s.ManagedFields != nil || s.UID != types.UID("abc") {
		t.Errorf("metadata is %+v", s.ObjectMeta)
	}
}

func TestAliasesAreBounded(t *testing.T) {
	bomb := "a: &a0 [1, 2]\n"
	for i := range 30 {
		bomb += fmt.Sprintf("b%d: &a%d [*a%d, *a%d]\n", i, i+1, i, i)
	}
	for name, content := range map[string]string{
		"merged labels":   "apiVersion: v1\nkind: List\n" + doubledMaps(30),
		"unused bomb":     bomb,
		"map into itself": "apiVersion: v1\nkind: Service\nmetadata: &m\n  name: web\n  <<: *m\n",
		"merged doubly":   "apiVersion: v1\nkind: Service\nmetadata: &m {name: web, <<: [*m, *m, *m, *m]}\n",
		"list in itself":  "apiVersion: v1\nkind: List\nitems: &i\n- apiVersion: v1\n  kind: List\n  items: *i\n",
		"deep":            strings.Repeat("[", 20000),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		c := parse("x.yaml", []byte(content))
		runtime.ReadMemStats(&after)
		if len(c.errors) == 0 {
			t.Errorf("%s: no error, %d objects", name, len(c.objects))
		}
		if used := after.TotalAlloc - before.TotalAlloc; used > 100<<20 {
			t.Errorf("%s: %d bytes used", name, used)
		}
	}
}

// doubledMaps is a Service with labels that are maps twice merged into the next.
func doubledMaps(depth int) string {
	text := "labels: &l0 {a: b}\n"
	for i := range depth {
		text += fmt.Sprintf("l%d: &l%d\n  <<: [*l%d, *l%d]\n", i, i+1, i, i)
	}
	return text + fmt.Sprintf("items:\n- apiVersion: v1\n  kind: Service\n  metadata: {name: web, labels: *l%d}\n", depth)
}

func TestHonestAliasesAreFollowed(t *testing.T) {
	c := parse("x.yaml", []byte("apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Service\n  metadata: {name: web, labels: &l {a: b}}\n"+
		"- apiVersion: v1\n  kind: Service\n  metadata: {name: api, labels: {<<: *l, c: d}}\n"))
	if len(c.objects) != 2 || len(c.errors)+len(c.notes) > 0 {
		t.Fatalf("contents are %+v", c)
	}
	if d := cmp.Diff(map[string]string{"a": "b", "c": "d"}, c.objects[1].service.Labels); d != "" {
		t.Errorf("labels (-want +got):\n%s", d)
	}
}
