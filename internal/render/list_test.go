// SPDX-License-Identifier: Apache-2.0

package render_test

import (
	"encoding/json"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/kube-ipvs/kube-ipvs/internal/render"
)

func TestJSONAndYAMLSayTheSame(t *testing.T) {
	for _, c := range []render.Columns{render.Connections, render.Traffic, render.Rates} {
		var fromJSON, fromYAML render.List
		text := written(t, func(w io.Writer) error { return render.JSON(w, view(), c) })
		if err := json.Unmarshal([]byte(text), &fromJSON); err != nil {
			t.Fatal(err)
		}
		text = written(t, func(w io.Writer) error { return render.YAML(w, view(), c) })
		if err := yaml.UnmarshalStrict([]byte(text), &fromYAML); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(fromJSON, fromYAML); d != "" {
			t.Errorf("JSON and YAML differ:\n%s", d)
		}
		if d := cmp.Diff(render.ListOf(view(), c), fromJSON); d != "" {
			t.Errorf("JSON is not the list:\n%s", d)
		}
	}
}

func TestTheListOfNothingHasNoNulls(t *testing.T) {
	got := written(t, func(w io.Writer) error { return render.JSON(w, render.View{}, render.Connections) })
	equal(t, got, `{
  "apiVersion": "kube-ipvs/v1",
  "kind": "VirtualServerList",
  "items": []
}
`)
}

func TestTheListSaysWhatAppliesAndNothingElse(t *testing.T) {
	v := view()
	v.VirtualServers = []render.VirtualServer{v.VirtualServers[0], v.VirtualServers[3], v.VirtualServers[4], v.VirtualServers[6]}
	got := written(t, func(w io.Writer) error { return render.YAML(w, v, render.Connections) })
	equal(t, got, wantYAML)
	got = written(t, func(w io.Writer) error {
		return render.JSON(w, v.Only(render.Filter{Name: "kubernetes"}), render.Traffic)
	})
	equal(t, got, wantJSON)
}

const wantYAML = `apiVersion: kube-ipvs/v1
items:
- address: 10.96.0.1
  bound: true
  family: IPv4
  flags: []
  port: 443
  protocol: TCP
  realServers:
  - activeConnections: 12
    address: 192.0.2.1
    draining: false
    forward: Masq
    inactiveConnections: 3
    persistentConnections: 2
    port: 6443
    weight: 1
  - activeConnections: 1
    address: 192.0.2.2
    draining: true
    forward: Masq
    inactiveConnections: 0
    port: 6443
    weight: 0
  scheduler: rr
  service: default/kubernetes:https
  set: KUBE-CLUSTER-IP
- address: 10.200.0.1
  bound: false
  family: IPv4
  flags:
  - flag-1
  - flag-3
  port: 80
  protocol: SCTP
  realServers:
  - activeConnections: 0
    address: 10.244.1.6
    draining: false
    forward: Route
    inactiveConnections: 0
    lowerThreshold: 50
    port: 80
    upperThreshold: 100
    weight: 65535
  scheduler: rr
- address: fd00::1
  bound: true
  clientPrefix: 128
  family: IPv6
  flags:
  - persistent
  - mh-port
  port: 443
  protocol: TCP
  realServers:
  - activeConnections: 0
    address: fd00:1::5
    draining: false
    forward: Masq
    inactiveConnections: 0
    port: 8443
    weight: 3
  scheduler: mh
  timeoutSeconds: 10800
- clientPrefix: 64
  family: IPv6
  flags:
  - persistent
  mark: 4294967295
  realServers: []
  scheduler: rr
  timeoutSeconds: 1
kind: VirtualServerList
`

const wantJSON = `{
  "apiVersion": "kube-ipvs/v1",
  "kind": "VirtualServerList",
  "items": [
    {
      "service": "default/kubernetes:https",
      "set": "KUBE-CLUSTER-IP",
      "family": "IPv4",
      "protocol": "TCP",
      "address": "10.96.0.1",
      "port": 443,
      "bound": true,
      "scheduler": "rr",
      "flags": [],
      "counters": {
        "connections": 99999999,
        "packetsIn": 100000000,
        "packetsOut": 999999999,
        "bytesIn": 1000000000,
        "bytesOut": 99999999999
      },
      "realServers": [
        {
          "address": "192.0.2.1",
          "port": 6443,
          "forward": "Masq",
          "weight": 1,
          "draining": false,
          "activeConnections": 12,
          "inactiveConnections": 3,
          "persistentConnections": 2,
          "counters": {
            "connections": 7,
            "packetsIn": 0,
            "packetsOut": 0,
            "bytesIn": 0,
            "bytesOut": 123456789
          }
        },
        {
          "address": "192.0.2.2",
          "port": 6443,
          "forward": "Masq",
          "weight": 0,
          "draining": true,
          "activeConnections": 1,
          "inactiveConnections": 0,
          "counters": {
            "connections": 0,
            "packetsIn": 0,
            "packetsOut": 0,
            "bytesIn": 0,
            "bytesOut": 0
          }
        }
      ]
    }
  ]
}
`
