// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const dependenciesText = `kernel/lib/crc-ccitt.ko:
kernel/net/ipv6/ipv6.ko: kernel/lib/crc-ccitt.ko
kernel/net/netfilter/nf_conntrack.ko: kernel/net/ipv6/netfilter/nf_defrag_ipv6.ko
kernel/net/ipv6/netfilter/nf_defrag_ipv6.ko: kernel/net/ipv6/ipv6.ko kernel/lib/crc-ccitt.ko
kernel/net/ipvs/ip_vs.ko.xz: kernel/net/netfilter/nf_conntrack.ko kernel/net/ipv6/ipv6.ko kernel/lib/crc-ccitt.ko
`

func TestPlan(t *testing.T) {
	d, err := parseDependencies(strings.NewReader(dependenciesText))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		modules []string
		want    []string
	}{
		{"nothing", nil, nil},
		{"built in", []string{"tcp_cubic"}, nil},
		{"dash for underscore", []string{"crc_ccitt"}, []string{"crc_ccitt"}},
		{"dependencies from the last", []string{"ip_vs"}, []string{"crc_ccitt", "ipv6", "nf_conntrack", "ip_vs"}},
		{"each once", []string{"ipv6", "ip_vs", "ipv6"}, []string{"crc_ccitt", "ipv6", "nf_conntrack", "ip_vs"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, file := range d.plan(c.modules) {
				got = append(got, moduleName(file))
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestParseDependenciesRejectsOtherText(t *testing.T) {
	if d, err := parseDependencies(strings.NewReader("kernel/a.ko\n")); err == nil {
		t.Errorf("got %+v, want an error", d)
	}
}

func TestLoadModulesWithoutFolder(t *testing.T) {
	if err := loadModules(""); err != nil {
		t.Errorf("a kernel without modules: %v", err)
	}
	if err := loadModules(t.TempDir()); err == nil || !strings.Contains(err.Error(), "modules.dep") {
		t.Errorf("an empty folder: error %v does not name modules.dep", err)
	}
}

func TestHidden(t *testing.T) {
	own := []mount{{target: "/dev"}, {target: "/run"}}
	for _, c := range []struct {
		name       string
		keep, want []string
	}{
		{"nothing", nil, nil},
		{"elsewhere", []string{"/tmp/x", "/", "/home"}, nil},
		{"a similar name", []string{"/running", "/devel/x"}, nil},
		{"below", []string{"/run/user/0", "/dev/shm/x"}, []string{"/run/user/0", "/dev/shm/x"}},
		{"one in another", []string{"/run/a", "/run/a/b", "/run/ab", "/run/a"}, []string{"/run/a", "/run/ab"}},
		{"the mount itself", []string{"/run"}, nil},
	} {
		if got := hidden(c.keep, own); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

// The command's own files come from /tmp and go there.
func TestMountsLeaveTemporaryFilesAlone(t *testing.T) {
	for _, m := range mounts() {
		if m.target == "/" || within(m.target, []string{"/tmp", "/var", "/home", "/root", "/usr"}) {
			t.Errorf("%s is mounted over the host's files", m.target)
		}
	}
}

func TestEnviron(t *testing.T) {
	for _, c := range []struct{ env, want []string }{
		{nil, []string{"PATH=/run/lab/bin"}},
		{[]string{"PATH=/a:/b", "X=1"}, []string{"X=1", "PATH=/run/lab/bin:/a:/b"}},
		{[]string{"PATH=/a", "XPATH=/x", "PATH=/b"}, []string{"XPATH=/x", "PATH=/run/lab/bin:/b"}},
	} {
		before := slices.Clone(c.env)
		if got := environ(c.env); !slices.Equal(got, c.want) {
			t.Errorf("%q: got %q, want %q", c.env, got, c.want)
		}
		if !slices.Equal(c.env, before) {
			t.Errorf("%q has been changed to %q", before, c.env)
		}
	}
}

func TestWrapper(t *testing.T) {
	want := "#!/bin/sh\nexec /sbin/modprobe -d /run/lab \"$@\"\n"
	if got := wrapper("/sbin/modprobe"); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestIptablesProgram(t *testing.T) {
	if got := iptablesProgram(false); got != "xtables-legacy-multi" {
		t.Errorf("by default: %s", got)
	}
	if got := iptablesProgram(true); got != "xtables-nft-multi" {
		t.Errorf("if asked for: %s", got)
	}
}

func TestMakeRaw(t *testing.T) {
	termios := unix.Termios{Iflag: ^uint32(0), Oflag: ^uint32(0), Lflag: ^uint32(0), Cflag: unix.CS5 | unix.PARENB | unix.CREAD}
	makeRaw(&termios)
	if termios.Oflag&unix.OPOST != 0 {
		t.Error("output is processed: \\n would become \\r\\n")
	}
	if termios.Iflag&(unix.ICRNL|unix.IXON) != 0 || termios.Lflag&(unix.ECHO|unix.ICANON|unix.ISIG) != 0 {
		t.Error("input is processed")
	}
	if termios.Cflag != unix.CS8|unix.CREAD {
		t.Errorf("control flags are %#x", termios.Cflag)
	}
}

func TestReadSignals(t *testing.T) {
	signals := readSignals(bytes.NewReader([]byte{byte(syscall.SIGINT), byte(syscall.SIGTERM)}))
	for _, want := range []os.Signal{syscall.SIGINT, syscall.SIGTERM} {
		if got := <-signals; got != want {
			t.Errorf("got %v, want %v", got, want)
		}
	}
}

func TestUpFrontStartsWithIPv6(t *testing.T) {
	if first := upFront()[0]; first != "ipv6" {
		t.Errorf("%s comes before ipv6, which must be there first", first)
	}
}

func TestLoadModuleSaysWhatIsMissing(t *testing.T) {
	err := loadModule(filepath.Join(t.TempDir(), "x.ko"), "")
	if err == nil || !strings.Contains(err.Error(), "not complete") {
		t.Errorf("error %v does not say that the folder is not complete", err)
	}
}

func FuzzParseDependencies(f *testing.F) {
	f.Add("kernel/net/ip_vs.ko: kernel/net/nf_conntrack.ko kernel/lib/crc.ko\nkernel/lib/crc.ko:\n")
	f.Fuzz(func(t *testing.T, text string) {
		d, err := parseDependencies(strings.NewReader(text))
		if err != nil {
			return
		}
		for name, file := range d.file {
			if _, ok := d.needs[file]; !ok || moduleName(file) != name {
				t.Errorf("%q: module %q has file %q", text, name, file)
			}
		}
	})
}
