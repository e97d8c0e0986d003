// SPDX-License-Identifier: Apache-2.0

package proxyconfig

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	kjson "sigs.k8s.io/json"

	"github.com/kube-ipvs/kube-ipvs/internal/config"
)

// misfits are the fields of a document that do not fit the type of like. The decoder stops at the first, and
// does not name it if it is of a type that reads itself, as a duration. So each value is tried alone, in a
// document that has no other.
func misfits(document map[string]any, like any) config.Complaints {
	t := trial{of: reflect.TypeOf(like).Elem()}
	t.mapping("", document, func(v any) any { return v })
	return t.found
}

type trial struct {
	of    reflect.Type
	found config.Complaints
}

// within is the smallest document with a value at its place.
type within func(value any) any

func (t *trial) value(path string, value any, place within) {
	switch v := value.(type) {
	case map[string]any:
		if t.fits(path, map[string]any{}, place) {
			t.mapping(path+".", v, place)
		}
	case []any:
		if !t.fits(path, []any{}, place) {
			return
		}
		for i, element := range v {
			t.value(fmt.Sprintf("%s[%d]", path, i), element, func(e any) any { return place([]any{e}) })
		}
	default:
		t.fits(path, v, place)
	}
}

func (t *trial) mapping(prefix string, m map[string]any, place within) {
	for _, key := range slices.Sorted(maps.Keys(m)) {
		t.value(prefix+key, m[key], func(v any) any { return place(map[string]any{key: v}) })
	}
}

func (t *trial) fits(path string, value any, place within) bool {
	text, err := json.Marshal(place(value))
	if err == nil {
		err = kjson.UnmarshalCaseSensitivePreserveInts(text, reflect.New(t.of).Interface())
	}
	if err != nil {
		t.found.Add(path, "%s", t.misfit(text, err))
	}
	return err == nil
}

// misfit is what err means. The error type of the decoder that decides can't be named; the standard one's
// can.
func (t *trial) misfit(text []byte, err error) string {
	var wrong *json.UnmarshalTypeError
	if errors.As(json.Unmarshal(text, reflect.New(t.of).Interface()), &wrong) {
		return fmt.Sprintf("a %s, want a %v", wrong.Value, wrong.Type.Kind())
	}
	return err.Error()
}
