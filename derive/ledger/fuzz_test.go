package ledger

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// FuzzRows: whatever a row of the books says, booking goes on or says that it
// cannot be read, a check ends, and no report panics.
func FuzzRows(f *testing.F) {
	begin := func() *store {
		s := newStore()
		for i := range 3 {
			at := monday.Add(time.Duration(i) * 20 * time.Hour)
			s.add(plant.KindReceipt, at, moved("SUGAR", "100", "kg", "L1", "SILO"))
			s.add(plant.KindDosing, at.Add(time.Hour), dose("SUGAR", "2.5", "kg", "A1", plant.DosedLot{Lot: "L1", Quantity: decimal("2.5")}))
		}
		return s
	}
	booked := begin()
	booked.book(Options{})
	keys := slices.Sorted(maps.Keys(booked.rows))
	for i, key := range keys {
		f.Add(uint8(i), booked.rows[key])
		f.Add(uint8(i), []byte(`{"d":18446744073709551615,"q":-0.5,"t":-1,"s":9,"n":18446744073709551615}`))
		f.Add(uint8(i), []byte(`{"d":1152921504606846976,"k":1,"s":2}`))
		f.Add(uint8(i), []byte(`"x"`))
	}
	f.Fuzz(func(t *testing.T, which uint8, row []byte) {
		s := begin()
		k := s.book(Options{})
		s.rows[keys[int(which)%len(keys)]] = row
		s.add(plant.KindDosing, monday.Add(90*time.Hour), dose("SUGAR", "1", "kg", "A2"))
		c, err := k.load(t.Context(), machine, 1)
		if err == nil && c != nil {
			_, err = k.Check(t.Context(), machine, 1, s.kept(), true)
		}
		if err != nil && !strings.Contains(err.Error(), "ledger: ") {
			t.Errorf("a check says %v", err)
		}
		b, err := open(machine, s.Memory)
		if err != nil {
			return
		}
		for i := range s.events {
			if err := b.add(&s.events[i]); err != nil {
				return
			}
		}
		for _, kv := range b.puts() {
			if strings.HasPrefix(kv.Key, string(rowHead)) && len(kv.Value) == 0 {
				t.Errorf("an empty head")
			}
		}
		if _, err := k.Stock(t.Context(), Detail{}); err != nil && !strings.Contains(err.Error(), "ledger") {
			t.Errorf("the stock says %v", err)
		}
	})
}
