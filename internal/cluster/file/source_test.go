// SPDX-License-Identifier: Apache-2.0

package file

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestAllThatIsThereIsToldBeforeSynced(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/b.yaml", web(80)+slice("web-1", "web", "10.244.1.10")+node("node-1", "a")+node("node-2", "b"))
	write(t, dir+"/a.yml", slice("api-1", "api", "10.244.1.11"))
	write(t, dir+"/c.json", `{"apiVersion":"v1","kind":"Service","metadata":{"name":"api","namespace":"shop"},"spec":{"ports":[{"port":81}]}}`)
	write(t, dir+"/.hidden.yaml", named("hidden", 1))
	write(t, dir+"/b.yaml~", named("backup", 1))
	must(t, os.Mkdir(dir+"/dir.yaml", 0o700))
	write(t, dir+"/dir.yaml/d.yaml", named("deep", 1))
	w := started(t, dir)
	w.becomes(t, "shop/api: 81 api-1=10.244.1.11", "shop/web: 80 web-1=10.244.1.10")
	calls, reports := w.take()
	wantCalls(t, "calls", calls, "nodes", "shop/api", "shop/web", "synced")
	wantCalls(t, "reports", reports, "a.yml", "b.yaml", "c.json")
}

func TestFilesThatComeChangeAndGoAreFollowed(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/a.yaml", web(80))
	w := started(t, dir)
	write(t, dir+"/b.yaml", slice("web-1", "web", "10.244.1.10")+named("api", 81)+node("node-1", "a"))
	w.becomes(t, "shop/api: 81", "shop/web: 80 web-1=10.244.1.10")
	w.until(t, "a node", func() bool { return w.node == "a" })
	write(t, dir+"/b.yaml", slice("web-1", "web", "10.244.1.11")+node("node-1", "b"))
	w.becomes(t, "shop/web: 80 web-1=10.244.1.11")
	w.until(t, "another zone", func() bool { return w.node == "b" })
	must(t, os.Remove(dir+"/b.yaml"))
	w.becomes(t, "shop/web: 80")
	w.until(t, "without node", func() bool { return w.node == "gone" })
	w.reported(t, "b.yaml gone")
	must(t, os.Rename(dir+"/a.yaml", dir+"/a.off"))
	w.becomes(t)
	must(t, os.Rename(dir+"/a.off", dir+"/c.yaml"))
	w.becomes(t, "shop/web: 80")
}

func TestWhatIsNotUsedIsNotTold(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/a.yaml", web(80)+named("api", 81)+node("node-1", "a")+node("node-2", "a"))
	w := started(t, dir)
	w.take()
	write(t, dir+"/a.yaml", strings.ReplaceAll(web(80), "{name", "{resourceVersion: '9', name")+
		"  selector: {a: b}\n"+named("api", 82)+node("node-1", "a")+strings.Replace(node("node-2", "a"), "labels: {", "labels: {a: b, ", 1))
	w.becomes(t, "shop/api: 82", "shop/web: 80")
	calls, reports := w.take()
	wantCalls(t, "calls", calls, "shop/api")
	wantCalls(t, "reports", reports, "a.yaml")
}

func TestEditorsThatReplaceFilesAreFollowed(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/a.yaml", web(80))
	w := started(t, dir)
	write(t, dir+"/.a.yaml.tmp", web(81))
	must(t, os.Rename(dir+"/.a.yaml.tmp", dir+"/a.yaml"))
	w.becomes(t, "shop/web: 81")
	must(t, os.Rename(dir+"/a.yaml", dir+"/a.yaml~"))
	write(t, dir+"/a.yaml", web(82))
	must(t, os.Remove(dir+"/a.yaml~"))
	w.becomes(t, "shop/web: 82")
	write(t, dir+"/a.yaml", web(83))
	w.becomes(t, "shop/web: 83")
}

func TestBrokenFilesKeepTheirLastGoodObjects(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/a.yaml", web(80))
	write(t, dir+"/b.yaml", named("api", 81)+"  - port: x\n")
	w := started(t, dir)
	w.becomes(t, "shop/web: 80")
	w.reported(t, `b.yaml broken b.yaml:8: Service shop/api: spec.ports[1].port: expected number, got string "x"`)

	write(t, dir+"/b.yaml", named("api", 81))
	w.becomes(t, "shop/api: 81", "shop/web: 80")
	w.reported(t, "b.yaml good")
	w.take()

	write(t, dir+"/a.yaml", named("web", 90)+"x: {\n")
	w.until(t, "broken", func() bool { return len(w.reports) == 1 })
	write(t, dir+"/b.yaml", named("api", 91))
	w.becomes(t, "shop/api: 91", "shop/web: 80")
	write(t, dir+"/a.yaml", web(92))
	w.becomes(t, "shop/api: 91", "shop/web: 92")
	calls, reports := w.take()
	wantCalls(t, "calls", calls, "shop/api", "shop/web")
	wantCalls(t, "reports", reports,
		"a.yaml broken a.yaml:8: no valid YAML: did not find expected node content", "b.yaml", "a.yaml good")
}

func TestABrokenFileIsReportedOncePerContent(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/a.yaml", "{")
	w := started(t, dir)
	const broken = "a.yaml broken a.yaml:1: no valid YAML: did not find expected node content"
	w.reported(t, broken)
	now := time.Now()
	must(t, os.Chtimes(dir+"/a.yaml", now, now))
	write(t, dir+"/b.yaml", web(80))
	w.becomes(t, "shop/web: 80")
	write(t, dir+"/a.yaml", "{ ")
	w.until(t, "reported again", func() bool { return len(w.reports) == 3 })
	_, reports := w.take()
	wantCalls(t, "reports", reports, broken, "b.yaml", broken)
}

func TestConfigMapVolumesAreFollowed(t *testing.T) {
	dir := t.TempDir()
	volume := func(name, a, b string) {
		must(t, os.Mkdir(dir+"/"+name, 0o700))
		write(t, dir+"/"+name+"/a.yaml", a)
		write(t, dir+"/"+name+"/b.yaml", b)
		must(t, os.Symlink(name, dir+"/..data_tmp"))
		must(t, os.Rename(dir+"/..data_tmp", dir+"/..data"))
	}
	volume("..2026_1", web(80), named("api", 81))
	must(t, os.Symlink("..data/a.yaml", dir+"/a.yaml"))
	must(t, os.Symlink("..data/b.yaml", dir+"/b.yaml"))
	w := started(t, dir)
	w.becomes(t, "shop/api: 81", "shop/web: 80")
	w.take()
	volume("..2026_2", web(80), named("api", 82))
	must(t, os.RemoveAll(dir+"/..2026_1"))
	w.becomes(t, "shop/api: 82", "shop/web: 80")
	volume("..2026_3", web(83), named("api", 82))
	must(t, os.RemoveAll(dir+"/..2026_2"))
	w.becomes(t, "shop/api: 82", "shop/web: 83")
	calls, reports := w.take()
	wantCalls(t, "calls", calls, "shop/api", "shop/web")
	wantCalls(t, "reports", reports, "b.yaml", "a.yaml")
}

func TestLinksToFilesElsewhereAreFollowed(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	write(t, other+"/web", web(80))
	must(t, os.Symlink(other+"/web", dir+"/a.yaml"))
	w := started(t, dir)
	w.becomes(t, "shop/web: 80")
	write(t, other+"/web", web(81))
	w.becomes(t, "shop/web: 81")
	write(t, other+"/new", web(82))
	must(t, os.Rename(other+"/new", other+"/web"))
	w.becomes(t, "shop/web: 82")
	must(t, os.Remove(other+"/web"))
	w.until(t, "broken", func() bool {
		return slices.ContainsFunc(w.reports, func(r string) bool { return strings.HasPrefix(r, "a.yaml broken a.yaml: cannot be read: ") })
	})
	w.becomes(t, "shop/web: 82")
	write(t, other+"/web", web(83))
	w.becomes(t, "shop/web: 83")
	w.reported(t, "a.yaml good")
	must(t, os.Remove(dir+"/a.yaml"))
	w.becomes(t)
}

func TestFilesThatAreNoFilesKeepNothingUp(t *testing.T) {
	dir := t.TempDir()
	must(t, syscall.Mkfifo(dir+"/a.yaml", 0o600))
	write(t, dir+"/b.yaml", web(80))
	w := started(t, dir)
	w.becomes(t, "shop/web: 80")
	w.reported(t, "a.yaml broken a.yaml: cannot be read: is no regular file but p---------")
}

func TestADirectoryThatIsAwayProvesNothing(t *testing.T) {
	dir := t.TempDir() + "/manifests"
	must(t, os.Mkdir(dir, 0o700))
	write(t, dir+"/a.yaml", web(80))
	write(t, dir+"/b.yaml", named("api", 81))
	w := started(t, dir)

	must(t, os.Rename(dir, dir+".old"))
	w.until(t, "away", func() bool {
		return slices.ContainsFunc(w.reports, func(r string) bool { return strings.HasPrefix(r, "manifests broken read directory: ") })
	})
	w.becomes(t, "shop/api: 81", "shop/web: 80")
	must(t, os.Mkdir(dir+".new", 0o700))
	write(t, dir+".new/a.yaml", web(82))
	must(t, os.Rename(dir+".new", dir))
	w.becomes(t, "shop/web: 82")
	w.reported(t, "manifests good")

	write(t, dir+"/a.yaml", web(83))
	w.becomes(t, "shop/web: 83")
	must(t, os.RemoveAll(dir))
	must(t, os.Mkdir(dir, 0o700))
	write(t, dir+"/c.yaml", named("api", 84))
	w.becomes(t, "shop/api: 84")
	write(t, dir+"/c.yaml", named("api", 85))
	w.becomes(t, "shop/api: 85")
}

func TestNothingIsToldBeforeTheDirectoryIsThere(t *testing.T) {
	top := t.TempDir()
	w := start(t, Source{Dir: top + "/a/b/c"})
	w.until(t, "away", func() bool { return len(w.reports) > 0 })
	for _, dir := range []string{"/a", "/a/b", "/a/b/c"} {
		if calls, _ := w.take(); calls != nil {
			t.Errorf("calls are %q", calls)
		}
		must(t, os.Mkdir(top+dir, 0o700))
	}
	w.until(t, "synced", func() bool { return slices.Contains(w.calls, "synced") })
	write(t, top+"/a/b/c/a.yaml", web(80))
	w.becomes(t, "shop/web: 80")
}

func TestALinkedDirectoryIsFollowed(t *testing.T) {
	top := t.TempDir()
	for i, dir := range []string{"/1", "/2"} {
		must(t, os.Mkdir(top+dir, 0o700))
		write(t, top+dir+"/a.yaml", web(80+i))
	}
	must(t, os.Symlink("1", top+"/now"))
	w := started(t, top+"/now")
	must(t, os.Symlink("2", top+"/next"))
	must(t, os.Rename(top+"/next", top+"/now"))
	w.becomes(t, "shop/web: 81")
	write(t, top+"/2/a.yaml", web(82))
	w.becomes(t, "shop/web: 82")
}

func TestTheFirstOfTwoDefinitionsCounts(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/b.yaml", web(80))
	write(t, dir+"/c.yaml", web(81)+named("api", 81)+named("api", 82))
	w := started(t, dir)
	w.becomes(t, "shop/api: 81", "shop/web: 80")
	const twice = " c.yaml:16: Service shop/api: is also defined above, which counts"
	w.reported(t, "c.yaml c.yaml:2: Service shop/web: is also defined in b.yaml, which counts"+twice)

	write(t, dir+"/a.yaml", web(79))
	w.becomes(t, "shop/api: 81", "shop/web: 79")
	w.reported(t, "b.yaml b.yaml:2: Service shop/web: is also defined in a.yaml, which counts")
	w.reported(t, "c.yaml c.yaml:2: Service shop/web: is also defined in a.yaml, which counts"+twice)

	must(t, os.Remove(dir+"/a.yaml"))
	w.becomes(t, "shop/api: 81", "shop/web: 80")
	w.reported(t, "b.yaml good")
	must(t, os.Remove(dir+"/b.yaml"))
	w.becomes(t, "shop/api: 81", "shop/web: 81")
	w.reported(t, "c.yaml"+twice)
	write(t, dir+"/c.yaml", named("api", 82))
	w.becomes(t, "shop/api: 82")
	w.reported(t, "c.yaml good")
}

// There is no event when a link behind a link changes.
func TestWhatNoEventTellsIsFoundByLooking(t *testing.T) {
	dir, other, third := t.TempDir(), t.TempDir(), t.TempDir()
	write(t, third+"/1", web(80))
	write(t, third+"/2", web(81))
	must(t, os.Symlink(third+"/1", other+"/link"))
	must(t, os.Symlink(other+"/link", dir+"/a.yaml"))
	w := start(t, Source{Dir: dir, Rescan: 20 * time.Millisecond})
	w.becomes(t, "shop/web: 80")
	must(t, os.Symlink(third+"/2", other+"/next"))
	must(t, os.Rename(other+"/next", other+"/link"))
	w.becomes(t, "shop/web: 81")
}

func TestOneServiceOfTenThousandIsToldAlone(t *testing.T) {
	dir := t.TempDir()
	var all strings.Builder
	for i := range 10_000 {
		all.WriteString(named(fmt.Sprint("s", i), 80) + slice(fmt.Sprint("s", i, "-1"), fmt.Sprint("s", i), "10.244.1.10"))
	}
	write(t, dir+"/a.yaml", all.String())
	write(t, dir+"/b.yaml", web(80))
	w := started(t, dir)
	if calls, _ := w.take(); len(calls) != 10_002 {
		t.Errorf("%d calls", len(calls))
	}
	write(t, dir+"/a.yaml", all.String()+named("web", 81)+strings.Replace(slice("s7-1", "s7", "10.244.1.11"), "s7-1", "s7-2", 1))
	w.until(t, "reported", func() bool { return w.services["shop/s7"] == "80 s7-1=10.244.1.10 s7-2=10.244.1.11" })
	calls, reports := w.take()
	wantCalls(t, "calls", calls, "shop/s7", "shop/web")
	wantCalls(t, "reports", reports, "a.yaml", "b.yaml b.yaml:2: Service shop/web: is also defined in a.yaml, which counts")
}

func TestBurstsAreReadWhenTheyEndButNotTooLate(t *testing.T) {
	const ms = time.Millisecond
	begin := time.Unix(1000, 0)
	var b burst
	for _, step := range []struct{ at, want time.Duration }{
		{0, 50 * ms}, {40 * ms, 50 * ms}, {80 * ms, 20 * ms}, {99 * ms, ms}, {150 * ms, 0},
	} {
		if got := b.due(begin.Add(step.at), 50*ms, 100*ms); got != step.want {
			t.Errorf("event at %v: due in %v, want %v", step.at, got, step.want)
		}
	}
}

func TestRunSaysThatItCannotWatch(t *testing.T) {
	var limit syscall.Rlimit
	must(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 0, Max: limit.Max}))
	err := Source{Dir: "/"}.Run(t.Context(), &world{services: map[string]string{}})
	must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit))
	if !errors.Is(err, syscall.EMFILE) {
		t.Errorf("error is %v", err)
	}
}
