// SPDX-License-Identifier: Apache-2.0

package architecture

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
)

// room is a package and what it may know. Ours are named as in
// docs/architecture.md (plan is internal/plan), those of others by module.
type room struct {
	path string // with /... it stands for all below it too
	// may is what it may import beside the standard library: exactly what it
	// does import.
	may string
	// pure are the files that only compute.
	pure string
	why  string
}

const everything = "*"

// In what order: the rooms that decide, those that act, those that people see,
// and those that look on. Of rows that fit a package the first counts.
func rooms() []room {
	const all, k8s, sys = everything, "k8s.io/api k8s.io/apimachinery", "golang.org/x/sys"
	return []room{
		{"diff", "", all, "compares any two tables, so it knows none"},
		{"state", "diff", all, "the nouns: every package knows them, they know only how to compare them"},
		{"config", "state", all, "choices, in the words of the tables"},
		{"config/proxyconfig", "config k8s.io/apimachinery k8s.io/component-base k8s.io/kube-proxy k8s.io/utils sigs.k8s.io/json sigs.k8s.io/yaml", all,
			"the documents that choices are written in: kube-proxy's and ours, but no file and no flag"},
		{"plan", "config diff state k8s.io/api", all, "Service semantics, which neither a kernel nor a client can change"},
		{"takeover", "state", all, "what kube-proxy leaves and expects, as rows: neither plan nor kernel"},
		{"desired", "diff state", all, "merges rows of any owners, so it knows no Service"},
		{"drain", "state", all, "the life of a real server, in values and times"},
		{"reconcile", "desired diff drain kernel state go.uber.org/zap", "admit.go advance.go backlog.go balance.go believed.go core.go elastic.go flock.go flows.go held.go lane.go meanwhile.go observer.go proof.go schedule.go tables.go trials.go",
			"the core decides; the loop is the one place that has a clock, a log and tables"},

		{"kernel", "diff state", "", "what a table is: it talks to no kernel, so it needs no library"},
		{"kernel/netlink", "state " + sys, "attribute.go message.go requests.go", "many netlink requests at once, for a family of the tables, and pauses between reads"},
		{"kernel/conntrack", "kernel/netlink state github.com/vishvananda/netlink " + sys, "convert.go pass.go",
			"an action and no table, so it knows neither Store nor diff"},
		{"kernel/ipset", "diff kernel kernel/netlink state " + sys, "decode.go encode.go errors.go numbers.go",
			"sets and entries over netlink, without a library"},
		{"kernel/iptables", "diff kernel state github.com/coreos/go-iptables", "parse.go script.go variant.go",
			"chains and jumps; the only package that starts programs, and so the only one with go-iptables"},
		{"kernel/ipvs", "diff kernel kernel/netlink state github.com/moby/ipvs " + sys, "convert.go parse.go",
			"virtual and real servers; the only package with moby/ipvs"},
		{"kernel/link", "diff kernel kernel/netlink state github.com/vishvananda/netlink " + sys, "convert.go request.go route.go",
			"the dummy device and its addresses, or the local routes in their place"},
		{"kernel/nft", "diff kernel kernel/netlink state " + sys, "convert.go", "tables of nftables that another program left: it has no rules of its own"},
		{"kernel/linux", "diff kernel kernel/conntrack kernel/ipset kernel/iptables kernel/ipvs kernel/link kernel/netlink kernel/nft state " + sys, "",
			"all adapters of this machine together, and its sysctls"},
		{"testkit/mem", "diff kernel state", "", "a kernel in memory, for tests that need no other"},
		{"testkit", "diff kernel state " + sys, "", "what tests share: a namespace, the contract of a Store, waits"},

		{"cluster", k8s, "compact.go form.go index.go objects.go same.go service.go slice.go", "objects in their compact form and what changed of them, wherever they come from"},
		{"cluster/file", "cluster github.com/fsnotify/fsnotify go.uber.org/zap go.yaml.in/yaml/v3 " + k8s,
			"check.go claims.go decode.go defaults.go json.go pairs.go settle.go", "objects from files"},
		{"cluster/kube", "cluster config go.uber.org/zap k8s.io/client-go k8s.io/utils " + k8s + " " + sys, "strip.go", "objects from an API server, and how it is reached"},
		{"cluster/snapshot", "cluster go.uber.org/zap " + k8s, "", "the last objects of any source, on disk: it knows neither an API server nor a kernel"},
		{"node", "kernel/link kernel/netlink state " + sys, "", "this node's name and addresses, from the kernel's own events"},
		{"ports", "state k8s.io/apimachinery", "addresses.go", "the ports of Services that no table can serve: health checks, NodePorts of the loopback addresses"},
		{"metrics", "desired plan reconcile state github.com/prometheus/client_golang k8s.io/client-go", "", "counts what the loop reports; the only package with Prometheus"},
		{"serve", "cluster ports reconcile state k8s.io/api", "", "what the proxy itself serves: its health, by what the loop reports, and the HTTP servers"},
		{"events", "go.uber.org/zap k8s.io/client-go " + k8s, "", "events of objects and the node; when and what is its callers' choice"},

		{"render", "state sigs.k8s.io/yaml", all, "rows as text: it asks nothing, so that the program, its tests and its users see the same"},
		{"trace", "state", all, "what becomes of a packet, by the rows alone: it knows no plan, so that it can judge one"},
		{"cli", "cluster cluster/file config config/proxyconfig desired plan render state trace github.com/spf13/cobra " +
			"github.com/spf13/pflag k8s.io/api k8s.io/apimachinery k8s.io/component-base", "", "commands over an Env; the only package with cobra, and without a kernel"},
		{"app", "cli cluster cluster/file cluster/kube cluster/snapshot config desired diff events " +
			"kernel kernel/conntrack kernel/ipset kernel/iptables kernel/ipvs kernel/link kernel/linux metrics node plan ports " +
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

// fits reports whether a room or an import is what a row means.
func fits(row, name string) bool {
	below, tree := strings.CutSuffix(row, "/...")
	return row == everything || name == below || tree && strings.HasPrefix(name, below+"/")
}

// known is how the table names an import path.
func known(imported string) string {
	ours, _ := strings.CutPrefix(imported, module+"/")
	return strings.TrimPrefix(ours, "internal/")
}

// ours reports whether a name of the table is of this module.
func ours(name string) bool {
	first, _, _ := strings.Cut(name, "/")
	return !strings.Contains(first, ".")
}

func findRoom(rooms []room, name string) (room, bool) {
	i := slices.IndexFunc(rooms, func(r room) bool { return fits(r.path, name) })
	if i < 0 {
		return room{}, false
	}
	return rooms[i], true
}

func (r room) isPure(f file) bool {
	return r.pure == everything || slices.Contains(strings.Fields(r.pure), path.Base(f.name))
}

// permission is what in the row lets an import in; empty if nothing does. Of
// others a row lets in all packages of a module.
func (r room) permission(imported string) string {
	name := known(imported)
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

func TestEveryRoomKnowsOnlyWhatItNeeds(t *testing.T) { report(t, strangers(rooms(), house(t).files)) }

// strangers finds packages without a row, imports that a room may not have, and
// what a row says of a room that does not hold any more.
func strangers(rooms []room, files []file) []problem {
	var found []problem
	inside := map[string][]file{}
	for _, f := range files {
		r, ok := findRoom(rooms, known(module+"/"+f.folder()))
		if !ok {
			found = append(found, f.problem(f.syntax, "a new room: give it a row in internal/architecture/rooms_test.go and in docs/architecture.md"))
		}
		inside[r.path] = append(inside[r.path], f)
	}
	for _, r := range rooms {
		if len(inside[r.path]) == 0 {
			found = append(found, problem{r.path, "there is no such room any more: remove its row"})
		}
		found = append(found, r.strangers(slices.DeleteFunc(inside[r.path], file.isTest))...)
	}
	return found
}

func (r room) strangers(files []file) []problem {
	var found []problem
	used := map[string]bool{everything: true}
	for _, f := range files {
		for _, s := range f.syntax.Imports {
			p := r.permission(imported(s))
			used[p] = true
			if p == "" && !standard(imported(s)) {
				found = append(found, f.problem(s, fmt.Sprintf(
					"%s may not import %s (%s). If it should, say so in internal/architecture/rooms_test.go", r.path, imported(s), r.why)))
			}
		}
		used[path.Base(f.name)] = true
	}
	for _, name := range strings.Fields(r.may + " " + r.pure) {
		if !used[name] {
			found = append(found, problem{r.path, fmt.Sprintf("has no %s: remove it from its row in internal/architecture/rooms_test.go", name)})
		}
	}
	return found
}

func TestTheTableKeepsTheLaws(t *testing.T) { report(t, lawless(rooms())) }

// lawless finds rows that permit what no room may do.
func lawless(rooms []room) []problem {
	var found []problem
	for i, r := range rooms {
		if slices.ContainsFunc(rooms[:i], func(o room) bool { return o.path == r.path }) || r.why == "" {
			found = append(found, problem{r.path, "two rows, or one without a reason"})
		}
		for _, m := range strings.Fields(r.may) {
			if k, ok := findRoom(rooms, m); ok && r.pure == everything && k.pure != everything {
				found = append(found, problem{r.path, "is pure and may know " + m + ", which is not"})
			}
			if strings.HasPrefix(r.path, "kernel") && !fits("kernel/...", m) && m != "state" && m != "diff" && (ours(m) || strings.HasPrefix(m, "k8s.io/")) {
				found = append(found, problem{r.path, "is of the kernel and may know " + m + ": it is to know rows, and no Service"})
			}
		}
	}
	return found
}

// A test may know what it likes, but what is inside does not know who looks on,
// and what is for tests reaches no program.
func TestTestsStayOutside(t *testing.T) { each(t, misplaced) }

func misplaced(f file) []problem {
	var found []problem
	looksOn := strings.HasPrefix(f.name, "e2e/")
	for _, s := range f.syntax.Imports {
		p := known(imported(s))
		if !looksOn && fits("e2e/...", p) {
			found = append(found, f.problem(s, fmt.Sprintf("imports %s: a test that needs it belongs to e2e", p)))
		}
		if !looksOn && !f.isTest() && isForTests(p) && !slices.Contains(supports(), f.folder()) {
			found = append(found, f.problem(s, fmt.Sprintf("imports %s, which is for tests", p)))
		}
	}
	return found
}

// supports are the rooms of what tests share.
func supports() []string { return []string{"internal/testkit", "internal/testkit/mem"} }

func isForTests(name string) bool {
	return slices.ContainsFunc([]string{"testing", "testkit", "github.com/google/go-cmp", "golang.org/x/tools"},
		func(m string) bool { return fits(m+"/...", name) })
}
