package dosing

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/derive/handshake"
	"github.com/sluice-edge/sluice/plant"
)

// The methods by which doses are found.
const (
	byHandshake  = "handshake"
	byTotalizer  = "totalizer"
	byBatchOut   = "batch_out"
	byContinuous = "continuous"
	byGain       = "gain_in_weight"
)

func methods() []string { return []string{byHandshake, byTotalizer, byBatchOut, byContinuous, byGain} }

// Options say where the doses of one scale come from. With the method
// "handshake" all tags but those of the handshake are fields of the record.
type Options struct {
	// Method is how doses are found; "handshake" is the default.
	Method string `yaml:"method"`

	handshake.Options `yaml:",inline"`

	// Number is the tag of the PLC's number of the dose.
	Number    string         `yaml:"number"`
	Component handshake.Text `yaml:"component"`
	// Quantity is the tag of what went in.
	Quantity string         `yaml:"quantity"`
	Unit     handshake.Text `yaml:"unit"`
	// Target is what was asked for; the tolerances are how far off it a dose may
	// be, in the same unit.
	Target         handshake.Amount `yaml:"target"`
	ToleranceMinus handshake.Amount `yaml:"tolerance_minus"`
	TolerancePlus  handshake.Amount `yaml:"tolerance_plus"`
	Lot            string           `yaml:"lot"`
	Order          string           `yaml:"order"`
	Recipe         handshake.Text   `yaml:"recipe"`
	Batch          string           `yaml:"batch"`
	ProcessUnit    handshake.Text   `yaml:"process_unit"`
	Phase          handshake.Text   `yaml:"phase"`
	Scale          handshake.Text   `yaml:"scale"`
	// Status is complete where it is not given, Purpose production.
	Status  handshake.Text `yaml:"status"`
	Purpose handshake.Text `yaml:"purpose"`
	// Started and Ended are tags with a time: seconds or milliseconds since 1970,
	// or text as in RFC 3339.
	Started string `yaml:"started"`
	Ended   string `yaml:"ended"`
	// WeightBefore and WeightAfter are what the scale showed.
	WeightBefore string `yaml:"weight_before"`
	WeightAfter  string `yaml:"weight_after"`

	ScaleOptions `yaml:",inline"`
}

// ScaleOptions are what the methods that look at a scale need.
type ScaleOptions struct {
	// Location is the hopper or vessel that stands on the scale.
	Location string `yaml:"location"`
	Weight   Weight `yaml:"weight"`
	// WeightUnit is the unit that the terminal shows; a tag is compared with each
	// weight.
	WeightUnit handshake.Text `yaml:"weight_unit"`
	// Division is the smallest step of the scale.
	Division plant.Mass `yaml:"division"`
	Stable   Stable     `yaml:"stable"`
	// Unusable are bits that make a weight unusable: overload, agitator, error.
	Unusable []string `yaml:"unusable"`
	// Rebase are bits whose change means that the weight has another zero from now
	// on: tared, zeroed.
	Rebase []string `yaml:"rebase"`
	// While is the tag that says that dosing is on.
	While string `yaml:"while"`
	// MinDose is the least fall that is a dose of its own.
	MinDose plant.Mass `yaml:"min_dose"`
	// Settle is how long after the end of dosing material may still be on its way;
	// 0 means 1 s. Pause is how long the weight must stand for a dose to be over
	// while dosing is still on; 0 means 5 s.
	Settle config.Duration `yaml:"settle"`
	Pause  config.Duration `yaml:"pause"`
	// Total is the tag of what went in ever since; it begins again from 0 at
	// Modulus. MaxRate is the most that flows. ResetConfirm is the number of
	// readings that must agree before a drop is believed; 0 means 3.
	Total        string     `yaml:"total"`
	Modulus      plant.Mass `yaml:"modulus"`
	MaxRate      MassRate   `yaml:"max_rate"`
	ResetConfirm int        `yaml:"reset_confirm"`
	// Every is how long what was dosed may wait to be told; 0 means until it has
	// come to rest.
	Every config.Duration `yaml:"every"`
	// Flow is the tag of what a feeder feeds, in FlowUnit, for example kg/h.
	Flow     string `yaml:"flow"`
	FlowUnit string `yaml:"flow_unit"`
	// AbortedBelow is the part of the target, in percent, below which a dose was
	// aborted; 0 means 90.
	AbortedBelow int `yaml:"aborted_below"`
}

// Weight names the tag of the gross weight; or of net and tare, which must be
// read together.
type Weight struct {
	Gross string `yaml:"gross"`
	Net   string `yaml:"net"`
	Tare  string `yaml:"tare"`
}

// UnmarshalText reads the short form, the tag of the gross weight.
func (w *Weight) UnmarshalText(b []byte) error {
	w.Gross = string(b)
	return nil
}

// Validate checks that the tags make a gross weight.
func (w *Weight) Validate() error {
	switch {
	case w.Gross != "" && (w.Net != "" || w.Tare != ""):
		return config.Field("", "gross and net are both given", "write the gross weight alone, or {net: …, tare: …}")
	case (w.Net == "") != (w.Tare == ""):
		return config.Field("", "only one of net and tare is given", "write both, so that taring never looks like a dose; or the gross weight alone")
	}
	return nil
}

// Stable says when a weight stands: by a bit of the terminal, or by a band in
// which it stays for a while. Without either it is a band of a quarter of
// min_dose for a second.
type Stable struct {
	// Tag is high while the weight stands, Not while it moves.
	Tag string `yaml:"tag"`
	Not string `yaml:"not"`
	// Band is the width that the weight stays within for For; 0 means 1 s.
	Band plant.Mass      `yaml:"band"`
	For  config.Duration `yaml:"for"`
}

// UnmarshalText reads the short form, the tag.
func (s *Stable) UnmarshalText(b []byte) error {
	s.Tag = string(b)
	return nil
}

// Validate checks that there is one criterion.
func (s *Stable) Validate() error {
	n := 0
	for _, given := range []bool{s.Tag != "", s.Not != "", !s.Band.IsZero()} {
		if given {
			n++
		}
	}
	if n > 1 {
		return config.Field("", "more than one of tag, not and band is given", "write the terminal's bit if it has one, else a band")
	}
	if s.For != 0 && s.Band.IsZero() {
		return config.Field("for", "there is no band that the weight must stay in", "write {band: 5 g, for: 1s}, or remove it")
	}
	return nil
}

// Live reports whether the doses are found in what tags show, not in records.
func (o *Options) Live() bool { return o.Method != "" && o.Method != byHandshake }

// key is a key of the config that only some methods read.
type key struct {
	name  string
	given bool
	by    []string
	// needed by all of them.
	needed bool
}

// keys are those that some methods do not read, or need.
func (o *Options) keys(method string) []key {
	records := []string{byHandshake}
	weighed := []string{byBatchOut, byContinuous, byGain}
	stands := []string{byBatchOut, byGain}
	all := append([]string{byTotalizer}, weighed...)
	flows := []string{byTotalizer, byContinuous}
	totals := []string{byTotalizer}
	return []key{
		{"trigger", o.Trigger != "", records, false},
		{"ack", o.Ack != "", records, false},
		{"slots", o.Slots != 0, records, false},
		{"lost", o.Lost != "", records, false},
		{"protocol", o.Protocol != "", records, false},
		{"error", o.Error != nil, records, false},
		{"number", o.Number != "", records, false},
		{"quantity", o.Quantity != "", records, true},
		{"started", o.Started != "", records, false},
		{"ended", o.Ended != "", records, false},
		{"weight_before", o.WeightBefore != "", records, false},
		{"weight_after", o.WeightAfter != "", records, false},
		{"component", !o.Component.IsZero(), methods(), true},
		{"total", o.Total != "", totals, true},
		{"modulus", !o.Modulus.IsZero(), totals, false},
		{"max_rate", !o.MaxRate.IsZero(), flows, false},
		{"reset_confirm", o.ResetConfirm != 0, totals, false},
		{"every", o.Every != 0, flows, false},
		{"weight", o.Weight != Weight{}, weighed, true},
		{"weight_unit", !o.WeightUnit.IsZero(), all, false},
		{"division", !o.Division.IsZero(), all, false},
		{"stable", o.Stable != Stable{}, stands, false},
		{"unusable", len(o.Unusable) > 0, all, false},
		{"rebase", len(o.Rebase) > 0, weighed, false},
		{"while", o.While != "", stands, method == byBatchOut},
		{"min_dose", !o.MinDose.IsZero(), all, true},
		{"settle", o.Settle != 0, stands, false},
		{"pause", o.Pause != 0, []string{byTotalizer, byBatchOut, byContinuous}, false},
		{"aborted_below", o.AbortedBelow != 0, stands, false},
		{"flow", o.Flow != "", []string{byContinuous}, false},
		{"flow_unit", o.FlowUnit != "", []string{byContinuous}, false},
	}
}

// Validate checks what can be checked without the tags.
func (o *Options) Validate() error {
	method := o.Method
	if method == "" {
		method = byHandshake
	}
	if !slices.Contains(methods(), method) {
		return config.Unknown("method", "method", o.Method, methods())
	}
	var errs []error
	for _, k := range o.keys(method) {
		switch reads := slices.Contains(k.by, method); {
		case !reads && k.given:
			errs = append(errs, config.Field(k.name, fmt.Sprintf("means nothing with method: %s", method), "remove it, or write method: "+strings.Join(k.by, " or ")))
		case reads && k.needed && !k.given:
			errs = append(errs, config.Field(k.name, fmt.Sprintf("required key `%s` is missing", k.name), fmt.Sprintf("add `%s:`; method: %s needs it", k.name, method)))
		}
	}
	if !o.Live() {
		errs = append(errs, o.Options.Validate())
	} else {
		errs = append(errs, o.ScaleOptions.check())
		if method == byGain && o.Component.Tag == "" && o.While == "" {
			errs = append(errs, config.Field("component", "nothing says when it goes in", "name the tag that says which component goes in now, or the bit of its valve with while:"))
		}
	}
	errs = append(errs, o.Status.Allowed("status", "complete", "aborted"), o.Purpose.Allowed("purpose", "production", "purge", "calibration", "manual"))
	if o.Target.IsZero() && !(o.ToleranceMinus.IsZero() && o.TolerancePlus.IsZero()) {
		errs = append(errs, config.Field("target", "is missing, but a tolerance is given", "name the tag of the target, or remove the tolerance"))
	}
	if o.ToleranceMinus.IsZero() != o.TolerancePlus.IsZero() {
		errs = append(errs, config.Field("", "only one of tolerance_minus and tolerance_plus is given", "write both; 0 allows nothing on that side"))
	}
	if (o.WeightBefore == "") != (o.WeightAfter == "") {
		errs = append(errs, config.Field("", "only one of weight_before and weight_after is given", "write both or none"))
	}
	return errors.Join(errs...)
}

// check compares what the scale can show with what is asked of it.
func (o *ScaleOptions) check() error {
	var errs []error
	if o.AbortedBelow < 0 || o.AbortedBelow > 100 {
		errs = append(errs, config.Field("aborted_below", fmt.Sprintf("%d is no part of the target", o.AbortedBelow), "write percent, 1 to 100; 90 is the default"))
	}
	if o.ResetConfirm < 0 || o.ResetConfirm > 1000 {
		errs = append(errs, config.Field("reset_confirm", fmt.Sprintf("%d is no number of readings", o.ResetConfirm), "write 1 to 1000; 3 is the default"))
	}
	if min, ok := ratio(o.MinDose, o.Division); ok && min < 2 {
		errs = append(errs, config.Field("min_dose", fmt.Sprintf("%s is less than 2 divisions of the scale (%s)", o.MinDose, o.Division), "a weight is only known to a division: write at least twice as much"))
	}
	if width, ok := ratio(o.Stable.Band, o.Division); ok && width < 1 {
		errs = append(errs, config.Field("stable.band", fmt.Sprintf("%s is less than a division of the scale (%s)", o.Stable.Band, o.Division), "write a division or more: the weight flickers by one"))
	}
	if width, ok := ratio(o.MinDose, o.Stable.Band); ok && width < 2 {
		errs = append(errs, config.Field("stable.band", fmt.Sprintf("%s is more than half of min_dose (%s)", o.Stable.Band, o.MinDose), "a dose must stand out of what counts as standing: write at most half of min_dose"))
	}
	return errors.Join(errs...)
}

// ratio is a ÷ b; ok is false where one of the two is not given.
func ratio(a, b plant.Mass) (r float64, ok bool) {
	if a.Amount.IsZero() || b.Amount.IsZero() {
		return 0, false
	}
	grams := func(m plant.Mass) float64 {
		d, err := m.In(plant.Milligram)
		if err != nil {
			return 0
		}
		return d.Float()
	}
	if grams(b) == 0 {
		return 0, false
	}
	return grams(a) / grams(b), true
}
