package counter

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/sluice-edge/sluice/config"
)

// Options say which tags count pieces and what the machine can do.
type Options struct {
	// Good counts good pieces; or Total counts all, and good is what remains
	// after scrap and rework; or Pulses is a signal of a device without a total,
	// which rises once for each piece of any sort. One of the three, or only Scrap
	// and Rework.
	Good   string `yaml:"good"`
	Total  string `yaml:"total"`
	Pulses string `yaml:"pulses"`
	// Scrap gives the tag that counts each scrap code. A tag of type bool is a
	// signal that rises once for each piece, here and for Rework.
	Scrap  config.Table[string] `yaml:"scrap"`
	Rework string               `yaml:"rework"`
	// PerCycle is how many pieces one count of Good, Total or Pulses is: the
	// cavities of a mould. Not set means 1.
	PerCycle Amount `yaml:"per_cycle"`
	// MaxRate is the most that the machine can make, in counts of the device. It
	// tells a rollover from a reset and noise from pieces, and is required where
	// a counter can roll over.
	MaxRate config.Rate `yaml:"max_rate"`
	// Modulus is the number of values that Good or Total has, where the type's
	// width does not say it: 10000 for one that goes from 9999 to 0. ScrapModulus
	// is that of the counters of scrap and rework.
	Modulus      int64 `yaml:"modulus"`
	ScrapModulus int64 `yaml:"scrap_modulus"`
	// AtMax is what Good or Total does behind its highest number: "wrap" (the
	// default) begins again, "saturate" stays there.
	AtMax string `yaml:"at_max"`
	// Direction is "up" (the default) or "down" for a Good or Total that counts
	// what a batch still lacks; Reload is the number that it begins again with.
	Direction string `yaml:"direction"`
	Reload    Amount `yaml:"reload"`
	// ResetConfirm is the number of readings that must agree before a drop or
	// an impossible rise is believed; 0 means 3.
	ResetConfirm int `yaml:"reset_confirm"`
	// Jump says what becomes of an impossible rise that the next readings
	// confirm: "count" (the default) or "drop". Either is marked.
	Jump string `yaml:"jump"`
	// Baseline is "first" (the default: what the first reading ever shows was
	// made before) or "zero" (it counts from zero).
	Baseline string `yaml:"baseline"`
	// StartTotal is the cumulative number of good pieces that a machine begins
	// with which was never seen before.
	StartTotal int64 `yaml:"start_total"`
	// GapTo says whose pieces are those of a gap in which the order changed: of
	// "none" (the default), of the "previous" or of the "next" order.
	GapTo string `yaml:"gap_to"`
	// HandCorrections is the most pieces that somebody takes from Good and puts
	// to Scrap or Rework at once by hand at the machine's panel; 0 means that
	// nobody does.
	HandCorrections int64 `yaml:"hand_corrections"`
	// Every is the least time between two events. If neither Every nor Pieces
	// is set, it is 10 s.
	Every config.Duration `yaml:"every"`
	// Pieces asks for an event as soon as so many are unreported; 1 reports
	// each change.
	Pieces int64 `yaml:"pieces"`
}

// Amount is a whole number, or the tag that has it. A config writes either.
type Amount struct {
	number   int64
	constant bool
	tag      string
}

// UnmarshalText reads the short form: a whole number, or the name of a tag.
func (a *Amount) UnmarshalText(b []byte) error {
	if n, err := strconv.ParseInt(string(b), 10, 64); err == nil {
		a.number, a.constant = n, true
		return nil
	}
	a.tag = string(b)
	return nil
}

// IsZero reports whether a was not configured.
func (a *Amount) IsZero() bool { return !a.constant && a.tag == "" }

const (
	defaultConfirm = 3
	defaultEvery   = 10 * time.Second
	// maxPerCycle and maxReload are the largest numbers that are believed.
	maxPerCycle = 10_000
	maxReload   = 1_000_000_000
)

// Validate checks what can be checked without the tags.
func (o *Options) Validate() error {
	var errs []error
	fault := func(bad bool, path, problem, remedy string) {
		if bad {
			errs = append(errs, config.Field(path, problem, remedy))
		}
	}
	main := o.Good != "" || o.Total != "" || o.Pulses != ""
	fault(o.Good != "" && o.Total != "", "total", "good and total are both given", "keep total if the device counts all pieces, else good")
	fault(o.Pulses != "" && (o.Good != "" || o.Total != ""), "pulses", "pulses and a total are both given", "keep the total: it loses nothing while nobody looks")
	fault(!main && o.Rework == "" && len(o.Scrap.Rows) == 0, "", "no tag counts anything", "name one with good: or total:")
	fault(o.Modulus < 0 || o.Modulus == 1, "modulus", fmt.Sprintf("%d is no range of a counter", o.Modulus), "write how many values it has, for example 10000 for one that goes from 9999 to 0")
	fault(o.ScrapModulus < 0 || o.ScrapModulus == 1, "scrap_modulus", fmt.Sprintf("%d is no range of a counter", o.ScrapModulus), "write how many values it has, for example 10000 for one that goes from 9999 to 0")
	fault(o.ScrapModulus != 0 && o.Rework == "" && len(o.Scrap.Rows) == 0, "scrap_modulus", "is for counters of scrap and rework, and there are none", "remove it")
	fault(o.ResetConfirm < 0 || o.ResetConfirm > 1000, "reset_confirm", fmt.Sprintf("%d is no number of readings", o.ResetConfirm), "write 1 to 1000; 3 is the default")
	fault(o.Pieces < 0, "pieces", "is negative", "write 1 to report each change, or more")
	fault(o.StartTotal < 0, "start_total", "is negative", "write how many good pieces the machine has made so far")
	fault(o.HandCorrections < 0, "hand_corrections", "is negative", "write the most pieces that are corrected at once")
	fault(!o.PerCycle.IsZero() && !main, "per_cycle", "there is no counter of cycles", "name one with good:, total: or pulses:; scrap and rework count pieces")
	fault(o.PerCycle.constant && (o.PerCycle.number < 1 || o.PerCycle.number > maxPerCycle), "per_cycle", fmt.Sprintf("%d is no number of pieces", o.PerCycle.number), fmt.Sprintf("write 1 to %d, or the tag that has it", maxPerCycle))
	fault(o.HandCorrections > 0 && (o.Good == "" || len(o.Scrap.Rows) == 0 && o.Rework == ""), "hand_corrections", "is for a counter of good with scrap or rework", "remove it: with total, or without scrap, the counters themselves say all that there is")
	fault(o.HandCorrections > 0 && (o.Direction == "down" || !o.PerCycle.IsZero()), "hand_corrections", "is for a counter of good pieces that counts up", "remove it, or direction and per_cycle")
	errs = append(errs, o.validateDown(),
		oneOf("at_max", o.AtMax, "wrap", "saturate"), oneOf("direction", o.Direction, "up", "down"),
		oneOf("jump", o.Jump, "count", "drop"), oneOf("baseline", o.Baseline, "first", "zero"), oneOf("gap_to", o.GapTo, "none", "previous", "next"))
	return errors.Join(errs...)
}

// validateDown checks what belongs to a counter that counts down.
func (o *Options) validateDown() error {
	if o.Direction != "down" {
		if !o.Reload.IsZero() {
			return config.Field("reload", "is for a counter that counts down", "write direction: down, or remove it")
		}
		return nil
	}
	switch {
	case o.Good == "" && o.Total == "":
		return config.Field("direction", "no total counts down", "name it with good: or total:")
	case o.Modulus != 0:
		return config.Field("modulus", "is for a counter that counts up", "write reload: with the number that the counter begins again with")
	case o.AtMax == "saturate":
		return config.Field("at_max", "is for a counter that counts up", "remove it")
	case o.Baseline == "zero":
		return config.Field("baseline", "nobody knows what a counter that counts down had before", "remove it")
	case o.MaxRate.IsZero():
		return config.Field("max_rate", "is missing, and only it tells a batch that is complete from one that was given up", "write the most the machine can make, for example max_rate: 20/s")
	case o.Reload.constant && (o.Reload.number < 1 || o.Reload.number > maxReload):
		return config.Field("reload", fmt.Sprintf("%d is no size of a batch", o.Reload.number), "write the number that the counter begins again with, or the tag that has it")
	}
	return nil
}

// oneOf refuses a value that is none of the allowed, of which the first is the
// default.
func oneOf(path, value string, allowed ...string) error {
	if value == "" || slices.Contains(allowed, value) {
		return nil
	}
	text := allowed[0] + " (the default)"
	for i, a := range allowed[1:] {
		if i < len(allowed)-2 {
			text += ", " + a
		} else {
			text += " or " + a
		}
	}
	return config.Field(path, fmt.Sprintf("unknown setting %q", value), "write "+text)
}
