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
	// mapped is what one mapping may be as little as: a page.
	mapped = 4096
)

// allowMaps lets processes of a guest with more memory than others use it. In the host each page of such a process may
// need a mapping, and its kernel ends one that gets no more: with the usual 65,530 that is at 256 MiB, in the midst of work.
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
