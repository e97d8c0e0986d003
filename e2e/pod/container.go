// SPDX-License-Identifier: Apache-2.0

package pod

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// Container is a container of a pod on a node. It starts with its command line.
type Container struct {
	id     string
	folder string // has its specification, its root and what it writes there, in memory
	state  string // the folder of the runtime's own files
}

// Container prepares a container. Its user closes it.
func (n Node) Container(p corev1.PodSpec, name string) (c *Container, err error) {
	of, err := container(p, name)
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", name, err)
	}
	spec, err := n.spec(p, of)
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", name, err)
	}
	text, err := json.Marshal(spec)
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", name, err)
	}
	all := filepath.Join(n.Root, "containers")
	if err := os.MkdirAll(all, 0o755); err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp(all, name+"-")
	if err != nil {
		return nil, err
	}
	c = &Container{id: filepath.Base(folder), folder: folder, state: filepath.Join(n.Root, "crun")}
	image, err := n.image(of)
	if err == nil {
		err = c.furnish(image, text)
	}
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", name, errors.Join(err, c.Close()))
	}
	return c, nil
}

// furnish makes the root, which is the image's, with what the container writes beside it.
func (c *Container) furnish(i Image, spec []byte) error {
	if err := unix.Mount("tmpfs", c.folder, "tmpfs", 0, ""); err != nil {
		return fmt.Errorf("making its folder: %w", err)
	}
	for _, name := range []string{rootFolder, "upper", "work"} {
		if err := os.Mkdir(filepath.Join(c.folder, name), 0o755); err != nil {
			return err
		}
	}
	root := filepath.Join(c.folder, rootFolder)
	layers := fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work", i.Root, c.folder, c.folder)
	if err := unix.Mount("overlay", root, "overlay", 0, layers); err != nil {
		return fmt.Errorf("making its root from %s: %w", i.Root, err)
	}
	return os.WriteFile(filepath.Join(c.folder, "config.json"), spec, 0o644)
}

// Argv returns the command line that runs the container in the caller's network namespace until it ends. A signal
// reaches the container's program.
func (c *Container) Argv() []string {
	return append(c.runtime("run"), "--bundle="+c.folder, c.id)
}

func (c *Container) runtime(command string) []string {
	return []string{"crun", "--root=" + c.state, "--cgroup-manager=disabled", command}
}

// Close ends the container if it runs, and removes it.
func (c *Container) Close() error {
	remove := append(c.runtime("delete"), "--force", c.id)
	out, err := exec.Command(remove[0], remove[1:]...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("removing container %s: %w: %s", c.id, err, out)
	}
	for _, name := range []string{filepath.Join(c.folder, rootFolder), c.folder} {
		if failed := unix.Unmount(name, unix.MNT_DETACH); failed != nil && !errors.Is(failed, unix.EINVAL) && !errors.Is(failed, unix.ENOENT) {
			err = errors.Join(err, fmt.Errorf("unmounting %s: %w", name, failed))
		}
	}
	return errors.Join(err, os.RemoveAll(c.folder))
}
