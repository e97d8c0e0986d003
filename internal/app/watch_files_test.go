// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/kube-ipvs/kube-ipvs/internal/cli"
)

// patience is for a busy machine; quietTime is long enough for a change to be reported.
const (
	patience  = 20 * time.Second
	quietTime = 3 * settleTime
)

// folder is a folder with watched files, and the changes that were reported.
type folder struct {
	t        *testing.T
	path     string
	reported chan struct{}
	known    []cli.File
}

func newFolder(t *testing.T) *folder {
	return &folder{t: t, path: t.TempDir(), reported: make(chan struct{}, 100)}
}

func (f *folder) at(name string) string { return filepath.Join(f.path, name) }

func (f *folder) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *folder) write(name, text string) {
	f.t.Helper()
	f.must(os.MkdirAll(filepath.Dir(f.at(name)), 0o755))
	f.must(os.WriteFile(f.at(name), []byte(text), 0o644))
}

// replace has another file take the place of the one there.
func (f *folder) replace(name, text string) {
	f.t.Helper()
	f.write(name+".new", text)
	f.must(os.Rename(f.at(name+".new"), f.at(name)))
}

// mount does what the kubelet does for a ConfigMap: the files are in a folder of their own, and the symlink to it,
// ..data, is exchanged.
func (f *folder) mount(version, text string) {
	f.t.Helper()
	f.write("..ver"+version+"/config.conf", text)
	f.must(os.Symlink("..ver"+version, f.at("..data_tmp")))
	old, _ := os.Readlink(f.at("..data")) // none the first time
	f.must(os.Rename(f.at("..data_tmp"), f.at("..data")))
	if old != "" {
		f.must(os.RemoveAll(f.at(old)))
		return
	}
	f.must(os.Symlink("..data/config.conf", f.at("config.conf")))
}

// watch watches files as they are now.
func (f *folder) watch(period time.Duration, names ...string) {
	f.t.Helper()
	for _, name := range names {
		text, err := os.ReadFile(f.at(name))
		f.must(err)
		f.known = append(f.known, cli.File{Path: f.at(name), Text: text})
	}
	f.start(period)
}

func (f *folder) start(period time.Duration) {
	ctx, stop := context.WithCancel(f.t.Context())
	ended := make(chan struct{})
	w := fileWatcher{files: f.known, period: period}
	go func() {
		defer close(ended)
		w.run(ctx, func() { f.reported <- struct{}{} })
	}()
	f.t.Cleanup(func() {
		stop()
		<-ended
	})
}

func (f *folder) changes(what string) {
	f.t.Helper()
	select {
	case <-f.reported:
	case <-time.After(patience):
		f.t.Fatalf("no change was reported: %s", what)
	}
}

func (f *folder) stays(what string) {
	f.t.Helper()
	select {
	case <-f.reported:
		f.t.Fatalf("a change was reported: %s", what)
	case <-time.After(quietTime):
	}
}

func TestAMountedConfigMapChanges(t *testing.T) {
	f := newFolder(t)
	f.mount("1", "a")
	f.watch(time.Hour, "config.conf")
	f.mount("2", "b")
	f.changes("exchanged symlinks")
	f.mount("3", "b")
	f.stays("exchanged symlinks with the same content")
	f.mount("4", "c")
	f.changes("the third content")
}

func TestAFileChanges(t *testing.T) {
	f := newFolder(t)
	f.write("config.conf", "a")
	f.write("settings.yaml", "a")
	f.watch(time.Hour, "config.conf", "settings.yaml")
	f.stays("nothing")
	f.write("config.conf", "b")
	f.changes("a write in place")
	f.replace("settings.yaml", "b")
	f.changes("a file in another's place")
	f.replace("settings.yaml", "c")
	f.changes("another file in another's place")
	f.write("neighbour", "x")
	f.replace("config.conf", "b")
	f.stays("a neighbour, and the same content in another file")
}

func TestAFileThatIsGoneIsComparedWhenItIsBack(t *testing.T) {
	f := newFolder(t)
	f.write("in/config.conf", "a")
	f.watch(time.Hour, "in/config.conf")
	f.must(os.Remove(f.at("in/config.conf")))
	f.stays("a file that is gone")
	f.write("in/config.conf", "a")
	f.stays("the same file")
	f.must(os.Remove(f.at("in/config.conf")))
	f.write("in/config.conf", "b")
	f.changes("another file")
}

func TestTheFileThatASymlinkLeadsToChanges(t *testing.T) {
	f := newFolder(t)
	f.write("elsewhere/real.conf", "a")
	f.must(os.Mkdir(f.at("here"), 0o755))
	f.must(os.Symlink("../elsewhere/real.conf", f.at("here/config.conf")))
	f.watch(time.Hour, "here/config.conf")
	f.stays("nothing")
	f.write("elsewhere/real.conf", "b")
	f.changes("a write to the file of the link")
}

func TestWhatChangedBetweenReadingAndWatchingIsTold(t *testing.T) {
	f := newFolder(t)
	f.write("config.conf", "new")
	f.known = []cli.File{{Path: f.at("config.conf"), Text: []byte("old")}}
	f.start(time.Hour)
	f.changes("a change before the watch")
}

// The folder is missing when the watch begins, so the kernel sends no events.
func TestAChangeWithoutAnEventIsFoundByLooking(t *testing.T) {
	f := newFolder(t)
	f.known = []cli.File{{Path: f.at("later/config.conf"), Text: []byte("a")}}
	f.start(50 * time.Millisecond)
	f.stays("a folder that is not there")
	f.write("later/config.conf", "b")
	f.changes("a folder that came")
}

func TestWatchEndsWithItsContext(t *testing.T) {
	f := newFolder(t)
	f.write("config.conf", "a")
	ctx, stop := context.WithCancel(t.Context())
	stop()
	watchFiles(ctx, []cli.File{{Path: f.at("config.conf"), Text: []byte("a")}}, func() { t.Error("a change was reported") })
}
