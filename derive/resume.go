package derive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/derive/counter"
	"github.com/sluice-edge/sluice/derive/handshake"
	"github.com/sluice-edge/sluice/derive/operation"
	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/plant"
)

// errNewer says that a state is from a later version of the program: it is whole,
// and that version can read it.
var errNewer = errors.New("start the newer version again, or restore a backup from before it")

// decode reads the machine's state. One that cannot be read is not the end: the
// rules begin anew, and refused says why.
func (w *Worker) decode(state []byte, keyed []plant.KV) (s State, refused error, err error) {
	s, err = w.m.Decode(state, keyed)
	if err == nil || errors.Is(err, errNewer) {
		return s, nil, err
	}
	refused = err
	s, err = w.m.Decode(nil, keyed)
	s.gateway.Rebase = true
	w.zl.Error("the state of the machine's rules cannot be read and was left out: they begin anew", zap.Error(refused), zap.ByteString("state", state[:min(len(state), shownCause)]))
	return s, refused, err
}

// GoOn prepares a decoded State for the first step after a start. Time in which
// the gateway did not run is time in which nobody looked.
func (s *State) GoOn() { s.gateway.Stood = s.ready }

// resume takes the cumulative counts from the newest event of the machine where
// the state has none. Where the whole state is gone, the main counter goes on from
// the number that it showed then; otherwise, as where the machine had no counter for
// a while, its next reading is a new baseline.
func (w *Worker) resume(ctx context.Context, s *State, gone bool) error {
	if w.m.counter == nil || !s.uncounted {
		return nil
	}
	newest, err := w.log.Newest(ctx, w.m.machine, plant.KindCounter, 1)
	if err != nil {
		return fmt.Errorf("derive: look up the newest count of %s: %w", w.m.machine, err)
	}
	if len(newest) == 0 {
		return nil
	}
	var p plant.Counter
	if err := json.Unmarshal(newest[0], &p); err != nil {
		w.zl.Error("the newest count in the store cannot be read: the counts begin at 0", zap.Error(err))
		return nil
	}
	t := counter.Totals{Good: p.Good, Rework: p.Rework, Cycles: p.Cycles}
	codes := make([]string, len(p.Scrap))
	for i := range p.Scrap {
		codes[i] = p.Scrap[i].Code
		t.Scrap = append(t.Scrap, p.Scrap[i].Quantity)
	}
	w.m.counter.Resume(&s.counter, &t, codes)
	if gone && !p.To.IsZero() {
		// A reset may turn out to be a PLC that booted, and the number before it holds.
		w.m.counter.Recall(&s.counter, p.Raw, rule.Stamp{At: p.To.UnixNano()}, p.Reset || p.Suspect)
	}
	s.gateway.Rebase = true
	return nil
}

// recallDoses notes the newest doses that events tell: the state that knew which
// records were taken is gone or older, and a PLC may still offer one of them.
func (w *Worker) recallDoses(ctx context.Context, s *State) error {
	const perScale = 4
	if len(s.dosing) == 0 {
		return nil
	}
	newest, err := w.log.Newest(ctx, w.m.machine, plant.KindDosing, perScale*len(s.dosing))
	if err != nil {
		return fmt.Errorf("derive: look up the newest doses of %s: %w", w.m.machine, err)
	}
	// Only the newest of a scale can still be offered. An older one with the same
	// number is of a PLC that numbers anew, and then its next record is another dose.
	var keys []doseKey
	for _, data := range newest {
		var d plant.Dosing
		if err := json.Unmarshal(data, &d); err != nil || d.Method != "handshake" {
			continue
		}
		if k := keyOf(&d); !slices.ContainsFunc(keys, func(o doseKey) bool { return o.Scale == k.Scale }) {
			keys = append(keys, k)
		}
	}
	for i := range s.dosing {
		own := &s.dosing[i]
		known := func(k doseKey) bool { return k.Dose != "" && k.Dose == own.Number }
		if len(keys) > 0 && !slices.ContainsFunc(keys, known) {
			own.Recalled, own.Told = keys, handshake.Maybe
		}
	}
	return nil
}

// recallRecords notes the newest events of the stations: as recallDoses, for records
// that name the unit they are of. Nobody can tell of others.
func (w *Worker) recallRecords(ctx context.Context, s *State) error {
	if err := w.recallDoses(ctx, s); err != nil {
		return err
	}
	rec := &w.m.records
	if rec.serial != nil {
		var e plant.Serial
		if ok, err := w.newest(ctx, plant.KindSerial, &e); err != nil {
			return err
		} else if ok {
			rec.serial.Recall(&s.serial, &e)
		}
	}
	if rec.attach != nil {
		var e plant.ItemAttach
		if ok, err := w.newest(ctx, plant.KindItemAttach, &e); err != nil {
			return err
		} else if ok {
			rec.attach.Recall(&s.attach, &e)
		}
	}
	if op := w.m.operation; op != nil && op.Handshake() != nil {
		var e plant.Operation
		if ok, err := w.newest(ctx, plant.KindOperation, &e); err != nil {
			return err
		} else if ok {
			s.operation.Told = operation.Told(&e)
		}
	}
	return nil
}

// newest reads the machine's newest event of a kind; ok is false if there is none
// that can be read.
func (w *Worker) newest(ctx context.Context, kind plant.EventKind, into any) (ok bool, err error) {
	data, err := w.log.Newest(ctx, w.m.machine, kind, 1)
	if err != nil {
		return false, fmt.Errorf("derive: look up the newest %s of %s: %w", kind, w.m.machine, err)
	}
	return len(data) > 0 && json.Unmarshal(data[0], into) == nil, nil
}

// tell commits that a state could not be read.
func (w *Worker) tell(ctx context.Context, refused error) error {
	items := []item{{in: plant.Gap{
		At: w.o.Clock.Now(), Cause: plant.GapDamaged,
		Reason: "the state of the machine's rules cannot be read, so they begin anew: " + refused.Error(),
	}}}
	return w.process(ctx, context.WithoutCancel(ctx), items)
}
