package startstop

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/plant"
)

// Running names the tag that says whether the machine runs. A config writes
// the tag alone, or {tag: state, values: [6]} where it is an enumeration.
type Running struct {
	Tag string `yaml:"tag,required"`
	// Values are those of a running machine; none means: anything but 0 and
	// false.
	Values []string `yaml:"values"`
}

// UnmarshalText reads the short form.
func (r *Running) UnmarshalText(b []byte) error {
	r.Tag = string(b)
	return nil
}

// ReasonCode is one row of the code table: what a device's code means.
type ReasonCode struct {
	// Type is the downtime type.
	Type string `yaml:"type,required"`
	Name string `yaml:"name"`
}

// UnmarshalText reads the short form, the type alone.
func (r *ReasonCode) UnmarshalText(b []byte) error {
	r.Type = string(b)
	return nil
}

// Options say when a machine runs and why it stands.
type Options struct {
	Running Running `yaml:"running,required"`
	// Reason is the tag of the stop code; 0 and empty mean none.
	Reason string `yaml:"reason"`
	// Reasons gives the downtime type of each code.
	Reasons config.Table[ReasonCode] `yaml:"reasons"`
	// ReasonTake says which code of a stop counts: "last" (the default), "first",
	// or "at_end", the last one before the machine runs again.
	ReasonTake string `yaml:"reason_take"`
	// DefaultType is the downtime type of a stop without a code, or with one
	// that Reasons does not know; "unknown" if it is not set.
	DefaultType string `yaml:"default_type"`
	// MinStop and MinRun are the lengths that a stop or a run must reach to
	// become an event. Shorter stops are counted as micro-stops.
	MinStop config.Duration `yaml:"min_stop"`
	MinRun  config.Duration `yaml:"min_run"`
}

// Validate checks what can be checked without the tags.
func (o *Options) Validate() error {
	var errs []error
	if o.Running.Tag == "" {
		errs = append(errs, config.Field("running", "names no tag", "name the tag that says whether the machine runs"))
	}
	if !slices.Contains([]string{"", "last", "first", "at_end"}, o.ReasonTake) {
		errs = append(errs, config.Field("reason_take", fmt.Sprintf("unknown setting %q", o.ReasonTake), "write last (the default), first or at_end"))
	}
	if o.Reason == "" && (len(o.Reasons.Rows) > 0 || o.Reasons.File != "") {
		errs = append(errs, config.Field("reasons", "gives codes a meaning, but no tag holds a code", "name it with reason:"))
	}
	if o.Reason == "" && o.ReasonTake != "" {
		errs = append(errs, config.Field("reason_take", "chooses among codes, but no tag holds a code", "name it with reason:"))
	}
	for _, row := range o.Reasons.Rows {
		if none(row.Name) {
			errs = append(errs, config.Field("reasons."+row.Name, "this code means that there is no reason", "remove the row"))
		}
	}
	return errors.Join(errs...)
}

// Rule is one machine's start/stop. It is immutable.
type Rule struct {
	running rule.Input
	reason  rule.Input
	// values are the texts of a running machine; empty for a truth.
	values          []string
	codes           map[string]ReasonCode
	take            string
	fallback        string
	minStop, minRun time.Duration
	binding         string
}

// New makes a Rule. Its errors are config.FieldErrors, joined.
func New(o Options, resolve rule.Resolver) (*Rule, error) {
	r := &Rule{
		take: o.ReasonTake, fallback: o.DefaultType, values: o.Running.Values,
		minStop: o.MinStop.Std(), minRun: o.MinRun.Std(), codes: make(map[string]ReasonCode, len(o.Reasons.Rows)),
	}
	if r.take == "" {
		r.take = "last"
	}
	if r.fallback == "" {
		r.fallback = "unknown"
	}
	for _, row := range o.Reasons.Rows {
		r.codes[row.Name] = row.Value
	}
	var errs []error
	var err error
	if r.running, err = resolve("running", o.Running.Tag); err != nil {
		errs = append(errs, err)
	} else if t := r.running.Tag.Type; t == plant.TypeString && len(r.values) == 0 {
		errs = append(errs, config.Field("running", fmt.Sprintf("tag %s is text, which is neither true nor false", r.running.Ref), "write running: {tag: …, values: […]} with the texts of a running machine"))
	} else {
		errs = append(errs, r.checkValues(t))
	}
	if o.Reason != "" {
		if r.reason, err = resolve("reason", o.Reason); err != nil {
			errs = append(errs, err)
		} else if t := r.reason.Tag.Type; t == plant.TypeBool || t == plant.TypeFloat32 || t == plant.TypeFloat64 {
			errs = append(errs, config.Field("reason", fmt.Sprintf("tag %s is of type %s, which holds no code", r.reason.Ref, t), "name a tag of a whole-number or string type"))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	r.binding = r.running.Binding() + " " + strings.Join(r.values, ",")
	return r, nil
}

// checkValues refuses values that the tag can never show.
func (r *Rule) checkValues(t plant.TagType) error {
	var errs []error
	for i, v := range r.values {
		_, err := plant.ParseDecimal(v)
		bad := t.Numeric() && err != nil || t == plant.TypeBool && v != "true" && v != "false"
		if bad {
			errs = append(errs, config.Field(fmt.Sprintf("running.values[%d]", i), fmt.Sprintf("%q is no value of tag %s, which is of type %s", v, r.running.Ref, t), "write the values of a running machine"))
		}
	}
	return errors.Join(errs...)
}

// Running returns the tag that says whether the machine runs.
func (r *Rule) Running() plant.TagRef { return r.running.Ref }

// Reason returns the tag of the stop code; ok is false if there is none.
func (r *Rule) Reason() (ref plant.TagRef, ok bool) { return r.reason.Ref, r.reason.Ref.Tag != "" }

// State tells a running machine by a value of the running tag; ok is false if
// the value says nothing.
func (r *Rule) State(v plant.Value) (running, ok bool) {
	if len(r.values) == 0 {
		return v.Bool()
	}
	if v.IsZero() {
		return false, false
	}
	var buffer [24]byte
	text := bytes.TrimRight(v.Append(buffer[:0]), " \x00")
	for _, want := range r.values {
		if want == string(text) {
			return true, true
		}
	}
	return false, true
}

// Meaning returns the downtime type and name of a code; known is false if the
// table does not have it.
func (r *Rule) Meaning(code string) (kind, name string, known bool) {
	if m, ok := r.codes[code]; ok {
		return m.Type, m.Name, true
	}
	return r.fallback, "", code == "" || len(r.codes) == 0
}

// none reports whether a code says that there is no reason.
func none(code string) bool { return code == "" || code == "0" }
