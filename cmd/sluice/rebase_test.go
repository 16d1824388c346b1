package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/buffer"
	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/derive"
	"github.com/sluice-edge/sluice/plant"
)

// countTotals runs the rules of a press over a store, with one reading of its total
// for each of made, and returns the events that the store then has.
func countTotals(t *testing.T, path string, made ...int) (events []plant.Event) {
	t.Helper()
	section, faults := config.ParseSection("PRESS-01", "press.yaml", "device: press\ncounter: {good: made, max_rate: 1000/s, pieces: 1}\n")
	var o derive.Options
	if faults = append(faults, section.Decode(&o)...); len(faults.Errors()) > 0 {
		t.Fatal(faults)
	}
	model, err := derive.NewModel("PRESS-01", o, derive.Catalog{"press": {{ID: "made", Type: plant.TypeUint32}}})
	if err != nil {
		t.Fatal(err)
	}
	settings := buffer.DefaultOptions(path)
	settings.Gateway, settings.Source = "gw-1", "/acme/lisbon/packing"
	store, err := buffer.Open(context.Background(), settings, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	worker := derive.NewWorker(model, store, nil, derive.WorkerOptions{}, zap.NewNop())
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- worker.Run(ctx) }()
	if err := worker.Submit(ctx, plant.Tick{At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	for i, n := range made {
		// Submit returns when what followed is durable.
		err := worker.Submit(ctx, plant.Scan{
			Device: "press", Session: 1, Snapshot: i == 0, Received: time.Now(),
			Readings: []plant.Reading{{Tag: "made", Value: plant.IntValue(int64(n)), Quality: plant.Good}},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for e, err := range store.Events(context.Background(), "PRESS-01", 0, 1000) {
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	return events
}

// TestARestoredStoreRebases: the store is put back as it was some pieces ago.
// The loss is told, the total of the PLC brings the pieces back, and the first
// count afterwards says that the cumulative number is the one to take, also if
// the gateway is restarted in between.
func TestARestoredStoreRebases(t *testing.T) {
	path := t.TempDir()
	countTotals(t, path, 100, 101, 102)
	store, old := filepath.Join(path, "store"), filepath.Join(t.TempDir(), "store")
	if err := os.CopyFS(old, os.DirFS(store)); err != nil {
		t.Fatal(err)
	}
	if n := len(countTotals(t, path, 102, 103, 104, 105)); n != 5 {
		t.Fatalf("%d counts, want 5", n)
	}
	if err := os.RemoveAll(store); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(store, os.DirFS(old)); err != nil {
		t.Fatal(err)
	}
	countTotals(t, path)
	told := ""
	for _, e := range countTotals(t, path, 110, 111) {
		var data struct {
			Good        int64
			First, Last uint64
			Cause       string
			Rebase      bool
		}
		if err := json.Unmarshal(e.Data, &data); err != nil {
			t.Fatal(err)
		}
		told += fmt.Sprintf("%d %s", uint64(e.Sequence), e.Kind)
		switch e.Kind {
		case plant.KindCounter:
			told += fmt.Sprintf(" %d rebase %t; ", data.Good, data.Rebase)
		case plant.KindGap:
			told += fmt.Sprintf(" %d…%d %s; ", data.First, data.Last, data.Cause)
		}
	}
	want := "1 counter 1 rebase false; 2 counter 2 rebase false; 6 gap 3…5 restored_copy; 7 counter 10 rebase true; 8 counter 11 rebase false; "
	if told != want {
		t.Errorf("the stream is\n%s, want\n%s", told, want)
	}
}

// TestAStateThatCannotBeReadKeepsTheCounts: the rules begin anew, the loss is
// told, and the counts go on from the newest event of the store and from the
// PLC's number in it, as a rebase.
func TestAStateThatCannotBeReadKeepsTheCounts(t *testing.T) {
	path := t.TempDir()
	countTotals(t, path, 100, 101, 102)
	settings := buffer.DefaultOptions(path)
	settings.Gateway, settings.Source = "gw-1", "/acme/lisbon/packing"
	store, err := buffer.Open(context.Background(), settings, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Commit(context.Background(), "PRESS-01", plant.Batch{State: []byte(`{"v":1,"counter":7}`)}); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	told := ""
	for _, e := range countTotals(t, path, 120, 121) {
		var data struct {
			Good   int64
			Rebase bool
		}
		if err := json.Unmarshal(e.Data, &data); err != nil {
			t.Fatal(err)
		}
		told += fmt.Sprintf("%d %s %d %t; ", uint64(e.Sequence), e.Kind, data.Good, data.Rebase)
	}
	if want := "1 counter 1 false; 2 counter 2 false; 3 gap 0 false; 4 counter 20 true; 5 counter 21 false; "; told != want {
		t.Errorf("the stream is\n%s, want\n%s", told, want)
	}
}
