package prodsmart

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/internal/httplink"
)

const (
	// mostDoubtful bounds the movements in doubt, and those that are looked at for a
	// pair, of a machine: few wait at a time, since they go one after the other.
	mostDoubtful = 50
	// pairAfter is when it is looked first whether a movement that was sent again is
	// there twice, and pairEvery how long after each look the next one is.
	pairAfter = 10 * time.Minute
	pairEvery = time.Hour
	// pairLooks is how often it is looked while there is one, and pairFor how long
	// two are named.
	pairLooks = 2
	pairFor   = 7 * 24 * time.Hour
	// mostTwice bounds what the page names of a sort.
	mostTwice = 20
	// mostThere bounds the comments that are remembered of a machine.
	mostThere = 2000
)

// errAtWork is why a movement waits for its search.
var errAtWork = &uplink.NotYet{Why: "prodsmart: the answer to a movement was lost; Prodsmart may still be at work on it, so it is searched a while later (search_after)"}

// errVain is why a movement waits for its second search.
var errVain = &uplink.NotYet{Why: "prodsmart: the answer to a movement was lost and Prodsmart does not have it so far; it is searched once more before it is sent again (repeat_after)"}

// doubtful is a movement of which nobody knows, since then, whether it is booked.
type doubtful struct {
	place

	Since time.Time `json:"since"`
	// Over is set if Prodsmart has answered since that it failed: it is not at work
	// on it any more.
	Over bool `json:"over,omitempty"`
	// Vain is set once it was searched in vain while Prodsmart may still have been at
	// work on it; What is then the movement in words.
	Vain bool   `json:"vain,omitempty"`
	What string `json:"what,omitempty"`
}

// doubtOf returns what is noted of a movement in doubt, nil if nothing is.
func (m *machine) doubtOf(p place) *doubtful {
	if i := slices.IndexFunc(m.Doubtful, func(d doubtful) bool { return d.place == p }); i >= 0 {
		return &m.Doubtful[i]
	}
	return nil
}

// doubt notes that nobody knows of a movement, and reports whether that was known
// already.
func (m *machine) doubt(p place, since time.Time) (known bool) {
	if m.doubtOf(p) != nil {
		return true
	}
	m.Doubtful = append(m.Doubtful, doubtful{place: p, Since: since.UTC()})
	m.Doubtful = slices.Delete(m.Doubtful, 0, max(0, len(m.Doubtful)-mostDoubtful))
	return false
}

// settled notes that somebody knows.
func (m *machine) settled(p place) {
	m.Doubtful = slices.DeleteFunc(m.Doubtful, func(d doubtful) bool { return d.place == p })
}

// mayBeBooked reports whether a movement may be there already, and what is known
// of that; without a time it was long ago. What was noted by a gateway that has
// ended may have been under way then, and what a person sends again may be there
// whenever it was noted.
func (m *machine) mayBeBooked(p place, commanded bool) (d doubtful, may bool) {
	if p.Sequence <= m.loadedBegun && !commanded {
		m.doubt(p, m.loadedAt)
	}
	if known := m.doubtOf(p); known != nil {
		return *known, true
	}
	return doubtful{place: p}, p.Sequence <= m.begunBefore || commanded && p.Sequence <= m.Begun
}

// lookup is a search for the movements with one comment, over as many Sends as the
// share of requests needs.
type lookup struct {
	ref, product string
	page         int
	// first is the first item of the page before: a list that does not turn its
	// pages would be read for ever.
	first string
	// ids are those that were found.
	ids []string
	// vain is when the whole list was read and held none; zero before.
	vain time.Time
}

// of makes l the search for ref, from the beginning unless it is that already.
func (l *lookup) of(ref, product string) *lookup {
	if l.ref != ref {
		*l = lookup{ref: ref, product: product, page: 1}
	}
	return l
}

// anew makes l no search at all.
func (l *lookup) anew() *lookup {
	*l = lookup{}
	return l
}

// unread is why a page could not be read: the call was not taken, or its answer is
// not what it should be.
type unread struct {
	request *call
	a       *httplink.Answer
	o       outcome
	h       *halt
	err     error
}

// turn reads the next page of a search and adds the ids of what it finds. last is
// set where the list has ended.
func (w *work) turn(ctx context.Context, l *lookup, c class, until time.Time) (last bool, bad *unread) {
	request := &call{
		class: c, method: http.MethodGet, path: w.options.Movements.Path, whole: true, asked: uplink.OutcomeAsked, machine: w.m.id, until: until,
		query: url.Values{"product-code": {l.product}, "page": {strconv.Itoa(l.page)}},
	}
	a, o, h := w.withToken(ctx, request)
	if h != nil || o != taken {
		return false, &unread{request: request, a: a, o: o, h: h}
	}
	var items []struct {
		ID      json.RawMessage `json:"id"`
		Comment string          `json:"comment"`
	}
	if err := cmpErr(a.BodyErr, json.Unmarshal(a.Body, &items)); err != nil {
		return false, &unread{err: err}
	}
	if len(items) > 0 && string(items[0].ID) == l.first {
		return true, nil
	}
	ours := l.ref[:strings.LastIndexByte(l.ref, '/')+1] // of this machine
	for k := range items {
		if ref, _, _ := strings.Cut(items[k].Comment, " "); strings.HasPrefix(ref, ours) {
			w.m.met(ref)
		}
		if slices.Contains(strings.Fields(items[k].Comment), l.ref) {
			l.ids = append(l.ids, strings.Trim(string(items[k].ID), `"`))
		}
	}
	if len(items) < pageSize {
		return true, nil
	}
	l.first = string(items[0].ID)
	l.page++
	return false, nil
}

func cmpErr(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// met notes that a movement with that comment is there.
func (m *machine) met(ref string) {
	if len(m.there) >= mostThere {
		clear(m.there)
	}
	m.there[ref] = true
}

// find looks for a movement by its comment, page by page, once Prodsmart has had
// time to end what it was at since then. What may still be under way there is
// searched a second time before it is sent again. Event i is settled if nobody can
// say yet whether it is there, or if a person is to say so.
func (w *work) find(ctx context.Context, i int, m *movement, d doubtful) (found bool, stop *halt) {
	o := w.options.Movements
	after, repeat, cause := o.SearchAfter.Std(), o.RepeatAfter.Std(), errAtWork
	if d.Vain {
		after, cause = repeat, errVain
	}
	if left := min(time.Until(d.Since.Add(after)), after); left > 0 { // the clock may have been set back
		w.settle(i, plant.Retry, cause, min(left, patience(w.events)))
		return false, nil
	}
	known, stop := w.search(ctx, i, m, o.SearchAfter.Std())
	if stop != nil || known || w.done[i].set {
		return known, stop
	}
	if left := min(time.Until(d.Since.Add(repeat)), repeat); left > 0 && !d.Over && !d.Vain {
		w.m.lookup.anew()
		if noted := w.m.doubtOf(m.place); noted != nil {
			noted.Vain, noted.What = true, m.what()
		}
		w.settle(i, plant.Retry, errVain, min(left, patience(w.events)))
		return false, nil
	}
	if o.OnLostReply == lostPark && !w.commanded {
		w.m.lookup.anew()
		w.m.settled(m.place)
		w.settle(i, plant.Rejected, &parked{fmt.Sprintf("prodsmart: the answer to this movement was lost, and Prodsmart does not have it so far; it is not sent again by itself (on_lost_reply: park): search Prodsmart for the comment %s, then drop the dead letter if it is there, or retry it", m.ref)}, 0)
	}
	return false, nil
}

// search reads the list of a component's movements as far as is needed to say
// whether one is there; of what it found in vain it is sure for so long. Event i is
// settled if it cannot be said.
func (w *work) search(ctx context.Context, i int, m *movement, sure time.Duration) (found bool, stop *halt) {
	if w.m.there[m.ref] {
		return true, nil
	}
	l := w.m.lookup.of(m.ref, m.product)
	if !l.vain.IsZero() && time.Since(l.vain) < sure {
		return false, nil // it waits for its turn since
	}
	if !l.vain.IsZero() {
		l = w.m.lookup.anew().of(m.ref, m.product)
	}
	for l.page <= w.options.Movements.LookupPages {
		last, bad := w.turn(ctx, l, classMovement, w.until)
		switch {
		case bad != nil && bad.err != nil:
			w.settle(i, plant.Retry, problem("list", "the list of movements cannot be read, so nobody knows whether this one is booked: %v", bad.err), 0)
			return false, nil
		case bad != nil:
			return false, w.bookedOr(i, bad.request, bad.a, bad.o, bad.h)
		case len(l.ids) > 0:
			l.anew()
			return true, nil
		case last:
			l.vain = time.Now()
			return false, nil
		}
	}
	l.anew()
	w.refuse(i, classMovement, problem("lookup", "the answer to this movement was lost, and it is not among the %d newest or oldest that were looked at: search Prodsmart for the comment %s; if it is not there, retry the dead letter",
		w.options.Movements.LookupPages*pageSize, m.ref))
	return false, nil
}

// parked is why a movement that may be booked is put aside for a person.
type parked struct{ text string }

// Error implements error.
func (p *parked) Error() string { return p.text }

// Final says that it is not sent again by itself, however many there were.
func (p *parked) Final() bool { return true }

// waitsForSearch reports whether event i waits only until it is known whether its
// movement is booked.
func (w *work) waitsForSearch(i int) bool {
	cause := w.done[i].Cause
	return w.done[i].Status == plant.Retry && (errors.Is(cause, errAtWork) || errors.Is(cause, errVain))
}

// repeated is a movement that was sent again, since it was not found. Prodsmart may
// have ended the first request after that.
type repeated struct {
	Ref     string `json:"ref"`
	Product string `json:"product"`
	// What is the movement in words.
	What string `json:"what"`
	// Next is when it is looked for a pair, and Looks how often it was.
	Next  time.Time `json:"next"`
	Looks int       `json:"looks,omitempty"`
	// IDs are those of the movements with that comment, if there are several, Since
	// when that was found.
	IDs   []string  `json:"ids,omitempty"`
	Since time.Time `json:"since,omitzero"`
}

// repeat notes that a movement was sent again.
func (m *machine) repeat(sent *movement, now time.Time) {
	m.Repeated = slices.DeleteFunc(m.Repeated, func(r repeated) bool { return r.Ref == sent.ref })
	m.Repeated = append(m.Repeated, repeated{
		Ref: sent.ref, Product: sent.product, Next: now.Add(pairAfter).UTC(),
		What: sent.what(),
	})
	m.Repeated = slices.Delete(m.Repeated, 0, max(0, len(m.Repeated)-mostDoubtful))
}

// pairsFound returns those that are there twice.
func (m *machine) pairsFound() (twice []repeated) {
	for _, r := range m.Repeated {
		if len(r.IDs) > 1 {
			twice = append(twice, r)
		}
	}
	return twice
}

// lookForPairs looks, when nothing else is to be sent, whether a movement that was
// sent again is there twice, and tells it once.
func (w *work) lookForPairs(ctx context.Context) {
	now := time.Now()
	i := slices.IndexFunc(w.m.Repeated, func(r repeated) bool { return !now.Before(r.Next) })
	if i < 0 || w.options.Movements == nil {
		return
	}
	r := w.m.Repeated[i]
	l := w.m.pairs.of(r.Ref, r.Product)
	until := now.Add(2 * lookAgain) // the machine's next stop must not wait for long
	for last := false; !last; {
		if l.page > w.options.Movements.LookupPages {
			w.log.Warn("a movement was sent again after its answer was lost, and the list is too long to see whether it is there twice; look for its comment in Prodsmart",
				zap.String("machine", string(w.m.id)), zap.String("movement", r.What), zap.String("comment", r.Ref))
			w.looked(i, nil)
			return
		}
		var bad *unread
		if last, bad = w.turn(ctx, l, classOrders, until); bad == nil {
			continue
		}
		if bad.h == nil || !waitsForRoom(bad.h) {
			r.Next = now.Add(pairAfter).UTC()
			w.looked(i, &r)
		}
		return
	}
	w.found(i, r, l.ids)
}

// found keeps what a look has found.
func (w *work) found(i int, r repeated, ids []string) {
	now := time.Now()
	of := []zap.Field{zap.String("machine", string(w.m.id)), zap.String("movement", r.What), zap.String("comment", r.Ref), zap.Strings("ids", ids)}
	before := len(r.IDs) > 1
	r.Looks++
	r.Next, r.IDs = now.Add(pairEvery).UTC(), ids
	switch {
	case len(ids) > 1 && !before:
		r.Since = now.UTC()
		w.log.Warn("Prodsmart has a movement twice: it ended the first request after the gateway had given it up; take one of the two out there", of...)
	case len(ids) > 1 && now.Sub(r.Since) < pairFor:
	case len(ids) > 1:
		w.looked(i, nil)
		return
	case before:
		w.log.Info("Prodsmart has the movement once", of...)
		fallthrough
	case r.Looks >= pairLooks:
		w.looked(i, nil)
		return
	}
	w.looked(i, &r)
}

// looked puts r in the place of entry i, which goes if r is nil; what is there twice
// is named from now on.
func (w *work) looked(i int, r *repeated) {
	w.m.pairs.anew()
	if r == nil {
		w.m.Repeated = slices.Delete(w.m.Repeated, i, i+1)
	} else {
		w.m.Repeated[i] = *r
	}
	twice := w.m.pairsFound()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.m.twice = twice
}

// vain returns the movements that wait for their second search.
func (m *machine) vain() (all []doubtful) {
	for _, d := range m.Doubtful {
		if d.Vain {
			all = append(all, d)
		}
	}
	return all
}

// Inform implements uplink.Informer: it names the movements that are there twice,
// those that wait since their answer was lost, and the machines that count without an open production.
func (s *Sender) Inform(to *uplink.Stats) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []uplink.Notice
	for id, m := range s.machines {
		for _, d := range m.waiting {
			all = append(all, s.waitingNotice(id, &d))
		}
		for _, r := range m.twice {
			all = append(all, uplink.Notice{
				Since: r.Since,
				Text: fmt.Sprintf("Prodsmart has a movement of %s %d times (%s; ids %s): it ended the first request after the gateway had given it up",
					id, len(r.IDs), r.What, strings.Join(r.IDs, ", ")),
				Do: "Take all but one out in Prodsmart; their comment is " + r.Ref + ". It is looked again each hour.",
			})
		}
	}
	slices.SortFunc(all, func(a, b uplink.Notice) int {
		if c := a.Since.Compare(b.Since); c != 0 {
			return c
		}
		return strings.Compare(a.Do, b.Do)
	})
	to.Notices = append(to.Notices, all[:min(len(all), mostTwice)]...)
	if n := s.closedNotice(); n.Text != "" {
		to.Notices = append(to.Notices, n)
	}
}

// waitingNotice says that a movement waits for its second search.
func (s *Sender) waitingNotice(id plant.MachineID, d *doubtful) uplink.Notice {
	then := "then sent once more"
	if s.options.Movements.OnLostReply == lostPark {
		then = "then put to the dead letters"
	}
	return uplink.Notice{
		Since: d.Since,
		Text:  fmt.Sprintf("A movement of %s waits (%s): its answer was lost, and Prodsmart does not have it so far", id, d.What),
		Do:    fmt.Sprintf("Nothing. It is searched again %v after its answer was lost, %s if it is still not there; other doses of the machine go on.", s.options.Movements.RepeatAfter.Std(), then),
	}
}
