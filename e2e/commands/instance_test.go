// SPDX-License-Identifier: Apache-2.0

package commands

import (
	"errors"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/app"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

func TestOnlyOneHoldsANetworkNamespaceUntilItReleasesIt(t *testing.T) {
	testkit.Namespace(t)
	if app.Running() {
		t.Fatal("held before it was taken")
	}
	release, err := app.Hold()
	if err != nil {
		t.Fatal(err)
	}
	if !app.Running() {
		t.Error("not held after it was taken")
	}
	if _, err := app.Hold(); !errors.Is(err, app.ErrHeld) {
		t.Errorf("taken twice: %v, want %v", err, app.ErrHeld)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	if app.Running() {
		t.Error("held after its release")
	}
}

func TestLookingLeavesNothingBehind(t *testing.T) {
	testkit.Namespace(t)
	release, err := app.Hold()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10_000 { // more than any queue of connections holds
		if !app.Running() {
			t.Fatalf("not held when looked at for the %dth time", i+1)
		}
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
}

func TestEachNetworkNamespaceHasItsOwn(t *testing.T) {
	testkit.Namespace(t)
	first, err := app.Hold()
	if err != nil {
		t.Fatal(err)
	}
	testkit.Namespace(t)
	if app.Running() {
		t.Error("held in another network namespace")
	}
	second, err := app.Hold()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(first(), second()); err != nil {
		t.Fatal(err)
	}
}
