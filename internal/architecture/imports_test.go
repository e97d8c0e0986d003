// SPDX-License-Identifier: Apache-2.0

package architecture

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
)

// rule is what a package may import. Our packages are named as in docs/architecture.md (plan is internal/plan), those
// of others by module.
type rule struct {
	path string // with /... it includes all packages below
	may  string // what it may import beside the standard library, which is exactly what it does import
	pure string // the files that only compute
	why  string
}

const (
	everything = "*"

	all, k8s, sys = everything, "k8s.io/api k8s.io/apimachinery", "golang.org/x/sys"
)

// importRules returns a rule for each package; of several the first counts. The order is: packages that decide, that
// act, that users see, and that test from outside.
func importRules() []rule { return slices.Concat(kernelRules(), programRules()) }

// kernelRules are for the packages that decide and for the kernel.
func kernelRules() []rule {
	return []rule{
		{"diff", "", all, "compares any two tables, so it knows none"},
		{"state", "diff", all, "the nouns: every package knows them, they know only how to compare them"},
		{"rule", "state", all, "what our rules mean: plan wants them, and each firewall writes them"},
		{"config", "state", all, "choices, in the words of the tables"},
		{"config/proxyconfig", "config state k8s.io/apimachinery k8s.io/component-base k8s.io/kube-proxy k8s.io/utils sigs.k8s.io/json sigs.k8s.io/yaml", all,
			"the documents that choices are written in: kube-proxy's and ours, but no file and no flag"},
		{"plan", "config diff rule state k8s.io/api", all, "Service semantics, which neither a kernel nor a client can change"},
		{"takeover", "state", all, "what kube-proxy leaves and expects, as rows: neither plan nor kernel"},
		{"desired", "diff state", all, "merges rows of any owners, so it knows no Service"},
		{"drain", "state", all, "the life of a real server, in values and times"},
		{"reconcile", "desired diff drain kernel state go.uber.org/zap", "audit.go core.go drains.go event.go flows.go firewall.go foreign.go handover.go phase.go proof.go queue.go queue_admit.go report_balance.go report_observer.go table.go table_held.go table_pending.go table_reals.go table_reals_audit.go table_retry.go table_state.go",
			"the core decides; the loop is the one place that has a clock, a log and tables"},

		{"kernel", "diff state", "", "what a table is: it talks to no kernel, so it needs no library"},
		{"kernel/netlink", "state " + sys, "attribute.go message.go requests.go", "many netlink requests at once, for a family of the tables, and pauses between reads"},
		{"kernel/conntrack", "kernel/netlink state github.com/vishvananda/netlink " + sys, "convert.go pass.go",
			"an action and no table, so it knows neither Store nor diff"},
		{"kernel/ipset", "diff kernel kernel/netlink state " + sys, "decode.go encode.go numbers.go",
			"sets and entries over netlink, without a library"},
		{"kernel/iptables", "diff kernel state github.com/coreos/go-iptables", "parse.go script.go",
			"chains and jumps; the only package that starts programs, and so the only one with go-iptables"},
		{"kernel/ipvs", "diff kernel kernel/netlink state github.com/moby/ipvs " + sys, "convert.go parse.go",
			"virtual and real servers; the only package with moby/ipvs"},
		{"kernel/link", "diff kernel kernel/netlink state github.com/vishvananda/netlink " + sys, "convert.go request.go route.go",
			"the dummy device and its addresses, or the local routes in their place"},
		{"kernel/nft", "diff kernel kernel/netlink state " + sys, "convert.go", "tables of nftables that another program left: it has no rules of its own"},
		{"kernel/nftables", "diff kernel kernel/netlink rule state " + sys, "element.go encode.go expression.go header.go write.go", "our own table of nftables"},
		{"kernel/linux", "diff kernel kernel/conntrack kernel/ipset kernel/iptables kernel/ipvs kernel/link kernel/netlink kernel/nft kernel/nftables state " + sys, "",
			"all adapters of this machine together, and its sysctls"},
		{"testkit/mem", "diff kernel rule state", "", "a kernel in memory, for tests that need no other"},
		{"testkit", "diff kernel state " + sys, "", "what tests share: a namespace, the contract of a Store, waits"},
	}
}

// programRules are for the sources of objects, the program, and its tests from outside.
func programRules() []rule {
	return []rule{
		{"cluster", k8s, "fields.go form.go index.go objects.go", "objects in their compact form and what changed of them, wherever they come from"},
		{"cluster/file", "cluster github.com/fsnotify/fsnotify go.uber.org/zap go.yaml.in/yaml/v3 " + k8s,
			"check.go claims.go decode.go defaults.go documents.go", "objects from files"},
		{"cluster/kube", "cluster config go.uber.org/zap k8s.io/client-go k8s.io/utils " + k8s + " " + sys, "strip.go", "objects from an API server, and how it is reached"},
		{"cluster/snapshot", "cluster go.uber.org/zap " + k8s, "", "the last objects of any source, on disk: it knows neither an API server nor a kernel"},
		{"node", "kernel/link kernel/netlink state " + sys, "", "this node's name and addresses, from the kernel's own events"},
		{"ports", "state k8s.io/apimachinery", "addresses.go", "the ports of Services that no table can serve: health checks, NodePorts of the loopback addresses"},
		{"metrics", "desired plan reconcile state github.com/prometheus/client_golang k8s.io/client-go", "", "counts what the loop reports; the only package with Prometheus"},
		{"serve", "cluster ports reconcile state k8s.io/api", "", "what the proxy itself serves: its health, by what the loop reports, and the HTTP servers"},
		{"events", "go.uber.org/zap k8s.io/client-go " + k8s, "", "events of objects and the node; when and what is its callers' choice"},

		{"render", "rule state sigs.k8s.io/yaml", all, "rows as text: it asks nothing, so that the program, its tests and its users see the same"},
		{"trace", "state", all, "what becomes of a packet, by the rows alone: it knows no plan, so that it can judge one"},
		{"cli", "cluster cluster/file config config/proxyconfig desired plan render state trace github.com/spf13/cobra " +
			"github.com/spf13/pflag k8s.io/api k8s.io/apimachinery k8s.io/component-base", "", "commands over an Env; the only package with cobra, and without a kernel"},
		{"app", "cli cluster cluster/file cluster/kube cluster/snapshot config desired events " +
			"kernel kernel/conntrack kernel/ipset kernel/iptables kernel/ipvs kernel/link kernel/linux kernel/nftables metrics node plan ports " +
			"reconcile render serve state takeover trace github.com/fsnotify/fsnotify github.com/go-logr/logr github.com/go-logr/zapr " +
			"github.com/sirupsen/logrus go.uber.org/zap k8s.io/klog/v2 " + k8s + " " + sys, "",
			"the program on this machine: it knows every package so that no other has to"},
		{"architecture", "", "", "these rules: its tests read the sources as text"},
		{"cmd/kube-ipvs", "app cli", "", "only wires: what it starts is elsewhere"},

		{"e2e/lab/...", "e2e/lab/... " + sys, "", "runs any command on a kernel with IPVS: a program of its own, which knows nothing of this one"},
		{"e2e/world", "state github.com/vishvananda/netlink github.com/vishvananda/netns " + sys, "",
			"a cluster's network in one kernel: the wires, and nothing of the program under test but its nouns"},
		{"e2e/...", everything, "", "looks at the program from outside, and may look at all of it"},
	}
}

// fits reports whether a path is the one of a rule.
func fits(row, name string) bool {
	below, tree := strings.CutSuffix(row, "/...")
	return row == everything || name == below || tree && strings.HasPrefix(name, below+"/")
}

// shortPath returns an import path as the rules name it.
func shortPath(imported string) string {
	ours, _ := strings.CutPrefix(imported, module+"/")
	return strings.TrimPrefix(ours, "internal/")
}

// ours reports whether a short path is of this module.
func ours(name string) bool {
	first, _, _ := strings.Cut(name, "/")
	return !strings.Contains(first, ".")
}

func ruleOf(rules []rule, name string) (rule, bool) {
	i := slices.IndexFunc(rules, func(r rule) bool { return fits(r.path, name) })
	if i < 0 {
		return rule{}, false
	}
	return rules[i], true
}

func (r rule) isPure(f file) bool {
	return r.pure == everything || slices.Contains(strings.Fields(r.pure), path.Base(f.name))
}

// permission returns the element of may that allows an import; empty if none does. A module allows all its packages.
func (r rule) permission(imported string) string {
	name := shortPath(imported)
	for _, m := range strings.Fields(r.may) {
		if fits(m, name) || !ours(m) && fits(m+"/...", name) {
			return m
		}
	}
	return ""
}

func standard(imported string) bool {
	return ours(imported) && !strings.HasPrefix(imported, module+"/")
}

func TestPackagesImportOnlyWhatTheirRulesAllow(t *testing.T) {
	report(t, wrongImports(importRules(), sources(t).files))
}

// wrongImports finds packages without a rule, imports that a rule does not allow, and rules that no longer apply.
func wrongImports(rules []rule, files []file) []problem {
	var found []problem
	inside := map[string][]file{}
	for _, f := range files {
		r, ok := ruleOf(rules, shortPath(module+"/"+f.folder()))
		if !ok {
			found = append(found, f.problem(f.syntax, "a new package: give it a rule in internal/architecture/imports_test.go and in docs/architecture.md"))
		}
		inside[r.path] = append(inside[r.path], f)
	}
	for _, r := range rules {
		if len(inside[r.path]) == 0 {
			found = append(found, problem{r.path, "there is no such package any more: remove its rule"})
		}
		found = append(found, r.wrongImports(slices.DeleteFunc(inside[r.path], file.isTest))...)
	}
	return found
}

func (r rule) wrongImports(files []file) []problem {
	var found []problem
	used := map[string]bool{everything: true}
	for _, f := range files {
		for _, s := range f.syntax.Imports {
			p := r.permission(imported(s))
			used[p] = true
			if p == "" && !standard(imported(s)) {
				found = append(found, f.problem(s, fmt.Sprintf(
					"%s may not import %s (%s). If it should, say so in internal/architecture/imports_test.go", r.path, imported(s), r.why)))
			}
		}
		used[path.Base(f.name)] = true
	}
	for _, name := range strings.Fields(r.may + " " + r.pure) {
		if !used[name] {
			found = append(found, problem{r.path, fmt.Sprintf("has no %s: remove it from its rule in internal/architecture/imports_test.go", name)})
		}
	}
	return found
}

func TestTheRulesFollowTheLayers(t *testing.T) { report(t, wrongRules(importRules())) }

// wrongRules finds rules that allow what no package may do.
func wrongRules(rules []rule) []problem {
	var found []problem
	for i, r := range rules {
		if slices.ContainsFunc(rules[:i], func(o rule) bool { return o.path == r.path }) || r.why == "" {
			found = append(found, problem{r.path, "two rules, or one without a reason"})
		}
		for _, m := range strings.Fields(r.may) {
			if k, ok := ruleOf(rules, m); ok && r.pure == everything && k.pure != everything {
				found = append(found, problem{r.path, "is pure and may import " + m + ", which is not"})
			}
			if strings.HasPrefix(r.path, "kernel") && !fits("kernel/...", m) && !slices.Contains([]string{"state", "diff", "rule"}, m) && (ours(m) || strings.HasPrefix(m, "k8s.io/")) {
				found = append(found, problem{r.path, "is of the kernel and may import " + m + ": it should know rows and no Service"})
			}
		}
	}
	return found
}

// Tests may import everything, but nothing outside e2e imports e2e, and programs import nothing for tests.
func TestProgramsImportNothingForTests(t *testing.T) { each(t, testOnlyImports) }

func testOnlyImports(f file) []problem {
	var found []problem
	isE2E := strings.HasPrefix(f.name, "e2e/")
	for _, s := range f.syntax.Imports {
		p := shortPath(imported(s))
		if !isE2E && fits("e2e/...", p) {
			found = append(found, f.problem(s, fmt.Sprintf("imports %s: a test that needs it belongs to e2e", p)))
		}
		if !isE2E && !f.isTest() && isForTests(p) && !slices.Contains(testSupport(), f.folder()) {
			found = append(found, f.problem(s, fmt.Sprintf("imports %s, which is for tests", p)))
		}
	}
	return found
}

// testSupport are the packages that tests share.
func testSupport() []string { return []string{"internal/testkit", "internal/testkit/mem"} }

func isForTests(name string) bool {
	return slices.ContainsFunc([]string{"testing", "testkit", "github.com/google/go-cmp", "golang.org/x/tools"},
		func(m string) bool { return fits(m+"/...", name) })
}
