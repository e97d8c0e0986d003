// SPDX-License-Identifier: Apache-2.0

package diff

import (
	"cmp"
	"maps"
	"reflect"
	"testing"
	"testing/quick"
)

func TestApplyingTheDifferenceGivesWhatIsWanted(t *testing.T) {
	check := func(have, want map[uint8]uint8) bool {
		got := maps.Clone(have)
		if got == nil {
			got = map[uint8]uint8{}
		}
		Of(have, want, cmp.Compare).Apply(got)
		return maps.Equal(got, want)
	}
	if err := quick.Check(check, &quick.Config{MaxCount: 5000}); err != nil {
		t.Error(err)
	}
}

func TestTheDifferenceIsMinimalAndSorted(t *testing.T) {
	check := func(have, want map[uint8]uint8) bool {
		d := Of(have, want, cmp.Compare)
		differing := 0
		for k := range 256 {
			h, inHave := have[uint8(k)]
			w, inWant := want[uint8(k)]
			if inHave != inWant || h != w {
				differing++
			}
		}
		sorted := true
		for i := 1; i < len(d.Add); i++ {
			sorted = sorted && d.Add[i-1].Key < d.Add[i].Key
		}
		for i := 1; i < len(d.Update); i++ {
			sorted = sorted && d.Update[i-1].Key < d.Update[i].Key
		}
		for i := 1; i < len(d.Remove); i++ {
			sorted = sorted && d.Remove[i-1].Key < d.Remove[i].Key
		}
		return sorted && d.Len() == differing
	}
	if err := quick.Check(check, &quick.Config{MaxCount: 5000}); err != nil {
		t.Error(err)
	}
}

func TestEqualTablesDoNotDiffer(t *testing.T) {
	check := func(table map[uint8]uint8) bool {
		return Of(table, maps.Clone(table), cmp.Compare).Len() == 0
	}
	if err := quick.Check(check, nil); err != nil {
		t.Error(err)
	}
}

func TestSortedListsDifferAsTheirTablesDo(t *testing.T) {
	check := func(have, want map[uint8]uint8) bool {
		return reflect.DeepEqual(OfRows(rows(have), rows(want), cmp.Compare), Of(have, want, cmp.Compare))
	}
	if err := quick.Check(check, &quick.Config{MaxCount: 5000}); err != nil {
		t.Error(err)
	}
}

func rows(table map[uint8]uint8) []Row[uint8, uint8] {
	return Of(nil, table, cmp.Compare).Add
}
