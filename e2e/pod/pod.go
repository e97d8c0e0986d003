// SPDX-License-Identifier: Apache-2.0

// Package pod runs a container of a pod as a container runtime does on a node. The runtime is crun, which gets what the
// kubelet and containerd make of a pod: the root file system of the image, the mounts and no other place to write,
// /proc/sys read-only, only the container's capabilities, and the default seccomp profile. It leaves out cgroups, SELinux
// and AppArmor.
package pod

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Node is where a pod runs.
type Node struct {
	Name   string
	Images map[string]Image // by the name in the manifests, without a tag
	// Root is the folder of this node's own files, as several nodes share one machine. The kernel's files are the
	// machine's.
	Root       string
	ConfigMaps map[string]string // folders by name
}

// Image is an image on the node.
type Image struct {
	Root            string // its root file system, which stays as it is
	Entrypoint, Env []string
}

// image returns the image of a container.
func (n Node) image(c corev1.Container) (Image, error) {
	name, _, _ := strings.Cut(c.Image, ":")
	i, ok := n.Images[name]
	if !ok {
		return Image{}, fmt.Errorf("the node has no image %s", c.Image)
	}
	return i, nil
}

// container returns the container of a pod by its name.
func container(p corev1.PodSpec, name string) (corev1.Container, error) {
	all := slices.Concat(p.InitContainers, p.Containers)
	i := slices.IndexFunc(all, func(c corev1.Container) bool { return c.Name == name })
	if i < 0 {
		return corev1.Container{}, fmt.Errorf("the pod has no container %s", name)
	}
	c := all[i]
	if s := c.SecurityContext; !p.HostNetwork || s == nil || s.Capabilities == nil || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) {
		return c, errors.New("a network of its own, and capabilities of the runtime's choice, are not supported here")
	}
	return c, nil
}

// mount is one mount of a volume.
type mount struct {
	from, to string
	readOnly bool
}

func (n Node) mounts(p corev1.PodSpec, c corev1.Container) ([]mount, error) {
	var all []mount
	for _, m := range c.VolumeMounts {
		i := slices.IndexFunc(p.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name })
		if i < 0 {
			return nil, fmt.Errorf("there is no volume %s", m.Name)
		}
		v := p.Volumes[i]
		from, err := n.source(v)
		if err != nil {
			return nil, err
		}
		if from != "" {
			all = append(all, mount{from, m.MountPath, m.ReadOnly || v.ConfigMap != nil})
		}
	}
	return all, nil
}

// source returns a volume's path on the node, and makes what the kubelet would make; empty for a missing optional one.
func (n Node) source(v corev1.Volume) (string, error) {
	switch {
	case v.HostPath != nil && kernels(v.HostPath.Path):
		return v.HostPath.Path, nil
	case v.HostPath != nil:
		name := filepath.Join(n.Root, v.HostPath.Path)
		return name, furnish(name, v.HostPath.Type)
	case v.ConfigMap != nil:
		folder, ok := n.ConfigMaps[v.ConfigMap.Name]
		if !ok && (v.ConfigMap.Optional == nil || !*v.ConfigMap.Optional) {
			return "", fmt.Errorf("there is no ConfigMap %s", v.ConfigMap.Name)
		}
		return folder, nil
	}
	return "", errors.New("volume " + v.Name + " is of an unsupported kind")
}

// furnish makes a file or a folder, as the type says.
func furnish(name string, as *corev1.HostPathType) error {
	folder := name
	if as != nil && *as == corev1.HostPathFileOrCreate {
		folder = filepath.Dir(name)
	}
	if err := os.MkdirAll(folder, 0o755); err != nil || folder == name {
		return err
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}

// kernels reports whether files belong to the kernel, or to its modules.
func kernels(name string) bool {
	return slices.ContainsFunc([]string{"/proc", "/sys", modules}, func(p string) bool {
		return name == p || strings.HasPrefix(path.Clean(name), p+"/")
	})
}
