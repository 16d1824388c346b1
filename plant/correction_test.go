package plant_test

import (
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// TestACorrectionThatMakesNoSenseIsRefused, with what is wrong in words.
func TestACorrectionThatMakesNoSenseIsRefused(t *testing.T) {
	at := time.Date(2026, 3, 2, 6, 0, 0, 0, time.UTC)
	fine := plant.Correction{At: at, From: at.Add(-time.Hour), To: at, Good: -3, Scrap: 2, Rework: 1, Code: "BURR", By: "anna"}
	if err := fine.Validate(); err != nil {
		t.Errorf("a sound correction: %v", err)
	}
	for want, change := range map[string]func(*plant.Correction){
		"good -2, scrap +2 and rework +1 add up to +1 pieces, not to 0": func(c *plant.Correction) { c.Good = -2 },
		"pieces is set, but good, scrap and rework add up to 0":         func(c *plant.Correction) { c.Pieces = true },
		"it changes nothing":                        func(c *plant.Correction) { c.Good, c.Scrap, c.Rework, c.Code = 0, 0, 0, "" },
		"without saying of which code":              func(c *plant.Correction) { c.Code = "" },
		`names the scrap code "BURR" and changes`:   func(c *plant.Correction) { c.Scrap, c.Rework = 0, 3 },
		"does not say who corrects":                 func(c *plant.Correction) { c.By = "" },
		"does not say from when to when":            func(c *plant.Correction) { c.From = time.Time{} },
		"ends at 2026-03-02T04:00:00Z, before it":   func(c *plant.Correction) { c.To = at.Add(-2 * time.Hour) },
		"more than 1000000000 pieces are no":        func(c *plant.Correction) { c.Good, c.Scrap = -1<<63, 1<<62 },
		"or set pieces if the machine made another": func(c *plant.Correction) { c.Rework = 0 },
	} {
		c := fine
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	fine.Rework, fine.Pieces = 0, true
	if err := fine.Validate(); err != nil {
		t.Errorf("pieces that were never made: %v", err)
	}
}
