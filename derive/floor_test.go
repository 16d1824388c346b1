package derive

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/internal/plantsim/floor"
	"github.com/sluice-edge/sluice/plant"
)

// A day of a line at one reading a second, with everything that goes wrong on a
// shop floor, against the truth: each piece is counted once and for its order,
// and each stop is told with its reason and its true time. What the truth allows
// to miss is what nobody could have seen: pieces between the last reading and a
// loss of power, and stops that lay wholly in an outage.
func TestADayOnTheFloor(t *testing.T) {
	days := uint64(8)
	if testing.Short() || raceDetector {
		days = 2
	}
	for seed := range days {
		o := floor.Options{
			Seed: seed, Start: base, Bits: 16, Keep: true, First: uint32(seed * 9001), Order: 900,
			Jams: 60, Slow: 4, PowerCuts: 3, Scrap: 0.03, Shifts: [][2]int{{0, 6}, {7, 22}},
		}
		if seed%2 == 1 {
			o.Bits, o.Keep = 32, false
		}
		t.Run(fmt.Sprint(seed), func(t *testing.T) { newWatch(t, o).day() })
	}
}

// watch reads a line and holds what the rules say against its truth.
type watch struct {
	t      *testing.T
	line   *floor.Line
	random *rand.Rand
	m      *Model
	state  State
	wake   time.Time

	committed []byte
	commitAt  time.Time
	session   uint64
	connected bool
	snapshot  bool
	// blind are the times without a good reading, seen is what was made by the
	// last one and first by the first, unseen what nobody can know.
	blind               []floor.Cut
	dark, reads         int
	keep                bool
	seen, first, unseen [2]int64
	events              []plant.Event
}

const floorConfig = `
device: plc
order: {tag: order, pattern: '\d{7}'}
counter: {total: total, scrap: {BAD: scrap}, max_rate: 3/s, every: 10s}
startstop: {running: run, reason: code, reasons: {JAM: 11}, min_stop: 5s}
parameters: {TEMP: {tag: temp, deadband: 0.5, min_interval: 10s}}
`

func newWatch(t *testing.T, o floor.Options) *watch {
	s := &scenario{path: "floor", files: map[string]string{"config.yaml": floorConfig, "tags": fmt.Sprintf(
		"plc/total uint%d\nplc/scrap uint%d\nplc/run bool\nplc/code uint16\nplc/order string\nplc/temp float32\n", o.Bits, o.Bits)}}
	m := s.model(t, "config.yaml", "tags")
	w := &watch{t: t, line: floor.New(o), random: rand.New(rand.NewPCG(o.Seed, 1)), m: m, state: decode(t, m, nil), session: 1, connected: true, snapshot: true, keep: o.Keep}
	w.committed = encode(t, m, &w.state)
	return w
}

// day watches the line for a day, and then until all that waits is decided.
func (w *watch) day() {
	end := base.AddDate(0, 0, 1)
	for w.line.Now().Before(end) {
		switch w.random.IntN(4000) {
		case 0:
			w.away(time.Duration(w.random.IntN(600)+1) * time.Second)
		case 1:
			w.restart(w.random.IntN(2) == 0)
		default:
			w.read()
		}
	}
	w.line.Stand()
	for range 150 {
		w.read()
	}
	w.step(plant.Stop{At: w.line.Now()})
	w.judge()
}

// pass lets time go by, with the ticks that the rules want in it.
func (w *watch) pass(d time.Duration, running bool) {
	w.line.Advance(w.line.Now().Add(d))
	for running && !w.wake.IsZero() && !w.wake.After(w.line.Now()) {
		at := w.wake
		w.one(plant.Tick{At: at})
	}
}

func (w *watch) step(in plant.Input) { w.one(in) }

func (w *watch) one(in plant.Input) {
	next, out := w.m.Step(w.state, in)
	w.state, w.wake = next, out.Wake
	w.events = append(w.events, out.Events...)
	if at := in.When(); len(out.Events) > 0 || at.Sub(w.commitAt) > time.Second {
		w.commitAt, w.committed = at, encode(w.t, w.m, &w.state)
	}
}

// read is one poll, in time or a little late.
func (w *watch) read() {
	asked := w.line.Now().Add(time.Duration(900+w.random.IntN(200)) * time.Millisecond)
	w.pass(asked.Sub(w.line.Now()), true)
	tags, ok := w.line.Tags()
	if !ok {
		if w.connected {
			w.connected = false
			w.lose()
			w.step(plant.DeviceState{At: asked, Device: "plc", Cause: "no answer"})
		}
		return
	}
	if !w.connected {
		w.connect()
	}
	received := asked.Add(time.Duration(w.random.IntN(40)) * time.Millisecond)
	scan := plant.Scan{Device: "plc", Session: w.session, Snapshot: w.snapshot, Asked: asked, Received: received, Readings: []plant.Reading{
		{Tag: "total", Value: plant.UintValue(uint64(tags.Total))}, {Tag: "scrap", Value: plant.UintValue(uint64(tags.Scrap))},
		{Tag: "run", Value: plant.BoolValue(tags.Running)}, {Tag: "code", Value: plant.UintValue(uint64(tags.Code))},
		{Tag: "order", Value: plant.TextValue(tags.Order)}, {Tag: "temp", Value: plant.FloatValue(tags.Temperature)},
	}}
	w.snapshot = false
	for i := range scan.Readings {
		scan.Readings[i].Quality = plant.Good
	}
	fault := w.random.IntN(500)
	if w.reads < 10 {
		fault = -1
	}
	switch fault {
	case 0: // a reading of bad quality holds anything
		i := w.random.IntN(len(scan.Readings))
		scan.Readings[i].Quality = plant.Bad
		scan.Readings[i].Value = plant.UintValue(0)
		w.blind = append(w.blind, floor.Cut{Began: asked, Ended: asked})
	case 1: // a PLC that shows 0 for once
		scan.Readings[0].Value = plant.UintValue(0)
	default:
		w.account()
	}
	w.pass(received.Sub(w.line.Now()), true)
	w.step(scan)
}

// account notes what was made by a good reading. What was made between the one
// before and a loss of power that cleared the counters is not known to anybody.
func (w *watch) account() {
	truth := w.line.Truth()
	for ; w.dark < len(truth.Cuts); w.dark++ {
		cut := truth.Cuts[w.dark]
		if !w.keep {
			w.unseen[0] += cut.Good - w.seen[0]
			w.unseen[1] += cut.Scrap - w.seen[1]
		}
		w.seen = [2]int64{cut.Good, cut.Scrap}
	}
	w.seen = [2]int64{truth.Good, truth.Scrap}
	if w.reads == 0 {
		w.first = w.seen
	}
	w.reads++
}

func (w *watch) lose() { w.blind = append(w.blind, floor.Cut{Began: w.line.Now()}) }

func (w *watch) connect() {
	w.connected, w.snapshot = true, true
	w.session++
	w.blind[len(w.blind)-1].Ended = w.line.Now()
	w.step(plant.DeviceState{At: w.line.Now(), Device: "plc", Session: w.session, Connected: true})
}

// away takes the link away while the line goes on.
func (w *watch) away(d time.Duration) {
	if w.connected {
		w.connected = false
		w.lose()
		w.step(plant.DeviceState{At: w.line.Now(), Device: "plc", Cause: "no answer"})
	}
	w.pass(d, true)
}

// restart restarts the gateway, clean or by a kill.
func (w *watch) restart(killed bool) {
	if !killed {
		w.step(plant.Stop{At: w.line.Now()})
		w.committed = encode(w.t, w.m, &w.state)
	}
	if w.connected {
		w.lose()
	}
	w.pass(time.Duration(w.random.IntN(60)+1)*time.Second, false)
	w.state = decode(w.t, w.m, w.committed)
	w.wake = (&run{m: w.m, s: &w.state}).wake()
	w.connected = false
}

// blindDuring reports whether the line was not watched at some moment between.
func (w *watch) blindDuring(from, to time.Time) bool {
	return slices.ContainsFunc(w.blind, func(c floor.Cut) bool {
		return !c.Began.After(to.Add(4*time.Second)) && (c.Ended.IsZero() || !c.Ended.Before(from.Add(-4*time.Second)))
	})
}

// judge holds the events against the truth.
func (w *watch) judge() {
	truth := w.line.Truth()
	orders := map[string]*[2]int64{}
	var sum, last [2]int64
	var stops []plant.StartStop
	var at []time.Time
	for _, e := range w.events {
		switch e.Kind {
		case plant.KindCounter:
			var c plant.Counter
			w.parse(e, &c)
			delta := [2]int64{c.GoodDelta, c.Scrap[0].Delta}
			last = [2]int64{c.Good, c.Scrap[0].Quantity}
			number := ""
			if c.Order != nil {
				number = c.Order.Number
			}
			if orders[number] == nil {
				orders[number] = new([2]int64)
			}
			for i := range delta {
				sum[i] += delta[i]
				orders[number][i] += delta[i]
			}
		case plant.KindStartStop:
			var s plant.StartStop
			w.parse(e, &s)
			stops, at = append(stops, s), append(at, e.Time)
		}
	}
	want := [2]int64{truth.Good - w.unseen[0], truth.Scrap - w.unseen[1]}
	for i := range want {
		want[i] -= w.first[i]
	}
	if sum != last || sum[0]+sum[1] != want[0]+want[1] {
		w.t.Errorf("counted %v (cumulative %v), made %v of which %v before the first reading and %v before a loss of power", sum, last, [2]int64{truth.Good, truth.Scrap}, w.first, w.unseen)
	}
	w.judgeOrders(orders)
	w.judgeStops(stops, at)
}

func (w *watch) parse(e plant.Event, into any) {
	if err := json.Unmarshal(e.Data, into); err != nil {
		w.t.Fatal(err)
	}
}

// judgeOrders: each piece is its order's, or no order's if nobody looked while
// the order changed.
func (w *watch) judgeOrders(counted map[string]*[2]int64) {
	orders := w.line.Truth().Orders
	exact := 0
	for i, o := range orders {
		next := w.line.Now()
		if i+1 < len(orders) {
			next = orders[i+1].Began
		}
		got := counted[o.Order]
		if got == nil {
			got = new([2]int64)
		}
		if got[0]+got[1] > o.Good+o.Scrap {
			w.t.Errorf("order %s has %d pieces, %d were made", o.Order, got[0]+got[1], o.Good+o.Scrap)
		}
		dark := slices.ContainsFunc(w.line.Truth().Cuts, func(c floor.Cut) bool { return c.Began.Before(next) && c.Ended.After(o.Began) })
		if i == 0 || dark || w.blindDuring(o.Began.Add(-time.Minute), o.Began.Add(time.Minute)) || w.blindDuring(next.Add(-time.Minute), next.Add(time.Minute)) {
			continue
		}
		exact++
		if got[0]+got[1] != o.Good+o.Scrap {
			w.t.Errorf("order %s has %v, made were %d good and %d scrap", o.Order, *got, o.Good, o.Scrap)
		}
	}
	if exact < len(orders)/4 {
		w.t.Errorf("only %d of %d orders could be judged: the day shows little", exact, len(orders))
	}
}

// judgeStops: each stop that could be seen is told once, with its reason and its
// time, and nothing else is told.
func (w *watch) judgeStops(told []plant.StartStop, at []time.Time) {
	const near = 1300 * time.Millisecond
	used := make([]bool, len(told))
	judged := 0
	for _, s := range w.line.Truth().Stops {
		end := s.Ended
		if end.IsZero() {
			end = w.line.Now()
		}
		if end.Sub(s.Began) < 8*time.Second || w.blindDuring(s.Began, s.Began.Add(9*time.Second)) {
			continue
		}
		judged++
		i := 0
		for i < len(told) && (used[i] || told[i].Running != 0 || at[i].Sub(s.Began).Abs() > near) {
			i++
		}
		if i == len(told) || told[i].Reason != fmt.Sprint(s.Code) {
			w.t.Errorf("the stop at %s with code %d is not told as it was: %d", s.Began, s.Code, i)
			continue
		}
		used[i] = true
		if w.blindDuring(s.Began, end) || s.Ended.IsZero() {
			continue
		}
		if i+1 >= len(told) || told[i+1].Running != 1 || told[i+1].StopID != told[i].StopID ||
			(time.Duration(told[i+1].Duration)-end.Sub(s.Began)).Abs() > 2*near {
			w.t.Errorf("the stop at %s ended %s later, told is %+v", s.Began, end.Sub(s.Began), told[min(i+1, len(told)-1)])
		}
	}
	if judged < len(w.line.Truth().Stops)/2 {
		w.t.Errorf("only %d of %d stops could be judged", judged, len(w.line.Truth().Stops))
	}
	for i, s := range told {
		// What is hardly longer than min_stop may be told or not.
		short := slices.ContainsFunc(w.line.Truth().Stops, func(s floor.Stop) bool {
			return at[i].Sub(s.Began).Abs() <= near && s.Ended.Sub(s.Began) > 4*time.Second
		})
		if s.Running == 0 && !used[i] && !short && !w.blindDuring(at[i], at[i].Add(9*time.Second)) {
			w.t.Errorf("a stop is told at %s that never was: %+v", at[i], s)
		}
	}
	ids := uint64(0)
	for _, s := range told {
		if s.Running == 0 {
			if ids++; s.StopID != ids {
				w.t.Errorf("stop %d follows on %d", s.StopID, ids-1)
			}
		}
	}
}
