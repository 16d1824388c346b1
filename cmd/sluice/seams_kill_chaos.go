//go:build chaos

package main

import (
	"context"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/sluice-edge/sluice/derive"
	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/plant"
)

// kill kills the process when a place in the life of a handshake record is
// passed the N-th time, by SLUICE_CHAOS_KILL=POINT:N. The points are
// trigger-seen, record-read, before-commit, after-commit, after-ack-write and
// after-ack-release.
var kill = sync.OnceValue(func() *killer {
	point, times, _ := strings.Cut(os.Getenv("SLUICE_CHAOS_KILL"), ":")
	n, _ := strconv.Atoi(times)
	return &killer{point: point, left: n}
})

type killer struct {
	mu    sync.Mutex
	point string
	left  int
}

// pass counts a pass of a kill point, and does not return from the last one.
func (k *killer) pass(point string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if point != k.point {
		return
	}
	if k.left--; k.left == 0 {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // until the signal is there
	}
}

type killingLog struct{ derive.Log }

// Commit implements derive.Log.
func (l *killingLog) Commit(ctx context.Context, m plant.MachineID, b plant.Batch) (plant.Sequence, error) {
	ofRecord := slices.ContainsFunc(b.Events, func(e plant.Event) bool {
		return e.Kind == plant.KindDosing || e.Kind == plant.KindSerial || e.Kind == plant.KindItemAttach
	})
	if ofRecord {
		kill().pass("before-commit")
	}
	first, err := l.Log.Commit(ctx, m, b)
	if ofRecord {
		kill().pass("after-commit")
	}
	return first, err
}

// seamWriter is where acknowledgements pass.
func (g *gateway) seamWriter(w derive.Writer) derive.Writer { return &killingWriter{w} }

type killingWriter struct{ derive.Writer }

// Write implements derive.Writer.
func (w *killingWriter) Write(ctx context.Context, a plant.Write) error {
	err := w.Writer.Write(ctx, a)
	if up, _ := a.Value.Bool(); up {
		kill().pass("after-ack-write")
	} else {
		kill().pass("after-ack-release")
	}
	return err
}

// seamSink is where readings pass.
func (g *gateway) seamSink(s drivers.Sink, records []plant.Record) drivers.Sink {
	return &killingSink{s, records}
}

type killingSink struct {
	drivers.Sink
	records []plant.Record
}

// Offer implements drivers.Sink.
func (s *killingSink) Offer(in plant.Input) {
	scan, ok := in.(plant.Scan)
	if p, pointed := in.(*plant.Scan); pointed {
		scan, ok = *p, true
	}
	if ok && scan.Record != "" {
		kill().pass("record-read")
	}
	for _, r := range scan.Readings {
		up, _ := r.Value.Bool()
		if ok && scan.Record == "" && up && slices.ContainsFunc(s.records, func(want plant.Record) bool { return want.Device == scan.Device && want.Trigger == r.Tag }) {
			kill().pass("trigger-seen")
		}
	}
	s.Sink.Offer(in)
}
