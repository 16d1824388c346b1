package ledger

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/sluice-edge/sluice/plant"
)

// Verdict is what a check of one machine's books found.
type Verdict struct {
	Machine plant.MachineID `json:"machine"`
	// Days is how many days were made again from events, of Kept that are kept; the
	// rest is older than the events that are kept.
	Days uint64 `json:"days"`
	Kept uint64 `json:"kept"`
	// Events is how many events were booked again.
	Events uint64 `json:"events"`
	// Missing counts events that were lost before they could be booked, Unbooked
	// those that could not be; Reason says why for the newest.
	Missing  uint64 `json:"missing,omitempty"`
	Unbooked uint64 `json:"unbooked,omitempty"`
	Reason   string `json:"reason,omitempty"`
	// Differences are rows that are not what the events lead to.
	Differences []Difference `json:"differences,omitempty"`
	// Mended is set if the rows were put right.
	Mended bool `json:"mended,omitempty"`
}

// Difference is one row of the books that is not what the events lead to.
type Difference struct {
	// Row names it; Stored is what it was, Events what the events lead to. Empty is
	// no row.
	Row    string `json:"row"`
	Stored string `json:"stored,omitempty"`
	Events string `json:"events,omitempty"`
	// Lost says what of a row that cannot be read does not follow from the events,
	// empty for nothing.
	Lost string `json:"lost,omitempty"`
}

// Check makes the books of a machine again from its events and compares. first
// is the oldest event that is kept; events yields them in order, each time it is
// asked, and may yield other kinds too. Rows that cannot be read differ. With mend the
// rows that differ are put right: what follows from the events is made anew, of the
// rest Difference.Lost says what is not known any more. Booking waits meanwhile. It
// may be called from any goroutine.
func (k *Keeper) Check(ctx context.Context, m plant.MachineID, first plant.Sequence, events iter.Seq2[plant.Event, error], mend bool) (Verdict, error) {
	k.turn.Lock()
	defer k.turn.Unlock()
	v := Verdict{Machine: m}
	c, err := k.load(ctx, m, first)
	if err != nil || c == nil {
		return v, err
	}
	v.Kept = c.head.Day + 1 - c.head.Kept
	if c.day <= c.head.Day { // else the current day began before the oldest event that is kept
		v.Days = c.head.Day + 1 - c.day
		if v.Events, err = c.again(c.base, func(b *book) (uint64, error) { return c.replay(b, events) }); err != nil {
			return v, err
		}
	}
	if c.survey.adrift && v.Days == 0 {
		// Nobody knows what is booked: rather once too few than twice.
		for e, err := range events {
			if err != nil {
				return v, err
			}
			c.head.Last = max(c.head.Last, e.Sequence)
		}
	}
	puts := c.compare(&v)
	v.Missing, v.Unbooked, v.Reason = c.head.Missing, c.head.Unbooked, c.head.Reason
	for chunk := range slices.Chunk(puts, batchDrop) {
		if !mend {
			break
		}
		if err := k.store.Put(ctx, chunk); err != nil {
			return v, fmt.Errorf("ledger: %w", err)
		}
		v.Mended = true
	}
	return v, nil
}

// check is the books of a machine, once as they stand and once made again from
// the beginning of a day on.
type check struct {
	survey *survey
	head   head
	// day is the first that is wholly within the events that are kept, first its
	// first event.
	day   uint64
	first plant.Sequence
	// whole is set where every event that was ever recorded is kept: before the day
	// there was nothing.
	whole bool
	// stored are the rows that events since then may have changed, under their
	// keys; book makes them anew. base are the stocks at the beginning of the day,
	// baseless those that are not known then.
	stored   map[string][]byte
	base     map[string][]byte
	baseless map[string]bool
	book     *book
}

// load reads the books. It returns nil for a machine that has none.
func (k *Keeper) load(ctx context.Context, m plant.MachineID, first plant.Sequence) (*check, error) {
	s, err := k.survey(ctx, m)
	if err != nil || s == nil || s.head.Day == 0 {
		return nil, err
	}
	c := &check{survey: s, head: s.head, stored: map[string][]byte{}, base: map[string][]byte{}, baseless: map[string]bool{}}
	before := head{Missing: c.head.Missing, Unbooked: c.head.Unbooked, Kept: c.head.Kept}
	for c.day = max(c.head.Kept, 1); c.day <= c.head.Day; c.day++ {
		d, known := s.days[c.day]
		if !known && c.day == 1 && first <= 1 {
			d.First, known = 1, true // every event ever recorded is kept
		}
		if known && d.First >= first {
			c.first = d.First
			break
		}
		before.Began = d.Began
	}
	c.whole = c.day == 1 && first <= 1
	before.Day, before.Last = c.day-1, max(c.first, 1)-1
	c.book = &book{machine: m, head: before, changed: map[string][]byte{}}
	if c.first == 0 {
		c.day = c.head.Day + 1
		return c, nil
	}
	return c, k.loadRows(ctx, m, c)
}

// loadRows collects the rows that events since the day may have changed, and
// the stocks as they were at its beginning. Rows that cannot be read are left out.
func (k *Keeper) loadRows(ctx context.Context, m plant.MachineID, c *check) error {
	ignored := map[string]string{} // the survey has them
	stocks := string(prefix(rowStock, m))
	err := k.each(ctx, []byte(stocks), ignored, func(key string, value []byte) error {
		var s stock
		if err := json.Unmarshal(value, &s); err != nil {
			return err
		}
		if s.Day >= c.day {
			c.stored[key] = value
		} else {
			c.base[key] = value
		}
		return nil
	})
	for d := c.day; d <= c.head.Day && err == nil; d++ {
		before := dayKey(rowOpening, m, d)
		for key := range c.survey.bad {
			if of := stocks + key[min(len(before), len(key)):]; !c.whole && key[0] == rowOpening && dayOf(key, m) == d && c.base[of] == nil {
				c.baseless[of] = true
			}
		}
		err = k.each(ctx, before, ignored, func(key string, value []byte) error {
			c.stored[key] = value
			of := stocks + key[len(before):]
			if _, known := c.base[of]; known || c.baseless[of] || c.whole {
				return nil // an earlier day has it, or it was 0
			}
			s := stock{Day: c.day - 1}
			if err := json.Unmarshal(value, &s.Quantity); err != nil {
				return err
			}
			value, err := json.Marshal(s)
			c.base[of] = value
			return err
		})
		for _, row := range []byte{rowUse, rowDay} {
			if err == nil {
				err = k.each(ctx, dayKey(row, m, d), ignored, func(key string, value []byte) error { c.stored[key] = value; return nil })
			}
		}
	}
	for key := range ignored {
		delete(c.stored, key)
	}
	return err
}

// replay books the events of the days again.
func (c *check) replay(b *book, events iter.Seq2[plant.Event, error]) (n uint64, err error) {
	for e, err := range events {
		switch {
		case err != nil:
			return n, err
		case e.Sequence < c.first || !Carries(e.Kind):
			continue
		case e.Sequence > c.head.Last && !c.survey.adrift:
			return n, nil
		}
		n++
		if err := b.add(&e); err != nil {
			return n, err
		}
	}
	return n, nil
}

// compare notes the rows that differ and returns what puts them right.
func (c *check) compare(v *Verdict) (puts []plant.KV) {
	bad := c.survey.bad
	headKey := string(prefix(rowHead, v.Machine))
	if c.survey.headless {
		c.head.Missing, c.head.Unbooked = c.book.head.Missing, c.book.head.Unbooked
		c.head.Refused, c.head.Reason = c.book.head.Refused, c.book.head.Reason
		if v.Days > 0 {
			c.head.Day, c.head.Began = max(c.head.Day, c.book.head.Day), c.book.head.Began
			c.head.Last = max(c.head.Last, c.book.head.Last)
		}
		c.book.put(headKey, &c.head)
	} else {
		delete(c.book.changed, headKey) // its counts go further back
	}
	keys := map[string]bool{}
	for key := range c.stored {
		keys[key] = true
	}
	for key := range c.book.changed {
		keys[key] = true
	}
	for key := range bad {
		keys[key] = true
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		stored, again := c.stored[key], c.book.changed[key]
		cause, unread := bad[key]
		if !unread && bytes.Equal(stored, again) {
			continue
		}
		d := Difference{Row: describe(key), Stored: string(stored), Events: string(again)}
		if unread {
			if again == nil && key[0] == rowStock {
				again = c.base[key]
				d.Events = string(again)
			}
			d.Stored, d.Lost = "cannot be read: "+cause, c.lost(key)
		}
		v.Differences = append(v.Differences, d)
		puts = append(puts, plant.KV{Key: key, Value: again})
	}
	return puts
}
