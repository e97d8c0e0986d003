// SPDX-License-Identifier: Apache-2.0

package pod

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// script sets up a container, step by step, and then becomes its program. Its mounts are its own: it may cover the
// folder in which it sets up the root.
type script struct{ strings.Builder }

func (s *script) line(format string, args ...any) { fmt.Fprintf(s, format+"\n", args...) }

// image sets up what is there before any volume is mounted. The lab has tools of its own in a folder of /run.
func (s *script) image(programFile string) {
	s.line("root=/mnt; program=$root%s", program)
	s.line("mount -t tmpfs tmpfs $root")
	s.line("for d in usr bin sbin lib lib64 etc; do if test -e /$d; then mkdir $root/$d; mount --bind -o ro /$d $root/$d; fi; done")
	s.line("mount -t tmpfs tmpfs $root/usr/local; mkdir $root/usr/local/bin; : >$program; mount --bind -o ro %s $program", quote(programFile))
	s.line("mount -o remount,ro $root/usr/local")
	s.line("mkdir $root/proc $root/sys $root/dev $root/tmp $root/var $root/run")
	s.line("mount -t proc proc $root/proc; mount --bind -o ro $root/proc/sys $root/proc/sys; mount -t sysfs -o ro sysfs $root/sys")
	s.line("for f in null zero full random urandom; do : >$root/dev/$f; mount --bind /dev/$f $root/dev/$f; done")
	s.line("if test -d /run/lab; then mkdir $root/run/lab; mount --rbind -o ro /run/lab $root/run/lab; fi")
}

func (s *script) mount(m mount) {
	s.line("from=%s; to=$root%s; mkdir -p $(dirname $from) $(dirname $to)", quote(m.from), quote(m.to))
	if m.file {
		s.line(": >>$from; : >>$to")
	} else {
		s.line("mkdir -p $from $to")
	}
	if m.readOnly {
		s.line("mount --bind -o ro $from $to")
	} else {
		s.line("mount --bind $from $to")
	}
}

// finish closes the root and starts the program with its privileges.
func (s *script) finish(c corev1.SecurityContext) {
	if c.ReadOnlyRootFilesystem != nil && *c.ReadOnlyRootFilesystem {
		s.line("mount -o remount,ro $root")
	}
	privileges := "--inh-caps=-all --bounding-set=-all"
	for _, add := range c.Capabilities.Add {
		privileges += ",+" + strings.ToLower(string(add))
	}
	if c.AllowPrivilegeEscalation != nil && !*c.AllowPrivilegeEscalation {
		privileges += " --no-new-privs"
	}
	s.line(`exec chroot $root setpriv %s "$0" "$@"`, privileges)
}

func quote(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }
