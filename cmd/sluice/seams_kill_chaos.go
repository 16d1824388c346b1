//go:build chaos

package main

import (
	"context"
	"slices"

	"github.com/sluice-edge/sluice/derive"
	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/internal/fault"
	"github.com/sluice-edge/sluice/plant"
)

// The failpoints in the life of a handshake record and of a batch lie here and
// not in derive, since only the composition root sees the record, its commit and
// its acknowledgement.

type killingLog struct{ derive.Log }

// Commit implements derive.Log.
func (l *killingLog) Commit(ctx context.Context, m plant.MachineID, b plant.Batch) (plant.Sequence, error) {
	ofRecord := slices.ContainsFunc(b.Events, func(e plant.Event) bool {
		return e.Kind == plant.KindDosing || e.Kind == plant.KindSerial || e.Kind == plant.KindItemAttach || e.Kind == plant.KindOperation
	})
	fault.Pass("batch.beforeCommit")
	if ofRecord {
		fault.Pass("handshake.beforeCommit")
	}
	first, err := l.Log.Commit(ctx, m, b)
	fault.Pass("batch.afterCommit")
	if ofRecord {
		fault.Pass("handshake.afterCommit")
	}
	return first, err
}

// seamWriter is where acknowledgements pass.
func (g *gateway) seamWriter(w derive.Writer) derive.Writer { return &killingWriter{w} }

type killingWriter struct{ derive.Writer }

// Write implements derive.Writer.
func (w *killingWriter) Write(ctx context.Context, a plant.Write) error {
	fault.Pass("ack.beforeWrite")
	err := w.Writer.Write(ctx, a)
	if up, _ := a.Value.Bool(); up {
		fault.Pass("ack.afterWrite")
	} else {
		fault.Pass("ack.afterRelease")
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
	fault.Pass("poll.beforeOffer")
	scan, ok := in.(plant.Scan)
	if p, pointed := in.(*plant.Scan); pointed {
		scan, ok = *p, true
	}
	if ok && scan.Record != "" {
		fault.Pass("handshake.recordRead")
	}
	for _, r := range scan.Readings {
		up, _ := r.Value.Bool()
		if ok && scan.Record == "" && up && slices.ContainsFunc(s.records, func(want plant.Record) bool { return want.Device == scan.Device && want.Trigger == r.Tag }) {
			fault.Pass("handshake.triggerSeen")
		}
	}
	s.Sink.Offer(in)
	fault.Pass("poll.afterOffer")
}
