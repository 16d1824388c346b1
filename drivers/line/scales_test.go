package line

import (
	"strings"
	"testing"

	"github.com/sluice-edge/sluice/plant"
)

// Texts of scales in the style of several makers, by the patterns that docs/line.md
// shows: the weight with its sign and unit, or nothing, and whether it stands.
func TestTextsOfScales(t *testing.T) {
	const (
		dini     = `'(?P<status>ST|US|OL|UL),(?P<mode>GS|NT),(?P<weight> *[-+]? *[0-9.]+),? *(?P<unit>kg|g|t|lb)'`
		ohaus    = `' *(?P<weight>-? *[0-9.]+) +(?P<unit>kg|g|lb) *(?P<moving>\??) *(?P<mode>[GNT]?) *'`
		sartors  = `'(?:(?:N|G|T|Stat) *)?(?P<weight>[-+] *[0-9.]+) *(?P<unit>kg|g|mg)? *'`
		noReason = ""
	)
	for _, c := range []struct {
		pattern, line, weight, unit, refused string
	}{
		{dini, "ST,GS,+  12.345kg", "12.345", "kg", noReason},
		{dini, "ST,GS,   12.345,kg", "12.345", "kg", noReason},
		{dini, "US,NT,-    0.5,kg", "-0.5", "kg", noReason},
		{dini, "OL,GS,  --------,kg", "", "", "does not match the pattern"},
		{dini, "ST,GS,   12.3", "", "", "does not match the pattern"},
		{ohaus, "     12.34 kg     G", "12.34", "kg", noReason},
		{ohaus, "    -12.34 kg ?   N", "-12.34", "kg", noReason},
		{ohaus, "   OVERLOAD", "", "", "does not match the pattern"},
		{sartors, "N     +  123.45 g  ", "123.45", "g", noReason},
		{sartors, "+    0.98 g  ", "0.98", "g", noReason},
		{sartors, "N     -   12.00    ", "-12.00", "", noReason}, // no unit while it moves
		{sartors, "Stat       High    ", "", "", "does not match the pattern"},
		{sartors, "N     +  1 23.45 g ", "", "", "does not match the pattern"},
	} {
		d := opened(t, "driver: line\nendpoint: 127.0.0.1:9\npattern: "+c.pattern+"\ntags: {weight: {field: weight, type: number}, unit: unit}\n").(*driver)
		s := d.parse(&entry{found: found{raw: c.line}})
		if c.refused != "" {
			if !strings.Contains(s.problem, c.refused) {
				t.Errorf("%q: %q, want %q", c.line, s.problem, c.refused)
			}
			continue
		}
		w, why := s.read(&d.points[0], ".")
		if want, err := plant.ParseDecimal(c.weight); err != nil || why != "" || w != plant.ExactValue(want) {
			t.Errorf("%q: weight %v %q, want %s", c.line, w, why, c.weight)
		}
		u, why := s.read(&d.points[1], ".")
		if c.unit == "" && why == "" || c.unit != "" && u != plant.TextValue(c.unit) {
			t.Errorf("%q: unit %v %q, want %q", c.line, u, why, c.unit)
		}
	}
}
