// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"strings"
)

// Complaint is what is wrong with one field. Who knows the field by another name, that of a flag or of a
// document, puts that in its place.
type Complaint struct{ Field, Text string }

func (c Complaint) Error() string { return c.Field + ": " + c.Text }

// Complaints are all that is wrong.
type Complaints []Complaint

func (c Complaints) Error() string {
	var texts []string
	for _, one := range c {
		texts = append(texts, one.Error())
	}
	return strings.Join(texts, "; ")
}

// Err is c as an error, nil if there is none.
func (c Complaints) Err() error {
	if len(c) == 0 {
		return nil
	}
	return c
}

// Add complains about the field.
func (c *Complaints) Add(field, format string, args ...any) {
	*c = append(*c, Complaint{field, fmt.Sprintf(format, args...)})
}

// Unless complains about the field unless it is good.
func (c *Complaints) Unless(good bool, field, format string, args ...any) {
	if !good {
		c.Add(field, format, args...)
	}
}
