// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
)

func TestABrokenManifestIsReportedWithItsLineAndDisturbsNothing(t *testing.T) {
	r := rig.New(t)
	r.Write(t, "web", dual("web", 10, "pod-a"))
	r.Write(t, "later", dual("later", 11, "pod-a"))
	d := r.Start(t)
	want := r.Settle(t)

	good := rig.Manifest(t, dual("later", 11, "pod-b"))
	broken := strings.Replace(string(good), "port: 80", "port: eighty", 1)
	at := 1 + strings.Count(broken[:strings.Index(broken, "port: eighty")], "\n")
	r.WriteText(t, "later", []byte(broken))
	d.AwaitLog(t, "error\tmanifest is invalid", fmt.Sprintf("later.yaml:%d: Service rig/later: spec.ports[0].port:", at))
	mustHold(t, r, want) // with the last good objects of the broken file

	r.Write(t, "web", dual("web", 10, "pod-b")) // others still change
	r.WriteText(t, "later", good)
	d.AwaitLog(t, "info\tmanifest is valid again", "later.yaml")
	r.Settle(t)
}

// nonsense returns manifests that no API server would accept, or that mean nothing to a service proxy.
func nonsense() map[string]string {
	service := func(spec string) string {
		return "apiVersion: v1\nkind: Service\nmetadata: {name: odd, namespace: rig}\nspec: " + spec + "\n"
	}
	slice := func(rest string) string {
		return service("{clusterIP: 10.96.0.77, ports: [{name: a, port: 80}]}") + "---\n" +
			"apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n" +
			"metadata: {name: odd-1, namespace: rig, labels: {kubernetes.io/service-name: odd}}\n" + rest + "\n"
	}
	return map[string]string{
		"no YAML":              "{{{{ : ]",
		"binary":               "\x00\xff\xfe\x01\x02",
		"a word":               "nonsense",
		"a list":               "[1, 2, 3]",
		"nothing":              "",
		"an anchor of itself":  "&a [*a]",
		"deeply nested":        strings.Repeat("[", 5000),
		"a bomb":               bomb(),
		"no kind":              "apiVersion: v1\nmetadata: {name: x}",
		"another kind":         "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}",
		"no name":              "apiVersion: v1\nkind: Service\nspec: {clusterIP: 10.96.0.77, ports: [{port: 80}]}",
		"a name of all sorts":  "apiVersion: v1\nkind: Service\nmetadata: {name: \"a\\nb\\\"'; rm -rf /\", namespace: \"../..\"}\nspec: {clusterIP: x, ports: [{port: 80}]}",
		"a list for a spec":    service("[]"),
		"no address":           service("{clusterIP: 10.96.0.300, ports: [{port: 80}]}"),
		"a word for it":        service("{clusterIP: everything, ports: [{port: 80}]}"),
		"an unspecified one":   service("{clusterIP: 0.0.0.0, ports: [{port: 80}]}"),
		"a loopback one":       service("{clusterIP: 127.0.0.1, ports: [{port: 80}]}"),
		"a multicast one":      service("{clusterIP: 224.0.0.1, ports: [{port: 80}]}"),
		"one with a zone":      service("{clusterIP: fe80::1%eth0, ports: [{port: 80}]}"),
		"port 0":               service("{clusterIP: 10.96.0.77, ports: [{port: 0}]}"),
		"a negative port":      service("{clusterIP: 10.96.0.77, ports: [{port: -80}]}"),
		"a large port":         service("{clusterIP: 10.96.0.77, ports: [{port: 65536}]}"),
		"a huge port":          service("{clusterIP: 10.96.0.77, ports: [{port: 99999999999999999999}]}"),
		"a word for a port":    service("{clusterIP: 10.96.0.77, ports: [{port: http}]}"),
		"no protocol":          service("{clusterIP: 10.96.0.77, ports: [{port: 80, protocol: ICMP}]}"),
		"a large node port":    service("{type: NodePort, clusterIP: 10.96.0.77, ports: [{port: 80, nodePort: 70000}]}"),
		"no type":              service("{type: Magic, clusterIP: 10.96.0.77, ports: [{port: 80}]}"),
		"no affinity":          service("{sessionAffinity: Love, clusterIP: 10.96.0.77, ports: [{port: 80}]}"),
		"a headless one":       service("{clusterIP: None, ports: [{port: 80}]}"),
		"an external name":     service("{type: ExternalName, externalName: example.org, ports: [{port: 80}]}"),
		"no address type":      slice("addressType: IPv5\nendpoints: [{addresses: [10.244.1.10]}]\nports: [{name: a, port: 80}]"),
		"an endpoint's port 0": slice("addressType: IPv4\nendpoints: [{addresses: [10.244.1.10]}]\nports: [{name: a, port: 0}]"),
		"endpoints of a word":  slice("addressType: IPv4\nendpoints: everywhere"),
	}
}

// bomb is a short text for very many values.
func bomb() string {
	text := "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
	for n := range 9 {
		text += fmt.Sprintf("a%d: &a%d [%s]\n", n+1, n+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", n), 10), ", "))
	}
	return text + "apiVersion: v1\nkind: Service\nmetadata: {name: odd}\nspec: *a9\n"
}

func TestNonsenseInManifestsHurtsNoOtherService(t *testing.T) {
	r := rig.New(t)
	r.Write(t, "web", web())
	d := r.Start(t)
	want := r.Settle(t)
	all := nonsense()
	for n, name := range slices.Sorted(maps.Keys(all)) {
		t.Run(name, func(t *testing.T) {
			// The other manifest changes after it: when that is in the kernel, both have been read.
			other := dual(numbered("other", n), 100+n, "pod-a")
			r.WriteText(t, "nonsense", []byte(all[name]))
			r.Write(t, "other", other)
			r.Await(t, rig.Patience, r.DesiredOf(t, newBlock(t, web(), other).index))
			if err := d.Alive(); err != nil {
				t.Fatal(err)
			}
		})
	}
	r.Delete(t, "nonsense")
	r.Delete(t, "other")
	r.Await(t, rig.Patience, want)
}
