package startstop

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/plant"
)

// Running says how to tell that the machine runs. A config writes the tag alone
// for a truth, or a mapping: {tag: state, values: [6]} where it is an
// enumeration, {tag: speed, above: 12, below: 8} for a measurement,
// {packml: …}, or {idle_after: 1m} for a machine that is known by its pieces.
type Running struct {
	Tag string `yaml:"tag"`
	// Values are those of a running machine; none means: anything but 0 and
	// false.
	Values []string `yaml:"values"`
	// Above is what a measurement must exceed for the machine to run, and Below
	// what it must fall under for it to stand; in between it does what it did.
	// Without Below it stands at Above and under it.
	Above  *float64 `yaml:"above"`
	Below  *float64 `yaml:"below"`
	PackML *PackML  `yaml:"packml"`
	// IdleAfter is how long a machine that is known by its pieces may make none
	// and still run. Tag is then a total; without one it is the machine's own
	// counter.
	IdleAfter config.Duration `yaml:"idle_after"`
}

// UnmarshalText reads the short form.
func (r *Running) UnmarshalText(b []byte) error {
	r.Tag = string(b)
	return nil
}

// Validate checks that there is one way to tell.
func (r *Running) Validate() error {
	var errs []error
	add := func(path, problem, remedy string) { errs = append(errs, config.Field(path, problem, remedy)) }
	ways := 0
	for _, is := range []bool{len(r.Values) > 0, r.Above != nil || r.Below != nil, r.PackML != nil, r.IdleAfter != 0} {
		if is {
			ways++
		}
	}
	switch {
	case ways > 1:
		add("", "tells in two ways whether the machine runs", "keep one of values:, above:, packml: and idle_after:")
	case r.PackML != nil && r.Tag != "":
		add("tag", "packml: names the tags itself", "remove tag:")
	case r.PackML == nil && r.IdleAfter == 0 && r.Tag == "":
		add("", "names no tag", "name the tag that says whether the machine runs")
	case r.Above == nil && r.Below != nil:
		add("above", "is missing, but below: is given", "write above: as well, what a running machine exceeds")
	case r.Above != nil && r.Below != nil && *r.Below > *r.Above:
		add("below", "is more than above", "write at most the number of above:")
	}
	if r.Values != nil && len(r.Values) == 0 {
		add("values", "it names no value", "write those of a running machine, or leave it out: then all but 0 and false are")
	}
	for _, f := range []*float64{r.Above, r.Below} {
		if f != nil && (math.IsNaN(*f) || math.IsInf(*f, 0)) {
			add("above", "is no limit", "write a number")
		}
	}
	return errors.Join(errs...)
}

// Role is what one of the rule's tags says.
type Role uint8

// The roles. RoleState is the tag that says whether the machine runs, RoleMode
// the PackML unit mode beside it, RoleReason the stop code, RoleStops and
// RoleStopSeconds the PLC's own counters of stops.
const (
	RoleState Role = iota
	RoleMode
	RoleReason
	RoleStops
	RoleStopSeconds
)

// level is a measurement with hysteresis.
type level struct{ above, below float64 }

// runs tells a running machine by v; was is what it did.
func (l *level) runs(v float64, was bool) bool {
	switch {
	case v > l.above:
		return true
	case v < l.below, l.below == l.above:
		return false
	default:
		return was
	}
}

// source is how the rule tells that the machine runs.
type source struct {
	state, mode rule.Input
	// values are the texts of a running machine; of values, level and packml at
	// most one is set, and without one the tag is a truth.
	values []string
	level  *level
	packml *packml
	// idle is how long a machine that is known by its pieces may make none; own is
	// set where they are those of its own counter.
	idle time.Duration
	own  bool
}

// newSource makes a source; counted is the tag of the machine's own counter,
// empty if it has none.
func newSource(o *Running, counted string, resolve rule.Resolver) (source, error) {
	s := source{values: o.Values}
	var err error
	if o.IdleAfter > 0 {
		return newIdle(o, counted, resolve)
	}
	if o.PackML != nil {
		s.packml = newPackML(o.PackML)
		s.state, s.mode, err = o.PackML.resolve(resolve)
		return s, err
	}
	if s.state, err = resolve("running", o.Tag); err != nil {
		return s, err
	}
	t := s.state.Tag.Type
	if o.Above != nil {
		s.level = &level{above: *o.Above, below: *o.Above}
		if o.Below != nil {
			s.level.below = *o.Below
		}
		if t == plant.TypeBool || t == plant.TypeString {
			return s, config.Field("running.tag", fmt.Sprintf("tag %s is of type %s, which is neither above nor below a limit", s.state.Ref, t), "name the tag of a measurement, or remove the limits")
		}
		return s, nil
	}
	if t == plant.TypeString && len(s.values) == 0 {
		return s, config.Field("running", fmt.Sprintf("tag %s is text, which is neither true nor false", s.state.Ref), "write running: {tag: …, values: […]} with the texts of a running machine")
	}
	return s, s.checkValues(t)
}

func newIdle(o *Running, counted string, resolve rule.Resolver) (s source, err error) {
	s.idle, s.own = o.IdleAfter.Std(), o.Tag == ""
	name := o.Tag
	if s.own {
		name = counted
	}
	if name == "" {
		return s, config.Field("running.idle_after", "the machine has no counter whose pieces could be missed", "add counter:, or name the tag of a total with tag:")
	}
	if s.state, err = resolve("running", name); err != nil {
		return s, err
	}
	if t := s.state.Tag.Type; t == plant.TypeBool || t == plant.TypeString {
		return s, config.Field("running.tag", fmt.Sprintf("tag %s is of type %s, which does not count", s.state.Ref, t), "name the tag of a total")
	}
	return s, nil
}

// checkValues refuses values that the tag can never show.
func (s *source) checkValues(t plant.TagType) error {
	var errs []error
	for i, v := range s.values {
		_, err := plant.ParseDecimal(v)
		bad := t.Numeric() && err != nil || t == plant.TypeBool && v != "true" && v != "false"
		if bad {
			errs = append(errs, config.Field(fmt.Sprintf("running.values[%d]", i), fmt.Sprintf("%q is no value of tag %s, which is of type %s", v, s.state.Ref, t), "write the values of a running machine"))
		}
	}
	return errors.Join(errs...)
}

// binding says what a state was learned from.
func (s *source) binding() string {
	b := s.state.Binding() + " "
	switch {
	case s.packml != nil:
		b += "packml"
		if s.hasMode() {
			b += " " + s.mode.Binding()
		}
	case s.level != nil:
		b += "level"
	case s.own:
		b += "counted"
	case s.idle > 0:
		b += "pieces"
	default:
		b += strings.Join(s.values, ",")
	}
	return b
}

func (s *source) hasMode() bool { return s.mode.Ref.Tag != "" }

// signal is what the state's tags said last, as far as that is needed to
// understand the next reading.
type signal struct {
	// High is what a measurement said last.
	High bool `json:"h,omitempty"`
	// State and Mode are PackML's, read well at StateAt and ModeAt; never since a
	// reading was missed.
	State   string     `json:"s,omitempty"`
	Mode    string     `json:"m,omitempty"`
	StateAt rule.Stamp `json:"st,omitzero"`
	ModeAt  rule.Stamp `json:"mt,omitzero"`
	// Raw is the last total of pieces, and Fell what it was before it fell; Piece
	// is when the newest piece was seen, or the total for the first time, and
	// PieceGap how long nobody had looked then.
	Raw      int64         `json:"raw,omitempty"`
	Fell     int64         `json:"fell,omitempty"`
	Piece    rule.Stamp    `json:"pt,omitzero"`
	PieceGap time.Duration `json:"pg,omitempty"`
}

// take takes a reading of one of the state's tags.
func (s *source) take(g *signal, v *Reading, snapshot bool, o *observation) {
	running, known, ok := false, false, false
	if v.Good {
		running, known, ok = s.read(g, v, snapshot)
	}
	if !ok {
		g.lose(v.Role)
		o.Missed, o.Known = true, false
		return
	}
	if o.Missed {
		return
	}
	if o.At.At <= v.At.At {
		o.At, o.Read = v.At, v.At
	}
	o.Running, o.Known = running, known
}

// freshTime is how old the other of a PackML state and mode may be when one is
// the first value after a (re)connect: they come one after the other.
const freshTime = 10e9

// read takes a good reading of the state or the mode. known is false while it
// cannot be told yet whether the machine runs; ok is false if the reading says
// nothing.
func (s *source) read(g *signal, v *Reading, snapshot bool) (running, known, ok bool) {
	switch {
	case s.packml != nil:
		return s.readPackML(g, v, snapshot)
	case s.level != nil:
		f, ok := v.Value.Float()
		if !ok || math.IsNaN(f) {
			return false, false, false
		}
		g.High = s.level.runs(f, g.High)
		return g.High, true, true
	case len(s.values) == 0:
		running, ok = v.Value.Bool()
		return running, ok, ok
	case v.Value.IsZero():
		return false, false, false
	}
	var buffer [24]byte
	text := bytes.TrimRight(v.Value.Append(buffer[:0]), " \x00")
	for _, want := range s.values {
		if want == string(text) {
			return true, true, true
		}
	}
	return false, true, true
}

func (s *source) readPackML(g *signal, v *Reading, snapshot bool) (running, known, ok bool) {
	name, at, names := &g.State, &g.StateAt, s.packml.numbers.states
	other := &g.ModeAt
	if v.Role == RoleMode {
		name, at, names, other = &g.Mode, &g.ModeAt, s.packml.numbers.modes, &g.StateAt
	}
	text, ok := named(v.Value, names, *name)
	if !ok {
		return false, false, false
	}
	*name, *at = text, v.At
	if snapshot && s.state.Ref.Device == s.mode.Ref.Device && v.At.At-other.At > freshTime {
		*other = rule.Stamp{}
	}
	if g.StateAt.IsZero() || s.hasMode() && g.ModeAt.IsZero() {
		return false, false, true
	}
	return s.packml.runs(g.State, g.Mode, s.hasMode()), true, true
}

// lose forgets what a tag said, until it is read again.
func (g *signal) lose(role Role) {
	if role == RoleMode {
		g.ModeAt = rule.Stamp{}
	} else {
		g.StateAt = rule.Stamp{}
	}
}

// Use is a tag of the rule and what it is there for.
type Use struct {
	Ref  plant.TagRef
	Role Role
}

// Tags returns the tags that the rule reads. Those of the machine's own counter
// are not among them.
func (r *Rule) Tags() []Use {
	var all []Use
	if !r.source.own {
		all = append(all, Use{r.source.state.Ref, RoleState})
	}
	if r.source.hasMode() {
		all = append(all, Use{r.source.mode.Ref, RoleMode})
	}
	if r.hasReason() {
		all = append(all, Use{r.reason.Ref, RoleReason})
	}
	if r.stops != nil {
		all = append(all, Use{r.stops.count.Ref, RoleStops})
		if r.stops.hasSeconds() {
			all = append(all, Use{r.stops.seconds.Ref, RoleStopSeconds})
		}
	}
	return slices.Clip(all)
}

// Edge reports whether each change of a tag of that role counts, also while
// commits wait for the disk. Of totals and of measurements, which change with
// every reading, the newest value is enough.
func (r *Rule) Edge(role Role) bool {
	switch role {
	case RoleState:
		return r.source.level == nil && r.source.idle == 0
	case RoleMode, RoleReason:
		return true
	default:
		return false
	}
}
