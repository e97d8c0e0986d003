// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/kube-ipvs/kube-ipvs/e2e/rig"
)

// guide is docs/migrate.md: its blocks of commands, by heading.
type guide map[string][]block

// block is some commands, for the cluster's administrator or for root on a node.
type block struct {
	node     bool
	commands []command
}

// command is a line, and the output that the lines after it announce.
type command struct {
	line   string
	prints []string
}

func readGuide(t *testing.T) guide {
	t.Helper()
	text, err := os.ReadFile("../../docs/migrate.md")
	if err != nil {
		t.Fatal(err)
	}
	g, heading := guide{}, ""
	var b *block
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		prints, isPrint := strings.CutPrefix(line, "# prints ")
		switch {
		case b == nil && strings.HasPrefix(line, "#"):
			heading = strings.TrimLeft(line, "# ")
		case line == "```sh node", line == "```sh cluster":
			b = &block{node: line == "```sh node"}
		case b == nil:
		case line == "```":
			g[heading] = append(g[heading], *b)
			b = nil
		case isPrint:
			last := &b.commands[len(b.commands)-1]
			last.prints = append(last.prints, prints)
		default:
			b.commands = append(b.commands, command{line: line})
		}
	}
	return g
}

// reader follows the guide on one node, and does what a DaemonSet does there when its label changes.
type reader struct {
	*stage
	t       *testing.T
	node    *node
	mode    string // of kube-proxy
	running *rig.Daemon
	ours    bool // it is kube-ipvs that runs, not kube-proxy
}

func (r *reader) follow(g guide, heading string) {
	r.t.Helper()
	if len(g[heading]) == 0 {
		r.t.Fatalf("the guide has no commands below %q", heading)
	}
	for _, b := range g[heading] {
		for _, c := range b.commands {
			if b.node {
				r.onNode(c)
			} else {
				r.inCluster(c.line)
			}
		}
	}
}

// onNode runs a command as it is written. One with an announced output is run until it prints that; any other must
// succeed at once.
func (r *reader) onNode(c command) {
	r.t.Helper()
	folder := filepath.Dir(r.node.Command()[0])
	run := func() (string, error) {
		return r.node.Node.Run(r.t.Context(), "sh", "-c", "PATH="+folder+":$PATH; "+c.line)
	}
	if len(c.prints) == 0 {
		output, err := run()
		if err != nil {
			r.t.Fatal(err)
		}
		r.t.Logf("%s\n%s", c.line, output)
		return
	}
	rig.Until(r.t, patience, func() error {
		output, err := run()
		for _, want := range c.prints {
			any := strings.Split(strings.ReplaceAll(want, " or ", ", "), ", ")
			if !slices.ContainsFunc(any, func(s string) bool { return strings.Contains(output, s) }) {
				return fmt.Errorf("%s (%v) does not print %s:\n%s", c.line, err, want, output)
			}
		}
		return nil
	})
}

// inCluster does on the node what a command of the guide causes there.
func (r *reader) inCluster(line string) {
	r.t.Helper()
	const label = "kubectl label node NODE "
	switch {
	case line == "kubectl get services,endpointslices,nodes --all-namespaces --output yaml | kube-ipvs plan -f - --node NODE >/dev/null":
		r.plan()
	case line == label+"kube-ipvs.io/proxy=kube-ipvs":
		r.running.Kill()
		r.node.configure(r.t, r.kubeconfig(r.t, account, r.identity(r.t.Context())), modeIPVS)
		r.running, r.ours = r.node.startOurs(r.t), true
	case line == label+"--overwrite kube-ipvs.io/proxy=hand-back":
		r.stopOurs()
	case line == label+"kube-ipvs.io/proxy-":
		r.stopOurs()
		if r.running == nil {
			r.startTheirs()
		}
	case line == label+"kube-ipvs.io/proxy=clean-up": // kube-proxy runs on
	case strings.Contains(line, "--watch"): // the next block waits for what it shows
	case strings.HasPrefix(line, "cd manifests/overlays/migrate && kustomize edit"), strings.HasPrefix(line, "kubectl apply --kustomize"),
		strings.HasPrefix(line, "kubectl --namespace kube-system patch daemonset kube-proxy"),
		strings.HasPrefix(line, "kubectl --namespace kube-system rollout status"): // package deploy builds what these apply
	default:
		r.t.Fatalf("the guide has a command that this test can't follow: %s", line)
	}
}

func (r *reader) startTheirs() {
	r.t.Helper()
	r.running, r.ours = r.theirsOn(r.t, r.node, r.mode), false
}

// stopOurs stops kube-ipvs, if it runs.
func (r *reader) stopOurs() {
	r.t.Helper()
	if r.ours {
		r.running.Stop(r.t)
		r.running, r.ours = nil, false
	}
}

// plan gives the objects of the API server to kube-ipvs plan.
func (r *reader) plan() {
	r.t.Helper()
	x := r.index(r.t, r.node.Node.Name)
	list := &corev1.List{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "List"}}
	add := func(apiVersion, kind string, o any) {
		text, err := json.Marshal(o)
		if err != nil {
			r.t.Fatal(err)
		}
		typed := strings.Replace(string(text), "{", fmt.Sprintf("{%q:%q,%q:%q,", "apiVersion", apiVersion, "kind", kind), 1)
		list.Items = append(list.Items, runtime.RawExtension{Raw: []byte(typed)})
	}
	for _, key := range x.Services() {
		service, all := x.Objects(key).Unpack()
		add("v1", "Service", service)
		for _, o := range all {
			add("discovery.k8s.io/v1", "EndpointSlice", o)
		}
	}
	add("v1", "Node", x.Place(r.node.Node.Name).Node)
	text, err := json.Marshal(list)
	if err != nil {
		r.t.Fatal(err)
	}
	file := filepath.Join(r.node.disk, "objects.json")
	if err := os.WriteFile(file, text, 0o644); err != nil {
		r.t.Fatal(err)
	}
	r.run(r.t, r.node.Node.Name, r.node.Command("plan", "-f", file, "--node", r.node.Node.Name)...)
}

func TestTheGuideCanBeFollowedWordByWord(t *testing.T) {
	g := readGuide(t)
	for mode, back := range map[string]string{modeIPVS: "To ipvs mode", modeIPTables: "To iptables mode"} {
		t.Run(mode, func(t *testing.T) {
			s := newStage(t)
			web := loadBalancer(1, clusterIP(1, "web", pods("pod-a", "pod-d")...))
			s.put(t, web)
			r := &reader{stage: s, t: t, node: s.nodes[0], mode: mode}
			r.startTheirs()
			var mine []flow
			for _, f := range flowsTo(web) {
				if f.from == "pod-client" || f.from == "client" {
					mine = append(mine, f)
				}
			}
			awaitAnswers(t, mine...)
			l := startLoad(t, often, mine...)
			r.follow(g, "1. Look at what is there")
			r.follow(g, "2. Install it, on no node yet")
			r.follow(g, "3. The first node")
			l.more(t, 3)
			if mode == modeIPTables {
				l.end(t) // connections through IPVS end with the clean-up
			}
			r.follow(g, back)
			if mode == modeIPVS {
				l.more(t, 3)
				l.end(t)
			}
			awaitAnswers(t, mine...)
		})
	}
}
