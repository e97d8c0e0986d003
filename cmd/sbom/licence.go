// SPDX-License-Identifier: Apache-2.0

package main

import (
	"regexp"
	"slices"
	"strings"

	"github.com/spdx/tools-golang/spdx"
)

// spdxNames returns SPDX' names of licences by Debian's, where these differ in more than the letters' case.
func spdxNames() map[string]string {
	return map[string]string{
		"expat": "MIT", "gpl-1": "GPL-1.0-only", "gpl-1+": "GPL-1.0-or-later", "gpl-2": "GPL-2.0-only", "gpl-2+": "GPL-2.0-or-later",
		"gpl-2.0+": "GPL-2.0-or-later", "gpl-3": "GPL-3.0-only", "gpl-3+": "GPL-3.0-or-later", "lgpl-2": "LGPL-2.0-only",
		"lgpl-2+": "LGPL-2.0-or-later", "lgpl-2.0+": "LGPL-2.0-or-later", "lgpl-2.1": "LGPL-2.1-only", "lgpl-2.1+": "LGPL-2.1-or-later",
		"lgpl-3": "LGPL-3.0-only", "lgpl-3+": "LGPL-3.0-or-later", "artistic": "Artistic-1.0-Perl", "bsd-2-clause": "BSD-2-Clause",
		"bsd-3-clause": "BSD-3-Clause", "zlib": "Zlib", "isc": "ISC", "fsfap": "FSFAP", "fsful": "FSFUL", "fsfullr": "FSFULLR",
		"gpl-2.0-only": "GPL-2.0-only", "cc-by-3.0": "CC-BY-3.0", "x11": "X11", "apache-2.0": "Apache-2.0",
	}
}

var (
	alternatives = regexp.MustCompile(`(?i)\s+(?:and/)?or\s+`)
	conjunctions = regexp.MustCompile(`(?i)\s+and\s+|,\s*`)
)

// expression returns a license field of Debian as an expression of SPDX. In Debian's, "and" binds more tightly.
func (c *contents) expression(field string) string {
	var choices []string
	for _, choice := range alternatives.Split(field, -1) {
		var all []string
		for _, name := range conjunctions.Split(strings.TrimSpace(choice), -1) {
			all = append(all, c.licence(name))
		}
		choices = append(choices, strings.Join(all, " AND "))
	}
	if len(choices) > 1 {
		return "(" + strings.Join(choices, " OR ") + ")"
	}
	return choices[0]
}

// licence returns SPDX' name of a licence, or one that only this document knows.
func (c *contents) licence(name string) string {
	if known := spdxNames()[strings.ToLower(name)]; known != "" {
		return known
	}
	own := "LicenseRef-Debian-" + notInIDs.ReplaceAllString(name, "-")
	if !slices.ContainsFunc(c.licences, func(l *spdx.OtherLicense) bool { return l.LicenseIdentifier == own }) {
		c.licences = append(c.licences, &spdx.OtherLicense{
			LicenseIdentifier: own, LicenseName: name, ExtractedText: "See the files copyright below /" + docFolder + " of the image.",
		})
	}
	return own
}
