package counter

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/plant"
)

// TestPulsesThatCannotBeSeen: a signal must be seen high and low once in each of
// the shortest cycles; where nobody knows how often it is looked at, nobody is
// warned. The rule is of use all the same.
func TestPulsesThatCannotBeSeen(t *testing.T) {
	for _, c := range []struct {
		o     Options
		every time.Duration
		want  string
	}{
		{Options{Pulses: "cycle", MaxRate: rate(2)}, 251 * time.Millisecond, "pulses: tag d/cycle is looked at every 251ms, which misses pulses at 2/s — look every 250ms or more often; better, let the PLC count and name its total"},
		{Options{Pulses: "cycle", MaxRate: rate(2)}, 250 * time.Millisecond, ""},
		{Options{Pulses: "cycle", MaxRate: rate(2)}, 0, ""},
		{Options{Pulses: "cycle", MaxRate: rate(300)}, 10 * time.Millisecond, "look every 1.666ms or more often"},
		{Options{Good: "n", Rework: "cycle", MaxRate: rate(2)}, time.Second, "rework: tag d/cycle is looked at every 1s, which misses pulses at 2/s"},
		{Options{Good: "n", MaxRate: rate(2)}, time.Hour, ""},
	} {
		r, err := New(c.o, func(_, name string) (rule.Input, error) {
			typ := plant.TypeUint16
			if name == "cycle" {
				typ = plant.TypeBool
			}
			return rule.Input{Ref: plant.TagRef{Device: "d", Tag: plant.TagID(name)}, Tag: plant.Tag{ID: plant.TagID(name), Type: typ, Every: c.every}}, nil
		})
		if r == nil {
			t.Fatalf("%+v: no rule: %v", c.o, err)
		}
		if c.want == "" && err == nil {
			continue
		}
		var warning *config.FieldError
		if !errors.As(err, &warning) || !warning.Warning || c.want == "" || !strings.Contains(warning.Path+": "+warning.Problem+" — "+warning.Remedy, c.want) {
			t.Errorf("every %s: %v", c.every, err)
		}
	}
}
