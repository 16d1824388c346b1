// Package parameters is the rule for process values: it reports a value when it
// has moved by more than its deadband, not too often, and at least so often. It
// is pure: time comes with the readings and ticks.
package parameters

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/plant"
)

// Tags returns the tags that the rule reads, in the order of Reading.Input.
func (r *Rule) Tags() []plant.TagRef {
	refs := make([]plant.TagRef, len(r.inputs))
	for i := range r.inputs {
		refs[i] = r.inputs[i].Ref
	}
	return refs
}

// sample is a value with what is known of it.
type sample struct {
	Value     value      `json:"v,omitzero"`
	Uncertain bool       `json:"u,omitempty"`
	At        rule.Stamp `json:"t,omitzero"`
}

// value is a plant.Value that encodes with its type.
type value struct{ plant.Value }

// IsZero reports whether there is no value.
func (v value) IsZero() bool { return v.Value.IsZero() }

// MarshalText writes the type's letter and the value.
func (v value) MarshalText() ([]byte, error) {
	letters := [...]byte{plant.None: '-', plant.Bool: 'b', plant.Int: 'i', plant.Uint: 'u', plant.Float: 'f', plant.Exact: 'x', plant.Text: 't'}
	return v.Append([]byte{letters[v.Type()]}), nil
}

// UnmarshalText reads what MarshalText wrote.
func (v *value) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		return errors.New("a value without a type")
	}
	text := string(b[1:])
	var err error
	switch b[0] {
	case '-':
		v.Value = plant.Value{}
	case 'b':
		v.Value = plant.BoolValue(text == "true")
	case 'i':
		var i int64
		i, err = strconv.ParseInt(text, 10, 64)
		v.Value = plant.IntValue(i)
	case 'u':
		var u uint64
		u, err = strconv.ParseUint(text, 10, 64)
		v.Value = plant.UintValue(u)
	case 'f':
		var f float64
		f, err = strconv.ParseFloat(text, 64)
		v.Value = plant.FloatValue(f)
	case 'x':
		var d plant.Decimal
		d, err = plant.ParseDecimal(text)
		v.Value = plant.ExactValue(d)
	case 't':
		v.Value = plant.TextValue(text)
	default:
		err = fmt.Errorf("a value of the unknown type %q", b[0])
	}
	return err
}

// track is what the rule knows of one value.
type track struct {
	Binding string `json:"b"`
	// Told is what was reported last, by the gateway's clock at ToldAt; Now is
	// the newest.
	Told   sample `json:"told,omitzero"`
	ToldAt int64  `json:"at,omitempty"`
	Now    sample `json:"now,omitzero"`
	// Snap is what the value was at State.SnapAt, nil if nothing waits.
	Snap *sample `json:"snap,omitempty"`
	// Interval is nil where no figures over an interval are told: it is three
	// times as large as all the rest.
	*Interval
}

// Interval is what is known of the interval that runs, Sum, and of one that is
// over and not told yet, Done. It is exported for the decoder only, which does
// not make what it cannot name.
type Interval struct {
	Sum  summary `json:"sum,omitzero"`
	Done summary `json:"done,omitzero"`
}

// copyFrom makes t equal to o without sharing memory with it, in the memory that
// t has.
func (t *track) copyFrom(o *track) {
	snap, interval := t.Snap, t.Interval
	*t = *o
	t.Snap, t.Interval = assign(snap, o.Snap), assign(interval, o.Interval)
}

// assign returns a copy of from, in the memory of into if there is any.
func assign[T any](into, from *T) *T {
	if from == nil {
		return nil
	}
	if into == nil {
		into = new(T)
	}
	*into = *from
	return into
}

// State is what the rule remembers. Its fields are exported for the encoder;
// only this package changes them.
type State struct {
	Tracks []track `json:"in,omitempty"`
	// Wake is when a waiting value is due; 0 for none.
	Wake int64 `json:"wake,omitempty"`
	// SnapAt is the time of a start or stop that waits to be confirmed, for which
	// the values are kept; 0 for none.
	SnapAt int64 `json:"snap,omitempty"`
}

// CopyFrom makes s equal to o without sharing memory with it.
func (s *State) CopyFrom(o *State) {
	n := len(o.Tracks)
	s.Tracks = slices.Grow(s.Tracks[:0], n)[:n]
	for i := range o.Tracks {
		s.Tracks[i].copyFrom(&o.Tracks[i])
	}
	s.Wake, s.SnapAt = o.Wake, o.SnapAt
}

// Fit prepares a decoded or zero State for the rule: values at other addresses
// than before are new.
func (r *Rule) Fit(s *State) {
	old := s.Tracks
	s.Tracks = make([]track, len(r.inputs))
	s.Wake = 0
	for i := range r.inputs {
		s.Tracks[i].Binding = r.inputs[i].binding
		for _, t := range old {
			if t.Binding == r.inputs[i].binding {
				s.Tracks[i] = t
			}
		}
		s.Tracks[i].fit(&r.inputs[i])
		r.plan(s, i)
	}
}

// Shift follows a step of the gateway's clock, so that intervals stay true.
func (s *State) Shift(step time.Duration) {
	for i := range s.Tracks {
		t := &s.Tracks[i]
		t.Told.At.Shift(step)
		t.Now.At.Shift(step)
		if t.Snap != nil {
			t.Snap.At.Shift(step)
		}
		if t.Interval != nil {
			t.Sum.shift(step)
		}
		if t.ToldAt != 0 {
			t.ToldAt += int64(step)
		}
	}
	if s.Wake != 0 {
		s.Wake += int64(step)
	}
	if s.SnapAt != 0 {
		s.SnapAt += int64(step)
	}
}

// Reading is what one input said.
type Reading struct {
	Input     int
	At        rule.Stamp
	Value     plant.Value
	Uncertain bool
	// Bad is set if there is no value; Value then means nothing. What is no number
	// that JSON knows is as good as bad.
	Bad bool
	// Snapshot is set for the first values after a (re)connect: nobody looked in
	// between.
	Snapshot bool
}

// usable reports whether there is a value.
func (v *Reading) usable() bool {
	if v.Bad || v.Value.IsZero() {
		return false
	}
	if v.Value.Type() != plant.Float {
		return true
	}
	f, _ := v.Value.Float()
	return !math.IsNaN(f) && !math.IsInf(f, 0)
}

// Observe takes one reading and reports whether a value is due; Collect then
// returns it. It allocates nothing.
func (r *Rule) Observe(s *State, v *Reading, now int64) (due bool) {
	t, in := &s.Tracks[v.Input], &r.inputs[v.Input]
	usable := v.usable()
	if in.over > 0 {
		due = in.sum(t, v, usable, now)
		r.plan(s, v.Input)
		return due
	}
	if !usable {
		return false
	}
	t.Now = sample{Value: value{v.Value}, Uncertain: v.Uncertain, At: v.At}
	at := r.due(in, t)
	if at != 0 && at > now && (s.Wake == 0 || at < s.Wake) {
		s.Wake = at
	}
	return at != 0 && at <= now
}

// due returns when the newest value is to be reported, 0 for not at all and 1
// for at once.
func (r *Rule) due(in *input, t *track) int64 {
	switch {
	case in.over > 0:
		return t.Sum.End
	case t.Now.Value.IsZero():
		return 0
	case t.Told.Value.IsZero():
		return 1
	case in.moved(t):
		return t.ToldAt + int64(in.least)
	case in.most > 0:
		return t.ToldAt + int64(in.most)
	default:
		return 0
	}
}

func (in *input) moved(t *track) bool {
	if t.Now.Uncertain != t.Told.Uncertain {
		return true
	}
	if t.Now.Value == t.Told.Value {
		return false
	}
	now, ok := t.Now.Value.Float()
	told, before := t.Told.Value.Float()
	if !ok || !before {
		return true
	}
	if in.deadband.Amount == 0 {
		return now != told
	}
	return !in.deadband.inside(now, told)
}

// Lost notes that nobody looks at a device any more: what it said last is not
// reported as if it still held.
func (r *Rule) Lost(s *State, covers func(rule.Input) bool) {
	for i := range r.inputs {
		if covers(r.inputs[i].Input) {
			s.Tracks[i].Now = sample{}
			if s.Tracks[i].Interval != nil {
				s.Tracks[i].Sum.Holds = false
			}
		}
	}
}

// Wake returns when the rule wants to be asked again, 0 for not at all.
func (r *Rule) Wake(s *State) int64 { return s.Wake }

func (r *Rule) plan(s *State, i int) {
	if at := r.due(&r.inputs[i], &s.Tracks[i]); at > 1 && (s.Wake == 0 || at < s.Wake) {
		s.Wake = at
	}
}

// Collect takes all values that are due by now and returns them in the order of
// the config.
func (r *Rule) Collect(s *State, now int64) (values []plant.Parameter, at rule.Stamp) {
	s.Wake = 0
	for i := range r.inputs {
		in, t := &r.inputs[i], &s.Tracks[i]
		told := rule.Stamp{}
		if in.over > 0 {
			if t.Sum.End != 0 && t.Sum.End <= now {
				in.close(t, t.Sum.End, now)
			}
			if t.Done.any() {
				values, told = append(values, in.figures(&t.Done)), rule.Stamp{At: t.Done.End}
				t.Done = summary{}
			}
		} else if due := r.due(in, t); due != 0 && due <= now {
			values, told = append(values, in.parameter(&t.Now)), t.Now.At
			t.Told, t.ToldAt = t.Now, now
		}
		if at.Time().Before(told.Time()) {
			at = told
		}
		r.plan(s, i)
	}
	return values, at
}

func (in *input) parameter(s *sample) plant.Parameter {
	p := plant.Parameter{Code: in.code, Unit: in.unit, Quality: plant.Good.String(), Time: s.At.Time().Truncate(time.Millisecond)}
	if s.Uncertain {
		p.Quality = plant.Uncertain.String()
	}
	p.Value = raw(s.Value.Value)
	return p
}

// raw is a value as JSON.
func raw(v plant.Value) json.RawMessage {
	if v.Type() == plant.Text {
		return plant.AppendJSONString(nil, v.Text())
	}
	return v.Append(nil)
}
