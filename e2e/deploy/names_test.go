// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	// logText matches inline code that can only be a message: some words in lower case, and no name of a field or a
	// file.
	logText = regexp.MustCompile(`^[a-z]+(?:[;,]? [A-Za-z]+)+$`)

	// compound matches names such as EndpointSlice, vipBinding and ipvs.strictARP.
	compound = regexp.MustCompile(`^(?:\w+\.)*[A-Za-z]*[a-z][A-Z]\w*$`)

	// testName matches a test, with the package before it or without.
	testName = regexp.MustCompile(`^(?:((?:internal|e2e)/\S+) )?((?:Test|Fuzz)[A-Z]\w*)$`)
)

func TestMessagesInDocumentsAreThoseOfTheProgram(t *testing.T) {
	program := text(t, isProgram, "cmd", "internal")
	unused := messagesOfOthers()
	for _, s := range spans(t) {
		tool, _, _ := strings.Cut(s.text, " ")
		if !logText.MatchString(s.text) || checkers()[tool] != nil {
			continue
		}
		said := strings.Contains(program, s.text)
		if _, excused := messagesOfOthers()[s.text]; excused && !said {
			delete(unused, s.text)
		} else if !said {
			t.Errorf("%s: no part of the program says %q", s.page, s.text)
		}
	}
	for message := range unused {
		t.Errorf("%q is in the program, or in no document: remove it from messagesOfOthers", message)
	}
}

// messagesOfOthers returns what looks like a message and is none that the program says, and why.
func messagesOfOthers() map[string]string {
	return map[string]string{
		"message too long": "the kernel's EMSGSIZE",
		"sh cluster":       "a language of blocks",
		"sh node":          "a language of blocks",
	}
}

// Fields, events, kinds and the like are written somewhere in the program or its manifests; tests are where the page
// says.
func TestNamesInDocumentsExist(t *testing.T) {
	all := text(t, func(string) bool { return true }, "cmd", "internal", "manifests")
	for _, s := range spans(t) {
		if m := testName.FindStringSubmatch(s.text); m != nil {
			if s.page != parityPage && !strings.Contains(tests(t, m[1]), "func "+m[2]+"(") {
				t.Errorf("%s: there is no test %s", s.page, s.text)
			}
			continue
		}
		name := s.text[strings.LastIndex(s.text, ".")+1:]
		if compound.MatchString(s.text) && !strings.Contains(all, name) && !namesOfOthers()[s.text] {
			t.Errorf("%s: neither the code nor the manifests have %s", s.page, s.text)
		}
	}
}

// namesOfOthers returns what only other programs read: Calico, the controller of EndpointSlices, Cluster API, k3s.
func namesOfOthers() map[string]bool {
	return map[string]bool{
		"chainInsertMode": true, "trafficDistribution": true,
		"KubeadmControlPlane": true, "skipPhases": true, "HelmChartProxy": true, "HelmChart": true,
	}
}

// tests returns the text of the tests of a package, or of all.
func tests(t *testing.T, folder string) string {
	t.Helper()
	isTest := func(name string) bool {
		return strings.HasSuffix(name, "_test.go") || strings.Contains(name, "testkit")
	}
	if folder == "" {
		return text(t, isTest, "internal", "e2e")
	}
	return text(t, isTest, folder)
}

func isProgram(name string) bool {
	return filepath.Ext(name) == ".go" && !strings.HasSuffix(name, "_test.go")
}

// text returns the Go and YAML files of some folders that keep passes.
func text(t *testing.T, keep func(name string) bool, folders ...string) string {
	t.Helper()
	var all strings.Builder
	for _, folder := range folders {
		err := filepath.WalkDir(filepath.Join(root, folder), func(name string, _ os.DirEntry, err error) error {
			if ext := filepath.Ext(name); err != nil || ext != ".go" && ext != ".yaml" || !keep(name) {
				return err
			}
			all.Write(read(t, name))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all.String()
}

func TestMessagesAndNamesAreFoundInDocuments(t *testing.T) {
	for text, want := range map[string][3]bool{
		"kernel synced": {true, false, false}, "manifest is invalid; keeping its last valid objects": {true, false, false},
		"could not raise nf_conntrack_max": {}, "mode: ipvs": {}, "-o wide": {}, "rr": {}, "KUBE-INSIDE": {}, "ipvs": {},
		"vipBinding": {false, true, false}, "ipvs.strictARP": {false, true, false}, "ServicesStopped": {false, true, false},
		"internal/serve TestA": {false, false, true}, "TestAB": {false, false, true},
	} {
		got := [3]bool{logText.MatchString(text), compound.MatchString(text) && !testName.MatchString(text), testName.MatchString(text)}
		if got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}
