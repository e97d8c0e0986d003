// SPDX-License-Identifier: Apache-2.0

package proxyconfig

import (
	"net/netip"
	"reflect"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	logsapi "k8s.io/component-base/logs/api/v1"
)

// leaves are the fields of a document or a Config that hold a value, by path: as JSON calls them, or as Go does where
// there are no tags.
func leaves(v reflect.Value, prefix string) map[string]reflect.Value {
	all := map[string]reflect.Value{}
	for _, f := range reflect.VisibleFields(v.Type()) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous || len(f.Index) > 1 && f.Type == reflect.TypeFor[string]() {
			continue // the embedded type, and kind and apiVersion
		}
		if name == "" {
			name = f.Name
		}
		value := v.FieldByIndex(f.Index)
		if f.Type.Kind() != reflect.Struct || atom(f.Type) {
			all[prefix+name] = value
			continue
		}
		for path, leaf := range leaves(value, prefix+name+".") {
			all[path] = leaf
		}
	}
	return all
}

// atom reports whether a struct is one value.
func atom(t reflect.Type) bool {
	switch t {
	case reflect.TypeFor[metav1.Duration](), reflect.TypeFor[logsapi.TimeOrMetaDuration](), reflect.TypeFor[resource.QuantityValue](),
		reflect.TypeFor[netip.Addr](), reflect.TypeFor[netip.AddrPort]():
		return true
	}
	return strings.HasSuffix(t.PkgPath(), "/internal/config") && t.Name() == "PortRange"
}
