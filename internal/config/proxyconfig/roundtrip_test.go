// SPDX-License-Identifier: Apache-2.0

package proxyconfig

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWhatIsWrittenIsReadAsTheSame(t *testing.T) {
	for _, name := range []string{"kubeadm.yaml", "every-field.yaml"} {
		p, _ := read(t, name)
		text, err := p.Text()
		if err != nil {
			t.Fatal(err)
		}
		again := Default()
		if warnings, err := again.ReadConfig(text); err != nil || len(warnings) > 0 {
			t.Fatalf("%s: warnings %q, error %v", name, warnings, err)
		}
		if d := cmp.Diff(p, again); d != "" {
			t.Errorf("%s (-written +read):\n%s", name, d)
		}
	}
}

func TestSettingsCountFieldByField(t *testing.T) {
	p := Default()
	if _, err := p.ReadConfig([]byte(head + "---\n" + ownHead + "answerPing: true\nsnapshot: {file: /a}\nserviceCIDRs: [10.96.0.0/12]\n")); err != nil {
		t.Fatal(err)
	}
	if err := p.ReadSettings([]byte(ownHead + "snapshot: {maxBytes: 5}\nserviceCIDRs: [10.97.0.0/16]\n")); err != nil {
		t.Fatal(err)
	}
	want := Default().Own
	want.AnswerPing, want.Snapshot, want.ServiceCIDRs = true, Snapshot{File: "/a", MaxBytes: 5}, []string{"10.97.0.0/16"}
	if d := cmp.Diff(want, p.Own); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

func TestConfigzIsWhatReadersOfKubeProxysKnow(t *testing.T) {
	p, _ := read(t, "kubeadm.yaml")
	text, err := Configz(p)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Proxy struct {
			Kind, APIVersion, Mode, HealthzBindAddress string
			Conntrack                                  struct{ Min int }
		} `json:"kubeproxy.config.k8s.io"`
		Own struct{ Kind, APIVersion, DrainTimeout string } `json:"kube-ipvs.io"`
	}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	want := got
	want.Proxy.Kind, want.Proxy.APIVersion, want.Proxy.Mode = ProxyKind, ProxyVersion, "ipvs"
	want.Proxy.HealthzBindAddress, want.Proxy.Conntrack.Min = "0.0.0.0:10256", 131072
	want.Own.Kind, want.Own.APIVersion, want.Own.DrainTimeout = OwnKind, OwnVersion, "15m0s"
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func FuzzReadConfig(f *testing.F) {
	for _, name := range []string{"kubeadm.yaml", "every-field.yaml"} {
		text, err := os.ReadFile("testdata/" + name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(head + "nodePortAddresses: [010.0.0.0/8]\nhealthzBindAddress: ::1\nipvs: {tcpTimeout: 1s}\n---\n" + ownHead + "apiServers: ['[::1]:1']\n"))
	f.Add([]byte(`{"kind":"KubeProxyConfiguration","apiVersion":"kubeproxy.config.k8s.io/v1alpha1","clientConnection":{"qps":1e3},"ipvs":[1]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, again := Default(), Default()
		if _, err := p.ReadConfig(text); err != nil {
			return
		}
		p.Meaningless()
		c, _, err := p.Config()
		if err != nil {
			return
		}
		written, err := p.Text()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := again.ReadConfig(written); err != nil {
			t.Fatalf("written as\n%s\n%v", written, err)
		}
		back, _, err := again.Config()
		if d := cmp.Diff(c, back, compare()); err != nil || d != "" {
			t.Errorf("written as\n%s\n%v\n%s", written, err, d)
		}
	})
}
