package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/internal/audit"
	"github.com/sluice-edge/sluice/plant"
)

// Acknowledgements are in the audit log: the first, the edges, and the others by
// number; heartbeats are not.
func TestWritesAreAudited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var entries []string
		begin := time.Now()
		add := func(e audit.Entry) (uint64, error) {
			mu.Lock()
			defer mu.Unlock()
			entries = append(entries, time.Since(begin).Truncate(time.Minute).String()+" "+e.Object+" "+e.Outcome+": "+e.Detail)
			return uint64(len(entries)), nil
		}
		w := newWriteAudit(&plan{}, add, zap.NewNop())
		ack := plant.TagRef{Device: "scale", Tag: "ack"}
		w.audited[ack] = true
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()
		write := func(tag plant.TagID, err error) {
			w.note(plant.Write{Device: "scale", Tag: tag, Value: plant.BoolValue(true)}, err)
			synctest.Wait()
		}
		write("beat", nil)
		write("ack", nil)
		for range 100 {
			time.Sleep(time.Second)
			write("ack", nil)
		}
		write("ack", errors.New("the device is away"))
		write("ack", errors.New("the device is away"))
		time.Sleep(2 * time.Minute)
		write("ack", nil)
		time.Sleep(2 * time.Hour)
		write("ack", nil)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		want := []string{
			"0s scale/ack done: 1 write, the last true",
			"1m0s scale/ack failed: 101 writes, the last true; 1 failed: the device is away",
			"3m0s scale/ack done: 2 writes, the last true; 1 failed: the device is away",
			"2h3m0s scale/ack done: 1 write, the last true",
		}
		if !slices.Equal(entries, want) {
			t.Errorf("entries\n%s\nwant\n%s", strings.Join(entries, "\n"), strings.Join(want, "\n"))
		}
	})
}
