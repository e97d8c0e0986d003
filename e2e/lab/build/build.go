// SPDX-License-Identifier: Apache-2.0

package build

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// Build builds the newest kernel of a series and keeps it, unless one is there. It says what it does, for it takes
// minutes. Only one build runs at a time.
func (s Store) Build(series Series, getenv func(string) string, say io.Writer) (err error) {
	held, err := s.lock()
	if err != nil {
		return err
	}
	defer held.Close()
	// Another lab may have built it while this one waited.
	if _, err := s.Find(series); err == nil {
		return nil
	}
	path := filepath.Join(string(s), string(series)+".log")
	log, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("make the log of the build: %w", err)
	}
	defer log.Close()
	work := filepath.Join(string(s), "work")
	// A build that was killed leaves its files.
	if err := errors.Join(os.RemoveAll(work), os.MkdirAll(work, 0o755)); err != nil {
		return fmt.Errorf("make a folder for the build: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	j := job{series: series, store: s, work: work, run: runner{log}, say: say}
	if err := j.do(getenv); err != nil {
		return fmt.Errorf("build kernel %s: %w; the log is %s", series, err, path)
	}
	return nil
}

// job is one build.
type job struct {
	series Series
	store  Store
	work   string
	run    runner
	say    io.Writer
}

func (j job) do(getenv func(string) string) error {
	mirror, err := findMirror(getenv, j.run)
	if err != nil {
		return err
	}
	a, err := openArchive(filepath.Join(j.work, "apt"), mirror, j.run)
	if err != nil {
		return err
	}
	name, version, err := a.newest(j.series)
	if err != nil {
		return err
	}
	fmt.Fprintf(j.say, "lab: building a user-mode Linux kernel from %s %s; this takes some minutes, once\n", name, version)
	begin := time.Now()
	deb, err := a.download(name, version)
	if err != nil {
		return err
	}
	tree, err := j.unpack(deb, name)
	if err != nil {
		return err
	}
	if err := j.compile(tree); err != nil {
		return err
	}
	if err := j.keep(tree, version); err != nil {
		return err
	}
	fmt.Fprintf(j.say, "lab: built it in %.0f s\n", time.Since(begin).Seconds())
	return nil
}

// left returns folders of the sources that no wanted symbol needs: most of the files.
func left() []string {
	return []string{
		"Documentation", "samples", "sound", "tools/testing", "tools/perf",
		"drivers/clk", "drivers/firmware", "drivers/gpu", "drivers/iio", "drivers/infiniband", "drivers/iommu", "drivers/media",
		"drivers/net/ethernet", "drivers/net/wireless", "drivers/pci", "drivers/pinctrl", "drivers/scsi", "drivers/soc",
		"drivers/staging", "drivers/usb", "drivers/video",
		"arch/arm", "arch/arm64", "arch/mips", "arch/powerpc", "arch/s390", "arch/riscv", "arch/sparc", "arch/sh", "arch/m68k",
		"fs/xfs", "fs/btrfs", "fs/ext4", "fs/f2fs", "fs/ocfs2", "fs/nfs", "fs/nfsd", "fs/smb", "fs/ntfs3", "fs/ceph", "fs/gfs2",
	}
}

// unpack returns the folder of the sources in a package. Kconfig reads its files everywhere, so only code is left out.
// make finds nothing to make in a folder that is left out: to look into each of hundreds takes time.
func (j job) unpack(deb, name string) (string, error) {
	if err := j.run.logged(j.work, "dpkg-deb", "-x", deb, "package"); err != nil {
		return "", err
	}
	if err := os.Remove(deb); err != nil {
		return "", err
	}
	args := []string{"-x", "-f", filepath.Join("package/usr/src", name+".tar.xz")}
	for _, folder := range left() {
		for _, kind := range []string{"*.[chS]", "*.rst", "*.yaml", "*.dts*", "*.json", "*.txt", "Makefile"} {
			args = append(args, "--exclude="+name+"/"+folder+"/"+kind)
		}
	}
	if err := j.run.logged(j.work, "tar", args...); err != nil {
		return "", err
	}
	tree := filepath.Join(j.work, name)
	for _, folder := range left() {
		err := os.WriteFile(filepath.Join(tree, folder, "Makefile"), nil, 0o644)
		// The folders differ from version to version.
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("leave %s out: %w", folder, err)
		}
	}
	return tree, nil
}

// compile makes the kernel in its sources, on all processors, after all others' work.
func (j job) compile(tree string) error {
	wanted := filepath.Join(j.work, "wanted")
	if err := os.WriteFile(wanted, []byte(wantedText), 0o644); err != nil {
		return err
	}
	if err := j.run.logged(tree, "make", "ARCH=um", "KCONFIG_ALLCONFIG="+wanted, "allnoconfig"); err != nil {
		return err
	}
	if err := check(tree, filepath.Join(tree, ".config")); err != nil {
		return err
	}
	return j.run.logged(tree, "nice", "make", "ARCH=um", "-j"+strconv.Itoa(runtime.NumCPU()+1), programFile)
}

// kept returns the files of the build that make modprobe know what is built in.
func kept() []string { return []string{"modules.builtin", "modules.builtin.modinfo"} }

// keep moves the kernel to its folder in the store, whole or not at all.
func (j job) keep(tree, version string) error {
	out, err := j.run.output(filepath.Join(tree, programFile), "--version")
	if err != nil {
		return err
	}
	release := strings.TrimSpace(out)
	k := Kernel{filepath.Join(j.work, "kernel")}
	if err := os.MkdirAll(k.Modules(release), 0o755); err != nil {
		return err
	}
	moves := map[string]string{programFile: k.Program(), ".config": filepath.Join(k.folder, configFile)}
	for _, name := range kept() {
		moves[name] = filepath.Join(k.Modules(release), name)
	}
	for from, to := range moves {
		if err := os.Rename(filepath.Join(tree, from), to); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(k.Modules(release), "modules.order"), nil, 0o644); err != nil {
		return err
	}
	if err := j.run.logged(j.work, "depmod", "-b", k.folder, release); err != nil {
		return err
	}
	return os.Rename(k.folder, j.store.folder(j.series, version))
}
