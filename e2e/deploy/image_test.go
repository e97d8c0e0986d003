// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// instruction is one line of a Dockerfile: COPY --from=a b c.
type instruction struct {
	name  string
	flags map[string]string
	words []string
}

func (i instruction) String() string { return fmt.Sprint(i.name, i.flags, i.words) }

func instructions(text string) []instruction {
	text = regexp.MustCompile(`(?m)^#.*\n`).ReplaceAllString(text, "")
	var all []instruction
	for line := range strings.SplitSeq(strings.ReplaceAll(text, "\\\n", " "), "\n") {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		i := instruction{name: words[0], flags: map[string]string{}}
		for _, w := range words[1:] {
			if flag, value, ok := strings.Cut(w, "="); ok && strings.HasPrefix(flag, "--") && len(i.words) == 0 {
				i.flags[flag] = value
			} else {
				i.words = append(i.words, w)
			}
		}
		all = append(all, i)
	}
	return all
}

func dockerfile(t *testing.T) []instruction {
	t.Helper()
	return instructions(string(read(t, root+"/Dockerfile")))
}

func TestTheDockerfileCopiesAndBuildsWhatIsThere(t *testing.T) {
	stages := map[string]bool{}
	made := map[string]bool{}
	for _, i := range dockerfile(t) {
		switch i.name {
		case "FROM":
			if at := slices.Index(i.words, "AS"); at > 0 {
				stages[i.words[at+1]] = true
			}
		case "COPY":
			from, other := i.flags["--from"]
			for _, w := range i.words[:len(i.words)-1] {
				if other && (!stages[from] || !made[w]) {
					t.Errorf("%v: no stage made that", i)
				} else if _, err := os.Stat(filepath.Join(root, w)); !other && err != nil {
					t.Errorf("%v: %v", i, err)
				}
			}
		case "RUN":
			if at := slices.Index(i.words, "-o"); at > 0 {
				made[i.words[at+1]] = true
				if _, err := os.Stat(filepath.Join(root, i.words[len(i.words)-1])); err != nil {
					t.Errorf("%v: %v", i, err)
				}
			}
		}
	}
}

func TestTheDockerfileHasTheCompilerThatTheModuleAsksFor(t *testing.T) {
	language := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(string(read(t, root+"/go.mod")))[1]
	first := dockerfile(t)[0]
	if first.name != "FROM" || first.words[0] != "golang:"+language+"-bookworm" || first.flags["--platform"] != "$BUILDPLATFORM" {
		t.Errorf("builds by %v, the module is in Go %s", first, language)
	}
}

func TestTheContainersStartTheProgramOfTheImage(t *testing.T) {
	all := dockerfile(t)
	last := all[len(all)-1]
	if want := (`ENTRYPOINT ["/usr/local/bin/kube-ipvs"]`); last.name+" "+strings.Join(last.words, " ") != want {
		t.Errorf("%v, want %s", last, want)
	}
	p := daemonSet(t).Spec.Template.Spec
	for _, c := range slices.Concat(p.InitContainers, p.Containers) {
		if len(c.Command) > 0 || c.Args[0] != "run" {
			t.Errorf("%s starts %v %v", c.Name, c.Command, c.Args)
		}
	}
}

func TestTheProgramCanBeBuiltForOtherPlatforms(t *testing.T) {
	c := exec.Command("go", "build", "-o", os.DevNull, "./cmd/kube-ipvs")
	c.Dir = root
	c.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=arm64")
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
