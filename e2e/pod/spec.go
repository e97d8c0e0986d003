// SPDX-License-Identifier: Apache-2.0

package pod

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/profiles/seccomp"
	oci "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// rootFolder is the root of a container, beside its specification.
const rootFolder = "rootfs"

// version is that of the specification which all runtimes read.
const version = "1.0.2"

// spec returns what the kubelet and containerd ask the runtime for.
func (n Node) spec(p corev1.PodSpec, c corev1.Container) (*oci.Spec, error) {
	image, err := n.image(c)
	if err != nil {
		return nil, err
	}
	volumes, err := n.mounts(p, c)
	if err != nil {
		return nil, err
	}
	security := c.SecurityContext
	s := &oci.Spec{
		Version: version,
		Root:    &oci.Root{Path: rootFolder, Readonly: ptr.Deref(security.ReadOnlyRootFilesystem, false)},
		Process: &oci.Process{
			Args: slices.Concat(image.Entrypoint, c.Args), Env: image.Env, Cwd: "/",
			Capabilities:    capabilities(security.Capabilities.Add),
			NoNewPrivileges: !ptr.Deref(security.AllowPrivilegeEscalation, true),
			OOMScoreAdj:     oomScore(p),
		},
		Mounts: defaultMounts(),
		// Those of the network and of the host's name are the caller's, by hostNetwork.
		Linux: &oci.Linux{
			Namespaces:  []oci.LinuxNamespace{{Type: oci.PIDNamespace}, {Type: oci.IPCNamespace}, {Type: oci.MountNamespace}},
			MaskedPaths: masked(), ReadonlyPaths: readOnly(),
		},
	}
	if len(c.Command) > 0 {
		s.Process.Args = slices.Concat(c.Command, c.Args)
	}
	for i, a := range s.Process.Args {
		s.Process.Args[i] = strings.ReplaceAll(a, "$(NODE_NAME)", n.Name)
	}
	for _, m := range volumes {
		bound, err := m.bind()
		if err != nil {
			return nil, err
		}
		s.Mounts = append(s.Mounts, bound)
	}
	s.Linux.Seccomp, err = profile(p, c, s)
	return s, err
}

// capabilities returns exactly the added ones. None is inheritable or ambient.
func capabilities(add []corev1.Capability) *oci.LinuxCapabilities {
	all := []string{}
	for _, c := range add {
		all = append(all, "CAP_"+string(c))
	}
	return &oci.LinuxCapabilities{Bounding: all, Effective: all, Permitted: all}
}

// oomScore returns what the kubelet sets for pods that a node cannot do without, and for others without limits.
func oomScore(p corev1.PodSpec) *int {
	score := 1000
	if p.PriorityClassName == "system-node-critical" {
		score = -997
	}
	return &score
}

// profile returns the default seccomp profile, if the pod asks for it.
func profile(p corev1.PodSpec, c corev1.Container, s *oci.Spec) (*oci.LinuxSeccomp, error) {
	var chosen *corev1.SeccompProfile
	if p.SecurityContext != nil {
		chosen = p.SecurityContext.SeccompProfile
	}
	if own := c.SecurityContext.SeccompProfile; own != nil {
		chosen = own
	}
	switch {
	case chosen == nil || chosen.Type == corev1.SeccompProfileTypeUnconfined:
		return nil, nil
	case chosen.Type == corev1.SeccompProfileTypeRuntimeDefault:
		return seccomp.GetDefaultProfile(s)
	}
	return nil, fmt.Errorf("a seccomp profile of type %s is not supported here", chosen.Type)
}

func defaultMounts() []oci.Mount {
	return []oci.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
	}
}

func masked() []string {
	return []string{
		"/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
		"/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
	}
}

func readOnly() []string {
	return []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}

// modules is where a node has its modules, and labModules where user-mode Linux has links to those of its kernel.
const (
	modules    = "/lib/modules"
	labModules = "/run/lab" + modules
)

// bind returns the mount as the runtime makes it.
func (m mount) bind() (oci.Mount, error) {
	if _, err := os.Stat(labModules); err == nil && m.from == modules {
		var name unix.Utsname
		if err := unix.Uname(&name); err != nil {
			return oci.Mount{}, fmt.Errorf("reading the kernel's version: %w", err)
		}
		release := unix.ByteSliceToString(name.Release[:])
		if m.from, err = filepath.EvalSymlinks(filepath.Join(labModules, release)); err != nil {
			return oci.Mount{}, fmt.Errorf("finding the kernel's modules: %w", err)
		}
		m.to = filepath.Join(m.to, release)
	}
	options := []string{"rbind", "rprivate", "rw"}
	if m.readOnly {
		options[2] = "ro"
	}
	return oci.Mount{Destination: m.to, Type: "bind", Source: m.from, Options: options}, nil
}
