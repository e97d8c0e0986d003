// SPDX-License-Identifier: Apache-2.0

package uml

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/kube-ipvs/kube-ipvs/e2e/lab/job"
)

// seedSize is how much randomness the guest's kernel gets.
const seedSize = 64

// newJob makes the directory in which the guest finds its command and its first process.
func newJob(c job.Command) (dir job.Dir, err error) {
	path, err := os.MkdirTemp(jobFolder(os.TempDir()), "lab-")
	if err != nil {
		return "", fmt.Errorf("make a folder for the job: %w", err)
	}
	dir = job.Dir(path)
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(path))
		}
	}()
	c.Seed = make([]byte, seedSize)
	// It never fails.
	_, _ = rand.Read(c.Seed)
	c.Keep = keep(path, os.TempDir(), c)
	if err := copySelf(dir.Path(job.InitFile)); err != nil {
		return "", fmt.Errorf("copy the lab into its job: %w", err)
	}
	return dir, dir.WriteCommand(c)
}

// jobFolder returns where job directories are made: among the temporary files, unless their path does not fit into a
// kernel's command line, or is below /dev, which the kernel covers before it starts its first process.
func jobFolder(temp string) string {
	if !filepath.IsAbs(temp) || strings.ContainsAny(temp, " \t\n\"'\\,") || strings.HasPrefix(temp+"/", "/dev/") {
		return "/tmp"
	}
	return temp
}

// keep lists the folders that the command must see as they are on the host: the job's, the temporary files, its working
// directory, and its program's.
func keep(jobDir, temp string, c job.Command) []string {
	folders := []string{jobDir, temp, c.Dir}
	if filepath.IsAbs(c.Argv[0]) {
		folders = append(folders, filepath.Dir(c.Argv[0]))
	}
	return folders
}

// copySelf copies the lab's program. A link would not do: the guest may cover the program's folder, and the program may
// be rebuilt at any moment.
func copySelf(target string) error {
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer self.Close()
	f, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, self)
	return errors.Join(err, f.Close())
}
