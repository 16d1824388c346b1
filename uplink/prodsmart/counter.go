package prodsmart

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/internal/httplink"
)

// body is what one counter call says: cumulative numbers of Prodsmart's, with
// those of ours that they stand for. Count is nil where the count did not grow.
type body struct {
	Count *told           `json:"count,omitempty"`
	Waste map[string]told `json:"waste,omitempty"`
	// Event is the counter event that it was made of.
	Event plant.Sequence `json:"event"`
}

// empty reports whether there is nothing to say.
func (b *body) empty() bool { return b.Count == nil && len(b.Waste) == 0 }

// render writes the body of the request, waste in the order of its codes.
func (b *body) render(parameters []parameter) []byte {
	dst, sep := []byte{'{'}, ""
	if b.Count != nil {
		dst = strconv.AppendInt(append(dst, `"count":`...), b.Count.Theirs, 10)
		sep = ","
	}
	if len(b.Waste) > 0 {
		dst = append(append(dst, sep...), `"waste":[`...)
		sep = ","
		for i, code := range slices.Sorted(maps.Keys(b.Waste)) {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = plant.AppendJSONString(append(dst, `{"code":`...), code)
			dst = strconv.AppendInt(append(dst, `,"quantity":`...), b.Waste[code].Theirs, 10)
			dst = append(dst, '}')
		}
		dst = append(dst, ']')
	}
	if len(parameters) > 0 {
		dst = appendParameters(append(append(dst, sep...), `"parameters":`...), "name", parameters)
	}
	return append(dst, '}')
}

// counts sends the counter events in their order: of several at most the last of
// each order is left after merging.
func (w *work) counts(ctx context.Context) *halt {
	var open []int
	for i := range w.events {
		if !w.done[i].set && w.events[i].Kind == plant.KindCounter {
			open = append(open, i)
		}
	}
	for n, i := range open {
		var c plant.Counter
		if err := json.Unmarshal(w.events[i].Data, &c); err != nil {
			w.settle(i, plant.Rejected, problem("unreadable", "the event's data cannot be read: %v", err), 0)
			continue
		}
		stop, goOn := w.count(ctx, i, &c, n == len(open)-1)
		if stop != nil || !goOn {
			return stop
		}
	}
	return nil
}

// maxTries bounds the requests for one count: as it is, and after each number
// that a refusal taught.
const maxTries = 4

// count sends one count. newest says that no later one is in the batch. goOn is
// false if those behind it have to wait for it.
func (w *work) count(ctx context.Context, i int, c *plant.Counter, newest bool) (stop *halt, goOn bool) {
	e := &w.events[i]
	if e.Sequence <= w.m.Counter {
		w.deliver(i) // the lost answer to a newer one has come out just now
		return nil, true
	}
	if w.again(i, classCounter) {
		return nil, true
	}
	w.anchor(w.events[i].Sequence, c)
	if h, ok := w.m.held[classCounter]; ok {
		if b, _ := w.body(e.Sequence, c, newest); time.Now().Before(h.until) || b.Count != nil && b.Count.Theirs <= h.count {
			w.settle(i, plant.Held, h.cause, 0)
			return nil, false
		}
	}
	if stop := w.doubt(ctx, i); stop != nil || w.done[i].set {
		return stop, w.answered(i)
	}
	for range maxTries {
		b, waits := w.body(e.Sequence, c, newest)
		switch {
		case waits:
			w.settle(i, plant.Retry, errWaste, lookAgain)
			return nil, false
		case b.empty():
			w.m.Counter = e.Sequence
			w.deliver(i)
			return nil, true
		}
		if stop, settled := w.tell(ctx, i, b, c); stop != nil || settled {
			return stop, w.answered(i)
		}
	}
	w.hold(i, classCounter, problem("count", "Prodsmart takes no count of this machine, although each was larger than the number that it named; look at the machine's counter in Prodsmart"))
	return nil, false
}

// errWaste is why waste waits.
var errWaste = &uplink.NotYet{Why: "prodsmart: waste without pieces waits for the next count (waste_only: hold)"}

// answered reports whether event i is through with, so that those behind it may go.
func (w *work) answered(i int) bool {
	return w.done[i].set && (w.done[i].Status == plant.Delivered || w.done[i].Status == plant.Rejected)
}

// doubt repeats the body of which nobody knows what became of it: the same, so
// that it is not counted twice. Only when Prodsmart has answered anything newer
// is sent.
func (w *work) doubt(ctx context.Context, i int) *halt {
	if w.m.Doubt == nil {
		return nil
	}
	if w.options.LostReply == lostNewest {
		w.m.Doubt = nil
		return nil
	}
	b := *w.m.Doubt
	stop, settled := w.tell(ctx, i, &b, nil)
	if stop == nil && settled && w.answered(i) && w.events[i].Sequence != b.Event {
		// Of an older event; what is new is sent next. That holds what the older one
		// did, so a refusal that concerns more than its numbers comes again.
		w.done[i] = result{}
		delete(w.m.refused, classCounter)
	}
	return stop
}

// tell makes one request of a body. settled is false if the body has to be made
// again, since a refusal has taught what Prodsmart has.
func (w *work) tell(ctx context.Context, i int, b *body, c *plant.Counter) (stop *halt, settled bool) {
	var with []parameter
	var also []int
	if c != nil {
		with, also = w.parametersFor(i)
	}
	request := w.machineCall(classCounter, "counter", b.render(with), plant.KindCounter, i)
	request.first, request.last = b.Event, b.Event // that of a doubt may be an older one than i
	request.whole = w.options.CounterReply == replyCheck
	a, o, h, x := w.exchange(ctx, request)
	if x == nil {
		return h, false
	}
	defer func() { w.env.Journal.Note(*x) }()
	switch {
	case h != nil && h.doubt:
		kept := *b
		w.m.Doubt = &kept
		return h, false
	case h == nil && o == taken:
		w.compare(b, a)
		w.accept(b)
		w.m.Lost, w.m.Doubt = false, nil
		delete(w.m.held, classCounter)
		for _, p := range also {
			w.m.Parameters = max(w.m.Parameters, w.events[p].Sequence)
			w.deliver(p)
		}
		w.deliver(i)
		return nil, true
	case h == nil && o == refused && w.options.tooSmall(a.Words()):
		known := w.m.Doubt != nil
		w.m.Doubt = nil
		return nil, w.reconcile(i, b, a, known, x)
	}
	if h == nil && o == refused {
		w.m.Doubt = nil
		if b.Event != w.events[i].Sequence {
			x.Outcome, x.Words = uplink.OutcomeRetry, "the newer count, which holds this one, is sent next; Prodsmart said: "+x.Words
		}
	}
	return w.concluded(request, o, a, h, i), true
}

// accept notes that Prodsmart has the numbers of b.
func (w *work) accept(b *body) {
	if b.Count != nil {
		kept := *b.Count
		w.m.Count = &kept
	}
	for code, t := range b.Waste {
		w.waste(code, t)
	}
	w.m.Counter = max(w.m.Counter, b.Event)
}

func (w *work) waste(code string, t told) {
	if w.m.Waste == nil {
		w.m.Waste = make(map[string]told)
	}
	w.m.Waste[code] = t
}

// wasteOf returns the scrap of c by Prodsmart's codes, with the deltas: two codes
// of ours may be one of theirs.
func (w *work) wasteOf(event plant.Sequence, c *plant.Counter) (quantity, delta map[string]int64) {
	quantity, delta = make(map[string]int64), make(map[string]int64)
	for _, scrap := range c.Scrap {
		code, _ := w.env.Codes.For(w.m.id, event).Lookup(plant.CodeWaste, scrap.Code) // an unmapped one goes as it is, and is listed
		quantity[code] += scrap.Quantity
		delta[code] += scrap.Delta
	}
	if w.options.ReworkCode != "" && c.Rework > 0 {
		quantity[w.options.ReworkCode] += c.Rework
		delta[w.options.ReworkCode] += c.ReworkDelta
	}
	return quantity, delta
}

// anchor makes what is known of the machine fit to c. A machine that Prodsmart was
// told nothing of is counted from the operator's offset, or from 0 with what is
// new. A cumulative number that went back, since the gateway had lost its state,
// goes on with what is new.
func (w *work) anchor(event plant.Sequence, c *plant.Counter) {
	m := w.m
	offset, set := w.options.Offsets[string(m.id)]
	switch {
	case set && (m.Offset == nil || *m.Offset != offset):
		m.Offset = &offset
		m.Count = &told{Theirs: offset}
		delete(m.held, classCounter)
	case m.Count == nil:
		m.Count = &told{Ours: c.Good - c.GoodDelta}
	case c.Good < m.Count.Ours:
		w.log.Warn("the gateway counts this machine from less than before: only what is new is added in Prodsmart",
			zap.String("machine", string(m.id)), zap.Int64("before", m.Count.Ours), zap.Int64("now", c.Good), zap.Int64("new", c.GoodDelta))
		m.Count = &told{Ours: c.Good - c.GoodDelta, Theirs: m.Count.Theirs}
	}
	quantity, delta := w.wasteOf(event, c)
	for code, q := range quantity {
		switch t, known := m.Waste[code]; {
		case !known && m.Counter > 0:
			w.waste(code, told{}) // the first of it
		case !known || q < t.Ours:
			w.waste(code, told{Ours: q - delta[code], Theirs: t.Theirs})
		}
	}
}

// body makes what is new of c. waits is set if there is nothing but waste, which
// waits for the next count.
func (w *work) body(event plant.Sequence, c *plant.Counter, newest bool) (b *body, waits bool) {
	b = &body{Event: event}
	grown := func(before told, ours int64) (told, bool) {
		after := told{Ours: ours, Theirs: before.Theirs + ours - before.Ours}
		return after, after.Theirs > before.Theirs || w.options.Unchanged == unchangedSend && after.Theirs > 0
	}
	if count, ok := grown(*w.m.Count, c.Good); ok {
		b.Count = &count
	}
	quantity, _ := w.wasteOf(event, c)
	for code, q := range quantity {
		if t, ok := grown(w.m.Waste[code], q); ok {
			if b.Waste == nil {
				b.Waste = make(map[string]told)
			}
			b.Waste[code] = t
		}
	}
	if b.Count == nil && len(b.Waste) > 0 && w.options.WasteOnly == wasteHold {
		if newest {
			return b, true
		}
		b.Waste = nil // the newer count has it too
	}
	return b, false
}

// compare looks at the counter's new value, if the answer says it.
func (w *work) compare(b *body, a *httplink.Answer) {
	value, ok := counterValue(a.Body)
	if !ok || b.Count == nil || w.options.CounterReply != replyCheck {
		return
	}
	odd := value != b.Count.Theirs
	if odd && !w.m.odd {
		w.log.Warn("Prodsmart took the count and says another: does somebody else count this machine?",
			zap.String("machine", string(w.m.id)), zap.Int64("sent", b.Count.Theirs), zap.Int64("answer", value))
	}
	w.m.odd = odd
}

// counterValue reads the answer to a count: a number, a numeric text, or an
// object with one numeric member; the document does not say which.
func counterValue(text []byte) (int64, bool) {
	whole := func(raw json.RawMessage) (int64, bool) {
		var s string
		if json.Unmarshal(raw, &s) != nil {
			s = string(raw)
		}
		d, err := plant.ParseDecimal(strings.TrimSpace(s))
		if err != nil {
			return 0, false
		}
		return d.Int()
	}
	if n, ok := whole(text); ok {
		return n, true
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(text, &object) != nil {
		return 0, false
	}
	var value int64
	count := 0
	for _, raw := range object {
		if n, ok := whole(raw); ok {
			value = n
			count++
		}
	}
	if count != 1 {
		return 0, false
	}
	return value, true
}

// noteGap notes that counts which Prodsmart has had may be forgotten here.
func (w *work) noteGap(e *plant.Event) {
	var g plant.GapData
	if json.Unmarshal(e.Data, &g) != nil {
		return
	}
	switch g.Cause {
	case plant.GapLostTail, plant.GapRestoredCopy, plant.GapMarkLost, plant.GapDamaged, plant.GapMissing:
		w.m.Lost = true
	}
	w.log.Warn("something of this machine is missing; Prodsmart has no place for that", zap.String("machine", string(w.m.id)), zap.String("reason", g.Reason))
}
