// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"archive/tar"
	"compress/gzip"
	"debug/elf"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/kube-ipvs/kube-ipvs/e2e/image"
)

// architectures are those of the images, in the order of their index.
func architectures() []string { return []string{"amd64", "arm64"} }

// built images, by architecture. Both of a name are there.
func builtImages(t *testing.T, name string) map[string]image.Image {
	t.Helper()
	return imagesIn(t, image.Folder(t), name, architectures()...)
}

func imagesIn(t *testing.T, folder, name string, architectures ...string) map[string]image.Image {
	t.Helper()
	list, err := image.Read(filepath.Join(folder, name))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]image.Image{}
	var got []string
	for _, i := range list {
		all[i.Config.Architecture] = i
		got = append(got, i.Config.OS+"/"+i.Config.Architecture)
	}
	var want []string
	for _, a := range architectures {
		want = append(want, "linux/"+a)
	}
	if !slices.Equal(got, want) {
		t.Fatalf("%s is built for %q, want %q", name, got, want)
	}
	return all
}

func TestTheImagesSayWhatTheyAreAndStartTheProgram(t *testing.T) {
	module := "https://" + regexp.MustCompile(`(?m)^module (.*)$`).FindStringSubmatch(string(read(t, root+"/go.mod")))[1]
	for _, name := range []string{image.Bare, image.WithIPTables} {
		for arch, i := range builtImages(t, name) {
			c := i.Config.Config
			if want := []string{"/usr/local/bin/kube-ipvs"}; !slices.Equal(c.Entrypoint, want) || len(c.Cmd) > 0 || c.User != "" {
				t.Errorf("%s for %s starts %q %q as %q", name, arch, c.Entrypoint, c.Cmd, c.User)
			}
			const prefix = "org.opencontainers.image."
			got := map[string]string{}
			for label, value := range c.Labels {
				got[strings.TrimPrefix(label, prefix)] = value
			}
			if got["version"] == "" || got["description"] == "" {
				t.Errorf("%s for %s has labels %q", name, arch, c.Labels)
			}
			for _, varies := range []string{"version", "revision", "description"} {
				delete(got, varies)
			}
			if d := cmp.Diff(map[string]string{"title": name, "source": module, "licenses": "Apache-2.0"}, got); d != "" {
				t.Errorf("%s for %s: labels (-want +got):\n%s", name, arch, d)
			}
		}
	}
}

// Both images have the program, static and for the right processor. The bare one has nothing else.
func TestTheImagesHaveTheProgramAndWhatItNeeds(t *testing.T) {
	const program = "usr/local/bin/kube-ipvs"
	for name, tools := range map[string][]string{
		image.Bare: nil,
		image.WithIPTables: {
			"usr/sbin/xtables-nft-multi", "usr/sbin/xtables-legacy-multi", "usr/sbin/ipset", "usr/bin/kmod", "usr/lib/os-release",
			"var/lib/dpkg/status.d/iptables", "usr/share/doc/iptables/copyright",
		},
	} {
		for arch, i := range builtImages(t, name) {
			files := filesOf(t, i)
			for _, needed := range append(tools, program) {
				if !slices.Contains(files, needed) {
					t.Errorf("%s for %s lacks %s", name, arch, needed)
				}
			}
			if name == image.Bare && len(files) != 1 {
				t.Errorf("%s for %s has %q", name, arch, files)
			}
			for _, of := range []string{"etc/hostname", "etc/resolv.conf", "etc/apt/sources.list"} {
				if slices.Contains(files, of) {
					t.Errorf("%s for %s has %s of the machine that built it", name, arch, of)
				}
			}
		}
	}
	for arch, machine := range map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
		f, err := elf.Open(filepath.Join(image.Folder(t), "files", arch, "kube-ipvs"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		libraries, err := f.ImportedLibraries()
		if f.Machine != machine || len(libraries) > 0 || slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
			t.Errorf("for %s: %v, needs %q, %v", arch, f.Machine, libraries, err)
		}
	}
}

// filesOf returns the files in the layers of an image.
func filesOf(t *testing.T, i image.Image) []string {
	t.Helper()
	var all []string
	for _, layer := range i.Manifest.Layers {
		f, err := os.Open(i.Blob(layer))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		unpacked, err := gzip.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		for r := tar.NewReader(unpacked); ; {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if h.Typeflag != tar.TypeDir {
				all = append(all, filepath.Clean(h.Name))
			}
		}
	}
	return all
}

// The second build is in another folder, with other habits of its user.
func TestTwoBuildsAreTheSameBitByBit(t *testing.T) {
	again := filepath.Join(t.TempDir(), "again")
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(again, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != "bin" {
			run(t, exec.Command("cp", "-a", filepath.Join(root, e.Name()), again))
		}
	}
	c := exec.Command("sh", "-c", "umask 077; exec make --no-print-directory image ARCHS="+runtime.GOARCH)
	c.Dir = again
	c.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "MAKE") || strings.HasPrefix(v, "MFLAGS") })
	c.Env = append(c.Env, "TZ=Asia/Tokyo", "LC_ALL=C.UTF-8", "GOAMD64=v3", "GOFLAGS=-tags=other")
	run(t, c)
	for _, name := range []string{image.Bare, image.WithIPTables} {
		bill := name + "-" + runtime.GOARCH + ".spdx.json"
		if d := cmp.Diff(string(read(t, filepath.Join(image.Folder(t), bill))), string(read(t, filepath.Join(again, "bin/image", bill)))); d != "" {
			t.Errorf("%s differs: is that of bin/image made of this source? (-there +again)\n%s", bill, d)
		}
		there, second := builtImages(t, name)[runtime.GOARCH], imagesIn(t, filepath.Join(again, "bin/image"), name, runtime.GOARCH)[runtime.GOARCH]
		if there.Digest != second.Digest {
			t.Errorf("%s: %s is there, and %s is built (-there +again)\n%s", name, there.Digest, second.Digest, cmp.Diff(there.Config, second.Config))
		}
	}
}

func run(t *testing.T, c *exec.Cmd) {
	t.Helper()
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", c, err, out)
	}
}

func TestNothingRunsInTheImagesWhileTheyAreBuilt(t *testing.T) {
	text := strings.ReplaceAll(string(read(t, root+"/Dockerfile")), "\\\n", " ")
	for line := range strings.Lines(text) {
		instruction, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		if instruction == "RUN" || instruction == "FROM" && !strings.HasPrefix(rest, "scratch ") {
			t.Errorf("%s: an architecture that is not the builder's needs an emulator for that, and a build a registry", line)
		}
	}
}

func TestTheContainersStartTheProgramOfTheImage(t *testing.T) {
	commands := map[string]string{"kube-ipvs": "run", "modules": "load-modules", "cleanup": "cleanup", "done": "pause"}
	for _, folder := range []string{"base", "overlays/kube-proxy-config", "overlays/own-config", "overlays/migrate"} {
		for _, o := range built(t, folder) {
			d, is := o.typed.(*appsv1.DaemonSet)
			if !is {
				continue
			}
			for _, c := range slices.Concat(d.Spec.Template.Spec.InitContainers, d.Spec.Template.Spec.Containers) {
				if len(c.Command) > 0 || commands[c.Name] == "" || c.Args[0] != commands[c.Name] {
					t.Errorf("%s: %s of %s starts %v %v", folder, c.Name, o.name, c.Command, c.Args)
				}
				checkImage(t, folder, c)
			}
		}
	}
}

// checkImage holds a container to the image that has what it needs.
func checkImage(t *testing.T, folder string, c corev1.Container) {
	t.Helper()
	want := image.WithIPTables + ":dev"
	if folder == "base" {
		want = image.Bare + ":dev"
	}
	if c.Image != want {
		t.Errorf("%s: %s has image %s, want %s", folder, c.Name, c.Image, want)
	}
}
