package uplink

import (
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// Journal makes the Forwarder note in j what becomes of its Sends: give it the
// Journal that the Sender has as Env.Journal. It is called before Run; without
// it nothing is noted.
func (f *Forwarder) Journal(j *Journal) { f.journal = j }

// journalSend notes what came of one Send of b, as far as the Sender has not
// noted it itself since before.
func (f *Forwarder) journalSend(m plant.MachineID, b *batch, v *verdict, began time.Time, before told) {
	if f.journal == nil {
		return
	}
	now := f.journal.count(m)
	heldNoted := f.journal.end(m, v)
	took := time.Since(began)
	if x := b.taken(v); x.Events > 0 && (now.all == before.all || len(x.Merged) > 0) {
		x.Time, x.Machine, x.Duration, x.Outcome = began, m, took, OutcomeDelivered
		for rest := x.Merged; ; {
			x.Merged = rest[:min(len(rest), mostMerged)]
			f.journal.deliver(x)
			if rest = rest[len(x.Merged):]; len(rest) == 0 {
				break
			}
			x.Events = 0 // counted already
		}
	}
	for i := range v.results {
		r := &v.results[i]
		if r.Status != plant.Rejected {
			continue
		}
		x := Exchange{
			Time: began, Machine: m, Kind: b.kind(r.First, r.Last), First: r.First, Last: r.Last, Events: b.within(r.First, r.Last),
			Duration: took, Outcome: OutcomeRefused, Words: "dead letter: " + words(r.Cause),
		}
		if onShelf(r) {
			x.Outcome, x.Words = OutcomeHeld, "set aside: "+words(r.Cause)
		}
		f.journal.Note(x)
	}
	if v.stop.Status == plant.Delivered || v.endedAtRefusal() || v.notYet() {
		return
	}
	x := Exchange{Time: began, Machine: m, Kind: v.kind, First: v.stop.First, Last: v.stop.Last, Duration: took, Outcome: OutcomeRetry, Words: words(v.stop.Cause)}
	if heldNoted {
		return
	}
	if v.held || v.stop.Status == plant.Held {
		x.Outcome = OutcomeHeld
	} else if now.retries > before.retries {
		return
	}
	if x.First == 0 { // the Sender has answered for none
		x.First, x.Last = b.open(v.upTo)
	}
	x.Events = b.within(x.First, x.Last)
	f.journal.Note(x)
}

// taken returns what of b was delivered: range, number and merges.
func (b *batch) taken(v *verdict) (x Exchange) {
	refused := func(s plant.Sequence) bool {
		for i := range v.results {
			if r := &v.results[i]; (r.Status == plant.Rejected || r.Status == plant.Skipped) && r.First <= s && s <= r.Last {
				return true
			}
		}
		return false
	}
	for i := range b.events {
		e := &b.events[i]
		if e.Sequence > v.upTo {
			break
		}
		if v.rejected+v.shelved+v.skipped > 0 && refused(e.Sequence) {
			continue
		}
		if x.Events == 0 {
			x.First, x.Kind = b.oldest(i), e.Kind
		}
		x.First, x.Last = min(x.First, b.oldest(i)), e.Sequence
		if x.Kind != e.Kind {
			x.Kind = ""
		}
		n := b.size(i)
		x.Events += n
		if n > 1 {
			x.Merged = append(x.Merged, Merged{Kind: e.Kind, First: b.oldest(i), Into: e.Sequence, Count: n})
		}
	}
	return x
}

// kind returns the kind of the entries from first to last, empty for several.
func (b *batch) kind(first, last plant.Sequence) (kind plant.EventKind) {
	for i := range b.events {
		e := &b.events[i]
		switch {
		case e.Sequence < first || e.Sequence > last:
		case kind == "":
			kind = e.Kind
		case kind != e.Kind:
			return ""
		}
	}
	return kind
}

// within returns how many stored events the entries from first to last contain.
func (b *batch) within(first, last plant.Sequence) (n int) {
	for i := range b.events {
		if s := b.events[i].Sequence; s >= first && s <= last {
			n += b.size(i)
		}
	}
	return n
}

// open returns the range of the entries behind upTo.
func (b *batch) open(upTo plant.Sequence) (first, last plant.Sequence) {
	for i := range b.events {
		s := b.events[i].Sequence
		if s <= upTo {
			continue
		}
		if first == 0 {
			first = s
		}
		last = s
	}
	return first, last
}
