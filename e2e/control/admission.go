// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
)

// Admission returns the admission plugins that an API server has by default. Each version has others, and a server does
// not start with the name of an unknown plugin: so its help is parsed.
func Admission(ctx context.Context) ([]string, error) {
	path, err := Binary("kube-apiserver")
	if err != nil {
		return nil, err
	}
	help, err := exec.CommandContext(ctx, path, "--help").Output()
	if err != nil {
		return nil, fmt.Errorf("ask the API server for its admission plugins: %w", err)
	}
	list := regexp.MustCompile(`--disable-admission-plugins .*default enabled plugins list \(([^)]+)\)`).FindSubmatch(help)
	if list == nil {
		return nil, errors.New("the help of the API server does not name the admission plugins that it has by default")
	}
	return strings.Split(string(list[1]), ", "), nil
}
