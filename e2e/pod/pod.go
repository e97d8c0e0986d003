// SPDX-License-Identifier: Apache-2.0

// Package pod runs a container of a pod as a container runtime does on a node: with its mounts and no other place to
// write, /proc/sys read-only, and only its capabilities. It needs no kubelet, runtime or image: the machine's own
// programs stand in for the image's. It leaves out namespaces other than that of mounts, cgroups, seccomp, SELinux and
// AppArmor.
package pod

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Node is where a pod runs.
type Node struct {
	Name    string
	Program string // the file in place of the image's program
	// Root is the folder of this node's own files, as several nodes share one machine. The kernel's files are the
	// machine's.
	Root       string
	ConfigMaps map[string]string // folders by name
	Token      string            // the folder with the service account's; empty: none
}

// program is its path in the image, and token where pods find theirs.
const (
	program = "/usr/local/bin/kube-ipvs"
	token   = "/var/run/secrets/kubernetes.io/serviceaccount"
)

// Argv returns the command line that runs a container in the caller's network namespace. A signal reaches the
// container's program.
func (n Node) Argv(p corev1.PodSpec, container string) ([]string, error) {
	all := slices.Concat(p.InitContainers, p.Containers)
	i := slices.IndexFunc(all, func(c corev1.Container) bool { return c.Name == container })
	if i < 0 {
		return nil, fmt.Errorf("the pod has no container %s", container)
	}
	c := all[i]
	if len(c.Command) > 0 || !p.HostNetwork || c.SecurityContext == nil {
		return nil, fmt.Errorf("container %s has a command, a network of its own or no security context, which is not supported here", container)
	}
	mounts, err := n.mounts(p, c)
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", container, err)
	}
	s := script{}
	s.image(n.Program)
	for _, m := range mounts {
		s.mount(m)
	}
	s.finish(*c.SecurityContext)
	argv := []string{"unshare", "--mount", "sh", "-euc", s.String(), program}
	for _, a := range c.Args {
		argv = append(argv, strings.ReplaceAll(a, "$(NODE_NAME)", n.Name))
	}
	return argv, nil
}

// mount is one mount of a container.
type mount struct {
	from, to string
	file     bool // or folder
	readOnly bool
}

func (n Node) mounts(p corev1.PodSpec, c corev1.Container) ([]mount, error) {
	var all []mount
	for _, m := range c.VolumeMounts {
		i := slices.IndexFunc(p.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name })
		if i < 0 {
			return nil, fmt.Errorf("there is no volume %s", m.Name)
		}
		from, file, err := n.source(p.Volumes[i])
		if err != nil {
			return nil, err
		}
		if from != "" {
			all = append(all, mount{from, m.MountPath, file, m.ReadOnly || p.Volumes[i].ConfigMap != nil})
		}
	}
	if n.Token != "" {
		all = append(all, mount{n.Token, token, false, true})
	}
	return all, nil
}

// source returns a volume's path on the node; empty for a missing optional one.
func (n Node) source(v corev1.Volume) (path string, file bool, err error) {
	switch {
	case v.HostPath != nil && kernels(v.HostPath.Path):
		return v.HostPath.Path, false, nil
	case v.HostPath != nil:
		t := v.HostPath.Type
		return filepath.Join(n.Root, v.HostPath.Path), t != nil && *t == corev1.HostPathFileOrCreate, nil
	case v.ConfigMap != nil:
		folder, ok := n.ConfigMaps[v.ConfigMap.Name]
		if !ok && (v.ConfigMap.Optional == nil || !*v.ConfigMap.Optional) {
			return "", false, fmt.Errorf("there is no ConfigMap %s", v.ConfigMap.Name)
		}
		return folder, false, nil
	}
	return "", false, errors.New("volume " + v.Name + " is of an unsupported kind")
}

// kernels reports whether files belong to the kernel, or to its modules.
func kernels(name string) bool {
	return slices.ContainsFunc([]string{"/proc", "/sys", "/lib/modules"}, func(p string) bool {
		return name == p || strings.HasPrefix(path.Clean(name), p+"/")
	})
}
