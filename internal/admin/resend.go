package admin

import (
	"context"
	"encoding/json"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// scanStep bounds how many events a step looks through for some that are meant.
const scanStep = 2000

// hole is so many events that are gone before an event.
type hole struct {
	next  plant.Sequence
	count uint64
}

// pick reads the next events of the job's first stream that are meant, what is gone
// between them, and up to which event it has read; before is when that one happened.
func (j *Jobs) pick(ctx context.Context, t Target, job *Job, most int) (events []plant.Event, holes []hole, at plant.Sequence, before time.Time, err error) {
	s := job.Streams[0]
	at, before = s.At, s.Time
	for e, err := range j.store.Events(ctx, s.Machine, s.At, scanStep) {
		if err != nil {
			return nil, nil, 0, before, err
		}
		if e.Sequence > s.Last || len(events) == most {
			break
		}
		if e.Sequence > at+1 {
			holes = append(holes, hole{e.Sequence, s.gone(at, before, &e, job.From, job.To)})
		}
		at, before = e.Sequence, e.Time
		if inTime(e.Time, job.From, job.To) && t.Carries(e.Kind) {
			events = append(events, e)
		}
	}
	if at == s.At {
		// Nothing is stored behind the cursor any more.
		holes, at = append(holes, hole{s.Last, uint64(s.Last - s.At)}), s.Last
	}
	return events, holes, at, before, nil
}

func (j *Jobs) resendStep(ctx context.Context, t Target, job *Job, most int) (int, *later, error) {
	s := job.Streams[0]
	if !t.takes(s.Machine) {
		job.pass(s.Last, time.Time{})
		return 0, nil, j.save(ctx, job, nil)
	}
	events, holes, at, before, err := j.pick(ctx, t, job, most)
	if err != nil {
		return 0, nil, err
	}
	if len(events) == 0 {
		job.goOver(holes, at)
		job.pass(at, before)
		return 0, nil, j.save(ctx, job, nil)
	}
	ids := make([]plant.EventID, len(events))
	for i := range events {
		ids[i] = events[i].ID()
	}
	land, err := j.takeOff(job, ids...)
	if err != nil {
		return 0, nil, err
	}
	defer land()
	results, err := t.Uplink.Resend(ctx, s.Machine, events)
	if err != nil {
		return 0, nil, err
	}
	var put []plant.KV
	var taken []plant.EventID
	done, again, held := plant.Sequence(0), (*later)(nil), false
	for _, r := range results {
		put = append(put, r.Put...)
		switch r.Status {
		case plant.Delivered:
			job.Delivered += covered(events, r)
			for _, id := range ids {
				if id.Sequence >= r.First && id.Sequence <= r.Last {
					taken = append(taken, id)
				}
			}
		case plant.Rejected:
			job.Refused += covered(events, r)
			job.LastError = words(r.Cause)
		case plant.Skipped: // no business of this receiver
		case plant.Held: // the results end here
			held = true
			if r.WaitsFor != "" {
				job.SetAside += covered(events, r)
				break
			}
			job.Refused += covered(events, r)
			job.LastError = words(r.Cause)
		default:
			if again = tryAgain(r); !again.turn {
				job.LastError = again.text
			}
			continue
		}
		done = r.Last
	}
	switch {
	case again == nil && !held:
		job.goOver(holes, at)
		job.pass(at, before) // also over what is not meant
	case done > 0:
		job.goOver(holes, done)
		job.pass(done, time.Time{})
	}
	if again != nil {
		again.onward = done > 0
	}
	settled, err := j.store.AreDead(ctx, job.Uplink, taken)
	if err != nil {
		return 0, nil, err
	}
	job.Settled += settled
	return len(events), again, j.save(ctx, job, put, taken...)
}

func covered(events []plant.Event, r plant.Result) (n uint64) {
	for i := range events {
		if events[i].Sequence >= r.First && events[i].Sequence <= r.Last {
			n++
		}
	}
	return n
}

// goOver counts what is gone before events up to that one: behind it the next step
// looks again.
func (j *Job) goOver(holes []hole, to plant.Sequence) {
	for _, h := range holes {
		if h.next <= to {
			j.Gone += h.count
		}
	}
}

// gone returns how many of the numbers between the event at and the next one that
// is stored are gone and may be meant: what happened between two moments that are
// both before or both behind the time asked for is not, nor are the numbers that an
// older copy of the store has never had.
func (s *JobStream) gone(at plant.Sequence, before time.Time, next *plant.Event, from, to time.Time) uint64 {
	if !from.IsZero() && next.Time.Before(from) || !to.IsZero() && !before.IsZero() && !before.Before(to) {
		return 0
	}
	missing := uint64(next.Sequence - at - 1)
	var g plant.GapData
	if next.Kind == plant.KindGap && json.Unmarshal(next.Data, &g) == nil && g.Cause == plant.GapRestoredCopy && g.First <= next.Sequence && g.Last > at {
		missing -= uint64(min(g.Last, next.Sequence-1) - max(g.First, at+1) + 1)
	}
	return missing
}
