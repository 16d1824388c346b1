// Package parameters is the rule for process values: it reports a value when it
// has moved by more than its deadband, not too often, and at least so often. It
// is pure: time comes with the readings and ticks.
package parameters

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/plant"
)

// Deadband is how far a value must move to be reported: an amount in the
// value's own unit ("0.5"), or a part of the value reported last ("2%").
type Deadband struct {
	Amount  float64
	Percent bool
}

// UnmarshalText reads "0.5" or "2%".
func (d *Deadband) UnmarshalText(b []byte) error {
	number, percent := strings.CutSuffix(strings.TrimSpace(string(b)), "%")
	f, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if err != nil || f < 0 || math.IsNaN(f) || math.IsInf(f, 0) {
		return config.Field("", fmt.Sprintf("`%s` is no deadband", b), "write an amount such as 0.5, or a part such as 2%")
	}
	d.Amount, d.Percent = f, percent
	return nil
}

// inside reports whether v is as good as last.
func (d Deadband) inside(v, last float64) bool {
	limit := d.Amount
	if d.Percent {
		limit = math.Abs(last) * d.Amount / 100
	}
	return math.Abs(v-last) <= limit
}

// Parameter is one process value. A config writes the tag alone, or a mapping.
type Parameter struct {
	Tag string `yaml:"tag,required"`
	// Unit is the tag's if it is not set.
	Unit     string   `yaml:"unit"`
	Deadband Deadband `yaml:"deadband"`
	// MinInterval is the least time between two reports, MaxInterval the most;
	// 0 means no limit.
	MinInterval config.Duration `yaml:"min_interval"`
	MaxInterval config.Duration `yaml:"max_interval"`
}

// UnmarshalText reads the short form.
func (p *Parameter) UnmarshalText(b []byte) error {
	p.Tag = string(b)
	return nil
}

// Validate checks the intervals.
func (p *Parameter) Validate() error {
	if p.MaxInterval > 0 && p.MaxInterval < p.MinInterval {
		return config.Field("max_interval", "is shorter than min_interval", "write at least "+p.MinInterval.String())
	}
	return nil
}

// Options are the process values under their codes.
type Options = config.Table[Parameter]

type input struct {
	rule.Input
	code, unit, binding string
	deadband            Deadband
	least, most         time.Duration
}

// Rule is one machine's process values. It is immutable.
type Rule struct{ inputs []input }

// New makes a Rule. Its errors are config.FieldErrors, joined.
func New(o Options, resolve rule.Resolver) (*Rule, error) {
	r := &Rule{}
	var errs []error
	for _, row := range o.Rows {
		p := row.Value
		found, err := resolve(row.Name, p.Tag)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if p.Deadband.Amount > 0 && !found.Tag.Type.Numeric() {
			errs = append(errs, config.Field(row.Name+".deadband", fmt.Sprintf("tag %s is of type %s, which has no distance", found.Ref, found.Tag.Type), "remove the deadband"))
		}
		in := input{Input: found, code: row.Name, unit: p.Unit, binding: row.Name + " " + found.Binding(),
			deadband: p.Deadband, least: p.MinInterval.Std(), most: p.MaxInterval.Std()}
		if in.unit == "" {
			in.unit = found.Tag.Unit
		}
		r.inputs = append(r.inputs, in)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return r, nil
}

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
}

// State is what the rule remembers. Its fields are exported for the encoder;
// only this package changes them.
type State struct {
	Tracks []track `json:"in,omitempty"`
	// Wake is when a waiting value is due; 0 for none.
	Wake int64 `json:"wake,omitempty"`
}

// CopyFrom makes s equal to o without sharing memory with it.
func (s *State) CopyFrom(o *State) {
	s.Tracks = append(s.Tracks[:0], o.Tracks...)
	s.Wake = o.Wake
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
		r.plan(s, i)
	}
}

// Shift follows a step of the gateway's clock, so that intervals stay true.
func (s *State) Shift(step time.Duration) {
	for i := range s.Tracks {
		t := &s.Tracks[i]
		t.Told.At.Shift(step)
		t.Now.At.Shift(step)
		if t.ToldAt != 0 {
			t.ToldAt += int64(step)
		}
	}
	if s.Wake != 0 {
		s.Wake += int64(step)
	}
}

// Reading is what one input said. Bad readings are not handed over.
type Reading struct {
	Input     int
	At        rule.Stamp
	Value     plant.Value
	Uncertain bool
}

// Observe takes one reading and reports whether a value is due; Collect then
// returns it. It allocates nothing.
func (r *Rule) Observe(s *State, v *Reading, now int64) (due bool) {
	t := &s.Tracks[v.Input]
	t.Now = sample{Value: value{v.Value}, Uncertain: v.Uncertain, At: v.At}
	at := r.due(&r.inputs[v.Input], t)
	if at != 0 && at > now && (s.Wake == 0 || at < s.Wake) {
		s.Wake = at
	}
	return at != 0 && at <= now
}

// due returns when the newest value is to be reported, 0 for not at all and 1
// for at once.
func (r *Rule) due(in *input, t *track) int64 {
	switch {
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
		if due := r.due(in, t); due != 0 && due <= now {
			values = append(values, in.parameter(&t.Now))
			if at.Time().Before(t.Now.At.Time()) {
				at = t.Now.At
			}
			t.Told, t.ToldAt = t.Now, now
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
	switch s.Value.Type() {
	case plant.Text:
		p.Value = plant.AppendJSONString(nil, s.Value.Text())
	default:
		p.Value = json.RawMessage(s.Value.Append(nil))
	}
	return p
}
