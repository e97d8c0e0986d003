// SPDX-License-Identifier: Apache-2.0

package file

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/kube-ipvs/kube-ipvs/internal/cluster"
)

func servicesOf(x *cluster.Index) string {
	var all []string
	for _, key := range x.Services() {
		s, _ := x.Objects(key).Unpack()
		all = append(all, fmt.Sprint(key, ":", s.Spec.Ports[0].Port))
	}
	return strings.Join(all, " ")
}

func problemsOf(all []Report) string {
	var text []string
	for _, r := range all {
		for _, p := range r.Problems {
			text = append(text, p.Error())
		}
	}
	return strings.Join(text, "\n")
}

func TestFilesDirectoriesAndStandardInputAreReadOnce(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Mkdir(dir+"/more", 0o700))
	must(t, os.Mkdir(dir+"/more/deep.yaml", 0o700))
	write(t, dir+"/objects", web(80)) // whatever its name
	write(t, dir+"/more/a.yaml", named("api", 81))
	write(t, dir+"/more/b.txt", named("unread", 82))
	const list = `{"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "v1", "kind": "Service",
		"metadata": {"name": "\ud83d\ude00", "namespace": "shop"}, "spec": {"ports": [{"port": 83}]}}]}`
	x, reports := Read([]string{dir + "/objects", dir + "/more", Stdin, dir + "/objects", Stdin}, strings.NewReader(list))
	if got, want := servicesOf(x), "shop/api:81 shop/web:80 shop/\U0001f600:83"; got != want {
		t.Errorf("Services are %q, want %q", got, want)
	}
	if len(reports) != 3 {
		t.Errorf("reports are %+v", reports)
	}
}

func TestFlowStyleYAMLIsNotTakenForJSON(t *testing.T) {
	const object = "{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {ports: [{port: 80}]}}"
	x, reports := Read([]string{Stdin}, strings.NewReader(object))
	if got := servicesOf(x); got != "shop/web:80" {
		t.Errorf("Services are %q, reports %+v", got, reports)
	}
}

func TestWhatCannotBeReadIsToldWithItsPlace(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/a.yaml", web(80))
	write(t, dir+"/b.yaml", named("api", 81)+"x: {\n")
	x, reports := Read([]string{dir, dir + "/none.yaml", Stdin}, strings.NewReader(web(82)+"  - port: x\n"))
	want := strings.NewReplacer("DIR", dir).Replace("DIR/b.yaml:8: no valid YAML: did not find expected node content\n" +
		"DIR/none.yaml: cannot be read: open DIR/none.yaml: no such file or directory\n" +
		`stdin:8: Service shop/web: spec.ports[1].port: expected number, got string "x"`)
	if got := problemsOf(reports); got != want {
		t.Errorf("problems are\n%s\nwant\n%s", got, want)
	}
	for _, r := range reports {
		if r.Broken != (len(r.Problems) > 0) {
			t.Errorf("%s: broken is %v", r.File, r.Broken)
		}
	}
	if got := servicesOf(x); got != "shop/web:80" {
		t.Errorf("Services are %q", got)
	}
}

func TestTheFirstOfTwoFilesCountsAndTheOtherIsTold(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/b.yaml", web(80))
	write(t, dir+"/a.yaml", web(81))
	x, reports := Read([]string{dir + "/b.yaml", dir + "/a.yaml"}, nil)
	if got := servicesOf(x); got != "shop/web:81" || !strings.Contains(problemsOf(reports), "b.yaml:2: Service shop/web: is also defined in "+dir+"/a.yaml") {
		t.Errorf("Services are %q, problems %q", got, problemsOf(reports))
	}
}
