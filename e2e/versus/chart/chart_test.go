// SPDX-License-Identifier: Apache-2.0

package chart

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

func sample() Bars {
	return Bars{
		Title: "A & B <both>", Across: "size", Up: "seconds",
		Groups: []string{"small", "large"},
		Series: []Series{
			{Name: "one", Color: "#111111", Bars: []Bar{{Height: 0.02}, {Height: 3}}},
			{Name: "two", Color: "#222222", Bars: []Bar{{Height: 150}, {Why: "over 10 min"}}},
		},
		Format: func(v float64) string { return fmt.Sprintf("%g s", v) },
	}
}

// texts are those of a drawing that is well-formed.
func texts(t *testing.T, svg string) []string {
	t.Helper()
	var list []string
	in := false
	for d := xml.NewDecoder(strings.NewReader(svg)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, svg)
		}
		switch x := token.(type) {
		case xml.StartElement:
			in = x.Name.Local == "text"
		case xml.EndElement:
			in = false
		case xml.CharData:
			if in {
				list = append(list, string(x))
			}
		}
	}
}

func TestADrawingNamesAllThatIsInIt(t *testing.T) {
	all := strings.Join(texts(t, sample().SVG()), "\n")
	for _, want := range []string{"A & B <both>", "size", "seconds", "small", "large", "one", "two", "0.02 s", "3 s", "150 s", "over 10 min"} {
		if !strings.Contains(all, want) {
			t.Errorf("there is no %q in\n%s", want, all)
		}
	}
}

func TestTheAxisHasWholePowersOfTen(t *testing.T) {
	for name, c := range map[string]struct {
		heights []float64
		want    scale
	}{
		"some":             {[]float64{0.02, 150}, scale{-2, 3}},
		"one":              {[]float64{5}, scale{0, 1}},
		"just above a ten": {[]float64{10.1}, scale{0, 2}},
		"a ten itself":     {[]float64{100}, scale{1, 2}},
		"none":             {nil, scale{0, 1}},
	} {
		b := Bars{Series: []Series{{}}}
		for _, h := range c.heights {
			b.Series[0].Bars = append(b.Series[0].Bars, Bar{Height: h})
		}
		if got := b.scale(); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestTenTimesAsMuchIsAlwaysAsMuchHigher(t *testing.T) {
	s := scale{-1, 2}
	if a, b := s.y(0.1)-s.y(1), s.y(10)-s.y(100); a != b || a <= 0 || s.y(0.1) != top+plotHigh || s.y(100) != top {
		t.Errorf("steps of %d and %d from %d to %d", a, b, s.y(0.1), s.y(100))
	}
}

func TestADrawingOfNothingIsADrawing(t *testing.T) {
	texts(t, Bars{Title: "nothing", Format: func(float64) string { return "" }}.SVG())
}
