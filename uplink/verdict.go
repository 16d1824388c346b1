package uplink

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// verdict is what the Results of one Send come to.
type verdict struct {
	// upTo is the newest event that may be settled, 0 for none; results are the
	// Results of what is settled, in the ranges of the stored stream.
	upTo    plant.Sequence
	results []plant.Result
	// delivered, rejected, shelved and retried count stored events; those that are
	// shelved are not rejected.
	delivered, rejected, shelved, skipped, retried uint64
	// passed are the skipped ones by their reasons.
	passed []PassedOver
	// stop says why not everything was settled; its Status is Delivered if
	// everything was. held marks refusals that look like configuration; kind is
	// the kind of the event that stopped.
	stop plant.Result
	held bool
	kind plant.EventKind
}

// errUncovered is the Cause of an event that the Sender did not answer for.
var errUncovered = errors.New("the sender did not answer for this event")

// judge walks through the results in the order of the batch. Whatever is not
// plainly answered for, in order and without a gap, is a Retry: a careless
// Sender can cause duplicates, never a loss.
func judge(b *batch, results []plant.Result, how sending) verdict {
	v := verdict{stop: plant.Result{Status: plant.Delivered}}
	v.results = make([]plant.Result, 0, len(results))
	at := 0
	for at < len(b.events) && v.stop.Status == plant.Delivered {
		if len(results) == 0 {
			v.stop = plant.Result{Status: plant.Retry, Cause: errUncovered}
			break
		}
		r := results[0]
		results = results[1:]
		end := b.covered(at, r)
		switch {
		case end == at:
			v.stop = plant.Result{Status: plant.Retry, Cause: fmt.Errorf("the sender answered for %d to %d where %d is next", r.First, r.Last, b.events[at].Sequence)}
		case r.Status == plant.Delivered:
			how.refusals.accepted(b.events[at:end])
			v.accept(b, at, end, r)
			at = end
		case r.Status == plant.Skipped:
			v.accept(b, at, end, r)
			at = end
		case r.Status == plant.Rejected:
			if !final(r.Cause) && how.refusals.refused(&b.events[end-1], r.Cause) >= how.holdAfter {
				v.held = true
				v.stop = r
				break
			}
			v.accept(b, at, end, r)
			at = end
		case r.Status == plant.Held && r.WaitsFor != "" && end-at <= how.room:
			v.lay(b, at, end, r)
			how.room -= end - at
			at = end
		case r.Status == plant.Held:
			v.stop = r
		default:
			r.Status = plant.Retry
			v.stop = r
		}
	}
	if at < len(b.events) {
		v.kind = b.events[at].Kind
	}
	v.settle(b, at)
	return v
}

// final reports whether an event must not be sent again by itself.
func final(cause error) bool {
	var f Final
	return errors.As(cause, &f) && f.Final()
}

// lay makes each of the entries at…end, which are held for what another event has
// to bring, a dead letter of its own that is noted as waiting.
func (v *verdict) lay(b *batch, at, end int, r plant.Result) {
	for i := at; i < end; i++ {
		e := &b.events[i]
		v.accept(b, i, i+1, plant.Result{
			First: e.Sequence, Last: e.Sequence, Status: plant.Rejected, Cause: &shelvedError{r.WaitsFor, r.Cause},
			Put: append(r.Put, plant.KV{Key: shelfKey(e.Machine, e.Sequence), Value: []byte(r.WaitsFor)}),
		})
		r.Put = nil
	}
}

// settled counts the stored events that the receiver has answered for, or that are
// set aside.
func (v *verdict) settled() uint64 { return v.delivered + v.rejected + v.shelved + v.skipped }

// endedAtRefusal reports whether nothing stopped the Sender but that it ends at a
// refusal, which is settled: what is behind it may go at once.
func (v *verdict) endedAtRefusal() bool {
	n := len(v.results)
	return n > 0 && v.results[n-1].Status == plant.Rejected && v.rejected+v.shelved > 0 && errors.Is(v.stop.Cause, errUncovered)
}

// covered returns the entry behind those that r answers for, at if r does not
// answer for entry at.
func (b *batch) covered(at int, r plant.Result) int {
	if r.First != b.events[at].Sequence {
		return at
	}
	for i := at; i < len(b.events) && b.events[i].Sequence <= r.Last; i++ {
		if b.events[i].Sequence == r.Last {
			return i + 1
		}
	}
	return at
}

// accept notes that entries at…end are answered for by r, with the range of
// stored events that they contain. A refused entry that was merged across
// others speaks only for its own event, which contains the older ones.
func (v *verdict) accept(b *batch, at, end int, r plant.Result) {
	if r.Status == plant.Rejected && end-at == 1 && !b.whole(at) {
		v.results = append(v.results, r)
		return
	}
	for i := at; i < end; i++ {
		r.First = min(r.First, b.oldest(i))
	}
	v.results = append(v.results, r)
}

// settle finds how far the cursor may move if the entries before stop are
// answered for. Merged entries may overlap, and nothing that an open entry
// contains may be settled.
func (v *verdict) settle(b *batch, stop int) {
	open := ^plant.Sequence(0)
	for i := stop; i < len(b.events); i++ {
		open = min(open, b.oldest(i))
	}
	closed := 0
	for closed < stop && b.events[closed].Sequence < open {
		v.upTo = b.events[closed].Sequence
		closed++
	}
	for len(v.results) > 0 && v.results[len(v.results)-1].Last > v.upTo {
		v.results = v.results[:len(v.results)-1]
	}
	for i := closed; i < len(b.events); i++ {
		v.retried += uint64(b.size(i))
	}
	at := 0
	for _, r := range v.results {
		for ; at < closed && b.events[at].Sequence <= r.Last; at++ {
			switch size := uint64(b.size(at)); {
			case r.Status == plant.Skipped:
				v.skipped += size
				v.passed = append(v.passed, PassedOver{passedReason(&r), size})
			case r.Status != plant.Rejected:
				v.delivered += size
			case onShelf(&r):
				v.shelved += size
			case r.First <= b.oldest(at):
				v.rejected += size
			default:
				v.rejected++
				v.delivered += size - 1
			}
		}
	}
}

// link returns the failure of the system as a whole that v shows, nil if the
// other end was there.
func (v *verdict) link() error {
	if failure := v.linkError(); failure != nil {
		return failure
	}
	return nil
}

// linkError returns what link does; Suspect is of use to the machine only.
func (v *verdict) linkError() *LinkError {
	var failure *LinkError
	if v.stop.Status == plant.Retry && errors.As(v.stop.Cause, &failure) {
		return failure
	}
	return nil
}

// linkWait returns how long the receiver wants everybody to wait.
func (v *verdict) linkWait() time.Duration {
	if failure := v.linkError(); failure != nil && failure.Suspect {
		return 0 // one machine is meant
	}
	return v.stop.Wait
}

// refusals counts, for one machine, the refusals of the same sort in a row per
// kind of event.
type refusals struct {
	kinds map[plant.EventKind]refusal
	// at is when the last one came.
	at time.Time
	// kept are the kinds of which it is durable that they are held.
	kept map[plant.EventKind]bool
}

// careful reports whether events should go one by one, so that a held stream
// costs one call at a time and nothing behind a refused event is sent twice:
// after holdAfter refusals in a row, and for a while after any.
func (r *refusals) careful(holdAfter int, while time.Duration) bool {
	if len(r.kinds) == 0 {
		return false
	}
	for _, k := range r.kinds {
		if k.n >= holdAfter {
			return true
		}
	}
	return time.Since(r.at) < while
}

type refusal struct {
	sort string
	n    int
	// last is counted once, also if it was refused again.
	last plant.Sequence
}

// refused counts one and returns how many of its sort came in a row.
func (r *refusals) refused(e *plant.Event, cause error) int {
	sort := sortOf(cause, e.Data)
	now := r.kinds[e.Kind]
	if now.sort != sort {
		now = refusal{sort: sort}
	}
	if now.last != e.Sequence {
		now.n++
		now.last = e.Sequence
	}
	if r.kinds == nil {
		r.kinds = map[plant.EventKind]refusal{}
	}
	r.kinds[e.Kind] = now
	r.at = time.Now()
	return now.n
}

// accepted forgets the refusals of the kinds of events.
func (r *refusals) accepted(events []plant.Event) {
	if len(r.kinds) == 0 {
		return
	}
	for i := range events {
		delete(r.kinds, events[i].Kind)
	}
}

// sortOf returns what refusals of one sort have in common; data is the event's.
func sortOf(cause error, data []byte) string {
	if cause == nil {
		return ""
	}
	var s Sorter
	if errors.As(cause, &s) {
		return s.Sort()
	}
	return plainWords(cause.Error(), data)
}

// quoted is what a receiver quotes: a serial, an order, what it was sent.
var quoted = regexp.MustCompile("\"[^\"]*\"|`[^`]*`|'[^' ]*'")

// plainWords returns the words of a text without what differs from refusal to
// refusal though the reason is one: what is quoted, what is the event's own,
// numbers, times, and the ids that receivers give a request (a UUID, hexadecimal,
// base64).
func plainWords(text string, data []byte) string {
	words := strings.Fields(quoted.ReplaceAllString(text, " "))
	return strings.Join(slices.DeleteFunc(words, func(word string) bool {
		word = strings.Trim(word, "()[]{}<>.,;:=!?#")
		return madeUp(word) || bytes.Contains(data, []byte(word))
	}), " ")
}

// madeUp reports whether a word looks like an id: a digit in it, a capital behind
// a small letter, or six and more letters that are all hexadecimal digits.
func madeUp(word string) bool {
	hex, small := len(word) >= 6, false
	for _, r := range word {
		switch {
		case r >= '0' && r <= '9', small && r >= 'A' && r <= 'Z':
			return true
		case !strings.ContainsRune("abcdefABCDEF-", r):
			hex = false
		}
		small = small || r >= 'a' && r <= 'z'
	}
	return hex
}

// words returns the words of a cause for people.
func words(cause error) string {
	if cause == nil {
		return "the receiver gave no reason"
	}
	return cause.Error()
}

// later returns the later of two times.
func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
