package parameters

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/plant"
)

// Figures over an interval. A value holds from its reading to the next one, and
// the mean weighs each value by how long it held: readings come whenever a
// device or a subscription likes. What nobody saw does not hold, is in no figure
// and not in the seconds that the figures stand for.

// lateTime is how late the end of an interval may be noticed. Later than that
// nobody was there at its end: the gateway stood.
const lateTime = int64(5 * time.Second)

// summary is what is known of an interval.
type summary struct {
	// From and End bound it, by the gateway's clock; 0 if none runs.
	From int64 `json:"f,omitempty"`
	End  int64 `json:"e,omitempty"`
	// N values were read in it; it was observed for Seen.
	N         int64         `json:"n,omitempty"`
	Seen      time.Duration `json:"s,omitempty"`
	Mean      float64       `json:"m,omitempty"`
	Min       value         `json:"l,omitzero"`
	Max       value         `json:"h,omitzero"`
	Uncertain bool          `json:"u,omitempty"`
	// Last is the newest value. While it Holds it is part of the figures up to
	// Until.
	Last  sample `json:"v,omitzero"`
	Holds bool   `json:"k,omitempty"`
	Until int64  `json:"t,omitempty"`
}

// any reports whether anything is known of the interval.
func (m *summary) any() bool { return m.N > 0 || m.Seen > 0 }

// fit prepares the interval of a decoded or zero track for an input. What is
// over and not told yet is dropped with the figures themselves.
func (t *track) fit(in *input) {
	switch {
	case in.over == 0:
		t.Interval = nil
	case t.Interval == nil:
		t.Interval = &Interval{}
	case t.Sum.From != 0 && t.Sum.End-t.Sum.From > int64(in.over):
		t.Sum.End = in.end(t.Sum.From)
	}
}

func (m *summary) shift(step time.Duration) {
	for _, at := range []*int64{&m.From, &m.End, &m.Until} {
		if *at != 0 {
			*at += int64(step)
		}
	}
	m.Last.At.Shift(step)
}

// end is where the interval ends that begins at from: the next multiple of its
// length, so that intervals of a minute begin with the minute.
func (in *input) end(from int64) int64 {
	over := int64(in.over)
	return (from/over + 1) * over
}

// sum takes a reading and reports whether an interval is over.
func (in *input) sum(t *track, v *Reading, usable bool, now int64) (due bool) {
	m := &t.Sum
	if v.Snapshot {
		m.Holds = false
	}
	if m.From != 0 && now >= m.End {
		in.close(t, m.End, now)
	}
	m.hold(v.At.At)
	if !usable {
		m.Holds, t.Now = false, sample{}
		return t.Done.any()
	}
	if m.From == 0 {
		m.From, m.End = v.At.At, in.end(v.At.At)
	}
	t.Now = sample{Value: value{v.Value}, Uncertain: v.Uncertain, At: v.At}
	m.Last, m.Holds, m.Until = t.Now, true, v.At.At
	m.N++
	m.include()
	return t.Done.any()
}

// include makes the newest value one of those that the figures are about.
func (m *summary) include() {
	v, ok := m.Last.Value.Float()
	if !ok {
		return
	}
	low, _ := m.Min.Float()
	high, _ := m.Max.Float()
	if m.Min.IsZero() || v < low {
		m.Min = m.Last.Value
	}
	if m.Max.IsZero() || v > high {
		m.Max = m.Last.Value
	}
	if m.Seen == 0 {
		m.Mean = v
	}
	m.Uncertain = m.Uncertain || m.Last.Uncertain
}

// hold lets the newest value hold up to a time.
func (m *summary) hold(until int64) {
	if !m.Holds || until <= m.Until {
		return
	}
	length := time.Duration(until - m.Until)
	m.Until = until
	m.include()
	m.Seen += length
	v, _ := m.Last.Value.Float()
	// Weighed so, nothing overflows, and a value that never changes is its own mean
	// to the last bit.
	if share := float64(length) / float64(m.Seen); v != m.Mean && m.Seen > 0 {
		m.Mean = m.Mean*(1-share) + v*share
	}
}

// close ends the interval at a time and begins the next one there, if the value
// still holds.
func (in *input) close(t *track, at, now int64) {
	m := &t.Sum
	if now-at > lateTime {
		m.Holds = false
	}
	m.hold(at)
	t.Done = *m
	t.Done.End = at
	next := summary{Last: m.Last, Holds: m.Holds, Until: m.Until}
	if m.Holds {
		next.From, next.End = at, in.end(at)
	}
	*m = next
}

// Close ends the intervals that run at a boundary: what comes after it belongs
// to another order, shift or mode. Collect then returns their figures.
func (r *Rule) Close(s *State, at, now int64) (due bool) {
	for i := range r.inputs {
		t := &s.Tracks[i]
		if t.Interval == nil {
			continue
		}
		if m := &t.Sum; m.From != 0 && m.From < at {
			r.inputs[i].close(t, min(at, m.End), now)
			due = due || t.Done.any()
		}
	}
	return due
}

// Pause notes that nobody looks from now on until the values come anew: the
// gateway stops.
func (r *Rule) Pause(s *State, now int64) {
	for i := range s.Tracks {
		if t := &s.Tracks[i]; t.Interval != nil {
			t.Sum.hold(min(now, t.Sum.End))
			t.Sum.Holds = false
		}
	}
}

// figures is what is told of an interval.
func (in *input) figures(m *summary) plant.Parameter {
	p := in.parameter(&m.Last)
	p.Quality = plant.Good.String()
	if m.Uncertain {
		p.Quality = plant.Uncertain.String()
	}
	p.From, p.To = stamp(m.From), stamp(m.End)
	p.Samples, p.Seconds = m.N, plant.Seconds(m.Seen)
	for _, what := range in.report {
		switch what {
		case "min":
			p.Min = raw(m.Min.Value)
		case "max":
			p.Max = raw(m.Max.Value)
		case "mean":
			p.Mean = mean(m.Mean)
		}
	}
	return p
}

// mean writes a mean with the twelve digits that a sum of floats is good for.
func mean(f float64) json.RawMessage {
	short, err := strconv.ParseFloat(strconv.FormatFloat(f, 'g', 12, 64), 64)
	if err != nil {
		short = f
	}
	return plant.FloatValue(short).Append(nil)
}

func stamp(at int64) time.Time { return rule.Stamp{At: at}.Time().Truncate(time.Millisecond) }
