// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// What the commands with -o share. The forms of a command's output are a list of
// its own, whose String is the name.

// addOutput adds the flag -o, with text as the default.
func addOutput[T fmt.Stringer](c *cobra.Command, name *string, forms []T) {
	c.Flags().StringVarP(name, "output", "o", "text", "form of the output: "+strings.Join(namesOf(forms), ", "))
}

// outputNamed is the form that was asked for.
func outputNamed[T fmt.Stringer](forms []T, name string) (form T, err error) {
	i := slices.Index(namesOf(forms), name)
	if i < 0 {
		return form, fmt.Errorf("output %q is none of %s", name, strings.Join(namesOf(forms), ", "))
	}
	return forms[i], nil
}

func namesOf[T fmt.Stringer](forms []T) []string {
	var names []string
	for _, f := range forms {
		names = append(names, f.String())
	}
	return names
}
