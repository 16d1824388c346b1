package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"pgregory.net/rapid"

	"github.com/sluice-edge/sluice/plant"
)

const machine plant.MachineID = "MIX-01"

// store is a Store of one machine in memory, which hands out a few events at a
// time.
type store struct {
	events []plant.Event
	low    plant.Sequence // events up to here are deleted
	cursor plant.Sequence
	rows   map[string][]byte
	most   int
	idle   func()
}

func (s *store) Next(ctx context.Context) (plant.MachineID, error) {
	if s.cursor >= s.last() {
		s.idle()
		<-ctx.Done()
		return "", ctx.Err()
	}
	return machine, nil
}

func (s *store) last() plant.Sequence {
	if len(s.events) == 0 {
		return 0
	}
	return s.events[len(s.events)-1].Sequence
}

func (s *store) Peek(_ context.Context, _ plant.MachineID, after plant.Sequence, most, _ int) (page []plant.Event, _ error) {
	after = max(after, s.cursor)
	for _, e := range s.events {
		if e.Sequence > after && Carries(e.Kind) && len(page) < min(most, s.most) {
			page = append(page, e)
		}
	}
	if len(page) == 0 {
		s.cursor = s.last()
	}
	return page, nil
}

func (s *store) Settle(_ context.Context, _ plant.MachineID, upTo plant.Sequence, results []plant.Result) error {
	s.cursor = max(s.cursor, upTo)
	for _, r := range results {
		if err := s.Put(context.Background(), r.Put); err != nil {
			return err
		}
	}
	return nil
}

func (s *store) Put(_ context.Context, values []plant.KV) error {
	for _, kv := range values {
		if kv.Value == nil {
			delete(s.rows, kv.Key)
		} else {
			s.rows[kv.Key] = kv.Value
		}
	}
	return nil
}

// unreadable is a value that the store finds damaged.
const unreadable = "\x00damaged"

func (s *store) Memory(key string) ([]byte, error) {
	if string(s.rows[key]) == unreadable {
		return nil, plant.ErrUnreadable
	}
	return s.rows[key], nil
}

func (s *store) Settled(plant.MachineID) plant.Sequence { return s.cursor }

func (s *store) Keys(_ context.Context, prefix string, do func(string) bool) error {
	for _, key := range slices.Sorted(maps.Keys(s.rows)) {
		if strings.HasPrefix(key, prefix) && !do(key) {
			return nil
		}
	}
	return nil
}

func (s *store) Each(_ context.Context, prefix string, do func(plant.KV) bool) error {
	for _, key := range slices.Sorted(maps.Keys(s.rows)) {
		if strings.HasPrefix(key, prefix) && string(s.rows[key]) == unreadable {
			return plant.ErrUnreadable
		}
		if strings.HasPrefix(key, prefix) && !do(plant.KV{Key: key, Value: s.rows[key]}) {
			return nil
		}
	}
	return nil
}

// kept yields what is not deleted.
func (s *store) kept() iter.Seq2[plant.Event, error] {
	return func(yield func(plant.Event, error) bool) {
		for _, e := range s.events {
			if e.Sequence > s.low && !yield(e, nil) {
				return
			}
		}
	}
}

func (s *store) add(kind plant.EventKind, at time.Time, data any) {
	b, err := json.Marshal(data)
	if err != nil {
		panic(err)
	}
	s.events = append(s.events, plant.Event{Machine: machine, Sequence: s.last() + 1, Kind: kind, Version: 1, Time: at, Data: b})
}

// book runs a keeper until all is booked.
func (s *store) book(o Options) *Keeper {
	k := NewKeeper(s, o, zap.NewNop())
	ctx, cancel := context.WithCancel(context.Background())
	s.idle = cancel
	if err := k.Run(ctx); err != nil {
		panic(err)
	}
	return k
}

func newStore() *store { return &store{rows: map[string][]byte{}, most: 3} }

func decimal(s string) plant.Decimal {
	d, err := plant.ParseDecimal(s)
	if err != nil {
		panic(err)
	}
	return d
}

var monday = time.Date(2026, 11, 16, 5, 30, 0, 0, time.UTC)

func dose(component, quantity, unit, order string, lots ...plant.DosedLot) plant.Dosing {
	return plant.Dosing{
		Head: plant.Head{Machine: machine, Order: &plant.Order{Number: order}}, Component: component, Quantity: decimal(quantity), Unit: unit,
		Status: "complete", Purpose: "production", Scale: "S1", Method: "handshake", Lots: lots,
	}
}

func moved(component, quantity, unit, lot, location string) plant.Movement {
	return plant.Movement{Head: plant.Head{Machine: machine}, Component: component, Quantity: decimal(quantity), Unit: unit, Lot: lot, Location: location}
}

// A day at a mixer: what the books say of it, by every column.
func TestBooksOfADay(t *testing.T) {
	s := newStore()
	s.add(plant.KindReceipt, monday, moved("SUGAR", "1", "t", "L1", "SILO"))
	s.add(plant.KindRefill, monday.Add(time.Minute), moved("SUGAR", "50", "kg", "L1", "S1"))
	s.add(plant.KindCounter, monday.Add(2*time.Minute), map[string]any{"good": 5})
	s.add(plant.KindDosing, monday.Add(3*time.Minute), dose("SUGAR", "12500", "g", "A1", plant.DosedLot{Lot: "L1", Quantity: decimal("12000")}))
	s.add(plant.KindDosing, monday.Add(63*time.Minute), dose("SUGAR", "1", "lb", "A2"))
	s.add(plant.KindRemoval, monday.Add(64*time.Minute), moved("SUGAR", "0.25", "kg", "L1", "S1"))
	water := dose("WATER", "3.5", "l", "A2")
	water.Estimated = true
	s.add(plant.KindDosing, monday.Add(65*time.Minute), water)
	k := s.book(Options{})

	stock, err := k.Stock(t.Context(), Detail{Lot: true, Location: true})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range stock {
		got = append(got, fmt.Sprint(l.Component, " ", l.Lot, " ", l.Location, " ", l.Quantity, " ", l.Unit))
	}
	want := []string{
		"SUGAR  S1 -0.95359237 kg", "SUGAR L1  -50 kg", "SUGAR L1 S1 37.75 kg", "SUGAR L1 SILO 1000 kg", "WATER  S1 -3.5 l",
	}
	if !slices.Equal(got, want) {
		t.Errorf("stock\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	// A refill is a transfer: it changes no sum.
	if all, err := k.Stock(t.Context(), Detail{}); err != nil || len(all) != 2 || all[0].Quantity.String() != "986.79640763" {
		t.Errorf("%+v %v", all, err)
	}
	total, err := k.Total(t.Context(), "SUGAR", machine)
	if err != nil || len(total.Lines) != 1 || total.Lines[0].Quantity.String() != "986.79640763" || total.Booked != s.last() || len(total.Lacking) != 0 {
		t.Errorf("%+v %v", total, err)
	}
	lines := func(from, to time.Time, by Detail) (got []string) {
		use, err := k.Consumption(t.Context(), from, to, by)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range use {
			got = append(got, strings.Join(strings.Fields(fmt.Sprint(l.Component, " ", l.Order, " ", l.Lot, " ", l.Quantity, " ", l.Unit, " ", l.Doses, " ", l.Estimated)), " "))
		}
		return got
	}
	for _, c := range []struct {
		from, to time.Time
		by       Detail
		want     []string
	}{
		{by: Detail{Order: true}, want: []string{"SUGAR A1 12.5 kg 2 0", "SUGAR A2 0.45359237 kg 1 0", "WATER A2 3.5 l 1 3.5"}},
		{by: Detail{Lot: true}, want: []string{"SUGAR 0.95359237 kg 2 0", "SUGAR L1 12 kg 1 0", "WATER 3.5 l 1 3.5"}},
		{from: monday.Add(time.Hour), want: []string{"SUGAR 0.45359237 kg 1 0", "WATER 3.5 l 1 3.5"}},
		{to: monday.Add(time.Hour), want: []string{"SUGAR 12.5 kg 2 0"}},
	} {
		if got := lines(c.from, c.to, c.by); !slices.Equal(got, c.want) {
			t.Errorf("%+v\n%s\nwant\n%s", c.by, strings.Join(got, "\n"), strings.Join(c.want, "\n"))
		}
	}
}

// The whole of a component is told unit by unit, a sum of zero too; what was never
// moved has none. Nobody waits for books that are being written.
func TestTotal(t *testing.T) {
	s := newStore()
	s.add(plant.KindReceipt, monday, moved("RESIN", "2", "kg", "L1", "A"))
	s.add(plant.KindReceipt, monday, moved("RESIN", "500", "g", "L2", "B"))
	s.add(plant.KindReceipt, monday, moved("RESIN", "3", "drum", "", "A"))
	s.add(plant.KindDosing, monday, dose("RESIN", "2.5", "kg", ""))
	k := s.book(Options{})
	total, err := k.Total(t.Context(), "RESIN", machine)
	if err != nil || len(total.Lines) != 2 || total.Lines[0].Unit != "drum" || total.Lines[0].Quantity.String() != "3" || total.Lines[1].Unit != "kg" || !total.Lines[1].Quantity.IsZero() {
		t.Errorf("%+v %v", total, err)
	}
	if total, err = k.Total(t.Context(), "WATER", machine); err != nil || len(total.Lines) != 0 {
		t.Errorf("%+v %v", total, err)
	}
	k.turn.Lock()
	if _, err = k.Total(t.Context(), "RESIN", machine); !errors.Is(err, ErrBusy) {
		t.Errorf("while they are written: %v", err)
	}
	k.turn.Unlock()
	s.rows[string(prefix(rowHead, "COUNTER-01"))] = []byte(`{"m":3}`)
	if total, err = k.Total(t.Context(), "RESIN", machine); err != nil || len(total.Lacking) != 0 {
		t.Errorf("events of a machine that moves nothing are missing: %+v %v", total, err)
	}
	s.rows[string(prefix(rowStock, machine))+"?"] = []byte("{")
	if _, err = k.Total(t.Context(), "RESIN", machine); err == nil {
		t.Error("a row that cannot be read was left out")
	}
}

// What cannot be booked is named, and what the store has lost; the rest goes on.
func TestWhatIsNotInTheBooksIsNamed(t *testing.T) {
	s := newStore()
	s.add(plant.KindDosing, monday, dose("SALT", "1", "kg", ""))
	s.add(plant.KindReceipt, monday, moved("SALT", "9000000000000000000", "t", "", ""))
	s.add(plant.KindGap, monday, plant.GapData{Head: plant.Head{Machine: machine}, First: 7, Last: 9, Count: 3, Cause: plant.GapDamaged})
	s.add(plant.KindDosing, monday, dose("SALT", "1", "kg", ""))
	s.events = append(s.events, plant.Event{Machine: machine, Sequence: s.last() + 1, Kind: plant.KindRefill, Version: 1, Time: monday, Data: []byte(`{"component": 5}`)})
	k := s.book(Options{})
	lacking, err := k.Missing(t.Context())
	if err != nil || len(lacking) != 1 || lacking[0].Missing != 3 || lacking[0].Unbooked != 2 || !strings.Contains(lacking[0].Reason, "refill") {
		t.Errorf("%+v %v", lacking, err)
	}
	if total, err := k.Total(t.Context(), "SALT", machine); err != nil || len(total.Lacking) != 1 || total.Lacking[0].Missing != 3 {
		t.Errorf("%+v %v", total, err)
	}
	if stock, err := k.Stock(t.Context(), Detail{}); err != nil || len(stock) != 1 || stock[0].Quantity.String() != "-2" {
		t.Errorf("%+v %v", stock, err)
	}
	if v, err := k.Check(t.Context(), machine, 1, s.kept(), false); err != nil || len(v.Differences) != 0 || v.Events != 5 {
		t.Errorf("%+v %v", v, err)
	}
}

// A row that is not what the events lead to is named, and put right if asked.
func TestADifferenceIsNamedAndMended(t *testing.T) {
	s := newStore()
	for day := range 4 {
		s.add(plant.KindDosing, monday.Add(time.Duration(day)*25*time.Hour), dose("SALT", "1", "kg", "A"))
	}
	k := s.book(Options{})
	for key, value := range s.rows {
		if key[0] == rowStock {
			s.rows[key] = []byte(strings.Replace(string(value), "-4", "-5", 1))
		}
	}
	v, err := k.Check(t.Context(), machine, 1, s.kept(), true)
	if err != nil || len(v.Differences) != 1 || !v.Mended || v.Days != 4 || !strings.Contains(v.Differences[0].Row, "stock SALT") {
		t.Errorf("%+v %v", v, err)
	}
	if v, err := k.Check(t.Context(), machine, 1, s.kept(), false); err != nil || len(v.Differences) != 0 {
		t.Errorf("after the mend: %+v %v", v, err)
	}
}

// Days that are no longer kept go, with their consumption; the stock stays.
func TestOldDaysGo(t *testing.T) {
	s := newStore()
	for day := range 30 {
		s.add(plant.KindDosing, monday.AddDate(0, 0, day), dose("SALT", "1", "kg", fmt.Sprint("A", day)))
	}
	s.most = 1
	k := s.book(Options{Days: 10})
	use, err := k.Consumption(t.Context(), time.Time{}, time.Time{}, Detail{Order: true})
	if err != nil || len(use) > 12 || len(use) < 10 {
		t.Errorf("%d lines of consumption, %v", len(use), err)
	}
	stock, err := k.Stock(t.Context(), Detail{})
	if err != nil || len(stock) != 1 || stock[0].Quantity.String() != "-30" {
		t.Errorf("%+v %v", stock, err)
	}
	if v, err := k.Check(t.Context(), machine, 1, s.kept(), false); err != nil || len(v.Differences) != 0 {
		t.Errorf("%+v %v", v, err)
	}
}

// Over any run, the books are what the events add up to, however the events came
// in pages and however often the keeper began anew; and made again from any
// events that are still kept they are identical.
func TestBooksAreTheSumOfTheEvents(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newStore()
		at := monday
		want := map[string]plant.Decimal{}
		sum := func(component string, d plant.Decimal) {
			var err error
			if want[component], err = add(want[component], d); err != nil {
				t.Fatal(err)
			}
		}
		for range rapid.IntRange(1, 60).Draw(t, "events") {
			at = at.Add(time.Duration(rapid.IntRange(-600, 3000).Draw(t, "minutes")) * time.Minute)
			component := rapid.SampledFrom([]string{"A", "B"}).Draw(t, "component")
			lot := rapid.SampledFrom([]string{"", "L1", "L2"}).Draw(t, "lot")
			q := plant.Decimal{Unscaled: int64(rapid.IntRange(0, 5000).Draw(t, "quantity")), Scale: 2}
			switch rapid.IntRange(0, 5).Draw(t, "kind") {
			case 0:
				s.add(plant.KindReceipt, at, moved(component, q.String(), "kg", lot, "SILO"))
				sum(component, q)
			case 1:
				s.add(plant.KindRefill, at, moved(component, q.String(), "kg", lot, "S1"))
			case 2:
				s.add(plant.KindRemoval, at, moved(component, q.String(), "kg", lot, "S1"))
				sum(component, q.Neg())
			case 3:
				s.add(plant.KindCorrection, at, plant.CorrectionEvent{Material: &plant.MaterialCorrection{Component: component, Lot: lot, Quantity: q.Neg(), Unit: "kg"}})
				sum(component, q.Neg())
				s.add(plant.KindCorrection, at, plant.CorrectionEvent{Good: -1, Scrap: 1})
				s.add(plant.KindParameters, at, map[string]any{})
			default:
				s.add(plant.KindDosing, at, dose(component, q.String(), "kg", lot, plant.DosedLot{Lot: lot, Quantity: q}))
				sum(component, q.Neg())
			}
			if rapid.IntRange(0, 4).Draw(t, "book now") == 0 {
				s.most = rapid.IntRange(1, 5).Draw(t, "page")
				s.book(Options{})
				// A crash after the commit and before anybody heard of it: the page comes again.
				s.cursor = plant.Sequence(rapid.Uint64Range(0, uint64(s.cursor)).Draw(t, "cursor"))
			}
		}
		k := s.book(Options{})
		stock, err := k.Stock(context.Background(), Detail{})
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range stock {
			if l.Quantity.Cmp(want[l.Component]) != 0 {
				t.Fatalf("stock of %s is %s, want %s", l.Component, l.Quantity, want[l.Component])
			}
			delete(want, l.Component)
		}
		for component, d := range want {
			if !d.IsZero() {
				t.Fatalf("stock of %s is 0, want %s", component, d)
			}
		}
		s.low = plant.Sequence(rapid.Uint64Range(0, uint64(s.last())).Draw(t, "deleted"))
		before := maps.Clone(s.rows)
		v, err := k.Check(context.Background(), machine, s.low+1, s.kept(), true)
		if err != nil || len(v.Differences) > 0 || !maps.EqualFunc(before, s.rows, slices.Equal) {
			t.Fatalf("made again from event %d: %+v %v", s.low+1, v, err)
		}
	})
}

// A key is read back as it was written, whatever a PLC sends.
func TestKeys(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringN(0, 40, maxField)
		p := place{text.Draw(t, "component"), text.Draw(t, "lot"), text.Draw(t, "location"), text.Draw(t, "unit")}
		r := parser{rest: []byte(stockKey(machine, p))[1:]}
		if r.text() != string(machine) || r.place() != p || r.end() != nil {
			t.Fatalf("%q", p)
		}
	})
	long := strings.Repeat("x", 300)
	a, b := appendText(nil, long+"a"), appendText(nil, long+"b")
	if slices.Equal(a, b) || len(a) > maxField+1 {
		t.Errorf("%q %q", a, b)
	}
	for _, key := range []string{"s", "s\x05MIX", "u\x01M12345678", "h\xff"} {
		_ = describe(key) // no key makes it panic
	}
}
