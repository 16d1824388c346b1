package ledger

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/sluice-edge/sluice/plant"
)

// survey is what can be read of a machine's books, and what cannot.
type survey struct {
	head head
	days map[uint64]day
	// bad are the rows that cannot be read, with the cause, by their keys.
	bad map[string]string
	// headless is set where the head was made again out of the other rows.
	headless bool
	// adrift is set where even the cursor does not say how far the books have come.
	adrift  bool
	headKey string
	// openings are the newest quantities that rows of older days say of stocks that
	// cannot be read, by the keys of those.
	openings map[string]plant.Decimal
}

// survey reads the books of a machine row by row, past damage. It returns nil where
// there are none. Only a fault of the store is an error.
func (k *Keeper) survey(ctx context.Context, m plant.MachineID) (*survey, error) {
	s := &survey{days: map[uint64]day{}, bad: map[string]string{}, headKey: string(prefix(rowHead, m)), openings: map[string]plant.Decimal{}}
	there := false
	err := k.each(ctx, prefix(rowDay, m), s.bad, func(key string, value []byte) error {
		var d day
		err := json.Unmarshal(value, &d)
		if there = true; err == nil {
			s.days[dayOf(key, m)] = d
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	err = k.each(ctx, prefix(rowStock, m), s.bad, func(_ string, value []byte) error {
		there = true
		return json.Unmarshal(value, new(stock))
	})
	if err != nil {
		return nil, err
	}
	if err := k.each(ctx, prefix(rowUse, m), s.bad, func(_ string, value []byte) error { return json.Unmarshal(value, new(use)) }); err != nil {
		return nil, err
	}
	if err := k.each(ctx, prefix(rowOpening, m), s.bad, s.opening(m)); err != nil {
		return nil, err
	}
	value, err := k.store.Memory(s.headKey)
	switch {
	case err != nil && !errors.Is(err, plant.ErrUnreadable):
		return nil, fmt.Errorf("ledger: %w", err)
	case err == nil && value != nil:
		if err = json.Unmarshal(value, &s.head); err == nil {
			err = s.head.plausible()
		}
	case err == nil && !there && len(s.bad) == 0:
		return nil, nil
	case err == nil:
		err = errors.New("it is gone")
	}
	if err != nil {
		s.bad[s.headKey] = err.Error()
		s.behead(m, k.store.Settled(m))
	}
	return s, nil
}

// opening notes what openings say of stocks that cannot be read; they come day by
// day.
func (s *survey) opening(m plant.MachineID) func(key string, value []byte) error {
	own, stocks := len(dayKey(rowOpening, m, 0)), string(prefix(rowStock, m))
	return func(key string, value []byte) error {
		var q plant.Decimal
		if err := json.Unmarshal(value, &q); err != nil {
			return err
		}
		if _, bad := s.bad[stocks+key[own:]]; bad {
			s.openings[stocks+key[own:]] = q
		}
		return nil
	}
}

// behead makes a head out of the rows of days and of how far the books have come. How
// many events are not in the books is not known then.
func (s *survey) behead(m plant.MachineID, settled plant.Sequence) {
	h := head{Day: 1, Kept: 1, Last: settled}
	newest := plant.Sequence(0)
	for key := range s.bad {
		if key[0] == rowDay {
			h.Day = max(h.Day, dayOf(key, m))
		}
	}
	for n, d := range s.days {
		if n >= h.Day {
			h.Day, h.Began = n, d.Began
		}
		newest = max(newest, d.First)
	}
	// A cursor that was lost too says nothing: then the events say how far they go.
	if s.adrift = settled <= newest; s.adrift {
		h.Last = newest
	}
	h.Kept = h.Day
	for n := range s.days {
		h.Kept = min(h.Kept, n)
	}
	for key := range s.bad {
		if n := dayOf(key, m); key[0] == rowDay && n > 0 {
			h.Kept = min(h.Kept, n)
		}
	}
	if h.plausible() != nil {
		h.Kept = h.Day // a row of a day that never was
	}
	s.head, s.headless = h, true
}

// dayOf reads the day out of the key of a row that has one.
func dayOf(key string, m plant.MachineID) uint64 {
	at := len(prefix(key[0], m))
	if len(key) < at+8 {
		return 0
	}
	return binary.BigEndian.Uint64([]byte(key[at:]))
}

// each calls do for the rows that begin with prefix, and notes those that cannot be
// read or that do does not understand.
func (k *Keeper) each(ctx context.Context, prefix []byte, bad map[string]string, do func(key string, value []byte) error) error {
	take := func(key string, value []byte) {
		if err := do(key, value); err != nil {
			bad[key] = err.Error()
		}
	}
	err := k.store.Each(ctx, string(prefix), func(kv plant.KV) bool { take(kv.Key, kv.Value); return true })
	if err == nil {
		return nil
	}
	if !errors.Is(err, plant.ErrUnreadable) {
		return fmt.Errorf("ledger: %w", err)
	}
	var keys []string
	if err := k.store.Keys(ctx, string(prefix), func(key string) bool { keys = append(keys, key); return true }); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	for _, key := range keys {
		switch value, err := k.store.Memory(key); {
		case errors.Is(err, plant.ErrUnreadable):
			bad[key] = err.Error()
		case err != nil:
			return fmt.Errorf("ledger: %w", err)
		case value != nil:
			take(key, value)
		}
	}
	return nil
}

// again books the events of the days again, a second time where a stock's quantity
// before them cannot be read and follows from what it is now.
func (c *check) again(base map[string][]byte, events func(*book) (uint64, error)) (n uint64, err error) {
	before := c.book.head
	begin := func() {
		c.book = &book{machine: c.book.machine, head: before, changed: map[string][]byte{}, read: func(key string) ([]byte, error) { return base[key], nil }}
	}
	begin()
	if n, err = events(c.book); err != nil {
		return n, err
	}
	found := false
	for key := range c.baseless {
		first, known := c.before(key)
		if !known {
			continue
		}
		if base[key], err = json.Marshal(stock{Quantity: first, Day: c.day - 1}); err != nil {
			return n, err
		}
		delete(c.baseless, key)
		found = true
	}
	if !found {
		return n, nil
	}
	begin()
	return events(c.book)
}

// before works out what a stock was at the beginning of the days: the difference of
// what any row says of it later, and of what the events since then come to.
func (c *check) before(key string) (first plant.Decimal, known bool) {
	m := c.book.machine
	own, openings := len(prefix(rowStock, m)), len(dayKey(rowOpening, m, 0))
	for _, at := range slices.Sorted(maps.Keys(c.stored)) {
		var said, moved stock
		read := func(value []byte, into *stock) error { return json.Unmarshal(value, into) }
		if at[0] == rowOpening && len(at) >= openings && at[openings:] == key[own:] {
			read = func(value []byte, into *stock) error { return json.Unmarshal(value, &into.Quantity) }
		} else if at != key {
			continue
		}
		again := c.book.changed[at]
		if again == nil || read(c.stored[at], &said) != nil || read(again, &moved) != nil {
			continue
		}
		if first, err := add(said.Quantity, moved.Quantity.Neg()); err == nil {
			return first, true
		}
	}
	return first, false
}

// lost says what of a row cannot be made again, empty for nothing.
func (c *check) lost(key string) string {
	m := c.book.machine
	switch key[0] {
	case rowStock:
		_, changed := c.book.changed[key]
		if _, known := c.base[key]; c.whole || known && !c.baseless[key] {
			return ""
		}
		text := "the events from before are not kept: it begins again at 0"
		if changed {
			text = "the events from before are not kept: it is what was booked since, and began at 0"
		}
		if q, known := c.survey.openings[key]; known {
			text += "; at the beginning of the day on which it changed last it was " + q.String()
		}
		return text + "; count it, and enter the difference as a correction of the stock"
	case rowOpening:
		if of := string(prefix(rowStock, m)) + key[min(len(dayKey(rowOpening, m, 0)), len(key)):]; c.baseless[of] {
			return "what was there before the events that are kept is not known: it is counted from 0"
		}
	case rowUse:
		if dayOf(key, m) < c.day {
			return "the events of that day are not kept: this consumption is missing from now on"
		}
	case rowHead:
		if c.survey.adrift && c.first == 0 {
			return fmt.Sprintf("nobody knows which events were booked: those up to %d count as booked, and their consumption may be missing", c.head.Last)
		}
		return fmt.Sprintf("how many events were lost or not booked before event %d is not known any more", c.first)
	}
	return ""
}
