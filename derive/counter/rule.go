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

// role says what an input counts.
type role uint8

const (
	good role = iota
	total
	scrap
	rework
	// perCycle and reload count nothing: they are numbers that the rule works
	// with.
	perCycle
	reload
)

// input is one counter of a device.
type input struct {
	rule.Input
	role role
	// scrap is the index of the code for role scrap.
	scrap   int
	name    string
	binding string
	// pulse is set for a signal of which each rise counts, down for a counter
	// that counts down: the rule works with its numbers below 0, which go up.
	pulse, down bool
	// saturates is set where the counter stays at its highest number.
	saturates bool
	// low and size are the range of the raw number; size 0 has no known end.
	low, size int64
}

// counts reports whether the input is a counter.
func (in *input) counts() bool { return in.role < perCycle }

// shown is a number as the device shows it.
func (in *input) shown(raw int64) int64 {
	if in.down {
		return -raw
	}
	return raw
}

// Raw names what the number of the device counts that events have as raw: "total",
// "good", "scrap" or "rework"; empty for signals, which have no number.
func (r *Rule) Raw() string {
	if len(r.inputs) == 0 || r.inputs[0].pulse {
		return ""
	}
	return [...]string{good: "good", total: "total", scrap: "scrap", rework: "rework", perCycle: "", reload: ""}[r.inputs[0].role]
}

// Rule is one machine's counter. It is immutable.
type Rule struct {
	// inputs begin with the good or total counter, where there is one.
	inputs []input
	codes  []string
	// cavities and batch are the numbers of pieces of a cycle and of a batch where
	// they are constants; cavity and preset are the inputs that have them, -1 for
	// none.
	cavities, batch int64
	cavity, preset  int
	// limited is set where a rate limits what is plausible; rate is per second.
	limited bool
	rate    float64
	confirm int
	keep    bool
	zero    bool
	start   int64
	gapTo   string
	hand    int64
	every   time.Duration
	pieces  int64
}

// New makes a Rule. Its errors are config.FieldErrors, joined; if all of them
// are warnings the Rule is of use as well.
func New(o Options, resolve rule.Resolver) (*Rule, error) {
	r := &Rule{
		cavities: o.PerCycle.number, batch: o.Reload.number, cavity: -1, preset: -1,
		limited: !o.MaxRate.IsZero(), rate: o.MaxRate.PerSecond(),
		confirm: o.ResetConfirm, keep: o.Jump != "drop", zero: o.Baseline == "zero",
		start: o.StartTotal, gapTo: o.GapTo, hand: o.HandCorrections,
		every: o.Every.Std(), pieces: o.Pieces,
	}
	if r.confirm == 0 {
		r.confirm = defaultConfirm
	}
	if r.every == 0 && r.pieces == 0 {
		r.every = defaultEvery
	}
	errs := r.find(&o, resolve)
	if !r.limited {
		if i := slices.IndexFunc(r.inputs, func(in input) bool { return in.size != 0 }); i >= 0 {
			in := r.inputs[i]
			errs = append(errs, config.Field("max_rate",
				fmt.Sprintf("is missing, but %s (tag %s, %s) starts again after %d values", in.name, in.Ref, in.Tag.Type, in.size),
				"write the most the machine can make, for example max_rate: 20/s: only that tells a rollover from a reset"))
		}
	}
	if i := slices.IndexFunc(r.inputs, func(in input) bool { return in.pulse }); i >= 0 && !r.limited {
		errs = append(errs, config.Field("max_rate", fmt.Sprintf("is missing, and only it says whether the pulses of tag %s can be seen", r.inputs[i].Ref),
			"write the most the machine can make, for example max_rate: 2/s"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return r, errors.Join(append(r.unseen(), r.endless(&o)...)...)
}

// endless warns of counters that begin again where nobody has said: the number of
// one that is scaled does not tell, and what is said of the total says nothing of
// scrap and rework.
func (r *Rule) endless(o *Options) (warnings []error) {
	for i := range r.inputs {
		in := &r.inputs[i]
		bits := in.Tag.Type.Bits()
		if !in.counts() || in.pulse || in.down || bits == 0 || bits == 64 {
			continue
		}
		key := "modulus"
		if in.role == scrap || in.role == rework {
			key = "scrap_modulus"
		}
		switch {
		case in.Tag.Scaled && in.size == 0:
			warnings = append(warnings, config.Warn(in.name, fmt.Sprintf("tag %s (%s) is scaled, so nobody knows at which number it begins again: it will be told as a reset", in.Ref, in.Tag.Type),
				fmt.Sprintf("write %s: with the number of values of its type, times its scale; or let the device count pieces", key)))
		case o.Modulus > 0 && key == "scrap_modulus" && o.ScrapModulus == 0 && in.size != o.Modulus:
			warnings = append(warnings, config.Warn("modulus", fmt.Sprintf("is that of good or total alone: %s (tag %s) is taken to go on to %d", in.name, in.Ref, in.low+in.size-1),
				fmt.Sprintf("write scrap_modulus: %d if scrap and rework begin again there, too, else scrap_modulus: %d", o.Modulus, in.size)))
			return warnings
		}
	}
	return warnings
}

// find looks up all inputs.
func (r *Rule) find(o *Options, resolve rule.Resolver) (errs []error) {
	add := func(path, name string, role role, code int) int {
		if name == "" {
			return -1
		}
		in, err := r.input(path, name, role, o, resolve)
		in.scrap = code
		if i := slices.IndexFunc(r.inputs, func(other input) bool { return other.Ref == in.Ref }); err == nil && i >= 0 {
			err = config.Field(path, fmt.Sprintf("tag %s counts as %s already", in.Ref, r.inputs[i].name), "name the tag of another counter, or remove one of the two")
		}
		if err != nil {
			errs = append(errs, err)
		}
		r.inputs = append(r.inputs, in)
		return len(r.inputs) - 1
	}
	add("good", o.Good, good, 0)
	add("total", o.Total, total, 0)
	add("pulses", o.Pulses, total, 0)
	for i, row := range o.Scrap.Rows {
		r.codes = append(r.codes, row.Name)
		add("scrap."+row.Name, row.Value, scrap, i)
	}
	add("rework", o.Rework, rework, 0)
	r.cavity = add("per_cycle", o.PerCycle.tag, perCycle, 0)
	r.preset = add("reload", o.Reload.tag, reload, 0)
	return errs
}

func (r *Rule) input(path, name string, role role, o *Options, resolve rule.Resolver) (input, error) {
	found, err := resolve(path, name)
	if err != nil {
		return input{}, err
	}
	in := input{Input: found, role: role, name: path, binding: found.Binding()}
	main := role == good || role == total
	t := found.Tag.Type
	in.pulse = path == "pulses" || t == plant.TypeBool && (role == scrap || role == rework)
	switch {
	case t == plant.TypeUnknown:
		return in, config.Field(path, fmt.Sprintf("nobody knows the type of tag %s before the device is connected", found.Ref), "write it at the tag, for example type: uint32")
	case in.pulse && (t == plant.TypeBool || t.Numeric()):
		return in, nil
	case t == plant.TypeBool && main:
		return in, config.Field(path, fmt.Sprintf("tag %s is of type bool, which is no total", found.Ref), "name the tag of a total; if the device has none, write pulses: instead of "+path+":")
	case !t.Numeric():
		return in, config.Field(path, fmt.Sprintf("tag %s is of type %s, which does not count", found.Ref, t), "name a tag of a whole-number type")
	case !in.counts():
		return in, nil
	}
	in.down = main && o.Direction == "down"
	in.saturates = main && o.AtMax == "saturate"
	if main {
		return in, in.bounds("modulus", o.Modulus)
	}
	return in, in.bounds("scrap_modulus", o.ScrapModulus)
}

// bounds finds out which numbers a counter can show, with what the config says of
// it under a key.
func (in *input) bounds(key string, modulus int64) error {
	t := in.Tag.Type
	switch {
	case in.down:
		// Its numbers say where a batch ends, not where the counter does.
	case modulus > 0:
		in.size = modulus
	case in.Tag.Scaled || t.Bits() == 0 || t.Bits() == 64:
		// The number read says nothing of the counter's width, or it is so wide
		// that it never goes round.
	default:
		in.size = 1 << t.Bits()
		if t.Signed() {
			in.low = -in.size / 2
		}
	}
	if bits := t.Bits(); modulus > 0 && bits > 0 && bits < 64 && !in.Tag.Scaled && modulus > 1<<bits {
		return config.Field(key, fmt.Sprintf("%d is more than %s (%s) can hold", modulus, in.Ref, t), fmt.Sprintf("write at most %d, or leave it out", int64(1)<<bits))
	}
	if in.saturates && in.size == 0 {
		return config.Field("at_max", fmt.Sprintf("nobody knows the highest number of tag %s", in.Ref), "write modulus: with that number plus 1, or remove at_max")
	}
	return nil
}

// unseen warns of signals that are looked at too seldom: each must be seen high
// and low once in the shortest cycle.
func (r *Rule) unseen() (warnings []error) {
	for i := range r.inputs {
		in := &r.inputs[i]
		if !in.pulse {
			continue
		}
		need := time.Duration(float64(time.Second) / (2 * r.rate))
		if every := in.Tag.Every; every > need {
			warnings = append(warnings, config.Warn(in.name, fmt.Sprintf("tag %s is looked at every %s, which misses pulses at %.3g/s", in.Ref, every, r.rate),
				fmt.Sprintf("look every %s or more often; better, let the PLC count and name its total", floor(need))))
		}
	}
	return warnings
}

// floor is d as a person would set it.
func floor(d time.Duration) time.Duration {
	if d > 2*time.Millisecond {
		return d.Truncate(time.Millisecond)
	}
	return d.Truncate(time.Microsecond)
}

// Tags returns the tags that the rule reads, in the order of Reading.Input.
func (r *Rule) Tags() []plant.TagRef {
	refs := make([]plant.TagRef, len(r.inputs))
	for i := range r.inputs {
		refs[i] = r.inputs[i].Ref
	}
	return refs
}

// Edges returns those of the tags of which each change counts, not only the
// newest number: signals.
func (r *Rule) Edges() (refs []plant.TagRef) {
	for i := range r.inputs {
		if r.inputs[i].pulse {
			refs = append(refs, r.inputs[i].Ref)
		}
	}
	return refs
}

// Codes returns the scrap codes in the order of Totals.Scrap.
func (r *Rule) Codes() []string { return r.codes }

// GapTo returns whose the pieces of a gap are in which the order changed:
// "none", "previous" or "next".
func (r *Rule) GapTo() string {
	if r.gapTo == "" {
		return "none"
	}
	return r.gapTo
}
