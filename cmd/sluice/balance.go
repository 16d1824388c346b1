package main

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"math"
	"slices"
	"time"

	"github.com/sluice-edge/sluice/buffer"
	"github.com/sluice-edge/sluice/derive"
	"github.com/sluice-edge/sluice/internal/balance"
	"github.com/sluice-edge/sluice/internal/journal"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/status"
	"github.com/sluice-edge/sluice/uplink"
)

// books is what a balance is made of.
type books struct {
	store *buffer.Buffer
	log   journal.Reader
	zone  *time.Location
	// shifts says with which counts shifts began; nil if nobody has kept that.
	shifts *shiftBook
}

// Balance implements status.Desk.
func (d *desk) Balance(ctx context.Context, m plant.MachineID, until time.Time, shifts int) ([]balance.Sheet, error) {
	if !d.built.Load() {
		return nil, status.ErrNotYet
	}
	i := slices.IndexFunc(d.plan.Machines, func(model *derive.Model) bool { return model.Machine() == m })
	if i < 0 {
		return nil, fmt.Errorf("the config has no machine %q", m)
	}
	d.journal.Flush()
	b := books{store: d.buffer, log: d.journal.Reader, zone: d.plan.Config.Site.Location(), shifts: d.shifts}
	return b.sheets(ctx, d.plan.Machines[i], until, shifts)
}

// sheets returns the balances of the newest shifts up to a moment, newest first.
// The time between two shifts has one only if pieces were made in it.
func (b *books) sheets(ctx context.Context, model *derive.Model, until time.Time, shifts int) ([]balance.Sheet, error) {
	m := model.Machine()
	uplinks, err := b.uplinks(ctx, m)
	if err != nil {
		return nil, err
	}
	var all []balance.Sheet
	for range 2*shifts + 1 {
		if len(all) == shifts {
			break
		}
		w, named := b.window(model, until)
		sheet, err := b.sheet(ctx, model, w, uplinks)
		if err != nil {
			return nil, err
		}
		if named || sheet.Pieces > 0 {
			all = append(all, sheet)
		}
		until = w.Begin.Add(-1)
	}
	return all, nil
}

// window returns the shift, or the day, of a moment; named is set unless it is the
// time between two shifts.
func (b *books) window(model *derive.Model, t time.Time) (w balance.Window, named bool) {
	w.Machine = model.Machine()
	if span, ok := model.Shift(t); ok && span.Begin > 0 && span.End > span.Begin {
		w.Shift, named = span.Name, span.Name != ""
	} else {
		named = true
	}
	w.Begin, w.End = shiftAround(b.zone)(model, t)
	return w, named
}

// shiftAround returns what finds the shift, or else the day, that a moment is in.
func shiftAround(zone *time.Location) func(*derive.Model, time.Time) (begin, end time.Time) {
	return func(model *derive.Model, t time.Time) (begin, end time.Time) {
		if span, ok := model.Shift(t); ok && span.Begin > 0 && span.End > span.Begin {
			return time.Unix(0, span.Begin), time.Unix(0, span.End)
		}
		year, month, day := t.In(zone).Date()
		return time.Date(year, month, day, 0, 0, 0, 0, zone), time.Date(year, month, day+1, 0, 0, 0, 0, zone)
	}
}

// uplinks returns how far each one is, before the events are read: what comes
// meanwhile is then pending at worst.
func (b *books) uplinks(ctx context.Context, m plant.MachineID) (all []balance.Uplink, err error) {
	given, err := b.given(ctx, m)
	if err != nil {
		return nil, err
	}
	for _, s := range b.store.Standings(m, plant.KindCounter) {
		dead, dropped := map[plant.Sequence]bool{}, map[plant.Sequence]bool{}
		var letters []balance.Letter
		for d, err := range b.store.DeadLettersOf(ctx, s.Uplink, m, 0) {
			if err != nil && d.Event.Sequence == 0 {
				return nil, err
			}
			dead[d.Event.Sequence] = true
			var c plant.Counter
			if d.Event.Kind == plant.KindCounter && json.Unmarshal(d.Event.Data, &c) == nil {
				_, pieces := c.Pieces()
				letters = append(letters, balance.Letter{Sequence: d.Event.Sequence, To: c.To, Pieces: pieces})
			}
		}
		for _, l := range given[s.Uplink] {
			dropped[l.Sequence] = true
		}
		all = append(all, balance.Uplink{
			Name: s.Uplink, Settled: s.Settled, Letters: letters, Given: given[s.Uplink],
			Dead:    func(n plant.Sequence) bool { return dead[n] },
			Dropped: func(n plant.Sequence) bool { return dropped[n] },
		})
	}
	return all, nil
}

// given returns what somebody has given up of a machine, by uplink, but what the
// receiver has taken all the same, by a resend for example. The log, which may be
// long, is read once for all of them, and once more if anything was given up.
func (b *books) given(ctx context.Context, m plant.MachineID) (map[string][]balance.Letter, error) {
	all := make(map[string][]balance.Letter)
	_, _, err := b.log.Each(ctx, journal.Filter{Machine: m, Outcome: uplink.OutcomeDropped}, 0, func(e *journal.Entry) error {
		all[e.Uplink] = append(all[e.Uplink], balance.Letter{Sequence: e.Last, To: e.EventTime, Pieces: e.Pieces})
		return nil
	})
	if err != nil || len(all) == 0 {
		return all, err
	}
	_, _, err = b.log.Each(ctx, journal.Filter{Machine: m, Outcome: uplink.OutcomeDelivered}, 0, func(e *journal.Entry) error {
		// One entry may stand for several sends, and there may be refused ones between
		// its first event and its last.
		if e.First < e.Last && (e.Sends > 1 || e.Events < int(e.Last-e.First)+1) {
			return nil
		}
		all[e.Uplink] = slices.DeleteFunc(all[e.Uplink], func(l balance.Letter) bool { return e.First <= l.Sequence && l.Sequence <= e.Last })
		return nil
	})
	return all, err
}

func (b *books) sheet(ctx context.Context, model *derive.Model, w balance.Window, uplinks []balance.Uplink) (balance.Sheet, error) {
	m := model.Machine()
	after, whole, err := b.begin(ctx, m, w.Begin)
	if err != nil {
		return balance.Sheet{}, err
	}
	return balance.Compute(w, model.RawCounts(), uplinks, whole, balance.Bases{Begin: b.shifts.at(m, w.Begin), End: b.shifts.at(m, w.End)}, b.events(ctx, m, after), func() (gaps []plant.GapData, err error) {
		for e, err := range b.events(ctx, m, after) {
			if err != nil {
				return nil, err
			}
			if e.Kind != plant.KindGap {
				continue
			}
			var g plant.GapData
			if err := json.Unmarshal(e.Data, &g); err == nil && g.First > 0 {
				gaps = append(gaps, g)
			}
		}
		return gaps, nil
	})
}

func (b *books) events(ctx context.Context, m plant.MachineID, after plant.Sequence) iter.Seq2[plant.Event, error] {
	return b.store.Events(ctx, m, after, math.MaxInt)
}

const (
	// slack is how much older than its place in the stream an event may be.
	slack = time.Hour
	// step is how many events are looked through at once for the last count before a
	// shift, mostSteps how often.
	step, mostSteps = 1000, 50
)

// begin returns a place in the stream before the last count that belongs to the
// time before t, or where the stream begins; whole is set if that is where the
// machine began.
func (b *books) begin(ctx context.Context, m plant.MachineID, t time.Time) (after plant.Sequence, whole bool, err error) {
	first, ok, err := b.next(ctx, m, 0)
	if err != nil || !ok {
		return 0, true, err
	}
	low, high := plant.Sequence(0), first.Sequence
	for _, s := range b.store.Stats().Streams {
		if s.Machine == m {
			high = s.Last
		}
	}
	for high-low > step {
		middle := low + (high-low)/2
		e, ok, err := b.next(ctx, m, middle)
		if err != nil {
			return 0, false, err
		}
		if ok && e.Time.Before(t.Add(-slack)) {
			low = max(middle, e.Sequence)
		} else {
			high = middle
		}
	}
	for range mostSteps {
		from := plant.Sequence(0)
		if low > step {
			from = low - step
		}
		if from < first.Sequence {
			return 0, first.Sequence == 1, nil
		}
		found := false
		for e, err := range b.store.Events(ctx, m, from, int(low-from)) {
			if err != nil {
				return 0, false, err
			}
			if found = e.Kind == plant.KindCounter && !e.Time.After(t); found || e.Sequence > low {
				break
			}
		}
		if found {
			return from, false, nil
		}
		low = from
	}
	return low, false, nil
}

// next returns the first stored event behind a number.
func (b *books) next(ctx context.Context, m plant.MachineID, after plant.Sequence) (e plant.Event, ok bool, err error) {
	for e, err := range b.store.Events(ctx, m, after, 1) {
		return e, err == nil, err
	}
	return e, false, nil
}
