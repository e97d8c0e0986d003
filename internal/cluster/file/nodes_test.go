// SPDX-License-Identifier: Apache-2.0

package file

import (
	"os"
	"testing"
)

func TestOtherNodesAreTold(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/a.yaml", node("node-1", "a")+node("node-2", "b"))
	w := started(t, dir)
	write(t, dir+"/b.yaml", node("node-3", "c"))
	w.until(t, "another Node", func() bool { return w.node == "a" && w.others == "node-2=bnode-3=c" })
	must(t, os.Remove(dir+"/a.yaml"))
	w.until(t, "without node", func() bool { return w.node == "gone" && w.others == "node-3=c" })
}
