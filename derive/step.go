package derive

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/sluice-edge/sluice/derive/counter"
	"github.com/sluice-edge/sluice/derive/dosing"
	"github.com/sluice-edge/sluice/derive/parameters"
	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/derive/startstop"
	"github.com/sluice-edge/sluice/plant"
)

// Step is the machine's rules: what an input leads to. It is pure: it keeps
// nothing of in, never changes prev, and gives the same for the same. Order
// within a step: parameters, counter, order change, start/stop, records.
func (m *Model) Step(prev State, in plant.Input) (State, Output) {
	var next State
	next.copyFrom(&prev)
	var out Output
	r := run{m: m}
	r.step(&next, in, &out)
	return next, out
}

// run makes steps. Its buffers are reused from one to the next, so that a step
// without events allocates nothing; the events of a step hold memory of data
// until reset.
type run struct {
	m   *Model
	s   *State
	out *Output
	now int64
	// changed says that more than the time of the last reading changed.
	changed bool
	// elsewhere is set while a scan is counted that shows another order than the
	// current one: pieces of a gap cannot be told to belong to either.
	elsewhere bool
	// start is where ahead has marked the beginning of a run.
	start rule.Stamp

	counts []counter.Reading
	states []startstop.Reading
	scrap  []plant.ScrapCount
	// weighed are the readings of a scan by scale.
	weighed [][]dosing.Reading
	sink    weighs
	// loading are the locations that a scan has shown to be loaded.
	loading []loading
	data    []byte

	// fed are the readings of this scan that expressions take, by their place in
	// values.inputs; operands and results are those of evaluate.
	fed      []*plant.Reading
	operands []plant.Value
	results  []plant.Reading

	// routes find what the readings of scans are used for.
	routes routes
}

var (
	_ counter.Sink   = (*run)(nil)
	_ startstop.Sink = (*run)(nil)
)

// keptData is what a run keeps for the next events. More, as the first report of
// a thousand parameters takes, is rare and given back.
const keptData = 64 << 10

// reset gives back the memory of all events made so far.
func (r *run) reset() {
	if cap(r.data) > keptData {
		r.data = nil
	}
	r.data = r.data[:0]
}

// step changes s in place and appends to out. It reports whether more than the
// time of the last reading changed.
func (r *run) step(s *State, in plant.Input, out *Output) (changed bool) {
	r.m.fit(s)
	r.s, r.out, r.changed = s, out, false
	r.now = in.When().UnixNano()
	if len(s.stray) > 0 {
		out.Delete = append(out.Delete, s.stray...)
		s.stray = s.stray[:0]
		r.changed = true
	}
	if s.gateway.Stood {
		r.stood()
	}
	if c, ok := in.(plant.Clock); !ok || c.Step == 0 {
		r.passed(0)
	}
	switch in := in.(type) {
	case *plant.Scan:
		r.scan(in)
	case plant.Scan:
		r.scan(&in)
	case plant.Tick:
		r.due()
	case plant.DeviceState:
		r.device(in)
		r.unsteady(in)
	case plant.Gap:
		r.gap(in)
	case plant.Clock:
		r.clock(in)
	case plant.OrderChange:
		r.orderChange(in)
	case plant.ModeChange:
		r.modeChange(in)
	case plant.Scanned:
		r.scanned(in)
	case plant.Correction:
		r.correction(in)
	case plant.MaterialEntry:
		r.materialEntry(in)
	case plant.Stop:
		r.due()
		r.takeHeld(true)
		r.stopRecords()
		r.boundary(rule.Stamp{At: r.now}, gatewayStops)
	}
	out.Wake = r.wake()
	return r.changed
}

// scan takes one answer of a device.
func (r *run) scan(in *plant.Scan) {
	m, s := r.m, r.s
	uses := m.devices[in.Device]
	if uses == nil {
		return
	}
	if len(s.gateway.Lost) > 0 {
		r.back(in.Device)
	}
	if in.Record != "" {
		if m.reread != nil && in.Record == m.reread.record.ID {
			r.again(in, uses)
			return
		}
		r.record(in)
		return
	}
	if in.Overflow {
		r.overflowed(in, uses)
	}
	r.withdrawn(in, uses)
	r.counts, r.states = r.counts[:0], r.states[:0]
	var found tags
	if m.values != nil {
		r.answered(in)
	}
	way := r.routes.of(m, in.Device)
	for i := range in.Readings {
		v := &in.Readings[i]
		u := way.find(v.Tag)
		if u == nil {
			continue
		}
		r.reading(in, u, v, &found)
		for _, at := range u.values {
			r.feed(at, v)
		}
	}
	if m.values != nil {
		r.evaluate(in, &found)
	}
	if found.parameters || s.parameters.Wake != 0 && s.parameters.Wake <= r.now {
		r.collect()
	}
	if m.counter != nil {
		r.ahead()
	}
	r.loaded()
	r.scales(in.Snapshot)
	r.pieces(&found, in.Snapshot)
	if m.counter != nil {
		r.handTotal()
	}
	m.order.due(r)
	if m.startstop != nil {
		m.startstop.Answer(&s.startstop, in.Device, in.More, m.valuesKept, r.now)
		r.keepPolled()
		r.changed = m.startstop.Observe(&s.startstop, r.states, in.Snapshot, r.now, r) || r.changed
		r.keepValues()
	}
	if m.counter != nil {
		r.noStart()
		m.counter.Due(&s.counter, r.now, r)
	}
	r.dueHeld()
	if found.shakes {
		r.settle()
	}
	r.watchSerials(in)
	r.hear(in)
	r.dueObserved()
}

// reading takes one reading of an answer.
func (r *run) reading(in *plant.Scan, u *use, v *plant.Reading, found *tags) {
	at := rule.NewStamp(in.Received, v.Source, r.m.maxSkew).Asked(in.Asked)
	if r.parameter(u, v, at, in.Snapshot) {
		found.parameters = true
	}
	r.count(u, v, at)
	r.weigh(u, v, at)
	r.load(u, v, at)
	r.state(u, v, at)
	for _, f := range u.order {
		found.order.note(f, v, at)
	}
	for _, i := range u.shakes {
		h := &r.m.records.shakes[i]
		r.changed = h.rule.Seen(h.state(r.s), in.Session, v) || r.changed
		found.shakes = true
	}
}

// tags are the readings of a scan that are not collected in order.
type tags struct {
	parameters, shakes bool
	order              orderTags
}

func (r *run) parameter(u *use, v *plant.Reading, at rule.Stamp, snapshot bool) (due bool) {
	for _, i := range u.parameters {
		p := parameters.Reading{
			Input: i, At: at, Value: v.Value, Snapshot: snapshot,
			Uncertain: v.Quality == plant.Uncertain, Bad: v.Quality == plant.Bad,
		}
		if r.m.parameters.Observe(&r.s.parameters, &p, r.now) {
			due = true
		}
	}
	return due
}

func (r *run) count(u *use, v *plant.Reading, at rule.Stamp) {
	for _, i := range u.counters {
		raw, whole := v.Value.Int()
		r.counts = append(r.counts, counter.Reading{Input: i, At: at, Raw: raw, Good: v.Quality == plant.Good && whole})
	}
}

// state collects the readings of the start/stop rule.
func (r *run) state(u *use, v *plant.Reading, at rule.Stamp) {
	for _, role := range u.states {
		in := startstop.Reading{Role: role, At: at, Value: v.Value, Good: v.Quality == plant.Good}
		if role == startstop.RoleReason && in.Good {
			in.Code = code(v.Value, r.s.startstop.Code)
		}
		r.states = append(r.states, in)
	}
}

// due does what waits for a time that has come.
func (r *run) due() {
	m, s := r.m, r.s
	if s.parameters.Wake != 0 && s.parameters.Wake <= r.now {
		r.collect()
	}
	m.order.due(r)
	if m.startstop != nil {
		r.changed = m.startstop.Due(&s.startstop, r.now, r) || r.changed
		r.keepValues()
	}
	if m.counter != nil {
		m.counter.Due(&s.counter, r.now, r)
		r.latePieces()
	}
	r.dueHeld()
	r.dueRecords()
	r.dueWeighed()
	r.beat()
	r.dueObserved()
}

func (r *run) wake() time.Time {
	next := r.s.parameters.Wake
	sooner := func(at int64) {
		if at != 0 && (next == 0 || at < next) {
			next = at
		}
	}
	if r.m.counter != nil {
		sooner(r.m.counter.Wake(&r.s.counter))
	}
	if r.m.startstop != nil {
		sooner(r.m.startstop.Wake(&r.s.startstop))
	}
	sooner(r.m.heartbeat.wake(&r.s.beat))
	sooner(r.m.order.wake(&r.s.order))
	sooner(r.s.heldWake())
	for i, d := range r.m.weighed {
		sooner(d.Wake(&r.s.weighed[i]))
	}
	sooner(r.s.mode.Until)
	sooner(r.s.shifts.End)
	for i := range r.m.records.shakes {
		h := &r.m.records.shakes[i]
		sooner(h.rule.Wake(h.state(r.s)))
	}
	for i := range r.s.gateway.Lost {
		if l := &r.s.gateway.Lost[i]; !l.Told {
			sooner(l.At.At + int64(r.m.unobserved))
		}
	}
	if next == 0 {
		return time.Time{}
	}
	return time.Unix(0, max(next, r.now)).UTC()
}

// gap says that readings are known to be missing.
func (r *run) gap(in plant.Gap) {
	if in.Stored {
		// The store has recorded the gap event itself.
		r.s.gateway.Rebase, r.changed = true, true
		r.Delete(plant.StoreGapKey)
		r.due()
		return
	}
	r.missed(in.Device)
	at := rule.Stamp{At: r.now}
	r.emitJSON(plant.KindGap, at, plant.GapData{Head: r.headAt(at), Count: in.Count, Device: in.Device, Cause: in.Cause, Reason: in.Reason})
	r.due()
}

// clock follows a step of the gateway's clock. Times that rules measure from
// move along, so that lengths stay true.
func (r *run) clock(in plant.Clock) {
	g := &r.s.gateway
	if in.Step != 0 {
		r.s.shift(in.Step)
		g.Step += in.Step
		r.changed = true
		r.passed(r.now)
	}
	if in.Uncertain != g.Uncertain {
		g.Uncertain = in.Uncertain
		r.changed = true
	}
	r.due()
}

// Mark implements startstop.Sink: a boundary may be here.
func (r *run) Mark(at rule.Stamp) {
	if r.start == at && !at.IsZero() && r.s.counter.Mark == at {
		r.start = rule.Stamp{} // marked already, before the pieces were counted
		return
	}
	switch {
	case r.m.counter == nil:
	case r.waitForOrder():
		r.m.counter.Share(&r.s.counter, at)
	default:
		r.m.counter.Mark(&r.s.counter, at, r.now, r)
	}
}

// Unmark implements startstop.Sink: it was none.
func (r *run) Unmark(at rule.Stamp) {
	if r.m.counter != nil {
		r.m.counter.Unmark(&r.s.counter, at)
		r.m.counter.Due(&r.s.counter, r.now, r)
	}
}

// Alarm implements counter.Sink.
func (r *run) Alarm(a rule.Alarm) {
	at := rule.Stamp{At: r.now}
	r.emitJSON(plant.KindAlarm, at, plant.Alarm{Head: r.headAt(at), Alarm: a.Name, Raised: a.Raised, Text: a.Text, Remedy: a.Remedy})
}

// emitJSON emits an event of a kind that is made too seldom to be written by
// hand.
func (r *run) emitJSON(kind plant.EventKind, at rule.Stamp, data any) {
	b, err := json.Marshal(data)
	if err != nil {
		panic(fmt.Sprintf("derive: encode %s: %v", kind, err)) // all payloads encode
	}
	start := len(r.data)
	r.data = append(r.data, b...)
	r.emit(kind, at, start)
}

// emitDosing emits a dose.
func (r *run) emitDosing(at rule.Stamp, d *plant.Dosing) {
	start := len(r.data)
	r.data = d.AppendJSON(r.data)
	r.emit(plant.KindDosing, at, start)
}

// emit emits an event whose data was appended to r.data from start on.
func (r *run) emit(kind plant.EventKind, at rule.Stamp, start int) {
	g := &r.s.gateway
	e := plant.Event{
		Machine: r.m.machine, Kind: kind, Version: 1, Time: at.Time(), TimeSource: plant.GatewayTime,
		ClockOffset: time.Duration(at.Offset), ClockStep: g.Step, TimeUncertain: g.Uncertain,
		Data: r.data[start:len(r.data):len(r.data)],
	}
	if at.Device {
		e.TimeSource = plant.DeviceTime
	}
	g.Step = 0
	r.changed = true
	r.out.Events = append(r.out.Events, e)
}

// headAt is the head of an event of a time: with the mode and the order of then.
func (r *run) headAt(at rule.Stamp) plant.Head {
	return plant.Head{Machine: r.m.machine, Mode: r.s.mode.at(at), Order: r.s.order.at(at)}
}

// head is the head of an event of now about an order of its own, nil for none.
func (r *run) head(o *plant.Order) plant.Head {
	return plant.Head{Machine: r.m.machine, Mode: r.s.mode.now(), Order: o}
}

// stampTime is the time of a stamp as payloads carry it; never is zero.
func stampTime(s rule.Stamp) time.Time {
	if s.IsZero() {
		return time.Time{}
	}
	return s.Time().Truncate(time.Millisecond)
}
