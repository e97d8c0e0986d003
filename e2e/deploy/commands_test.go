// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/cli"
)

// checkers returns what a command of a document is held to, by its program.
func checkers() map[string]func(t *testing.T, args []string) error {
	unread := func(*testing.T, []string) error { return nil } // neither ours nor about our files
	return map[string]func(*testing.T, []string) error{
		"kube-ipvs": checkOurs,
		"make":      checkMake,
		"go":        checkGo,
		"kubectl":   checkKubectl,
		"kustomize": checkKustomize,
		"curl":      checkCurl,
		"helm":      checkHelm,
		"cd":        checkFolder,
		"cp":        checkCopy,
		"bin/lab":   checkBinary, "bin/demo": checkBinary,
		"grep": unread, "ip": unread, "iptables": unread, "ipset": unread, "ipvsadm": unread, "nft": unread,
		"ansible-playbook": unread, "mkdir": unread, "sed": unread, "systemctl": unread, "talosctl": unread,
		"kubeadm": unread, // e2e/upstream/kubeadm has kubeadm read them
	}
}

// checkLine holds a line of shell to the programs that it starts.
func checkLine(t *testing.T, line string) error {
	t.Helper()
	commands, err := shellCommands(line)
	for _, words := range commands {
		check := checkers()[words[0]]
		if check == nil {
			return fmt.Errorf("nothing here knows the program %s", words[0])
		}
		err = errors.Join(err, check(t, words[1:]))
	}
	return err
}

// checkOurs runs a command on the kernel of the demo's node-1. It has to succeed, so it has no unknown flag or value.
func checkOurs(t *testing.T, args []string) error {
	t.Helper()
	filled := strings.NewReplacer(
		"SOURCE", "10.244.1.10", "ADDRESS:PORT", "10.96.0.80:80", "NAMESPACE/NAME", "shop/web", "NODE", "node-1",
		"/var/lib/kube-proxy/config.conf", root+"/internal/config/proxyconfig/testdata/kubeadm.yaml",
		"DIR", root+"/manifests/demo", "OUT", filepath.Join(t.TempDir(), "out"))
	file := root + "/manifests/demo/shop-web.yaml"
	if slices.Contains(args, "run") {
		file = root + "/internal/config/proxyconfig/testdata/kubeadm.yaml"
	}
	words := []string{} // none are those of this test's own command line
	for _, a := range fromHere(args) {
		if a == "FILE" {
			a = file
		}
		words = append(words, filled.Replace(a))
	}
	var out bytes.Buffer
	if status := cli.Execute(t.Context(), offline(t, objectsOfTheDemo(t), &out), words); status != cli.ExitOK {
		return fmt.Errorf("status %d: %s", status, out.String())
	}
	return nil
}

// checkMake reports targets and packages that are not there.
func checkMake(t *testing.T, args []string) error {
	t.Helper()
	makefile := string(read(t, root+"/Makefile"))
	for _, a := range args {
		name, value, isVariable := strings.Cut(a, "=")
		switch {
		case name == "PKG":
			if err := checkFolder(t, []string{value}); err != nil {
				return err
			}
		case isVariable && !strings.Contains(makefile, name):
			return fmt.Errorf("the Makefile has no variable %s", name)
		case !isVariable && !regexp.MustCompile(`(?m)^([\w/-]+ )*`+regexp.QuoteMeta(a)+`( [\w/-]+)*:`).MatchString(makefile):
			return fmt.Errorf("the Makefile has no target %s", a)
		}
	}
	return nil
}

// checkGo reports packages that are not there.
func checkGo(t *testing.T, args []string) error {
	t.Helper()
	for _, a := range args[1:] {
		if strings.HasPrefix(a, "./") {
			if err := checkFolder(t, []string{strings.TrimSuffix(a, "/...")}); err != nil {
				return err
			}
		}
	}
	if verb := args[0]; verb != "test" && verb != "build" {
		return fmt.Errorf("go %s is no command of the documents", verb)
	}
	return nil
}

func checkFolder(_ *testing.T, args []string) error {
	if args[0] == "-" {
		return nil
	}
	stat, err := os.Stat(filepath.Join(root, args[0]))
	if err == nil && !stat.IsDir() {
		err = fmt.Errorf("%s is no folder", args[0])
	}
	return err
}

// checkBinary accepts the programs of make build with any arguments: those of the lab are a command of the reader's.
func checkBinary(*testing.T, []string) error { return nil }

// checkKustomize accepts what sets the image that the manifests have.
func checkKustomize(t *testing.T, args []string) error {
	t.Helper()
	image, _, _ := strings.Cut(args[len(args)-1], "=")
	if !slices.Equal(args[:len(args)-1], []string{"edit", "set", "image"}) || !strings.Contains(allManifests(t), "image: "+image) {
		return fmt.Errorf("kustomize %v sets no image of the manifests", args)
	}
	return nil
}

// checkCurl reports URLs that are not of the servers of kube-ipvs. That they answer as the page says is what
// e2e/cluster tests, which follows docs/migrate.md.
func checkCurl(_ *testing.T, args []string) error {
	u, err := url.Parse(args[len(args)-1])
	if err != nil {
		return err
	}
	paths := map[string][]string{"127.0.0.1:10249": {"/proxyMode", "/metrics"}, "127.0.0.1:10256": {"/healthz", "/livez"}}
	if !slices.Contains(paths[u.Host], u.Path) {
		return fmt.Errorf("kube-ipvs does not serve %s", u)
	}
	return nil
}

// kubectlFlags returns the flags of kubectl that the documents use, and whether they have a value.
func kubectlFlags() map[string]bool {
	return map[string]bool{
		"-n": true, "--namespace": true, "-A": false, "--all-namespaces": false, "-l": true, "--selector": true, "-o": true, "--output": true,
		"--field-selector": true, "-c": true, "-k": true, "--kustomize": true, "--patch": true, "--patch-file": true,
		"--overwrite": false, "--watch": false, "--from-file": true,
	}
}

// checkKubectl reports verbs and flags that no document needs, and files and objects that are not in the manifests.
func checkKubectl(t *testing.T, args []string) error {
	t.Helper()
	args, inside := divide(args, "--")
	var words []string
	for i := 0; i < len(args); i++ {
		name, value, joined := strings.Cut(args[i], "=")
		takes, known := kubectlFlags()[name]
		switch {
		case !strings.HasPrefix(args[i], "-") || args[i] == "-":
			words = append(words, args[i])
			continue
		case !known:
			return fmt.Errorf("kubectl has no flag %s that the documents use", name)
		case takes && !joined && i+1 < len(args):
			i++
			value = args[i]
		}
		if err := checkKubectlValue(t, name, value); err != nil {
			return err
		}
	}
	if verbs := []string{"apply", "get", "label", "patch", "rollout", "delete", "exec", "logs", "describe", "create"}; !slices.Contains(verbs, words[0]) {
		return fmt.Errorf("kubectl %s is no command of the documents", words[0])
	}
	if err := checkObjects(t, words); err != nil || len(inside) == 0 {
		return err
	}
	return checkLine(t, strings.Join(inside, " "))
}

// divide cuts words at the first one that is equal to at.
func divide(words []string, at string) (before, after []string) {
	if i := slices.Index(words, at); i >= 0 {
		return words[:i], words[i+1:]
	}
	return words, nil
}

func checkKubectlValue(t *testing.T, name, value string) error {
	t.Helper()
	switch name {
	case "-k", "--kustomize":
		_, err := os.Stat(filepath.Join(root, value, "kustomization.yaml"))
		return err
	case "--patch-file":
		_, err := os.Stat(filepath.Join(root, value))
		return err
	case "--patch":
		return json.Unmarshal([]byte(value), &map[string]any{})
	case "-l", "--selector":
		return checkLabel(t, strings.Replace(value, "!=", "=", 1))
	}
	return nil
}

// checkObjects holds labels and DaemonSets to the manifests.
func checkObjects(t *testing.T, words []string) error {
	t.Helper()
	var err error
	for i, w := range words {
		if strings.Contains(w, "=") {
			err = errors.Join(err, checkLabel(t, w))
		}
		if w == "daemonset" {
			for _, name := range words[i+1:] {
				if name != "kube-proxy" && !strings.Contains(allManifests(t), "name: "+name+"\n") {
					err = errors.Join(err, fmt.Errorf("the manifests have no DaemonSet %s", name))
				}
			}
		}
	}
	return err
}

// checkLabel reports a label that neither the manifests nor kube-proxy's have.
func checkLabel(t *testing.T, label string) error {
	t.Helper()
	name, value, _ := strings.Cut(label, "=")
	text := allManifests(t)
	if label != "k8s-app=kube-proxy" && (!strings.Contains(text, name) || !strings.Contains(text, value)) {
		return fmt.Errorf("the manifests have no label %s", label)
	}
	return nil
}

// allManifests returns the text of all files below manifests.
func allManifests(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(manifests, func(name string, _ os.DirEntry, err error) error {
		if err == nil && filepath.Ext(name) == ".yaml" {
			all.Write(read(t, name))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

func TestCommandsThatWouldFailAreFound(t *testing.T) {
	for _, line := range []string{
		"kube-ipvs", "kube-ipvs dump -o wide", "kube-ipvs trace SOURCE ADDRESS:PORT", "kube-ipvs plan -f - --node node-1", "make test",
		"make kernel-test PKG=./e2e/memory RUN=TestName", "go test ./e2e/deploy", "kubectl apply -k manifests/overlays/migrate", "bin/lab id",
		"kubectl -n kube-system exec POD -c kube-ipvs -- kube-ipvs dump", "curl -s http://127.0.0.1:10256/livez", "cd docs && cd -",
	} {
		if err := checkLine(t, line); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
	for line, want := range map[string]string{
		"kube-ipvs dumb": "unknown command", "kube-ipvs dump --wide": "unknown flag", "kube-ipvs dump -o wider": "wider",
		"a | kube-ipvs plan": "program a", "kube-ipvs plan -f nowhere.yaml": "no such file", "make tests": "no target", "make test A_B=1": "no variable",
		"make kernel-test PKG=./e2e/nowhere": "no such file", "go test ./e2e/nowhere": "no such file", "go vet .": "no command",
		"kubectl apply -k manifests/base/rbac.yaml": "kustomization.yaml", "kubectl apply --force": "no flag", "kubectl run": "no command",
		"kubectl patch daemonset kube-proxy --patch '{'": "unexpected end", "kubectl label node N kube-ipvs.io/proxy=magic": "no label",
		"kubectl get pods -l k8s-app=kube-router": "no label", "kubectl delete daemonset nothing": "no DaemonSet",
		"kubectl exec POD -- kube-ipvs dumb": "unknown command", "curl http://127.0.0.1:10249/magic": "does not serve",
		"kustomize edit set image other=a": "sets no image", "cd nowhere": "no such file", "cd Makefile": "no folder",
	} {
		if err := checkLine(t, line); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", line, err, want)
		}
	}
}
