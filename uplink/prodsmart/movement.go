package prodsmart

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/internal/httplink"
)

const (
	// noted is how many movement events are noted at a time before they are sent, so
	// that a gateway that is killed knows which may be booked already.
	noted = 20
	// mostPassed is how many doses may wait for their search before those behind them
	// wait too: a Prodsmart that loses all answers is not asked to book on and on.
	mostPassed = 10
	// bomFor is how long a product's bill of materials is remembered.
	bomFor = 10 * time.Minute
	// mostProducts bounds how many are remembered.
	mostProducts = 500
)

// errNoted is why movements wait for the disk.
var errNoted = &uplink.NotYet{Why: "prodsmart: movements are noted before they are sent"}

// movements books what was dosed, one request for each lot. Nothing is booked
// twice: what may have been sent before is looked up by its comment. A dose that
// waits for that lets the doses behind it pass, for each has its own time; what was
// filled in or taken out keeps its order, so that nothing is taken from a stock that
// is not there yet.
func (w *work) movements(ctx context.Context) *halt {
	first, passed := 0, 0
	for i := range w.events {
		kind := w.events[i].Kind
		if w.done[i].set || !w.options.Movements.carries(kind) {
			continue
		}
		if passed > 0 && kind != plant.KindDosing {
			return nil
		}
		if stop := w.book(ctx, i); stop != nil {
			return stop
		}
		switch {
		case w.answered(i):
		case kind == plant.KindDosing && w.waitsForSearch(i) && passed < mostPassed:
			if passed++; passed == 1 {
				first = i
			}
		default:
			if passed > 0 && errors.Is(w.done[i].Cause, errNoted) {
				w.done[first].Wait = 0 // what is noted may go as soon as it is durable
			}
			return nil // those behind it wait, the counts do not
		}
	}
	return nil
}

// book books the movements of one event.
func (w *work) book(ctx context.Context, i int) *halt {
	e := &w.events[i]
	if w.again(i, classMovement) {
		return nil
	}
	if h, ok := w.m.held[classMovement]; ok && time.Now().Before(h.until) {
		w.settle(i, plant.Held, h.cause, 0)
		return nil
	}
	all, err := w.movementsOf(e)
	if err != nil {
		w.refuse(i, classMovement, unsent("quantity", "set factor and per of the component in movements: components:", "the dose cannot be booked: %v", err))
		return nil
	}
	if len(all) > 0 && e.Sequence > w.m.Begun {
		w.note(i)
		w.settle(i, plant.Retry, errNoted, 0)
		return nil
	}
	for k := range all {
		m := &all[k]
		if w.m.booked[m.place] {
			continue
		}
		if stop := w.bookOne(ctx, i, m); stop != nil || w.done[i].set {
			return stop
		}
		delete(w.m.held, classMovement)
		w.m.settled(m.place)
		w.m.booked[m.place] = true
	}
	w.deliver(i)
	for p := range w.m.booked {
		if p.Sequence <= w.events[0].Previous { // it is settled; if it comes again it is a resend
			delete(w.m.booked, p)
			w.m.begunBefore = max(w.m.begunBefore, p.Sequence)
		}
	}
	return nil
}

// note makes the next movements of the machine ones that may be booked from now
// on.
func (w *work) note(i int) {
	n := 0
	most := noted
	if w.options.Movements.OnLostReply == lostPark {
		most = 1 // what was not sent is not to be parked after a kill
	}
	for j := i; j < len(w.events) && n < most; j++ {
		if w.options.Movements.carries(w.events[j].Kind) {
			w.m.Begun = w.events[j].Sequence
			n++
		}
	}
}

// bookOne books one movement, unless it is there. Event i is settled if that
// cannot be.
func (w *work) bookOne(ctx context.Context, i int, m *movement) *halt {
	if stop := w.checkBill(ctx, i, m); stop != nil || w.done[i].set {
		return stop
	}
	before, repeated := w.m.mayBeBooked(m.place, w.commanded)
	if repeated {
		found, stop := w.find(ctx, i, m, before)
		if found {
			w.env.Journal.Note(uplink.Exchange{
				Machine: w.m.id, Kind: w.events[i].Kind, First: m.place.Sequence, Last: m.place.Sequence, Events: 1,
				Outcome: uplink.OutcomeDelivered, Words: "it was booked before: Prodsmart has a movement with the comment " + m.ref,
			})
		}
		if stop != nil || found || w.done[i].set {
			return stop
		}
	}
	component := w.components[m.component]
	request := &call{
		class: classMovement, method: http.MethodPost, path: w.options.Movements.Path, body: m.render(w.options.Movements, &component), made: true, whole: true,
		machine: w.m.id, kind: w.events[i].Kind, first: m.place.Sequence, last: m.place.Sequence, events: 1, until: w.until,
	}
	known := w.m.doubt(m.place, time.Now())
	a, o, h := w.withToken(ctx, request)
	lost := h != nil && h.doubt || h == nil && o == stumbled
	switch {
	case lost:
		w.m.settled(m.place)
		w.m.doubt(m.place, time.Now())
		w.m.doubtOf(m.place).Over = h == nil
	case !known && (h != nil || o != taken):
		w.m.settled(m.place) // it was not taken
	}
	if repeated && (lost || h == nil && o == taken) {
		w.m.lookup.anew() // what it found is over
		w.m.repeat(m, time.Now())
	}
	return w.bookedOr(i, request, a, o, h)
}

// bookedOr settles event i if the request was not taken.
func (w *work) bookedOr(i int, request *call, a *httplink.Answer, o outcome, h *halt) *halt {
	if h != nil {
		return w.onlyMovements(i, h)
	}
	switch o {
	case taken:
	case stumbled:
		w.settle(i, plant.Retry, problem("stumbled", "%s", w.said(request, a)), 0)
	case missing:
		w.hold(i, classMovement, problem("missing", "%s; check path and url", w.said(request, a)))
	default:
		w.refuse(i, classMovement, problem("refused "+letters(a.Words()), "%s", w.said(request, a)))
	}
	return nil
}

// onlyMovements turns a halt that concerns only what needs a token into a hold of
// the movements.
func (w *work) onlyMovements(i int, h *halt) *halt {
	if linked(h) || waitsForRoom(h) {
		return h
	}
	w.hold(i, classMovement, h.cause)
	return nil
}

// bill is what Prodsmart consumes by itself for a product.
type bill struct {
	components []string
	until      time.Time
}

// checkBill holds a movement of what Prodsmart consumes by the bill of materials
// of the order's product: it would be taken from stock twice.
func (w *work) checkBill(ctx context.Context, i int, m *movement) *halt {
	if m.article == "" || w.options.Movements.BillOfMaterials == bomIgnore {
		return nil
	}
	b, stop := w.billOf(ctx, i, m.article)
	if stop == nil && !w.done[i].set && slices.Contains(b.components, m.product) {
		w.hold(i, classMovement, doubleError(m.article, m.product))
	}
	return stop
}

func doubleError(article, product string) error {
	return problem("bill of materials", "Prodsmart consumes %s itself, by the bill of materials of %s: booking doses too would take it from stock twice; take it out of movements: components:, or out of the bill of materials", product, article)
}

// billOf asks for a product's bill of materials, now and then. Event i is settled
// if it cannot be had.
func (w *work) billOf(ctx context.Context, i int, article string) (bill, *halt) {
	w.mu.Lock()
	b, known := w.bills[article]
	w.mu.Unlock()
	if known && time.Now().Before(b.until) {
		return b, nil
	}
	request := &call{
		class: classMovement, method: http.MethodGet, path: "products/" + url.PathEscape(article), whole: true,
		asked: uplink.OutcomeAsked, machine: w.m.id, until: w.until,
	}
	a, o, h := w.withToken(ctx, request)
	if h != nil || o != taken && o != missing {
		return bill{}, w.bookedOr(i, request, a, o, h)
	}
	b = bill{until: time.Now().Add(bomFor)}
	if o == taken {
		var err error
		if b.components, err = componentsIn(a.Body); err != nil {
			w.settle(i, plant.Retry, problem("product", "the product %s cannot be read: %v", article, err), 0)
			return bill{}, nil
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.bills) >= mostProducts {
		clear(w.bills)
	}
	w.bills[article] = b
	return b, nil
}

// componentsIn reads the codes of a product's bill of materials. The document
// calls them code in one place; product-code is what other items are called by.
func componentsIn(text []byte) ([]string, error) {
	var product struct {
		Components []struct {
			Code        string `json:"code"`
			ProductCode string `json:"product-code"`
		} `json:"components"`
	}
	if err := json.Unmarshal(text, &product); err != nil {
		return nil, err
	}
	var codes []string
	for _, c := range product.Components {
		codes = append(codes, c.Code, c.ProductCode)
	}
	return codes, nil
}
