package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/plant"
)

// TestShiftBook: the count with which each shift began is kept over restarts, also
// where the gateway was down at that moment, and a damaged file costs no start.
func TestShiftBook(t *testing.T) {
	config, folder := storedPlant(t, "http://127.0.0.1:9/", "")
	p, faults := loadPlan(config, driverKinds, uplinkKinds)
	if errs := faults.Errors(); len(errs) > 0 {
		t.Fatal(errs)
	}
	zone := time.UTC
	day := time.Date(2026, 7, 27, 0, 0, 0, 0, zone)
	var stored []byte
	newest := func(context.Context, plant.MachineID, plant.EventKind, int) ([][]byte, error) {
		if stored == nil {
			return nil, nil
		}
		return [][]byte{stored}, nil
	}
	open := func() *shiftBook {
		t.Helper()
		b := newShiftBook(folder, p.Machines, shiftAround(zone), zap.NewNop())
		if err := b.load(t.Context(), newest); err != nil {
			t.Fatal(err)
		}
		return b
	}
	b := open()
	count := func(to time.Time, good, delta int64) {
		t.Helper()
		data, err := json.Marshal(plant.Counter{Good: good, GoodDelta: delta, To: to})
		if err != nil {
			t.Fatal(err)
		}
		stored = data
		b.note("PRESS-01", []plant.Event{{Kind: plant.KindParameters, Time: to, Data: []byte("{}")}, {Kind: plant.KindCounter, Time: to, Data: data}})
	}
	want := func(day time.Time, pieces int64) {
		t.Helper()
		if got := b.at("PRESS-01", day); got == nil || *got != pieces {
			t.Errorf("%s: %v, want %d", day.Format(time.DateOnly), got, pieces)
		}
	}
	count(day.Add(time.Hour), 5, 5)
	count(day.Add(2*time.Hour), 9, 4)
	count(day.Add(24*time.Hour), 12, 3) // ends with the day
	count(day.Add(25*time.Hour), 14, 2)
	want(day, 0)
	want(day.AddDate(0, 0, 1), 12)
	if err := b.save(); err != nil {
		t.Fatal(err)
	}
	b = open()
	count(day.Add(26*time.Hour), 20, 6)
	want(day.AddDate(0, 0, 1), 12)
	count(day.Add(97*time.Hour), 30, 10) // nothing was counted for three days
	want(day.AddDate(0, 0, 2), 20)
	want(day.AddDate(0, 0, 4), 20)
	if got := b.at("PRESS-01", day.AddDate(0, 0, 5)); got != nil {
		t.Errorf("tomorrow begins with %d", *got)
	}
	if got := b.at("PRESS-01", day.AddDate(0, 0, -1)); got != nil {
		t.Errorf("the day before the first began with %d", *got)
	}
	if err := b.save(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "shifts.json"), []byte(`{"PRESS-01":[{"be`), 0o600); err != nil {
		t.Fatal(err)
	}
	b = open()
	count(day.Add(98*time.Hour), 31, 1)
	if got := b.at("PRESS-01", day.AddDate(0, 0, 4)); got != nil {
		t.Errorf("in the middle of a day its beginning is known: %d", *got)
	}
}
