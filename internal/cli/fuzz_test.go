// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/render"
)

func FuzzFlagValues(f *testing.F) {
	f.Add(" 10.1.2.3/8 ,,::ffff:10.0.0.1/120")
	f.Add("192.0.2.1, fd00::1,::ffff:192.0.2.1")
	f.Add("primary")
	f.Fuzz(func(t *testing.T, text string) {
		type value interface {
			Set(string) error
			String() string
		}
		for _, empty := range []func() value{
			func() value { return addressList(new([]netip.Addr)) },
			func() value { return networkList(new([]netip.Prefix)) },
			func() value { return wordList(new([]string)) },
		} {
			v, again := empty(), empty()
			if v.Set(text) != nil {
				continue
			}
			if err := again.Set(v.String()); err != nil || again.String() != v.String() {
				t.Errorf("%T: %q is read as %v, and that as %v, %v", v, text, v, again, err)
			}
		}
	})
}

func FuzzParseService(f *testing.F) {
	f.Add("shop/web:http", "")
	f.Add("web", "shop")
	f.Add("web:", "")
	f.Fuzz(func(t *testing.T, service, namespace string) {
		filter := render.Filter{Namespace: namespace}
		if err := parseService(service, &filter); err != nil || service == "" {
			return
		}
		text := filter.Name
		if filter.PortName != "" || strings.HasSuffix(service, ":") {
			text += ":" + filter.PortName
		}
		if text != service && filter.Namespace+"/"+text != service {
			t.Errorf("%q in namespace %q is read as %+v", service, namespace, filter)
		}
	})
}

func FuzzParseAddress(f *testing.F) {
	f.Add("10.96.0.1:443")
	f.Add("[fd00::1]:53")
	f.Add("[::ffff:10.0.0.1]")
	f.Fuzz(func(t *testing.T, text string) {
		var filter, again render.Filter
		if err := parseAddress(text, &filter); err != nil || text == "" {
			return
		}
		if err := parseAddress(filter.Address.String(), &again); err != nil || again.Address != filter.Address {
			t.Errorf("%q is read as %v, and that as %v, %v", text, filter.Address, again.Address, err)
		}
	})
}
