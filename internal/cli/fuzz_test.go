// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"slices"
	"strings"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/render"
)

func FuzzParseCIDRs(f *testing.F) {
	f.Add("10.244.0.0/16,fd00::/64")
	f.Add(" 10.1.2.3/8 ,,::ffff:10.0.0.1/120")
	f.Fuzz(func(t *testing.T, list string) {
		cidrs, err := parseCIDRs("cluster-cidr", list)
		if err != nil {
			return
		}
		var words []string
		for _, p := range cidrs {
			words = append(words, p.String())
		}
		again, err := parseCIDRs("cluster-cidr", strings.Join(words, ","))
		if err != nil || !slices.Equal(again, cidrs) {
			t.Errorf("%q is read as %v, and that as %v, %v", list, cidrs, again, err)
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
