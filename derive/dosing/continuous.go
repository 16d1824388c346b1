package dosing

import (
	"fmt"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/plant"
)

const (
	defaultEvery = time.Minute
	// rateOver is how long a rate is measured at least.
	rateOver = 10 * time.Second
)

// feedState is what is known of a feeder that loses weight all the time.
type feedState struct {
	// Ref is the weight up to which Used holds what was consumed since Since.
	Have  bool       `json:"have,omitempty"`
	Ref   int64      `json:"ref,omitempty"`
	Used  int64      `json:"used,omitempty"`
	Since rule.Stamp `json:"t0,omitzero"`
	// Estimated, Gap and Unsure are markers of Used; the last says that some may be
	// missing, since the zero changed.
	Estimated bool  `json:"est,omitempty"`
	Gap       bool  `json:"gap,omitempty"`
	Unsure    bool  `json:"uns,omitempty"`
	Words     words `json:"w,omitzero"`
	// Low is the lowest weight since the last refill, and once Up, while it is
	// refilled, High the highest. Ran and Flowed are the time and, by the flow tag,
	// the amount since Low; RanHigh and FlowedHigh those until High. Paid is what
	// of it Used holds already.
	Up         bool  `json:"up,omitempty"`
	Low        point `json:"lo,omitzero"`
	High       point `json:"hi,omitzero"`
	Ran        int64 `json:"ran,omitempty"`
	RanHigh    int64 `json:"ranh,omitempty"`
	Flowed     int64 `json:"fl,omitempty"`
	FlowedHigh int64 `json:"flh,omitempty"`
	Paid       int64 `json:"paid,omitempty"`
	// Fall in Time is how fast it emptied last, measured from From; Time is 0 where
	// nobody knows, or it stands.
	From point `json:"f,omitzero"`
	Fall int64 `json:"rf,omitempty"`
	Time int64 `json:"rt,omitempty"`
	// Out is what was taken out by hand up to the newest weight, and not told yet.
	Out int64 `json:"out,omitempty"`
	// Flow is what the flow tag said last, in ticks per FlowPer.
	Flow int64      `json:"flow,omitempty"`
	Last rule.Stamp `json:"l,omitzero"`
}

func (f *feedState) shift(step time.Duration) {
	for _, at := range []*rule.Stamp{&f.Since, &f.Low.At, &f.High.At, &f.From.At, &f.Last} {
		at.Shift(step)
	}
}

// flow adds the tag of the flow.
func (b *liveBuilder) flow(o *Options) {
	if o.Flow == "" {
		return
	}
	in := b.number("flow", o.Flow, roleFlow)
	if in == nil {
		return
	}
	unit := o.FlowUnit
	if unit == "" {
		unit = in.Tag.Unit
	}
	mass, per, _ := strings.Cut(unit, "/")
	lengths := map[string]time.Duration{"s": time.Second, "min": time.Minute, "h": time.Hour}
	b.r.flowPer = int64(lengths[strings.TrimSpace(per)])
	switch u, ok := plant.ParseMassUnit(mass); {
	case !ok || b.r.flowPer == 0:
		b.fault("flow_unit", fmt.Sprintf("%q is no weight per time", unit), "write what the tag shows, for example flow_unit: kg/h")
	case b.r.unit != "" && u != b.r.unit:
		b.fault("flow_unit", fmt.Sprintf("is in %s, but the weight in %s", u, b.r.unit), "let both be in one unit, with scale: and unit: at the device's tag")
	}
}

// worked is what was consumed by flow or by the last rate while the weight rose.
func (r *Live) worked(f *feedState, ran, flowed int64) int64 {
	if r.flowPer > 0 {
		return wholes(flowed, r.grain) * r.grain
	}
	return r.worth(f.Fall, ran, f.Time)
}

// feedBegins takes the newest weight for the reference.
func (r *Live) feedBegins(s *LiveState) {
	f, p := &s.Feed, s.Last
	*f = feedState{Have: true, Ref: p.W, Since: p.At, Low: p, From: p, Last: p.At, Words: s.Words, Flow: f.Flow, Fall: f.Fall, Time: f.Time}
}

// feedSample takes the newest weight of a feeder.
func (r *Live) feedSample(s *LiveState, out Sink) {
	f, p := &s.Feed, s.Last
	if s.Zero.Left > 0 {
		return
	}
	if !f.Have {
		r.feedBegins(s)
		return
	}
	lapse := max(p.At.At-f.Last.At, 0)
	f.Last = p.At
	f.Ran += lapse
	if r.flowPer > 0 {
		f.Flowed += share(f.Flow, lapse, r.flowPer)
	}
	if f.Up {
		r.filling(s, p, out)
	} else {
		r.feeding(s, lapse, out)
		if !f.Up && f.Used+f.Ref <= p.W {
			f.Since, f.Words = p.At, s.Words // nothing was used until now
		}
	}
	another := r.becomes(&f.Words, &s.Words)
	if another || p.At.At-f.Since.At >= r.every && f.Out == 0 && !r.leaps(s) {
		r.interval(s, p.At, another, out)
	}
}

// becomes reports whether now names another component than was: what was used up to
// now is of that. A component that was not named yet is taken over.
func (r *Live) becomes(was, now *words) (another bool) {
	before, _ := r.text(was, slotComponent)
	name, _ := r.text(now, slotComponent)
	switch {
	case name == before || name == "" || name == "0":
		return false
	case before == "" || before == "0":
		was.take(now, slotComponent)
		return false
	default:
		return true
	}
}

// leaps reports whether the newest weight may be of another zero, whose bit is still
// to come: what was used up to it is told with the next.
func (r *Live) leaps(s *LiveState) bool {
	return r.first(roleRebase) >= 0 && magnitude(s.Last.W-s.Was[1]) > 2*magnitude(s.Was[1]-s.Was[0])+r.least
}

// feeding follows a weight that falls, and sees it rise.
func (r *Live) feeding(s *LiveState, lapse int64, out Sink) {
	f, p := &s.Feed, s.Last
	ran, stood := p.At.At-f.From.At.At, p.At.At-s.Win.Since.At
	switch fall := f.From.W - p.W; {
	case r.hand(s, lapse, out):
		f.From = p
	case stood >= int64(rateOver) && (f.Time == 0 || r.worth(f.Fall, stood, f.Time) > 4*r.band):
		f.From, f.Fall, f.Time = p, 0, 0 // it stands for longer than it would at its rate
	case ran >= int64(rateOver) && p.W <= f.Low.W && !r.leaps(s):
		if fall > 4*r.noise {
			f.Fall, f.Time = fall, ran
		}
		if ran >= int64(time.Minute) {
			f.From = p
		}
	}
	switch {
	case p.W <= f.Low.W:
		f.Low, f.Ran, f.Flowed = p, 0, 0
	case p.W-f.Low.W > r.least:
		if fall := f.From.W - f.Low.W; f.Time == 0 && fall > 4*r.noise {
			f.Fall, f.Time = fall, f.Low.At.At-f.From.At.At // it went on just now
		}
		f.Up, f.High, f.RanHigh, f.FlowedHigh = true, p, f.Ran, f.Flowed
	}
}

// hand follows what leaves faster than a feeder feeds: it is taken out by hand. It
// reports whether some was with the newest weight.
func (r *Live) hand(s *LiveState, lapse int64, out Sink) bool {
	f := &s.Feed
	if r.most == 0 || lapse == 0 {
		return false // no limit, or the weight with which a new zero begins
	}
	limit := share(r.most, lapse, r.mostPer)
	if f.Out == 0 {
		limit += r.noise
	}
	left := s.Was[1] - s.Last.W
	if left <= limit {
		r.handed(s, s.Last.At, out)
		return false
	}
	f.Out += left - min(r.worked(f, lapse, share(f.Flow, lapse, r.flowPer)), limit)
	return true
}

// handed tells of what was taken out by hand; less than min_dose of it counts as
// used.
func (r *Live) handed(s *LiveState, at rule.Stamp, out Sink) {
	f := &s.Feed
	taken := f.Out
	f.Out = 0
	if taken < r.least {
		return
	}
	r.move(plant.KindRemoval, taken, &portion{at: at, estimated: true, unheard: f.Gap, words: &f.Words}, out)
	f.Ref -= taken
	f.Estimated = true
}

// feedAt returns when what a feeder used is to be told although no weight comes any
// more, 0 for not at all: a subscription is silent while the weight stands.
func (r *Live) feedAt(s *LiveState) int64 {
	f := &s.Feed
	silent := s.Last.At.At + int64(standTime)
	switch {
	case !f.Have || s.Win.N == 0 || s.Zero.Left > 0:
		return 0
	case f.Up:
		return max(silent, f.High.At.At+r.pause)
	case f.Used+f.Ref-s.Last.W < r.least:
		return 0
	default:
		return max(silent, f.Since.At+r.every)
	}
}

// feedDue does so.
func (r *Live) feedDue(s *LiveState, at rule.Stamp, out Sink) (changed bool) {
	if s.Feed.Up {
		r.filled(s, s.Last, out)
		return true
	}
	r.interval(s, at, false, out)
	return true
}

// filling follows a weight that rises, until it falls again.
func (r *Live) filling(s *LiveState, p point, out Sink) {
	f := &s.Feed
	if p.W > f.High.W {
		f.High, f.RanHigh, f.FlowedHigh = p, f.Ran, f.Flowed
		return
	}
	if f.High.W-p.W > r.noise || p.At.At-f.High.At.At >= r.pause {
		r.filled(s, p, out)
	}
}

// filled tells of a refill: the rise, and what was consumed meanwhile.
func (r *Live) filled(s *LiveState, p point, out Sink) {
	f := &s.Feed
	worked := r.worked(f, f.RanHigh, f.FlowedHigh)
	r.move(plant.KindRefill, f.High.W-f.Low.W+worked, &portion{at: f.High.At, estimated: true, unheard: f.Gap, words: &f.Words}, out)
	f.Used += f.Ref - f.Low.W + worked - f.Paid
	f.Estimated = true
	f.Ref, f.From, f.Low, f.Up, f.Paid = f.High.W, f.High, p, false, 0
	f.Ran, f.Flowed = 0, 0
}

// interval tells what was consumed until at. The last of an order tells all.
func (r *Live) interval(s *LiveState, at rule.Stamp, last bool, out Sink) {
	f := &s.Feed
	r.handed(s, at, out)
	if f.Up {
		worked := r.worked(f, f.Ran, f.Flowed)
		f.Used += f.Ref - f.Low.W + worked - f.Paid
		f.Ref, f.Paid, f.Estimated = f.Low.W, worked, true
	} else {
		f.Used += f.Ref - s.Last.W
		f.Ref = s.Last.W
	}
	p := portion{ticks: f.Used, at: at, begun: f.Since, ended: at, estimated: f.Estimated, unheard: f.Gap, zeroed: f.Unsure, words: &f.Words}
	p.drift = f.Used < r.least
	if p.drift && (!last || magnitude(f.Used) <= r.noise) {
		if last && magnitude(f.Used) <= r.noise {
			f.Since, f.Words = at, s.Words // it stands
		}
		return
	}
	f.Used = 0
	f.Words.fill(&s.Words)
	r.weighed(s, &p, out)
	f.Since, f.Estimated, f.Gap, f.Unsure, f.Words = at, false, false, false, s.Words
}
