// SPDX-License-Identifier: Apache-2.0

package build

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// standIns are programs that do as if: a build of a kernel takes minutes.
func standIns() map[string]string {
	return map[string]string{
		"apt-get": `case "$*" in
indextargets*) echo "Debian Debian a://mirror/" ;;
*update) exit 100 ;;
*download*) for last; do :; done; touch "${last%%=*}_$$.deb"; echo "$last" ;;
esac`,
		"apt-cache": `case "$*" in
*pkgnames*) echo linux-source-6.12; echo linux-source-7.9; echo linux-source-7.10 ;;
*madison*) echo "linux-source-7.10 | 7.10.2-1~bpo13+1 | x"; echo "linux-source-7.10 | 7.10.3-1 | y"; echo "linux-source-7.10 | 7.10.1-1 | z" ;;
esac`,
		"dpkg-deb": `mkdir -p package/usr/src`,
		"tar": `mkdir -p linux-source-7.10/net linux-source-7.10/drivers/gpu
echo "config IP_VS" >linux-source-7.10/net/Kconfig`,
		"make": `case "$*" in
*allnoconfig) for w; do case $w in KCONFIG_ALLCONFIG=*) grep -v "$DROPPED" "${w#*=}" >.config ;; esac; done ;;
*linux) printf '#!/bin/sh\necho 7.10.3\n' >linux; chmod +x linux; touch modules.builtin modules.builtin.modinfo ;;
esac`,
		"depmod": `test -e "$2/lib/modules/$3/modules.builtin" && touch "$2/lib/modules/$3/modules.dep"`,
	}
}

// withStandIns returns an empty store, with stand-ins first in PATH.
func withStandIns(t *testing.T) Store {
	t.Helper()
	folder := t.TempDir()
	for name, script := range standIns() {
		if err := os.WriteFile(filepath.Join(folder, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", folder+":"+os.Getenv("PATH"))
	t.Setenv("DROPPED", "^nothing")
	return Store(filepath.Join(t.TempDir(), "kernels"))
}

func TestBuildKeepsTheNewestKernel(t *testing.T) {
	s := withStandIns(t)
	var said strings.Builder
	for range 2 { // the second time there is nothing to do
		if err := s.Build("7", func(string) string { return "" }, &said); err != nil {
			t.Fatal(err)
		}
	}
	if got := said.String(); strings.Count(got, "\n") != 2 || !strings.HasPrefix(got, "lab: building a user-mode Linux kernel from linux-source-7.10 7.10.3-1;") {
		t.Errorf("it said %q", got)
	}
	k, err := s.Find("7")
	if err != nil || k.folder != s.folder("7", "7.10.3-1") {
		t.Fatalf("found %+v, error %v", k, err)
	}
	for _, file := range []string{k.Program(), filepath.Join(k.folder, configFile), filepath.Join(k.Modules("7.10.3"), "modules.dep")} {
		if _, err := os.Stat(file); err != nil {
			t.Error(err)
		}
	}
	left, err := filepath.Glob(string(s) + "/*")
	if err != nil || len(left) != 3 { // the kernel, the log and the lock
		t.Errorf("in the store are %q, error %v", left, err)
	}
}

func TestBuildFailsIfTheKernelDropsWhatIsWanted(t *testing.T) {
	s := withStandIns(t)
	t.Setenv("DROPPED", "^CONFIG_IP_VS=y")
	var said strings.Builder
	err := s.Build("7", func(string) string { return "" }, &said)
	if err == nil || !strings.Contains(err.Error(), "is off: IP_VS; the log is "+string(s)+"/7.log") {
		t.Errorf("got error %v", err)
	}
	if _, err := s.Find("7"); err == nil {
		t.Error("a kernel is kept")
	}
}

func TestASeriesThatDebianLacksIsSaidSo(t *testing.T) {
	var said strings.Builder
	err := withStandIns(t).Build("5.4", func(string) string { return "" }, &said)
	if err == nil || !strings.Contains(err.Error(), "find sources of kernel 5.4: Debian now has only linux-source-6.12 linux-source-7.9") {
		t.Errorf("got error %v", err)
	}
}
