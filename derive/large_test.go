package derive

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/derive/counter"
	"github.com/sluice-edge/sluice/derive/parameters"
	"github.com/sluice-edge/sluice/plant"
)

// accepts refuses as the buffer does what is larger than one value may be.
func accepts(b plant.Batch) error {
	const most = 256 << 10
	large := len(b.State) > most
	for i := range b.Events {
		large = large || len(b.Events[i].Data) > most
	}
	if large {
		return fmt.Errorf("buffer: commit: %w", plant.ErrTooBig)
	}
	return nil
}

// wordy is a machine with a counter and many texts.
func wordy(t *testing.T, texts int, least time.Duration) *Model {
	t.Helper()
	tags := []plant.Tag{{ID: "made", Type: plant.TypeUint16}}
	o := Options{Device: "press", Counter: &counter.Options{Total: "made", MaxRate: config.Rate{Count: 100, Per: time.Second}, Pieces: 1}}
	for i := range texts {
		id := fmt.Sprintf("text%d", i)
		tags = append(tags, plant.Tag{ID: plant.TagID(id), Type: plant.TypeString})
		o.Parameters.Rows = append(o.Parameters.Rows, config.Row[parameters.Parameter]{Name: id, Value: parameters.Parameter{Tag: id, MinInterval: config.Duration(least)}})
	}
	m, err := NewModel("PRESS-01", o, Catalog{"press": tags})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func words(made uint64, texts, length int) plant.Scan {
	s := plant.Scan{Device: "press", Session: 1, Received: time.Now(), Readings: []plant.Reading{{Tag: "made", Value: plant.UintValue(made), Quality: plant.Good}}}
	for i := range texts {
		letter := string(rune('a' + made%20))
		s.Readings = append(s.Readings, plant.Reading{Tag: plant.TagID(fmt.Sprintf("text%d", i)), Value: plant.TextValue(strings.Repeat(letter, length)), Quality: plant.Good})
	}
	return s
}

func alarms(t *testing.T, events []plant.Event, name string) (raised, cleared int) {
	t.Helper()
	for _, e := range events {
		var a plant.Alarm
		if e.Kind != plant.KindAlarm {
			continue
		}
		if err := json.Unmarshal(e.Data, &a); err != nil {
			t.Fatal(err)
		}
		switch {
		case a.Alarm != name:
		case a.Raised:
			raised++
		default:
			cleared++
		}
	}
	return raised, cleared
}

// TestTextsThatNoEventHoldsEndNothing: what is in the same scan is recorded all
// the same, at the next start as well; an alarm says so until the texts fit.
func TestTextsThatNoEventHoldsEndNothing(t *testing.T) {
	for name, least := range map[string]time.Duration{"in an event": 0, "in the state alone": time.Hour} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const texts = 300
				log := &memLog{fail: accepts}
				m := wordy(t, texts, least)
				w := NewWorker(m, log, nil, WorkerOptions{}, zap.NewNop())
				stop := start(t, w)
				w.Offer(words(100, texts, 10)) // all are reported once
				time.Sleep(time.Second)
				for i := range 20 {
					w.Offer(words(uint64(101+i), texts, 1000))
					time.Sleep(time.Second)
				}
				if st := w.Stats(); len(st.Problems) != 1 || !strings.Contains(st.Problems[0].Text, "text0 with 1000 bytes") || st.LeftOut != 0 {
					t.Errorf("problems %+v, %d left out", st.Problems, st.LeftOut)
				}
				if err := stop(); err != nil {
					t.Fatalf("the process ended: %v", err)
				}
				w = NewWorker(m, log, nil, WorkerOptions{}, zap.NewNop())
				stop = start(t, w)
				w.Offer(words(121, texts, 1000))
				time.Sleep(2 * time.Second)
				if raised, cleared := alarms(t, log.snapshot(), largeAlarm); raised != 1 || cleared != 0 {
					t.Errorf("%d alarms raised and %d cleared, want one", raised, cleared)
				}
				w.Offer(words(122, texts, 20))
				time.Sleep(2 * time.Second)
				if st := w.Stats(); len(st.Problems) != 0 {
					t.Errorf("problems %+v", st.Problems)
				}
				if err := stop(); err != nil {
					t.Fatal(err)
				}
				if got := pieces(t, log.snapshot()); got != 22 {
					t.Errorf("%d pieces, want 22", got)
				}
				if raised, cleared := alarms(t, log.snapshot(), largeAlarm); raised != 1 || cleared != 1 {
					t.Errorf("%d alarms raised and %d cleared, want one", raised, cleared)
				}
				validate(t, log.snapshot())
			})
		})
	}
}

// TestARecordThatNoEventHoldsIsAnswered: the material is in the product, so the
// dose is booked without the text, flagged, once, and the PLC gets its answer.
func TestARecordThatNoEventHoldsIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		section, faults := config.ParseSection("PRESS-01", "m.yaml", "device: press\ndosing: {trigger: offer, ack: ack, error: {tag: ack, value: 2}, component: SUGAR, quantity: qty, lot: lot}")
		var o Options
		if faults = append(faults, section.Decode(&o)...); len(faults) > 0 {
			t.Fatal(faults)
		}
		m, err := NewModel("PRESS-01", o, Catalog{"press": {
			{ID: "offer", Type: plant.TypeUint16}, {ID: "ack", Type: plant.TypeUint16},
			{ID: "qty", Type: plant.TypeInt32, Scaled: true}, {ID: "lot", Type: plant.TypeString},
		}})
		if err != nil {
			t.Fatal(err)
		}
		log, plc := &memLog{fail: accepts}, &panel{}
		w := NewWorker(m, log, plc, WorkerOptions{}, zap.NewNop())
		stop := start(t, w)
		for range 4 {
			w.Offer(plant.Scan{Device: "press", Session: 1, Received: time.Now(), Readings: []plant.Reading{
				{Tag: "offer", Value: plant.IntValue(1), Quality: plant.Good}, {Tag: "ack", Value: plant.IntValue(0), Quality: plant.Good},
			}})
			w.Offer(plant.Scan{Device: "press", Session: 1, Record: m.Records()[0].ID, Received: time.Now(), Readings: []plant.Reading{
				{Tag: "qty", Value: plant.ExactValue(plant.Decimal{Unscaled: 1250, Scale: 2}), Quality: plant.Good},
				{Tag: "lot", Value: plant.TextValue(strings.Repeat("\x01", 300_000)), Quality: plant.Good},
			}})
			time.Sleep(time.Second)
		}
		if err := stop(); err != nil {
			t.Fatalf("the process ended: %v", err)
		}
		if len(plc.written) == 0 || plc.written[0].Tag != "ack" {
			t.Errorf("the PLC waits for ever: %+v", plc.written)
		}
		raised, cleared := alarms(t, log.snapshot(), largeAlarm)
		if doses := kindOf(log.snapshot(), plant.KindDosing); raised != 1 || cleared != 0 || len(doses) != 1 || !strings.Contains(string(doses[0].Data), `"flagged"`) {
			t.Errorf("%d alarms of the texts raised, %d cleared, %d doses %+v", raised, cleared, len(doses), doses)
		}
	})
}

// TestWhatCannotBeMadeSmallerIsLeftOut: even then the machine goes on, and says
// so once in the log and on the page.
func TestWhatCannotBeMadeSmallerIsLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memLog{}
		core, logs := observer.New(zap.ErrorLevel)
		w := NewWorker(pressModel(t), log, nil, WorkerOptions{}, zap.New(core))
		stop := start(t, w)
		w.Offer(press(0, true))
		synctest.Wait()
		log.mu.Lock()
		log.fail = func(plant.Batch) error { return plant.ErrTooBig }
		log.mu.Unlock()
		for i := range 30 {
			w.Offer(press(uint64(i), i%2 == 0))
			time.Sleep(time.Second)
		}
		if st := w.Stats(); st.LeftOut == 0 || len(st.Problems) == 0 {
			t.Errorf("%d left out, problems %+v", st.LeftOut, st.Problems)
		}
		if n := logs.Len(); n != 1 {
			t.Errorf("%d lines in the log, want 1", n)
		}
		log.mu.Lock()
		log.fail = nil
		log.mu.Unlock()
		w.Offer(press(40, true))
		synctest.Wait()
		if err := stop(); err != nil {
			t.Fatalf("the process ended: %v", err)
		}
		if got := pieces(t, log.snapshot()); got != 40 {
			t.Errorf("%d pieces, want 40", got)
		}
	})
}

// panel is a PLC that keeps what is written to it; the worker alone calls it.
type panel struct{ written []plant.Write }

func (p *panel) Write(_ context.Context, w plant.Write) error {
	p.written = append(p.written, w)
	return nil
}

func kindOf(events []plant.Event, kind plant.EventKind) (some []plant.Event) {
	for _, e := range events {
		if e.Kind == kind {
			some = append(some, e)
		}
	}
	return some
}
