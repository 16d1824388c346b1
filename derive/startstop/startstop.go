// Package startstop is the rule that says when a machine runs and stands, since
// when, and why. It debounces, gives events the time at which the state really
// changed, counts micro-stops, and never takes a silent device for a stop. It
// is pure: time comes with the readings and ticks.
package startstop

import (
	"slices"
	"time"

	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/plant"
)

// candidate is a change of state that is not old enough to be believed.
type candidate struct {
	At rule.Stamp `json:"t,omitzero"`
	// Gap is how long nobody had looked when it was seen.
	Gap time.Duration `json:"g,omitempty"`
	// Phase and Mode are PackML's state and unit mode then.
	Phase string `json:"p,omitempty"`
	Mode  string `json:"m,omitempty"`
	// Unmarked is set once the boundary was taken back, since nobody looks.
	Unmarked bool `json:"u,omitempty"`
	// missed is what the PLC counted besides; a candidate never waits with it.
	missed Missed
}

// State is what the rule remembers. Its fields are exported for the encoder;
// only this package changes them.
type State struct {
	Binding string `json:"b"`
	// Known is set once a state was reported: Running, since Since.
	Known   bool       `json:"k,omitempty"`
	Running bool       `json:"run,omitempty"`
	Since   rule.Stamp `json:"since,omitzero"`
	StopID  uint64     `json:"stop,omitempty"`
	// Change is a change to the other state that waits; never if none does.
	Change candidate `json:"change,omitzero"`
	// Seen is when the running tag was read last. Lost is set when a reading
	// was missed since: what is not observed is not confirmed.
	Seen rule.Stamp `json:"seen,omitzero"`
	Lost bool       `json:"lost,omitempty"`
	// Signal is what the tags of the state said last.
	Signal signal `json:"signal,omitzero"`
	// Code is what the reason tag says now; First and Last what it said while
	// the machine stood; Told what events have said of this stop.
	Code  string `json:"code,omitempty"`
	First string `json:"first,omitempty"`
	Last  string `json:"last,omitempty"`
	Told  string `json:"told,omitempty"`
	// Recent are codes that came while the machine ran, not longer than
	// reason_before ago when the newest did.
	Recent []arrival `json:"recent,omitempty"`
	// MicroStops were too short for an event and are not reported yet.
	MicroStops  int64         `json:"mn,omitempty"`
	MicroLength time.Duration `json:"ml,omitempty"`
	// Unmapped are codes that the table does not have.
	Unmapped []string `json:"unmapped,omitempty"`
	// Stops is what is known of the PLC's own counters.
	Stops tally `json:"stops,omitzero"`
	// Poll is what is known of the poll that is under way.
	Poll poll `json:"poll,omitzero"`
}

// CopyFrom makes s equal to o without sharing memory with it.
func (s *State) CopyFrom(o *State) {
	unmapped, recent := s.Unmapped, s.Recent
	*s = *o
	s.Unmapped = append(unmapped[:0], o.Unmapped...)
	s.Recent = append(recent[:0], o.Recent...)
}

// Fit prepares a decoded or zero State for the rule. A state learned from
// another tag is forgotten, except for the number of the last stop.
func (r *Rule) Fit(s *State) {
	if s.Binding != r.binding {
		*s = State{Binding: r.binding, StopID: s.StopID, MicroStops: s.MicroStops, MicroLength: s.MicroLength}
	}
	if binding := r.stops.binding(); s.Stops.Binding != binding {
		s.Stops = tally{Binding: binding}
	}
	s.Unmapped = slices.DeleteFunc(s.Unmapped, func(code string) bool {
		_, _, known := r.Meaning(code)
		return known
	})
}

// Shift follows a step of the gateway's clock, so that lengths stay true.
func (s *State) Shift(step time.Duration) {
	s.Since.Shift(step)
	s.Change.At.Shift(step)
	s.Seen.Shift(step)
	s.Signal.StateAt.Shift(step)
	s.Signal.ModeAt.Shift(step)
	s.Signal.Piece.Shift(step)
	s.Stops.Held.At.Shift(step)
	s.Stops.Held.Read.Shift(step)
	if s.Poll.At != 0 {
		s.Poll.At += int64(step)
	}
	s.Poll.First.At.Shift(step)
	s.Poll.First.Read.Shift(step)
	for i := range s.Recent {
		s.Recent[i].At.Shift(step)
	}
}

// Event is a start or a stop to be reported.
type Event struct {
	At      rule.Stamp
	Running bool
	StopID  uint64
	// Type, Reason and Name are set on a stop.
	Type, Reason, Name string
	// Since is when the stop began that a start ends; never if it is not known.
	Since rule.Stamp
	Gap   time.Duration
	// Phase and Mode are PackML's state and unit mode with which it began.
	Phase, Mode string
	// Missed is what the PLC's own counters say of the gap. Repeat is set if the
	// event is about that alone: the machine ran before and runs.
	Missed Missed
	Repeat bool
}

// Reason is a reason that became known after its stop was reported.
type Reason struct {
	At                 rule.Stamp
	StopID             uint64
	Type, Reason, Name string
}

// Sink takes what the rule has to say. Mark and Unmark announce and take back a
// time that may become a boundary for the counts.
type Sink interface {
	StartStop(e Event)
	StopReason(e Reason)
	Mark(at rule.Stamp)
	Unmark(at rule.Stamp)
}

// Reading is what one of the rule's tags said.
type Reading struct {
	Role Role
	At   rule.Stamp
	// Value is of use for the tags of the state, Code for the reason.
	Value plant.Value
	Code  string
	// Good is false for anything but good quality; the rest then means nothing.
	Good bool
}

// Observe takes the readings of one scan, each tag once. snapshot says that
// these are the first values after a (re)connect.
func (r *Rule) Observe(s *State, readings []Reading, snapshot bool, now int64, out Sink) (changed bool) {
	var reason *Reading
	var seen observation
	for i := range readings {
		v := &readings[i]
		switch {
		case v.Role == RoleReason:
			if v.Good {
				reason = v
			}
		case v.Role != RoleState && v.Role != RoleMode:
		case r.source.idle > 0:
			r.pieces(s, v, snapshot, &seen)
		default:
			r.source.take(&s.Signal, v, snapshot, &seen)
		}
	}
	if seen.Missed {
		changed = r.lose(s, out)
	}
	if r.source.idle == 0 {
		seen.Gap = r.gap(s, seen.Read, snapshot)
	}
	if r.stops != nil {
		changed = r.tallied(s, readings, snapshot, &seen, out) || changed
	}
	if reason != nil && !s.Known {
		s.Code, changed = reason.Code, true
	}
	if reason != nil && !none(reason.Code) && seen.begins(s) {
		// What comes together with a stop belongs to it, not what it replaces.
		changed = r.code(s, reason, out) || changed
	}
	if reason != nil {
		r.polled(s, reason)
	}
	changed = r.first(s, &seen) || changed
	if seen.Known {
		changed = r.state(s, &seen, out) || changed
	}
	if reason != nil {
		changed = r.code(s, reason, out) || changed
	}
	return r.Due(s, now, out) || changed
}

// observation is what the readings of one scan say of the state.
type observation struct {
	// At is since when it is so, as far as is known, and Read when it was read.
	At   rule.Stamp `json:"t,omitzero"`
	Read rule.Stamp `json:"rt,omitzero"`
	// Known is set if they say whether the machine runs, Missed if a tag could not
	// be read.
	Running bool `json:"run,omitempty"`
	Known   bool `json:"k,omitempty"`
	Missed  bool `json:"m,omitempty"`
	// Gap is how long nobody had looked at At.
	Gap time.Duration `json:"g,omitempty"`
	// Exact is set if At is the true time though nobody had looked.
	Exact bool `json:"x,omitempty"`
	// counted and timed are set if the PLC's own counters of stops and seconds were
	// read with it.
	counted, timed bool
}

// begins reports whether a stop begins with o.
func (o *observation) begins(s *State) bool { return o.Known && !o.Running && s.Known && !s.standing() }

// state takes what was seen of the state.
func (r *Rule) state(s *State, v *observation, out Sink) (changed bool) {
	seen := s.Seen
	changed = s.Lost
	if r.stops != nil && s.Known {
		r.saw(s, v)
	}
	s.Seen, s.Lost = v.Read, false
	switch {
	case !s.Known:
		s.Known, s.Running, s.Since, s.Poll.First = true, v.Running, v.At, observation{}
		r.begin(s)
		out.Mark(v.At)
		r.tell(s, &candidate{At: v.At, Phase: s.Signal.State, Mode: s.Signal.Mode}, rule.Stamp{}, out)
		return true
	case v.Running == s.Running && !s.Change.At.IsZero():
		if v.Gap > 0 && !v.Exact {
			r.cancel(s, v.At, seen, out)
		} else {
			r.cancel(s, v.At, v.At, out)
		}
		return true
	case v.Running != s.Running && s.Change.At.IsZero():
		s.Change = candidate{At: v.At, Gap: v.Gap, Phase: s.Signal.State, Mode: s.Signal.Mode}
		if !v.Running {
			s.First, s.Last, s.Told = "", "", ""
			r.recall(s, v.At)
			r.note(s, s.Code)
		}
		s.Poll.Began = s.Poll.More
		out.Mark(v.At)
		return true
	}
	return changed
}

// cancel drops a change that did not last. A stop that did not is a micro-stop;
// it counts up to end, since of a stop whose end nobody saw, only the part that
// was seen does.
func (r *Rule) cancel(s *State, at, end rule.Stamp, out Sink) {
	if s.Running {
		s.MicroStops++
		s.MicroLength += max(time.Duration(end.At-s.Change.At.At), 0)
	}
	was := s.Change
	s.Change = candidate{}
	if !was.Unmarked {
		out.Unmark(was.At)
	}
	if !s.Running {
		// What came in a run that was none belongs to the stop that goes on, not to the next.
		for _, a := range s.Recent {
			r.note(s, a.Code)
		}
		s.Recent = s.Recent[:0]
		r.stands(s, at, out)
	}
}

// standing reports whether the machine stands as far as was seen.
func (s *State) standing() bool { return s.Known && s.Running == !s.Change.At.IsZero() }

// Due finds a machine standing that has made no piece for too long, and confirms
// a change that has lasted.
func (r *Rule) Due(s *State, now int64, out Sink) (changed bool) {
	if at := s.Stops.heldUntil(); at != 0 && now >= at {
		r.giveUp(s, out)
		changed = true
	}
	if at := s.Poll.firstAt(); at != 0 && now >= at {
		first := s.Poll.First
		s.Poll.First = observation{}
		changed = r.state(s, &first, out) || changed
	}
	if o, ok := r.idles(s, now); ok {
		r.state(s, &o, out)
		changed = true
	}
	return r.confirm(s, now, out) || changed
}

func (r *Rule) confirm(s *State, now int64, out Sink) (changed bool) {
	if at := r.confirmAt(s); at == 0 || now < at {
		return false
	}
	r.believe(s, out)
	return true
}

// believe makes the change that waits a start or stop.
func (r *Rule) believe(s *State, out Sink) {
	change, since := s.Change, s.Since
	if !s.Running && r.take == "at_end" && s.Last != "" {
		r.explain(s, change.At, s.Last, out)
	}
	s.Running, s.Since, s.Change = !s.Running, change.At, candidate{}
	if !s.Running {
		s.StopID++
		s.Recent = s.Recent[:0]
	}
	r.tell(s, &change, since, out)
}

// begin starts the account of a stop that was there when nobody had looked.
func (r *Rule) begin(s *State) {
	if s.Running {
		return
	}
	s.StopID++
	s.First, s.Last, s.Told = "", "", ""
	r.note(s, s.Code)
}

// tell reports the state that the machine is in now, since the change; before
// is when the state before it began.
func (r *Rule) tell(s *State, c *candidate, before rule.Stamp, out Sink) {
	e := Event{At: c.At, Running: s.Running, Gap: c.Gap, Phase: c.Phase, Mode: c.Mode, Missed: c.missed}
	switch {
	case s.Running && !before.IsZero():
		e.StopID, e.Since = s.StopID, before
	case !s.Running:
		e.StopID = s.StopID
		if r.take != "at_end" {
			e.Reason = r.taken(s)
			s.Told = e.Reason
		}
		e.Type, e.Name = r.meaning(s, e.Reason)
	}
	out.StartStop(e)
}

// Wake returns when the rule wants to be asked again, 0 for not at all.
func (r *Rule) Wake(s *State) int64 {
	at := r.confirmAt(s)
	for _, other := range [...]int64{r.idleAt(s), s.Stops.heldUntil(), s.Poll.firstAt()} {
		if other != 0 && (at == 0 || other < at) {
			at = other
		}
	}
	return at
}

// confirmAt returns when a change has lasted, 0 for never: a change that nobody
// observes is not confirmed.
func (r *Rule) confirmAt(s *State) int64 {
	if s.Change.At.IsZero() || s.Lost || s.Stops.Held.Known {
		return 0
	}
	least := r.minStop
	if !s.Running {
		least = r.minRun
	}
	at := s.Change.At.At + int64(least)
	if s.Poll.waits(!s.Running) {
		at = max(at, s.Poll.At+int64(pollTime))
	}
	return at
}

// Lost notes that nobody looks at a device any more.
func (r *Rule) Lost(s *State, covers func(rule.Input) bool, out Sink) {
	lost := false
	if covers(r.source.state) {
		s.Signal.lose(RoleState)
		lost = true
	}
	if r.source.hasMode() && covers(r.source.mode) {
		s.Signal.lose(RoleMode)
		lost = true
	}
	if lost && !s.Seen.IsZero() {
		r.lose(s, out)
	}
}

// lose stops the wait for a change that nobody observes, so that the counts,
// which may come from another device, do not wait for it.
func (r *Rule) lose(s *State, out Sink) (changed bool) {
	s.Stops.Held = observation{} // nobody looks again: it is as if nobody had
	s.Poll = poll{}
	if s.Lost {
		return false
	}
	s.Lost = true
	if c := &s.Change; !c.At.IsZero() && !c.Unmarked {
		c.Unmarked = true
		out.Unmark(c.At)
	}
	return true
}
