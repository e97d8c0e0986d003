// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/e2e/lab/uml"
)

func TestEnviron(t *testing.T) {
	env := []string{"A=1", "LAB_KERNEL=uml", "LAB_MEM=1G", "LAB_UML=/x", "LAB_JOB=/y", "LAB_INSIDE=z", "LAB_OTHER=2"}
	want := []string{"A=1", "LAB_OTHER=2", "LAB_INSIDE=a kernel"}
	if got := environ(env, "a kernel"); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestChoiceString(t *testing.T) {
	for want, c := range map[string]choice{
		"this kernel (1) has IPVS; using it":                        {name: "this kernel (1)", reason: "this kernel (1) has IPVS"},
		"this kernel (1) has no IPVS: x; using user-mode Linux 6.1": {guest: &uml.Kernel{}, name: "user-mode Linux 6.1", reason: "this kernel (1) has no IPVS: x"},
	} {
		if got := c.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestMissingErrorSaysWhatToDo(t *testing.T) {
	err := missingError([]string{"ipset", "kmod"})
	if !strings.Contains(err.Error(), "apt-get install ipset kmod") {
		t.Errorf("error %v does not say what to do", err)
	}
}

func TestKernelOf(t *testing.T) {
	for _, c := range []struct {
		args   []string
		kernel string
		rest   []string
	}{
		{nil, "", nil},
		{[]string{"true", "--kernel", "7"}, "", []string{"true", "--kernel", "7"}},
		{[]string{"--kernel", "7", "--install"}, "7", []string{"--install"}},
		{[]string{"--kernel=6.12", "a", "b"}, "6.12", []string{"a", "b"}},
		{[]string{"--kernel"}, "", []string{"--kernel"}},
	} {
		kernel, rest := kernelOf(c.args)
		if kernel != c.kernel || !slices.Equal(rest, c.rest) {
			t.Errorf("%q: got %q, %q", c.args, kernel, rest)
		}
	}
}

func TestWantsNFT(t *testing.T) {
	packaged, built := uml.Kernel{Packaged: true}, uml.Kernel{}
	for _, c := range []struct {
		kind      string
		kernel    uml.Kernel
		nft, fail bool
	}{
		{"", packaged, false, false}, {"legacy", packaged, false, false}, {"nft", packaged, false, true},
		{"", built, true, false}, {"legacy", built, false, false}, {"nft", built, true, false},
		{"ebtables", built, false, true},
	} {
		nft, err := wantsNFT(c.kind, c.kernel)
		if nft != c.nft || (err != nil) != c.fail {
			t.Errorf("%q on %+v: got %v, error %v", c.kind, c.kernel, nft, err)
		}
	}
}

func TestChooseRejectsUnknownKernels(t *testing.T) {
	t.Setenv(envKernel, "5.4")
	if _, err := choose(); err == nil || !strings.Contains(err.Error(), "want one of host, uml, 6.1, 6.12, 7") {
		t.Errorf("got error %v", err)
	}
}

func TestAKernelThatIsNotBuiltSaysHowTo(t *testing.T) {
	t.Setenv(envKernel, "7")
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	if _, err := choose(); err == nil || !strings.Contains(err.Error(), "run lab --kernel 7 --install") {
		t.Errorf("got error %v", err)
	}
}
