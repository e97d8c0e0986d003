// SPDX-License-Identifier: Apache-2.0

package presence

import (
	"errors"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel/kerneltest"
)

func TestOnlyOneHoldsANetworkNamespaceUntilItReleasesIt(t *testing.T) {
	kerneltest.Namespace(t)
	if Held() {
		t.Fatal("held before anybody took it")
	}
	release, err := Hold()
	if err != nil {
		t.Fatal(err)
	}
	if !Held() {
		t.Error("not held after it was taken")
	}
	if _, err := Hold(); !errors.Is(err, ErrHeld) {
		t.Errorf("taken twice: %v, want %v", err, ErrHeld)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	if Held() {
		t.Error("held after its release")
	}
}

func TestLookingLeavesNothingBehind(t *testing.T) {
	kerneltest.Namespace(t)
	release, err := Hold()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10_000 { // more than any queue of connections holds
		if !Held() {
			t.Fatalf("not held when looked at for the %dth time", i+1)
		}
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
}

func TestEachNetworkNamespaceHasItsOwn(t *testing.T) {
	kerneltest.Namespace(t)
	first, err := Hold()
	if err != nil {
		t.Fatal(err)
	}
	kerneltest.Namespace(t)
	if Held() {
		t.Error("held in another network namespace")
	}
	second, err := Hold()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(first(), second()); err != nil {
		t.Fatal(err)
	}
}
