// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/state"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

// What the two variants may hold, as iptables-save prints it.
const (
	nothing   = ""
	oneRule   = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -i lo -j ACCEPT\nCOMMIT\n"
	fourRules = "*nat\n:OUTPUT ACCEPT [0:0]\n:DOCKER - [0:0]\n-A OUTPUT -j DOCKER\n-A DOCKER -j RETURN\n-A DOCKER -j RETURN\n-A DOCKER -j RETURN\nCOMMIT\n"
	hint      = "*mangle\n:KUBE-IPTABLES-HINT - [0:0]\nCOMMIT\n"
	canary    = "*mangle\n:KUBE-KUBELET-CANARY - [0:0]\nCOMMIT\n"
	proxy     = "*nat\n:KUBE-SERVICES - [0:0]\nCOMMIT\n"
	elsewhere = "*filter\n:KUBE-SERVICES - [0:0]\n:KUBE-IPTABLES-HINT - [0:0]\nCOMMIT\n"
	quoted    = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -m comment --comment \"\n*mangle\n:KUBE-IPTABLES-HINT - [0:0]\" -j ACCEPT\nCOMMIT\n"
	garbage   = "what is this\n"
	fails     = "fails"
)

func TestTheVariantIsThatOfTheMachinesOtherPrograms(t *testing.T) {
	for _, c := range []struct {
		name        string
		nft, legacy string
		want        variant
	}{
		{"an empty machine", nothing, nothing, asNamed},
		{"kubelet by nft", hint, fourRules, nft},
		{"kubelet by legacy", oneRule, hint, legacy},
		{"an older kubelet by legacy", fourRules, canary, legacy},
		{"kubelet changed its mind", hint, canary, nft},
		{"a proxy by legacy, kubelet by nft", hint, proxy, legacy},
		{"a proxy by nft, kubelet by legacy", proxy, hint, nft},
		{"a proxy by both, kubelet by legacy", proxy, proxy + hint, legacy},
		{"a proxy by both and no kubelet", proxy, proxy, nft},
		{"more rules by legacy", oneRule, fourRules, legacy},
		{"more rules by nft", fourRules, oneRule, nft},
		{"as many rules", oneRule, oneRule, asNamed},
		{"those names in other tables", oneRule, elsewhere, nft},
		{"those names in a comment", quoted, fourRules, legacy},
		{"nft fails", fails, nothing, legacy},
		{"legacy fails", nothing, fails, nft},
		{"nft can't be read", garbage, nothing, legacy},
		{"both fail", fails, fails, asNamed},
	} {
		t.Run(c.name, func(t *testing.T) {
			fake(t, with(both(), "iptables-nft-save", says(c.nft), "iptables-legacy-save", says(c.legacy)))
			wantVariant(t, c.want, state.IPv4)
		})
	}
}

func TestTheVariantIsOneForAllFamilies(t *testing.T) {
	for _, c := range []struct {
		name string
		more []string // a tool and what it prints, in turn
		want variant
	}{
		{"a hint in IPv6 alone", []string{"ip6tables-legacy-save", says(hint)}, legacy},
		{"nft fails for IPv6", []string{"ip6tables-nft-save", says(fails), "iptables-nft-save", says(hint)}, legacy},
		{"rules add up", []string{"iptables-nft-save", says(oneRule), "ip6tables-nft-save", says(oneRule), "iptables-legacy-save", says(oneRule)}, nft},
	} {
		t.Run(c.name, func(t *testing.T) {
			fake(t, with(both(), c.more...))
			wantVariant(t, c.want, state.IPv4, state.IPv6)
		})
	}
}

func TestAMachineWithOneVariantIsNotAsked(t *testing.T) {
	scripts := with(both(), "iptables-legacy-save", says(hint))
	delete(scripts, "ip6tables-nft-restore")
	fake(t, scripts)
	wantVariant(t, legacy, state.IPv4)
	wantVariant(t, asNamed, state.IPv4, state.IPv6)
}

func TestToolsOfTheChosenVariantAreUsedForEverything(t *testing.T) {
	fake(t, with(both(),
		"iptables", "exit 1\n", "iptables-save", "exit 1\n", "iptables-restore", "exit 1\n",
		"iptables-legacy", "echo 'iptables v1.8.9 (legacy)'\n", "iptables-legacy-save", says(proxy)))
	c, err := Open(context.Background(), ours, state.IPv4)
	if err != nil {
		t.Fatal(err)
	}
	if r := c.Chains().Apply(context.Background(), chainDelta{Add: testkit.Rows(chainTable{chainOf("KUBE-A"): {}})}); len(r.Failed) > 0 {
		t.Error(r.Failed)
	}
}

func TestRulesOfOneVariantAreFoundInTheKernel(t *testing.T) {
	testkit.Namespace(t)
	folder := t.TempDir()
	for _, f := range []string{"iptables", "ip6tables"} {
		for _, tool := range []string{"", "-save", "-restore"} {
			for link, real := range map[string]string{f + tool: f + "-nft" + tool, f + "-nft" + tool: f + "-nft" + tool, f + "-legacy" + tool: f + "-legacy" + tool} {
				path, err := exec.LookPath(real)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.Symlink(path, filepath.Join(folder, link)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	path := os.Getenv("PATH")
	testkit.Tool(t, "iptables-legacy", "-t", "nat", "-N", proxyChain)
	t.Setenv("PATH", folder)
	c, err := Open(context.Background(), ours, state.IPv4, state.IPv6)
	if err != nil {
		t.Fatal(err)
	}
	testkit.AddAll(t, c.Chains(), chainTable{chainOf("KUBE-A"): {}})
	t.Setenv("PATH", path)
	if saved := testkit.Tool(t, "iptables-legacy-save"); !strings.Contains(saved, ":KUBE-A ") {
		t.Errorf("not written by the variant that has rules:\n%s", saved)
	}
}

func wantVariant(t *testing.T, want variant, families ...state.Family) {
	t.Helper()
	c := &Conn{ours: ours, families: families}
	if got := c.variantInUse(context.Background()); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// both are all tools of both variants and families, which print nothing.
func both() map[string]string {
	scripts := map[string]string{}
	for _, f := range []state.Family{state.IPv4, state.IPv6} {
		for _, v := range []variant{nft, legacy} {
			scripts[program(f, v)+"-save"], scripts[program(f, v)+"-restore"] = "", ""
		}
	}
	return scripts
}

func with(scripts map[string]string, more ...string) map[string]string {
	for i := 0; i < len(more); i += 2 {
		scripts[more[i]] = more[i+1]
	}
	return scripts
}

func says(text string) string {
	if text == fails {
		return "exit 1\n"
	}
	return "echo '" + strings.TrimSuffix(text, "\n") + "'\n"
}

func TestRulesOfAProxyByTheOtherVariantAreNoticed(t *testing.T) {
	for _, c := range []struct{ nft, legacy, want string }{
		{proxy, nothing, ""},
		{proxy, hint, ""},
		{proxy, proxy, "iptables-legacy"},
		{proxy, proxy + hint, "iptables-nft"},
	} {
		fake(t, with(both(), "iptables-nft-save", says(c.nft), "iptables-legacy-save", says(c.legacy)))
		conn := &Conn{families: []state.Family{state.IPv4}}
		conn.variantInUse(context.Background())
		if got := conn.Beside(); got != c.want {
			t.Errorf("nft %q, legacy %q: beside are the rules of %q, want %q", c.nft, c.legacy, got, c.want)
		}
	}
}
