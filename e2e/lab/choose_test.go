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
