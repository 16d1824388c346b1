package startstop

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/plant"
)

// ReasonCode is one row of the code table: what a device's code means.
type ReasonCode struct {
	// Type is the downtime type.
	Type string `yaml:"type,required"`
	Name string `yaml:"name"`
	// Types are what the systems behind single uplinks call the type, by the name
	// of the uplink, where they do not call it Type. In a CSV file each is a
	// column, for example types.erp.
	Types map[string]string `yaml:"types"`
}

// UnmarshalText reads the short form, the type alone.
func (r *ReasonCode) UnmarshalText(b []byte) error {
	r.Type = string(b)
	return nil
}

// Validate refuses a code without a type, which would be told as it is.
func (r ReasonCode) Validate() error {
	if strings.TrimSpace(r.Type) == "" {
		return config.Field("type", "it is empty", "write what a stop with this code is, for example cleaning, or remove the code")
	}
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
	// ReasonBefore is how long before the stop a code may have come and gone and
	// still be the stop's; 0: it must be there when the stop begins, or come
	// while the machine stands.
	ReasonBefore config.Duration `yaml:"reason_before"`
	// DefaultType is the downtime type of a stop without a code, or with one
	// that Reasons does not know; "unknown" if it is not set.
	DefaultType string `yaml:"default_type"`
	// DefaultTypes are what single uplinks call that type.
	DefaultTypes map[string]string `yaml:"default_types"`
	// MinStop and MinRun are the lengths that a stop or a run must reach to
	// become an event. Shorter stops are counted as micro-stops.
	MinStop config.Duration `yaml:"min_stop"`
	MinRun  config.Duration `yaml:"min_run"`
	// Stops are the PLC's own counters of stops, for those that nobody saw.
	Stops *Stops `yaml:"stops"`
}

// Validate checks what can be checked without the tags.
func (o *Options) Validate() error {
	var errs []error
	if !slices.Contains([]string{"", "last", "first", "at_end"}, o.ReasonTake) {
		errs = append(errs, config.Field("reason_take", fmt.Sprintf("unknown setting %q", o.ReasonTake), "write last (the default), first or at_end"))
	}
	if o.Reason == "" && (len(o.Reasons.Rows) > 0 || o.Reasons.File != "") {
		errs = append(errs, config.Field("reasons", "gives codes a meaning, but no tag holds a code", "name it with reason:"))
	}
	if o.Reason == "" && o.ReasonTake != "" {
		errs = append(errs, config.Field("reason_take", "chooses among codes, but no tag holds a code", "name it with reason:"))
	}
	if o.Reason == "" && o.ReasonBefore > 0 {
		errs = append(errs, config.Field("reason_before", "looks for a code, but no tag holds a code", "name it with reason:"))
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
	source source
	// stops is nil where the PLC does not count.
	stops           *stops
	reason          rule.Input
	codes           map[string]ReasonCode
	take            string
	fallback        string
	fallbacks       map[string]string
	minStop, minRun time.Duration
	// before is how long before a stop its code may have come.
	before  time.Duration
	binding string
	// uplinks are those that the tables name, with the path of the option.
	uplinks map[string]string
}

// New makes a Rule. counted is the tag by which the machine counts its pieces,
// empty if it counts none. The errors are config.FieldErrors, joined.
func New(o Options, counted string, resolve rule.Resolver) (*Rule, error) {
	r := &Rule{
		take: o.ReasonTake, fallback: o.DefaultType, fallbacks: o.DefaultTypes,
		minStop: o.MinStop.Std(), minRun: o.MinRun.Std(), before: o.ReasonBefore.Std(), codes: make(map[string]ReasonCode, len(o.Reasons.Rows)),
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
	if r.source, err = newSource(&o.Running, counted, resolve); err != nil {
		errs = append(errs, err)
	}
	if o.Stops != nil {
		if r.stops, err = newStops(&o, resolve); err != nil {
			errs = append(errs, err)
		}
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
	r.binding, r.uplinks = r.source.binding(), uplinksOf(&o)
	return r, nil
}

// Explains reports whether the rule may tell the reason of a stop after it.
func (r *Rule) Explains() bool { return r.hasReason() }

func (r *Rule) hasReason() bool { return r.reason.Ref.Tag != "" }

// Meaning returns the downtime type and name of a code; known is false if the
// table does not have it.
func (r *Rule) Meaning(code string) (kind, name string, known bool) {
	if m, ok := r.codes[code]; ok {
		return m.Type, m.Name, true
	}
	return r.fallback, "", code == "" || len(r.codes) == 0
}

// TypeFor returns the downtime type of a code as the system behind an uplink
// calls it; own says that the tables name this uplink for it. It says so also for
// events that were made by another table, since they carry the code.
func (r *Rule) TypeFor(uplink, code string) (name string, own bool) {
	m, known := r.codes[code]
	if name, own = m.Types[uplink]; own {
		return name, true
	}
	if known {
		return m.Type, false
	}
	if name, own = r.fallbacks[uplink]; own {
		return name, true
	}
	return r.fallback, false
}

// Uplinks returns the uplinks that the tables name, each with the path of the
// option that names it first.
func (r *Rule) Uplinks() map[string]string { return r.uplinks }

// uplinksOf collects the uplinks that o names.
func uplinksOf(o *Options) map[string]string {
	all := make(map[string]string)
	for name := range o.DefaultTypes {
		all[name] = "default_types." + name
	}
	for _, row := range o.Reasons.Rows {
		for name := range row.Value.Types {
			if _, known := all[name]; !known {
				all[name] = "reasons." + row.Name + ".types." + name
			}
		}
	}
	return all
}

// none reports whether a code says that there is no reason.
func none(code string) bool { return code == "" || code == "0" }
