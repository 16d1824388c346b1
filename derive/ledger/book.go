package ledger

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// dayLength is how long a day of the books is. A day is no calendar day: it is
// what is kept, checked and dropped together, and begins with an event.
const dayLength = 24 * time.Hour

// head is what is known of a machine's books as a whole.
type head struct {
	// Day is the current day, from 1; Began when it began, in seconds since 1970.
	Day   uint64 `json:"d"`
	Began int64  `json:"t"`
	// Kept is the first day that is kept.
	Kept uint64 `json:"k,omitempty"`
	// Last is the newest event that is booked.
	Last plant.Sequence `json:"s"`
	// Missing counts events that gap events name as lost, Unbooked those that
	// could not be booked; Reason says why for the newest of them, Refused.
	Missing  uint64         `json:"m,omitempty"`
	Unbooked uint64         `json:"u,omitempty"`
	Refused  plant.Sequence `json:"r,omitempty"`
	Reason   string         `json:"why,omitempty"`
}

// day is where a day of the books began.
type day struct {
	First plant.Sequence `json:"s"`
	Began int64          `json:"t"`
}

// stock is how much lies at a place; Day is when it changed last.
type stock struct {
	Quantity plant.Decimal `json:"q"`
	Day      uint64        `json:"d"`
}

// use is what was consumed of it in an hour.
type use struct {
	Quantity  plant.Decimal `json:"q"`
	Estimated plant.Decimal `json:"e,omitzero"`
	Doses     uint64        `json:"n"`
}

// errRow says that a row of the books is damaged.
var errRow = errors.New("ledger: a row of the books cannot be read")

// rows reads what is on record under a key, nil for nothing.
type rows func(key string) ([]byte, error)

// book books events of one machine. It collects the rows that they change, so
// that those can be committed together with the cursor.
type book struct {
	machine plant.MachineID
	read    rows
	changed map[string][]byte
	head    head
	entries []Entry
}

// mostDays is more than any books have: a head that names more is damaged, and a
// check would go through all of them.
const mostDays = 200 * 366

// open reads the head of a machine's books.
func open(m plant.MachineID, read rows) (*book, error) {
	b := &book{machine: m, read: read, changed: map[string][]byte{}}
	h := &b.head
	if err := b.get(string(prefix(rowHead, m)), h); err != nil {
		return b, err
	}
	if err := h.plausible(); err != nil {
		return b, fmt.Errorf("%w of machine %s: %w", errRow, m, err)
	}
	return b, nil
}

// plausible refuses a head that names days which there cannot be.
func (h *head) plausible() error {
	if h.Day > h.Kept+mostDays || h.Kept > h.Day {
		return fmt.Errorf("its head names the days %d to %d", h.Kept, h.Day)
	}
	return nil
}

// get reads a row into v, and leaves it alone if there is none.
func (b *book) get(key string, v any) error {
	value, changed := b.changed[key]
	if !changed {
		var err error
		if value, err = b.read(key); err != nil {
			return fmt.Errorf("%w of machine %s: %w", errRow, b.machine, err)
		}
	}
	if value == nil {
		return nil
	}
	if err := json.Unmarshal(value, v); err != nil {
		return fmt.Errorf("%w of machine %s: %w", errRow, b.machine, err)
	}
	return nil
}

func (b *book) put(key string, v any) {
	value, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("ledger: encode a row: %v", err)) // all rows encode
	}
	b.changed[key] = value
}

// add books one event. The same event is booked once: one at or before the
// newest is passed over. The error is one of reading rows only; an event that
// cannot be booked is counted and named in the head.
func (b *book) add(e *plant.Event) error {
	if e.Sequence <= b.head.Last {
		return nil
	}
	if e.Kind == plant.KindGap {
		var gap plant.GapData
		if json.Unmarshal(e.Data, &gap) == nil && gap.First != 0 {
			b.head.Missing += gap.Count
		}
		b.note(e)
		return nil
	}
	entries, err := Entries(b.entries[:0], e)
	b.entries = entries
	if err == nil && len(entries) == 0 {
		return nil
	}
	b.turn(e)
	// All entries of an event are booked or none, so that a transfer stays zero.
	staged := &book{machine: b.machine, read: b.row, changed: map[string][]byte{}, head: b.head}
	for i := range entries {
		if err == nil {
			err = staged.entry(&entries[i], e.Time)
		}
	}
	switch {
	case err == nil:
		for key, value := range staged.changed {
			b.changed[key] = value
		}
	case errors.Is(err, errRow):
		return err
	default:
		b.head.Unbooked++
		b.head.Refused, b.head.Reason = e.Sequence, err.Error()
	}
	b.note(e)
	return nil
}

// row reads a row as it will be.
func (b *book) row(key string) ([]byte, error) {
	if value, ok := b.changed[key]; ok {
		return value, nil
	}
	return b.read(key)
}

func (b *book) note(e *plant.Event) {
	b.head.Last = e.Sequence
	b.put(string(prefix(rowHead, b.machine)), &b.head)
}

// turn begins a new day of the books if the event is a day away from the
// beginning of this one, in either direction.
func (b *book) turn(e *plant.Event) {
	at := e.Time.Unix()
	if off := at - b.head.Began; b.head.Day != 0 && max(off, -off) < int64(dayLength/time.Second) {
		return
	}
	b.head.Day++
	b.head.Began = at
	if b.head.Kept == 0 {
		b.head.Kept = b.head.Day
	}
	b.put(string(dayKey(rowDay, b.machine, b.head.Day)), day{First: e.Sequence, Began: at})
}

// entry books one entry.
func (b *book) entry(e *Entry, at time.Time) error {
	quantity, unit, err := base(e.Quantity, e.Unit)
	if err != nil {
		return fmt.Errorf("%s %s of %s: %w", e.Quantity, e.Unit, e.Component, err)
	}
	where := place{component: e.Component, lot: e.Lot, location: e.Location, unit: unit}
	key := stockKey(b.machine, where)
	var s stock
	if err := b.get(key, &s); err != nil {
		return err
	}
	if s.Day != b.head.Day {
		b.put(openingKey(b.machine, b.head.Day, where), s.Quantity)
		s.Day = b.head.Day
	}
	if s.Quantity, err = add(s.Quantity, quantity); err != nil {
		return fmt.Errorf("the stock of %s in %s: %w", e.Component, unit, err)
	}
	b.put(key, s)
	if !e.Use {
		return nil
	}
	key = useKey(b.machine, b.head.Day, useOf{
		hour: at.Unix() / 3600, component: e.Component, unit: unit, order: e.Order, lot: e.Lot, purpose: e.Purpose,
	})
	var u use
	if err := b.get(key, &u); err != nil {
		return err
	}
	if u.Quantity, err = add(u.Quantity, quantity.Neg()); err != nil {
		return fmt.Errorf("the consumption of %s in %s: %w", e.Component, unit, err)
	}
	if e.Estimated {
		if u.Estimated, err = add(u.Estimated, quantity.Neg()); err != nil {
			return err
		}
	}
	u.Doses++
	b.put(key, u)
	return nil
}

// add returns the sum in its shortest form, so that the order in which trailing
// zeros came leaves no trace.
func add(a, b plant.Decimal) (plant.Decimal, error) {
	sum, err := a.Normal().Add(b.Normal())
	return sum.Normal(), err
}

// puts returns what changed, in the order of the keys.
func (b *book) puts() []plant.KV {
	puts := make([]plant.KV, 0, len(b.changed))
	for _, key := range slices.Sorted(maps.Keys(b.changed)) {
		puts = append(puts, plant.KV{Key: key, Value: b.changed[key]})
	}
	return puts
}
