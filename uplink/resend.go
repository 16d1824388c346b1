package uplink

import (
	"context"
	"fmt"
	"slices"

	"github.com/sluice-edge/sluice/plant"
)

// Resend sends stored events of one machine once more, beside the live stream:
// through the same gate, never at the same time as a live Send of that machine,
// and without touching cursor, merging or the memory of refusals. It blocks
// until the system may be asked, then for one Send. The results are in the order
// of the events, up to and including the first that is neither Delivered nor
// Rejected; what none covers was not delivered. What they Put is the caller's to
// keep. One that is Held with WaitsFor is set aside and sent by itself later. It may be called from any goroutine while Run is; an error is ctx's.
func (f *Forwarder) Resend(ctx context.Context, m plant.MachineID, events []plant.Event) ([]plant.Result, error) {
	if len(events) == 0 {
		return nil, ctx.Err()
	}
	st := f.machine(m)
	pass, err := f.enter(ctx, st)
	if err != nil {
		return nil, err
	}
	// Refusals of a resend say nothing of the live stream, and holding is the
	// caller's business.
	b := batch{events: events}
	v, linked := f.sendWith(context.WithValue(ctx, commandedKey{}, true), m, st, &b, sending{refusals: &refusals{}, holdAfter: len(events) + 1})
	pass.report(linked, v.delivered > 0, v.linkWait())
	if v.stop.Status != plant.Delivered {
		if v.stop.Cause == nil {
			v.stop.Cause = fmt.Errorf("uplink %s: the events of %s were not answered for", f.name, m)
		}
		if !f.isSetAside(st, v.stop.First) {
			v.stop.WaitsFor = ""
		}
		v.results = append(v.results, v.stop)
	}
	return v.results, ctx.Err()
}

// isSetAside reports whether the event of that number is set aside.
func (f *Forwarder) isSetAside(st *machine, s plant.Sequence) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.ContainsFunc(st.shelf, func(e shelved) bool { return e.sequence == s })
}

// commandedKey is the key of a Send's context that says that it was commanded.
type commandedKey struct{}

// Commanded reports whether the Send with that context sends again on a person's
// command. Somebody may have mended what stood in the way: a Sender that remembers
// refusals to spare the receiver asks anew then, within its share of requests. It
// may be called from any goroutine.
func Commanded(ctx context.Context) bool {
	yes, _ := ctx.Value(commandedKey{}).(bool)
	return yes
}

// Merge reports whether later contains earlier for this receiver, and returns
// later with what it says besides: see Merger. It is false where the Sender merges
// nothing. It may be called from any goroutine.
func (f *Forwarder) Merge(earlier, later plant.Event) (plant.Event, bool) {
	if f.merger == nil {
		return plant.Event{}, false
	}
	return f.merger.Merge(earlier, later)
}

// Deduplicates reports whether the receiver recognises what it had before, so
// that sending it again does no harm.
func (f *Forwarder) Deduplicates() bool { return f.options.Deduplicates }

// MostEvents returns the largest batch that this uplink takes.
func (f *Forwarder) MostEvents() int { return f.options.BatchEvents }
