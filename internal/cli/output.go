// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// format is an output format, and the function that writes it.
type format[W any] struct {
	name  string
	write W
}

// addOutput adds the flag -o, with text as the default.
func addOutput[W any](c *cobra.Command, name *string, formats []format[W]) {
	c.Flags().StringVarP(name, "output", "o", "text", "output format: "+strings.Join(namesOf(formats), ", "))
}

// outputNamed returns the function that writes the named format.
func outputNamed[W any](formats []format[W], name string) (write W, err error) {
	i := slices.Index(namesOf(formats), name)
	if i < 0 {
		return write, usagef("output %q is none of %s", name, strings.Join(namesOf(formats), ", "))
	}
	return formats[i].write, nil
}

func namesOf[W any](formats []format[W]) []string {
	var names []string
	for _, f := range formats {
		names = append(names, f.name)
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
