package derive

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/derive/serial"
	"github.com/sluice-edge/sluice/plant"
)

// TestLabelsThatCouldNotBeReadAreListed with their times, the newest 20 in a row,
// until one can be read.
func TestLabelsThatCouldNotBeReadAreListed(t *testing.T) {
	m, err := NewModel("EOL", Options{Serial: &serial.Options{Scanner: "EOL-1"}}, Catalog{})
	if err != nil {
		t.Fatal(err)
	}
	var s State
	scan := func(n int, text string) string {
		s, _ = m.Step(s, plant.Scanned{At: base.Add(time.Duration(n) * time.Minute), Scanner: "EOL-1", Text: text})
		var all []string
		for _, p := range m.problemsOfRecords(&s) {
			all = append(all, p.Text)
		}
		return strings.Join(all, "\n")
	}
	text := ""
	for n := range 25 {
		text = scan(n, "NOREAD")
	}
	for n := range 25 {
		at := base.Add(time.Duration(n) * time.Minute).Format(time.RFC3339)
		if strings.Contains(text, at) != (n >= 5) {
			t.Errorf("%s: %s", at, text)
		}
	}
	if !strings.Contains(text, fmt.Sprintf("so far %d could not", 25)) {
		t.Error(text)
	}
	if text = scan(30, "S1"); text != "" {
		t.Errorf("after a label that was read: %s", text)
	}
	if text = scan(31, "NOREAD"); strings.Count(text, "2026-") != 1 || !strings.Contains(text, "so far 26") {
		t.Errorf("the next one: %s", text)
	}
}
