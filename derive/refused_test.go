package derive

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/plant"
)

// TestWhyARecordWasRefusedIsNamed: until a record is taken, and after a restart
// as well, since who looks comes later than the record.
func TestWhyARecordWasRefusedIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, m := &memLog{}, bookModel(t, false)
		offer := func(w *Worker, trigger, grams int64) {
			w.Offer(plant.Scan{Device: "press", Session: 1, Received: time.Now(), Readings: []plant.Reading{
				{Tag: "offer", Quality: plant.Good, Value: plant.IntValue(trigger)}, {Tag: "ack", Quality: plant.Good, Value: plant.IntValue(0)},
			}})
			if trigger != 0 {
				w.Offer(plant.Scan{Device: "press", Session: 1, Record: m.Records()[0].ID, Received: time.Now(), Readings: []plant.Reading{
					{Tag: "qty", Quality: plant.Good, Value: plant.ExactValue(plant.Decimal{Unscaled: grams, Scale: 3})},
				}})
			}
			time.Sleep(time.Second)
		}
		w := NewWorker(m, log, &panel{}, WorkerOptions{}, zap.NewNop())
		stop := start(t, w)
		for range badReadsForSure {
			offer(w, 1, -50)
		}
		want := "dosing: the newest record of press was refused, 1 so far: its quantity is below 0: -0.050"
		if ps := w.Stats().Problems; len(ps) != 1 || ps[0].Text != want || !strings.Contains(ps[0].Remedy, "word order") {
			t.Errorf("problems %+v", ps)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		w = NewWorker(m, log, &panel{}, WorkerOptions{}, zap.NewNop())
		stop = start(t, w)
		offer(w, 0, 0)
		if ps := w.Stats().Problems; len(ps) != 1 || ps[0].Text != want {
			t.Errorf("after a restart: problems %+v", ps)
		}
		offer(w, 1, 50)
		if ps := w.Stats().Problems; len(ps) != 0 {
			t.Errorf("a record was taken: problems %+v", ps)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	})
}

// badReadsForSure is more than the reads after which a record is refused.
const badReadsForSure = 5
