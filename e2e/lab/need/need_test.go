// SPDX-License-Identifier: Apache-2.0

package need_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/e2e/lab/need"
)

// tools makes a folder of programs.
func tools(t *testing.T, programs map[string]string) string {
	t.Helper()
	folder := t.TempDir()
	for name, content := range programs {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

func TestMissing(t *testing.T) {
	folder := tools(t, map[string]string{"there": ""})
	if err := os.WriteFile(filepath.Join(folder, "plain"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(folder, "folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	all := []need.Tool{{"there", "a"}, {"absent", "b"}, {"absent2", "b"}, {"plain", "c"}, {"folder", "d"}}
	if got, want := need.Missing(all, "/nowhere:"+folder), []string{"b", "c", "d"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := need.Missing(all[:1], folder); got != nil {
		t.Errorf("nothing is missing, got %q", got)
	}
}

func TestPath(t *testing.T) {
	for path, want := range map[string]string{
		"":                "/usr/local/sbin:/usr/sbin:/sbin",
		"/bin":            "/bin:/usr/local/sbin:/usr/sbin:/sbin",
		"/usr/sbin:/bin":  "/usr/sbin:/bin:/usr/local/sbin:/sbin",
		"/sbin:/usr/sbin": "/sbin:/usr/sbin:/usr/local/sbin",
	} {
		if got := need.Path(path); got != want {
			t.Errorf("%q: got %q, want %q", path, got, want)
		}
	}
}

func TestInstallNothing(t *testing.T) {
	t.Setenv("PATH", "/nowhere")
	var said bytes.Buffer
	if err := need.Install(nil, &said); err != nil || said.Len() > 0 {
		t.Errorf("error %v, said %q", err, said.String())
	}
}

func TestInstallWithoutApt(t *testing.T) {
	t.Setenv("PATH", "/nowhere")
	err := need.Install([]string{"ipset"}, &bytes.Buffer{})
	if err == nil || !strings.Contains(err.Error(), "ipset") || !strings.Contains(err.Error(), "no apt-get") {
		t.Errorf("error %v does not say what to do", err)
	}
}

// aptGet stands in for apt-get: it records its calls, and installs only after an update.
const aptGet = `#!/bin/sh
echo "$DEBIAN_FRONTEND $@" >>"$0.calls"
case "$*" in
*update) touch "$0.updated" ;;
*) test -e "$0.updated" || { echo "E: Unable to locate package"; exit 100; } ;;
esac
`

func TestInstallUpdatesOnlyIfNeeded(t *testing.T) {
	folder := tools(t, map[string]string{"apt-get": aptGet})
	t.Setenv("PATH", folder+":"+os.Getenv("PATH"))
	const install = "noninteractive -q -y --no-install-recommends install ipset kmod\n"
	for _, want := range []string{
		install + "noninteractive -q update\n" + install,
		install,
	} {
		var said bytes.Buffer
		if err := need.Install([]string{"ipset", "kmod"}, &said); err != nil {
			t.Fatal(err)
		}
		if got := "lab: installing ipset kmod with apt-get\n"; said.String() != got {
			t.Errorf("said %q, want %q", said.String(), got)
		}
		calls := filepath.Join(folder, "apt-get.calls")
		got, err := os.ReadFile(calls)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want {
			t.Errorf("calls were %q, want %q", got, want)
		}
		os.Remove(calls)
	}
}

func TestInstallShowsWhyItFails(t *testing.T) {
	t.Setenv("PATH", tools(t, map[string]string{"apt-get": "#!/bin/sh\necho no network\nexit 100\n"})+":"+os.Getenv("PATH"))
	err := need.Install([]string{"ipset"}, &bytes.Buffer{})
	if err == nil || !strings.Contains(err.Error(), "no network") {
		t.Errorf("error %v does not show apt-get's words", err)
	}
}
