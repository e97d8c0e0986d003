// SPDX-License-Identifier: Apache-2.0

package testkit

import (
	"errors"
	"math/rand/v2"

	"github.com/kube-ipvs/kube-ipvs/internal/kernel"
)

// ErrInjected is the failure that FaultyWhile puts in.
var ErrInjected = errors.New("injected fault")

// FaultyWhile makes a share of all row changes and lists fail, chosen by random; share is called each time. Half of the
// failing rows are changed all the same, like a write whose answer was lost.
func FaultyWhile(t kernel.Tables, random *rand.Rand, share func() float64) kernel.Tables {
	return intercepted(t, faults{random, share})
}

type faults struct {
	random *rand.Rand
	share  func() float64
}

func (f faults) strikes() bool { return f.random.Float64() < f.share() }

func (f faults) list() error {
	if f.strikes() {
		return ErrInjected
	}
	return nil
}

func (f faults) row() (pass bool, _ error) {
	if f.strikes() {
		return f.random.IntN(2) == 0, ErrInjected
	}
	return true, nil
}

// Operations counts what stores had to do.
type Operations struct {
	Lists int // tables listed
	Rows  int // rows added, updated or removed
}

// Metered counts the operations on all tables of t in o.
func Metered(t kernel.Tables, o *Operations) kernel.Tables { return intercepted(t, o) }

func (o *Operations) list() error {
	o.Lists++
	return nil
}

func (o *Operations) row() (pass bool, _ error) {
	o.Rows++
	return true, nil
}
