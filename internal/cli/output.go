// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// Commands with -o have a list of output formats; their String is the name.

// addOutput adds the flag -o, with text as the default.
func addOutput[T fmt.Stringer](c *cobra.Command, name *string, formats []T) {
	c.Flags().StringVarP(name, "output", "o", "text", "output format: "+strings.Join(namesOf(formats), ", "))
}

// outputNamed returns the format with a name.
func outputNamed[T fmt.Stringer](formats []T, name string) (format T, err error) {
	i := slices.Index(namesOf(formats), name)
	if i < 0 {
		return format, fmt.Errorf("output %q is none of %s", name, strings.Join(namesOf(formats), ", "))
	}
	return formats[i], nil
}

func namesOf[T fmt.Stringer](formats []T) []string {
	var names []string
	for _, f := range formats {
		names = append(names, f.String())
	}
	return names
}

// print prints what write writes, or nothing if it fails.
func (env Env) print(write func(io.Writer) error) error {
	var b bytes.Buffer
	if err := write(&b); err != nil {
		return err
	}
	_, err := env.Stdout.Write(b.Bytes())
	return err
}
