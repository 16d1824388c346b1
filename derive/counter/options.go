package counter

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/plant"
)

// Options say which tags count pieces and what the machine can do.
type Options struct {
	// Good counts good pieces; or Total counts all, and good is what remains
	// after scrap and rework. One of the two, or only Scrap and Rework.
	Good  string `yaml:"good"`
	Total string `yaml:"total"`
	// Scrap gives the tag that counts each scrap code.
	Scrap  config.Table[string] `yaml:"scrap"`
	Rework string               `yaml:"rework"`
	// MaxRate is the most that the machine can make. It tells a rollover from a
	// reset and noise from pieces, and is required where a counter can roll
	// over.
	MaxRate config.Rate `yaml:"max_rate"`
	// Modulus is the number of values that the counters have, where the type's
	// width does not say it: 10000 for one that goes from 9999 to 0.
	Modulus int64 `yaml:"modulus"`
	// ResetConfirm is the number of readings that must agree before a drop or
	// an impossible rise is believed; 0 means 3.
	ResetConfirm int `yaml:"reset_confirm"`
	// Jump says what becomes of an impossible rise that the next readings
	// confirm: "count" (the default) or "drop". Either is marked.
	Jump string `yaml:"jump"`
	// Baseline is "first" (the default: what the first reading ever shows was
	// made before) or "zero" (it counts from zero).
	Baseline string `yaml:"baseline"`
	// Every is the least time between two events. If neither Every nor Pieces
	// is set, it is 10 s.
	Every config.Duration `yaml:"every"`
	// Pieces asks for an event as soon as so many are unreported; 1 reports
	// each change.
	Pieces int64 `yaml:"pieces"`
}

const (
	defaultConfirm = 3
	defaultEvery   = 10 * time.Second
)

// Validate checks what can be checked without the tags.
func (o *Options) Validate() error {
	var errs []error
	if o.Good != "" && o.Total != "" {
		errs = append(errs, config.Field("total", "good and total are both given", "keep total if the device counts all pieces, else good"))
	}
	if o.Good == "" && o.Total == "" && o.Rework == "" && len(o.Scrap.Rows) == 0 {
		errs = append(errs, config.Field("", "no tag counts anything", "name one with good: or total:"))
	}
	if o.Modulus < 0 || o.Modulus == 1 {
		errs = append(errs, config.Field("modulus", fmt.Sprintf("%d is no range of a counter", o.Modulus), "write how many values it has, for example 10000 for one that goes from 9999 to 0"))
	}
	if o.ResetConfirm < 0 || o.ResetConfirm > 1000 {
		errs = append(errs, config.Field("reset_confirm", fmt.Sprintf("%d is no number of readings", o.ResetConfirm), "write 1 to 1000; 3 is the default"))
	}
	if o.Pieces < 0 {
		errs = append(errs, config.Field("pieces", "is negative", "write 1 to report each change, or more"))
	}
	errs = append(errs, oneOf("jump", o.Jump, "count", "drop"), oneOf("baseline", o.Baseline, "first", "zero"))
	return errors.Join(errs...)
}

func oneOf(path, value, standard, other string) error {
	if value == "" || value == standard || value == other {
		return nil
	}
	return config.Field(path, fmt.Sprintf("unknown setting %q", value), "write "+standard+" (the default) or "+other)
}

// role says what an input counts.
type role uint8

const (
	good role = iota
	total
	scrap
	rework
)

// input is one counter of a device.
type input struct {
	rule.Input
	role role
	// scrap is the index of the code for role scrap.
	scrap   int
	name    string
	binding string
	// low and size are the range of the raw number; size 0 has no known end.
	low, size int64
}

// Rule is one machine's counter. It is immutable.
type Rule struct {
	inputs []input
	codes  []string
	// limited is set where a rate limits what is plausible; rate is per second.
	limited bool
	rate    float64
	confirm int
	keep    bool
	zero    bool
	every   time.Duration
	pieces  int64
}

// New makes a Rule. Its errors are config.FieldErrors, joined.
func New(o Options, resolve rule.Resolver) (*Rule, error) {
	r := &Rule{
		limited: !o.MaxRate.IsZero(), rate: o.MaxRate.PerSecond(),
		confirm: o.ResetConfirm, keep: o.Jump != "drop", zero: o.Baseline == "zero",
		every: o.Every.Std(), pieces: o.Pieces,
	}
	if r.confirm == 0 {
		r.confirm = defaultConfirm
	}
	if r.every == 0 && r.pieces == 0 {
		r.every = defaultEvery
	}
	var errs []error
	add := func(path, name string, role role, code int) {
		if name == "" {
			return
		}
		in, err := r.input(path, name, o.Modulus, resolve)
		in.role, in.scrap = role, code
		if i := slices.IndexFunc(r.inputs, func(other input) bool { return other.Ref == in.Ref }); err == nil && i >= 0 {
			err = config.Field(path, fmt.Sprintf("tag %s counts as %s already", in.Ref, r.inputs[i].name), "name the tag of another counter, or remove one of the two")
		}
		if err != nil {
			errs = append(errs, err)
		}
		r.inputs = append(r.inputs, in)
	}
	add("good", o.Good, good, 0)
	add("total", o.Total, total, 0)
	for i, row := range o.Scrap.Rows {
		r.codes = append(r.codes, row.Name)
		add("scrap."+row.Name, row.Value, scrap, i)
	}
	add("rework", o.Rework, rework, 0)
	if !r.limited {
		if i := slices.IndexFunc(r.inputs, func(in input) bool { return in.size != 0 }); i >= 0 {
			in := r.inputs[i]
			errs = append(errs, config.Field("max_rate",
				fmt.Sprintf("is missing, but %s (tag %s, %s) starts again after %d values", in.name, in.Ref, in.Tag.Type, in.size),
				"write the most the machine can make, for example max_rate: 20/s: only that tells a rollover from a reset"))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return r, nil
}

func (r *Rule) input(path, name string, modulus int64, resolve rule.Resolver) (input, error) {
	found, err := resolve(path, name)
	if err != nil {
		return input{}, err
	}
	in := input{Input: found, name: path, binding: found.Binding()}
	t := found.Tag.Type
	switch {
	case t == plant.TypeUnknown:
		return in, config.Field(path, fmt.Sprintf("nobody knows the type of tag %s before the device is connected", found.Ref), "write it at the tag, for example type: uint32")
	case !t.Numeric():
		return in, config.Field(path, fmt.Sprintf("tag %s is of type %s, which does not count", found.Ref, t), "name a tag of a whole-number type")
	case modulus > 0:
		in.size = modulus
	case found.Tag.Scaled || t.Bits() == 0 || t.Bits() == 64:
		// The number read says nothing of the counter's width, or it is so wide
		// that it never goes round.
	default:
		in.size = 1 << t.Bits()
		if t.Signed() {
			in.low = -in.size / 2
		}
	}
	if bits := t.Bits(); modulus > 0 && bits > 0 && bits < 64 && !found.Tag.Scaled && modulus > 1<<bits {
		return in, config.Field("modulus", fmt.Sprintf("%d is more than %s (%s) can hold", modulus, found.Ref, t), fmt.Sprintf("write at most %d, or leave it out", int64(1)<<bits))
	}
	return in, nil
}

// Tags returns the tags that the rule reads, in the order of Reading.Input.
func (r *Rule) Tags() []plant.TagRef {
	refs := make([]plant.TagRef, len(r.inputs))
	for i := range r.inputs {
		refs[i] = r.inputs[i].Ref
	}
	return refs
}

// Codes returns the scrap codes in the order of Totals.Scrap.
func (r *Rule) Codes() []string { return r.codes }
