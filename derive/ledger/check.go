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
}

// Check makes the books of a machine again from its events and compares. first
// is the oldest event that is kept; events yields them in order and may yield
// other kinds too. With mend the rows that differ are put right. Booking waits
// meanwhile. It may be called from any goroutine.
func (k *Keeper) Check(ctx context.Context, m plant.MachineID, first plant.Sequence, events iter.Seq2[plant.Event, error], mend bool) (Verdict, error) {
	k.turn.Lock()
	defer k.turn.Unlock()
	v := Verdict{Machine: m}
	c, err := k.load(ctx, m, first)
	if err != nil || c == nil {
		return v, err
	}
	v.Kept, v.Missing, v.Unbooked, v.Reason = c.head.Day+1-c.head.Kept, c.head.Missing, c.head.Unbooked, c.head.Reason
	if c.day > c.head.Day {
		return v, nil // the current day began before the oldest event that is kept
	}
	v.Days = c.head.Day + 1 - c.day
	if v.Events, err = c.replay(events); err != nil {
		return v, err
	}
	puts := c.compare(&v)
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
	head head
	// day is the first that is wholly within the events that are kept, first its
	// first event.
	day   uint64
	first plant.Sequence
	// stored are the rows that events since then may have changed, under their
	// keys; book makes them anew.
	stored map[string][]byte
	book   *book
}

// load reads the books. It returns nil for a machine that has none.
func (k *Keeper) load(ctx context.Context, m plant.MachineID, first plant.Sequence) (*check, error) {
	b, err := open(m, k.store.Memory)
	if err != nil || b.head.Day == 0 {
		return nil, err
	}
	c := &check{head: b.head, stored: map[string][]byte{}}
	before := head{Missing: b.head.Missing, Unbooked: b.head.Unbooked, Kept: b.head.Kept}
	for c.day = max(b.head.Kept, 1); c.day <= b.head.Day; c.day++ {
		var d day
		if err := b.get(string(dayKey(rowDay, m, c.day)), &d); err != nil {
			return nil, err
		}
		if d.First >= first {
			c.first = d.First
			break
		}
		before.Began, before.Last = d.Began, d.First
	}
	before.Day, before.Last = c.day-1, c.first-1
	if c.first == 0 {
		return c, nil
	}
	base := map[string][]byte{}
	if err := k.loadRows(ctx, m, c, base); err != nil {
		return nil, err
	}
	c.book = &book{machine: m, head: before, changed: map[string][]byte{}, read: func(key string) ([]byte, error) { return base[key], nil }}
	return c, nil
}

// loadRows collects the rows that events since the day may have changed, and
// the stocks as they were at its beginning.
func (k *Keeper) loadRows(ctx context.Context, m plant.MachineID, c *check, base map[string][]byte) error {
	var bad error
	each := func(prefix []byte, do func(kv plant.KV) error) error {
		err := k.store.Each(ctx, string(prefix), func(kv plant.KV) bool { bad = do(kv); return bad == nil })
		if err == nil {
			err = bad
		}
		return err
	}
	stocks := len(prefix(rowStock, m))
	err := each(prefix(rowStock, m), func(kv plant.KV) error {
		var s stock
		if err := json.Unmarshal(kv.Value, &s); err != nil {
			return fmt.Errorf("%w of machine %s: %w", errRow, m, err)
		}
		if s.Day >= c.day {
			c.stored[kv.Key] = kv.Value
		} else {
			base[kv.Key] = kv.Value
		}
		return nil
	})
	for d := c.day; d <= c.head.Day && err == nil; d++ {
		before := dayKey(rowOpening, m, d)
		err = each(before, func(kv plant.KV) error {
			c.stored[kv.Key] = kv.Value
			key := string(prefix(rowStock, m)[:stocks]) + kv.Key[len(before):]
			if _, known := base[key]; known {
				return nil // an earlier day has it
			}
			s := stock{Day: c.day - 1}
			if err := json.Unmarshal(kv.Value, &s.Quantity); err != nil {
				return fmt.Errorf("%w of machine %s: %w", errRow, m, err)
			}
			value, err := json.Marshal(s)
			base[key] = value
			return err
		})
		if err == nil {
			err = each(dayKey(rowUse, m, d), func(kv plant.KV) error { c.stored[kv.Key] = kv.Value; return nil })
		}
		if err == nil {
			err = each(dayKey(rowDay, m, d), func(kv plant.KV) error { c.stored[kv.Key] = kv.Value; return nil })
		}
	}
	return err
}

// replay books the events of the days again.
func (c *check) replay(events iter.Seq2[plant.Event, error]) (n uint64, err error) {
	for e, err := range events {
		switch {
		case err != nil:
			return n, err
		case e.Sequence < c.first || !Carries(e.Kind):
			continue
		case e.Sequence > c.head.Last:
			return n, nil
		}
		n++
		if err := c.book.add(&e); err != nil {
			return n, err
		}
	}
	return n, nil
}

// compare notes the rows that differ and returns what puts them right.
func (c *check) compare(v *Verdict) (puts []plant.KV) {
	delete(c.book.changed, string(prefix(rowHead, v.Machine))) // its counts go further back
	keys := maps.Clone(c.stored)
	maps.Copy(keys, c.book.changed)
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		stored, again := c.stored[key], c.book.changed[key]
		if bytes.Equal(stored, again) {
			continue
		}
		v.Differences = append(v.Differences, Difference{Row: describe(key), Stored: string(stored), Events: string(again)})
		puts = append(puts, plant.KV{Key: key, Value: again})
	}
	return puts
}
