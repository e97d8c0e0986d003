// SPDX-License-Identifier: Apache-2.0

package uml

import (
	"github.com/kube-ipvs/kube-ipvs/e2e/lab/job"
)

// The files that the kernel's process gets beyond the standard ones: the other ends of the guest's serial lines.
const (
	firstLine = 3
	lines     = 3

	outputFD = "3"
	errorFD  = "4"
	signalFD = "5"
)

// arguments returns the kernel's command line.
func arguments(k Kernel, dir job.Dir, memory string) []string {
	args := []string{
		"mem=" + memory,
		"rootfstype=hostfs", "rootflags=/", "rw",
		"init=" + dir.Path(job.InitFile), job.EnvName + "=" + string(dir),
		// The console goes to the log and reads nothing. Other consoles and lines must not try to open a terminal.
		"con=null", "con0=null,fd:1",
		"ssl=null", "ssl0=null,fd:" + outputFD, "ssl1=null,fd:" + errorFD, "ssl2=fd:" + signalFD + ",null",
		// Its socket and process file belong into the job's folder, not into the user's home.
		"uml_dir=" + string(dir), "umid=uml",
		"quiet",
		// Choosing the quickest RAID6 code takes 0.9 s, most of the time to boot, for nothing.
		"initcall_blacklist=raid6_select_algo",
	}
	return append(args, k.Arguments...)
}
