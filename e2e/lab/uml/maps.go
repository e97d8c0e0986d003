// SPDX-License-Identifier: Apache-2.0

package uml

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

const (
	// mapsPath is how many mappings a process of the host may have.
	mapsPath = "/proc/sys/vm/max_map_count"
	// enoughMaps is what many distributions allow by now.
	enoughMaps = 1 << 20
	// mapped is the least size of a mapping: a page.
	mapped = 4096
)

// allowMaps allows more mappings if the guest has more memory than usual. Each page of a guest's process may need a
// mapping on the host, and the guest's kernel kills a process that gets no more. The usual 65,530 end at 256 MiB.
func allowMaps(memory uint64) error {
	usual, err := parseMemory(DefaultMemory)
	if err != nil || memory <= usual {
		return err
	}
	text, err := os.ReadFile(mapsPath)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || n >= enoughMaps {
		return err
	}
	if err := os.WriteFile(mapsPath, []byte(strconv.Itoa(enoughMaps)), 0); err != nil {
		return fmt.Errorf("let processes of the guest have more than %d MiB each: %w", n*mapped>>20, err)
	}
	return nil
}
