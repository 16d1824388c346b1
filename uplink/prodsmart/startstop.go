package prodsmart

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

// states sends the starts and stops, and the reasons that became known later.
func (w *work) states(ctx context.Context) *halt {
	var reasons []plant.Reason
	// Stops that were merged into a later start are listed by then.
	defer func() {
		for i := range reasons {
			w.explain(&reasons[i])
		}
	}()
	for i := range w.events {
		if w.done[i].set {
			continue
		}
		var stop *halt
		switch w.events[i].Kind {
		case plant.KindStartStop:
			var r run
			if err := json.Unmarshal(w.events[i].Data, &r); err != nil {
				w.settle(i, plant.Rejected, problem("unreadable", "the event's data cannot be read: %v", err), 0)
				continue
			}
			stop = w.change(ctx, i, &r)
		case plant.KindReason:
			var r plant.Reason
			if err := json.Unmarshal(w.events[i].Data, &r); err != nil {
				w.settle(i, plant.Rejected, problem("unreadable", "the event's data cannot be read: %v", err), 0)
				continue
			}
			reasons = append(reasons, r)
			stop = w.reason(ctx, i, &r)
		default:
			continue
		}
		if stop != nil {
			return stop
		}
		if !w.answered(i) {
			break // those behind it wait, the counts do not
		}
	}
	return nil
}

// known returns what Prodsmart was last told of running and standing.
func (m *machine) known() state {
	if m.State == nil {
		return state{}
	}
	return *m.State
}

// change brings Prodsmart to the state that an event says, in one or two calls: a
// stop that it knows, or may know, is ended before another begins, and no start is
// sent whose stop was not, which could end a downtime that an operator has opened.
func (w *work) change(ctx context.Context, i int, r *run) *halt {
	e := &w.events[i]
	if e.Sequence <= w.m.known().Sequence {
		w.deliver(i)
		return nil
	}
	if w.waits(i) {
		return nil
	}
	if r.Running == 0 {
		return w.stand(ctx, i, r)
	}
	was := w.m.known()
	first := r.StopID == 0 && !was.Begun && w.options.FirstStart == firstSend && w.options.defaultType(w.m.id) != ""
	switch {
	case w.m.mayStand():
		if stop := w.end(ctx, i, r); stop != nil || w.done[i].set {
			return stop
		}
	case first:
		if stop := w.set(ctx, i, w.options.defaultType(w.m.id), 1, state{Begun: true}, ""); stop != nil || w.done[i].set {
			return stop
		}
	case r.StopID != 0 && !r.Since.IsZero() && !slices.ContainsFunc(r.Missed, func(d Missed) bool { return d.StopID == r.StopID }):
		w.missed(Missed{StopID: r.StopID, Type: r.Type, Reason: r.Reason, From: r.Since, To: e.Time})
	}
	w.through(i, r)
	if r.StopID == 0 && !was.Begun && !first && w.options.FirstStart == firstSend {
		w.settle(i, plant.Skipped, errNoType, 0)
	}
	return nil
}

// mayStand reports whether a stop was sent that was not ended, for all that is
// known.
func (m *machine) mayStand() bool {
	s := m.known()
	return s.Open || s.Doubt && m.asked
}

// end sends the start of the stop that lasts in Prodsmart, or may. One of which
// nobody knows whether it arrived is listed, so that a person looks.
func (w *work) end(ctx context.Context, i int, r *run) *halt {
	was := w.m.known()
	startType := was.Type
	if r.Running == 1 && w.options.StartType == startDefault {
		startType = w.options.defaultType(w.m.id)
	}
	before := ""
	if r.Running == 0 {
		before = "it ends the stop before this one"
	}
	stop := w.set(ctx, i, startType, 1, state{Begun: true, Ended: was.StopID}, before)
	if stop != nil || w.done[i].set || !was.Doubt {
		return stop
	}
	d := Missed{StopID: was.StopID, Type: r.Type, Reason: r.Reason, From: r.Since, To: w.events[i].Time}
	if k := slices.IndexFunc(r.Missed, func(d Missed) bool { return d.StopID == was.StopID }); k >= 0 {
		d = r.Missed[k]
	}
	d.Doubtful = true
	w.missed(d)
	return nil
}

// errNoType is why a first start is left out.
var errNoType = errors.New("prodsmart: a machine's first start is not sent: Prodsmart wants a downtime type with it; set default_type")

// stand tells a stop.
func (w *work) stand(ctx context.Context, i int, r *run) *halt {
	downtime, _ := w.env.Codes.For(w.m.id, w.events[i].Sequence).DowntimeType(w.m.id, r.Type, r.Reason) // an unmapped one goes as it is, and is listed
	if downtime == "" {
		downtime = w.options.defaultType(w.m.id)
	}
	if downtime == "" {
		w.refuse(i, classState, unsent("type", "set default_type", "the stop has no downtime type, and Prodsmart wants one"))
		return nil
	}
	was := w.m.known()
	if was.Open && was.StopID == r.StopID && was.Type == downtime {
		w.through(i, r)
		return nil
	}
	if w.m.mayStand() && was.StopID != r.StopID {
		if stop := w.end(ctx, i, r); stop != nil || w.done[i].set {
			return stop
		}
	}
	if stop := w.noteStop(r.StopID, downtime); stop != nil {
		return stop
	}
	after := w.m.known()
	after.Open, after.Doubt, after.StopID, after.Type, after.Begun = true, false, r.StopID, downtime, true
	if stop := w.set(ctx, i, downtime, 0, after, ""); stop != nil || w.done[i].set {
		return stop
	}
	w.through(i, r)
	return nil
}

// errStopNoted is why a stop waits for the disk.
var errStopNoted = &uplink.NotYet{Why: "prodsmart: a stop is noted before it is sent"}

// noteStop sees to it that a stop is noted on the disk before it is sent: a gateway
// that is killed, or that gets no answer, knows afterwards that it may have to be
// ended, also where its start has been merged with it by then. late_stops: replay
// merges none.
func (w *work) noteStop(stop uint64, downtime string) *halt {
	s := w.m.known()
	if w.options.LateStops != lateCurrent || s.Open || s.Doubt && s.StopID == stop && s.Type == downtime {
		return nil
	}
	w.m.asked = w.m.asked && s.Doubt && s.StopID == stop
	s.Doubt, s.StopID, s.Type = true, stop, downtime
	w.m.State = &s
	return &halt{cause: errStopNoted}
}

// reason changes the type of a stop that lasts.
func (w *work) reason(ctx context.Context, i int, r *plant.Reason) *halt {
	e := &w.events[i]
	was := w.m.known()
	downtime, _ := w.env.Codes.For(w.m.id, w.events[i].Sequence).DowntimeType(w.m.id, r.Type, r.Reason) // as above
	if e.Sequence > was.Sequence && was.Open && was.StopID == r.StopID && downtime != "" && downtime != was.Type {
		if w.waits(i) {
			return nil
		}
		was.Type = downtime
		if stop := w.set(ctx, i, downtime, 0, was, ""); stop != nil || w.done[i].set {
			return stop
		}
	}
	w.deliver(i)
	return nil
}

// waits reports whether starts and stops wait for a person, or were refused just
// now; event i is settled then.
func (w *work) waits(i int) bool {
	if w.again(i, classState) {
		return true
	}
	if h, ok := w.m.held[classState]; ok && time.Now().Before(h.until) {
		w.settle(i, plant.Held, h.cause, 0)
		return true
	}
	return false
}

// set makes one call and, if it is taken, remembers after. If it is not, event i
// is settled, or a halt is returned. After a lost answer the same state is set
// again. before says what the call is for, where it does not tell event i itself but
// must come before that does.
func (w *work) set(ctx context.Context, i int, downtime string, running int, after state, before string) *halt {
	body := plant.AppendJSONString([]byte(`{"type":`), downtime)
	body = strconv.AppendInt(append(body, `,"running":`...), int64(running), 10)
	request := w.machineCall(classState, "startstop", append(body, '}'), w.events[i].Kind, i)
	if before != "" {
		request.asked, request.says = uplink.OutcomeAsked, before
	}
	a, o, h := w.do(ctx, request)
	if h != nil || o != taken {
		if h != nil && h.doubt || h == nil && o == stumbled {
			w.m.asked = w.m.asked || running == 0
		}
		return w.concluded(request, o, a, h, i)
	}
	delete(w.m.held, classState)
	after.Sequence = w.m.known().Sequence
	w.m.State, w.m.asked = &after, false
	return nil
}

// through notes that Prodsmart is in the state of event i, and which stops it was
// not told of. A stop that was only noted is one of those.
func (w *work) through(i int, r *run) {
	was := w.m.known()
	for _, m := range r.Missed {
		// What was dealt with may be merged again: an event before it may have kept it
		// from being settled.
		if m.Sequence > was.Sequence && (was.Ended == 0 || m.StopID != was.Ended) {
			w.missed(m)
		}
	}
	if was.Ended = 0; was.Doubt {
		was.Doubt, was.StopID, was.Type = false, 0, ""
	}
	was.Sequence = w.events[i].Sequence
	w.m.State = &was
	w.deliver(i)
}
