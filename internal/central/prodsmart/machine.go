package prodsmart

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/sluice-edge/sluice/internal/central"
)

type machine struct {
	Booked
	types    []string
	begun    bool // a startstop has come
	lastCall string
	open     int // index of the downtime that lasts, or -1
}

func newMachine(m Machine) *machine {
	return &machine{types: m.DowntimeTypes, open: -1, Booked: Booked{
		Count: m.Count, Waste: map[string]float64{}, Parameters: map[string]any{},
		Credited: map[string]float64{}, CreditedWaste: map[string]float64{},
	}}
}

// Booked is what Prodsmart has of a machine.
type Booked struct {
	// Count is the counter, Waste the cumulative waste by code.
	Count float64
	Waste map[string]float64
	// Parameters are the last values.
	Parameters map[string]any
	// Credited is what went to productions, by the code of their order; pieces
	// that came while nobody was checked in are in none. CreditedWaste the same.
	Credited, CreditedWaste map[string]float64
	// Counts are the accepted counter calls in order.
	Counts []Count
	// Downtimes are in the order of their beginning.
	Downtimes []Downtime
}

// Count is one accepted counter call.
type Count struct {
	At    time.Time
	Value float64
}

// Downtime is a stop; a zero End says that it lasts.
type Downtime struct {
	ID         int
	Type       string
	Start, End time.Time
	// Operator says that a person opened it.
	Operator bool
	// ClosedByGateway says who ended it.
	ClosedByGateway bool
}

// Machine returns what is booked for a machine; the zero Booked for one that is
// not known.
func (f *Fake) Machine(code string) Booked {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.machines[code]
	if m == nil {
		return Booked{}
	}
	b := m.Booked
	b.Waste, b.Parameters = maps.Clone(b.Waste), maps.Clone(b.Parameters)
	b.Credited, b.CreditedWaste = maps.Clone(b.Credited), maps.Clone(b.CreditedWaste)
	b.Counts, b.Downtimes = slices.Clone(b.Counts), slices.Clone(b.Downtimes)
	return b
}

// machineCall is one of the three machine endpoints.
func (f *Fake) machineCall(q *request, code, what string) reply {
	if q.Method != http.MethodPost || !slices.Contains([]string{"counter", "parameters", "startstop"}, what) {
		f.Note(RuleRequest, q.Request, "no such machine call")
		return text(http.StatusNotFound, "Not Found")
	}
	if q.query.Has("access_token") {
		f.Note(RuleTokenInURL, q.Request, "Basic does here, and a URL ends up in logs")
		if refused := f.needToken(q); refused != nil {
			return *refused
		}
	} else if refused := f.needBasic(q); refused != nil {
		return *refused
	}
	if refused := f.known(q); refused != nil {
		return *refused
	}
	m := f.machines[code]
	if m == nil {
		return f.refuse(q, RuleCode, "Machine "+strconv.Quote(code)+" not found")
	}
	o, refused := f.object(q)
	if refused != nil {
		return *refused
	}
	switch what {
	case "counter":
		return f.counter(q, m, o, code)
	case "parameters":
		return f.parameters(q, m, o)
	}
	return f.startstop(q, m, o)
}

func readParameters(o *central.Object, key string, required bool) map[string]any {
	values := map[string]any{}
	for _, p := range o.Objects("parameters", required) {
		values[p.String(key, true)] = p.Scalar("value", true)
		p.End()
	}
	return values
}

func (f *Fake) counter(q *request, m *machine, o *central.Object, code string) reply {
	count, hasCount := o.Number("count", false)
	waste := map[string]float64{}
	for _, w := range o.Objects("waste", false) {
		code := w.String("code", true)
		if _, twice := waste[code]; twice {
			w.Fail("code", "%q stands there twice", code)
		}
		waste[code], _ = w.Number("quantity", true)
		w.End()
	}
	parameters := readParameters(o, "name", false)
	if !hasCount && len(waste) == 0 {
		o.Fail("count", "is missing, and so is waste")
	}
	if refused := f.problems(q, o); refused != nil {
		return *refused
	}
	if hasCount {
		if refused := f.grew(q, "count", m.Count, count); refused != nil {
			return *refused
		}
	}
	for _, w := range slices.Sorted(maps.Keys(waste)) {
		if !slices.Contains(f.company.WasteCodes, w) {
			return f.refuse(q, RuleCode, "Waste code "+strconv.Quote(w)+" not found")
		}
		if refused := f.grew(q, "waste "+w, m.Waste[w], waste[w]); refused != nil {
			return *refused
		}
	}
	f.credit(code, m, count, hasCount, waste)
	if hasCount {
		m.Count = count
		m.Counts = append(m.Counts, Count{q.now, count})
	}
	maps.Copy(m.Waste, waste)
	maps.Copy(m.Parameters, parameters)
	return f.countReply(m.Count)
}

// grew refuses what is not greater than what was sent before.
func (f *Fake) grew(q *request, what string, before, now float64) *reply {
	if now > before || now == before && f.company.EqualIsFine {
		return nil
	}
	rule := RuleDecreasing
	if now == before {
		rule = RuleEqual
	}
	words := fmt.Sprintf("The %s must be greater than the previous value", what)
	if !f.company.SilentRefusal {
		words += " " + strconv.FormatFloat(before, 'f', -1, 64)
	}
	refused := f.refuse(q, rule, words)
	return &refused
}

func (f *Fake) countReply(count float64) reply {
	switch f.company.CountReply {
	case ReplyText:
		return text(http.StatusOK, strconv.FormatFloat(count, 'f', -1, 64))
	case ReplyObject:
		return reply{http.StatusOK, map[string]any{"counter": count}}
	case ReplyNothing:
		return reply{status: http.StatusOK}
	}
	return reply{http.StatusOK, count}
}

func (f *Fake) parameters(q *request, m *machine, o *central.Object) reply {
	values := readParameters(o, "code", true)
	if len(values) == 0 {
		o.Fail("parameters", "is empty")
	}
	if refused := f.problems(q, o); refused != nil {
		return *refused
	}
	maps.Copy(m.Parameters, values)
	return reply{status: http.StatusOK}
}

func (f *Fake) startstop(q *request, m *machine, o *central.Object) reply {
	kind := o.String("type", true)
	running, set := o.Number("running", true)
	if set && running != 0 && running != 1 {
		o.Fail("running", "must be 0 or 1")
	}
	if refused := f.problems(q, o); refused != nil {
		return *refused
	}
	if !slices.Contains(m.types, kind) {
		return f.refuse(q, RuleCode, "Downtime type "+strconv.Quote(kind)+" is not assigned to this machine")
	}
	call := fmt.Sprint(kind, " ", running)
	again, first := call == m.lastCall, !m.begun
	m.lastCall, m.begun = call, true
	if running == 1 {
		switch {
		case m.open < 0:
			if !first && !again {
				f.Note(RuleStart, q.Request, "no stop of this machine is open")
			}
			return reply{status: http.StatusOK}
		case m.Downtimes[m.open].Operator:
			f.Note(RuleStart, q.Request, "it ended a downtime that an operator had opened")
		}
		m.end(q.now, true)
		return reply{status: http.StatusOK}
	}
	if m.open >= 0 && m.Downtimes[m.open].Type == kind {
		return reply{status: http.StatusOK} // it is down for that already
	}
	m.end(q.now, true)
	f.stop(m, kind, q.now, false)
	return reply{status: http.StatusOK}
}

func (m *machine) end(now time.Time, gateway bool) {
	if m.open >= 0 {
		m.Downtimes[m.open].End, m.Downtimes[m.open].ClosedByGateway = now, gateway
		m.open = -1
	}
}

func (f *Fake) stop(m *machine, kind string, now time.Time, operator bool) {
	m.open = len(m.Downtimes)
	m.Downtimes = append(m.Downtimes, Downtime{ID: f.id(), Type: kind, Start: now, Operator: operator})
}

func (f *Fake) id() int { f.nextID++; return f.nextID }

// OperatorStops lets a person open a downtime at the terminal.
func (f *Fake) OperatorStops(code, kind string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.machines[code]
	m.end(f.company.Now(), false)
	f.stop(m, kind, f.company.Now(), true)
}
