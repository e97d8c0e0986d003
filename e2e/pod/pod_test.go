// SPDX-License-Identifier: Apache-2.0

package pod_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/kube-ipvs/kube-ipvs/e2e/pod"
	"github.com/kube-ipvs/kube-ipvs/internal/testkit"
)

const example = `
hostNetwork: true
priorityClassName: system-node-critical
securityContext: {seccompProfile: {type: RuntimeDefault}}
containers:
- name: a
  image: machine:latest
  args: [--node=$(NODE_NAME), "$(OTHER)"]
  securityContext:
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    capabilities: {drop: [ALL], add: [NET_ADMIN, NET_RAW]}
  volumeMounts:
  - {name: lock, mountPath: /run/xtables.lock}
  - {name: sysctls, mountPath: /host/proc/sys/net}
  - {name: state, mountPath: /var/lib/state}
  - {name: config, mountPath: /etc-of-pod}
  - {name: optional, mountPath: /optional}
volumes:
- {name: lock, hostPath: {path: /run/xtables.lock, type: FileOrCreate}}
- {name: sysctls, hostPath: {path: /proc/sys/net}}
- {name: state, hostPath: {path: /var/lib/state, type: DirectoryOrCreate}}
- {name: config, configMap: {name: config}}
- {name: optional, configMap: {name: other, optional: true}}
`

// looks reports what a program in the container sees and may do.
const looks = `#!/bin/sh
echo "$@"
cat /etc-of-pod/key
may() { if eval "$2" 2>/dev/null; then echo "may $1"; else echo "may not $1"; fi; }
may "write to the root" 'true >/file'
may "write to the image" 'true >/etc/of-pod-test'
may "write to the config" 'true >/etc-of-pod/key'
may "lock" 'flock /run/xtables.lock true'
may "keep state" 'echo kept >/var/lib/state/file'
may "set in /proc/sys" 'echo 1 >/proc/sys/net/ipv4/ip_forward'
may "set in /host/proc/sys" 'echo 1 >/host/proc/sys/net/ipv4/ip_forward'
may "change its network" 'ip link add of-pod type dummy'
may "mount" 'mount -t tmpfs tmpfs /mnt'
may "make a namespace of users" 'unshare --user true'
may "see the optional" 'test -e /optional'
echo $$ of the container has OOM score $(cat /proc/self/oom_score_adj)
sed -n '/^Cap[^I]/p; /^NoNew/p; /^Seccomp:/p' /proc/self/status
`

func TestAContainerHasWhatItsManifestGivesItAndNoMore(t *testing.T) {
	testkit.Namespace(t)
	folder := t.TempDir()
	write(t, filepath.Join(folder, "config", "key"), "configured\n")
	write(t, filepath.Join(folder, "config", "looks"), looks)
	n := pod.Node{
		Name: "node-1", Root: filepath.Join(folder, "host"), ConfigMaps: map[string]string{"config": filepath.Join(folder, "config")},
		Images: map[string]pod.Image{"machine": {Root: "/", Entrypoint: []string{"/etc-of-pod/looks"}, Env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}}},
	}
	var p corev1.PodSpec
	if err := yaml.UnmarshalStrict([]byte(example), &p); err != nil {
		t.Fatal(err)
	}
	c, err := n.Container(p, "a")
	if err != nil {
		t.Fatal(err)
	}
	testkit.CloseAtEnd(t, c)
	out, err := exec.Command(c.Argv()[0], c.Argv()[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want := `--node=node-1 $(OTHER)
configured
may not write to the root
may not write to the image
may not write to the config
may lock
may keep state
may not set in /proc/sys
may set in /host/proc/sys
may change its network
may not mount
may not make a namespace of users
may not see the optional
1 of the container has OOM score -997
CapPrm:	0000000000003000
CapEff:	0000000000003000
CapBnd:	0000000000003000
CapAmb:	0000000000000000
NoNewPrivs:	1
Seccomp:	2
`
	if d := cmp.Diff(want, string(out)); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	if kept, err := os.ReadFile(filepath.Join(folder, "host", "var", "lib", "state", "file")); string(kept) != "kept\n" {
		t.Errorf("the host has %q, %v", kept, err)
	}
	if forward := testkit.Tool(t, "cat", "/proc/sys/net/ipv4/ip_forward"); forward != "1\n" {
		t.Errorf("not set in this network namespace: %q", forward)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}
