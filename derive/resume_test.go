package derive

import (
	"context"
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/derive/startstop"
	"github.com/sluice-edge/sluice/internal/memlog"
	"github.com/sluice-edge/sluice/plant"
)

// TestCountsGoOnWithoutTheState: a state that is gone or cannot be read costs the
// pieces since its last reading, and no count ever goes down: the counts are taken
// from the newest event. The loss is told, and the next count is a rebase.
func TestCountsGoOnWithoutTheState(t *testing.T) {
	for name, c := range map[string]struct {
		lose func(*memLog)
		gap  bool
		zero bool // what it shows first counts, but only once
	}{
		"gone":       {func(l *memLog) { l.State = nil }, false, false},
		"no JSON":    {func(l *memLog) { l.State = l.State[:len(l.State)/2] }, true, false},
		"no version": {func(l *memLog) { l.State = []byte("{}") }, true, false},
		"no counter": {func(l *memLog) { l.State = []byte(`{"v":1}`) }, false, false},
		"from zero":  {func(l *memLog) { l.State = nil }, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log, m, first := &memLog{}, scrapModel(t, c.zero), int64(0)
				if c.zero {
					first = 1
				}
				count := func(made, bad int) {
					w := NewWorker(m, log, nil, WorkerOptions{}, zap.NewNop())
					stop := start(t, w)
					for range 2 {
						w.Offer(plant.Scan{Device: "press", Session: 1, Snapshot: true, Received: time.Now(), Readings: []plant.Reading{
							{Tag: "made", Quality: plant.Good, Value: plant.IntValue(int64(made))},
							{Tag: "bad", Quality: plant.Good, Value: plant.IntValue(int64(bad))},
						}})
						time.Sleep(time.Second)
						synctest.Wait()
						made, bad = made+7, bad+2
					}
					if err := stop(); err != nil {
						t.Fatal(err)
					}
				}
				count(100, 10)
				before := len(log.Events)
				c.lose(log)
				count(200, 20)
				var last plant.Counter
				gap, rebase := false, false
				for _, e := range log.Events[before:] {
					switch e.Kind {
					case plant.KindGap:
						var g plant.GapData
						if err := json.Unmarshal(e.Data, &g); err != nil {
							t.Fatal(err)
						}
						gap = g.Cause == plant.GapDamaged && g.Count == 0 && g.Reason != ""
					case plant.KindCounter:
						if err := json.Unmarshal(e.Data, &last); err != nil {
							t.Fatal(err)
						}
						rebase = rebase || last.Rebase
					}
				}
				since := int64(93) // what the total went on by
				if name == "no counter" {
					since = 0
				}
				if gap != c.gap {
					t.Errorf("a gap is told: %t", gap)
				}
				validate(t, log.Events)
				if last.Good != 10+since+90*first || last.GoodDelta != 5 || last.Scrap[0].Quantity != 4+10*first || last.Scrap[0].Delta != 2 || !rebase {
					t.Errorf("the count after it is %+v, want good %d and scrap 4, a rebase", last, 10+since)
				}
			})
		})
	}
}

// TestTheFirstStartOfAMachineResumesNothing.
func TestTheFirstStartOfAMachineResumesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := NewWorker(scrapModel(t, false), &memLog{}, nil, WorkerOptions{}, zap.NewNop())
		if err := w.load(t.Context()); err != nil {
			t.Fatal(err)
		}
		if w.current.gateway.Rebase || w.current.counter.Counted().Good != 0 {
			t.Errorf("it begins with %+v", w.current.counter)
		}
	})
}

// TestAStateOfANewerProgramEndsTheStart: it is whole, so it is not thrown away.
func TestAStateOfANewerProgramEndsTheStart(t *testing.T) {
	log := &memLog{Store: memlog.Store{State: []byte(`{"v":99}`)}}
	core, logged := observer.New(zap.ErrorLevel)
	w := NewWorker(scrapModel(t, false), log, nil, WorkerOptions{}, zap.New(core))
	if err := w.Run(context.Background()); err == nil {
		t.Error("it was read")
	}
	if string(log.State) != `{"v":99}` || len(log.Events) > 0 || logged.Len() > 0 {
		t.Errorf("state %s, events %v", log.State, log.Events)
	}
}

// scrapModel is a press that counts a total with scrap, each change.
func scrapModel(t *testing.T, zero bool) *Model {
	t.Helper()
	more := ""
	if zero {
		more = ", baseline: zero"
	}
	s := &scenario{path: "m.yaml", files: map[string]string{
		"tags":   "press/made uint32\npress/bad uint32\n",
		"config": "device: press\ncounter: {total: made, scrap: {BURR: bad}, max_rate: 1000/s, pieces: 1" + more + "}\n",
	}}
	return s.model(t, "config", "tags")
}

// TestTheTimeBetweenTwoRunsConfirmsNothing: a stop that waits for min_stop when the
// gateway stops is not one because the gateway stood for longer than that.
func TestTheTimeBetweenTwoRunsConfirmsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, err := NewModel("PRESS-01", Options{
			Device:    "press",
			StartStop: &startstop.Options{Running: startstop.Running{Tag: "run"}, MinStop: config.Duration(8 * time.Second)},
		}, Catalog{"press": {{ID: "run", Type: plant.TypeBool}}})
		if err != nil {
			t.Fatal(err)
		}
		log := &memLog{}
		session := func(runs ...bool) {
			w := NewWorker(m, log, nil, WorkerOptions{}, zap.NewNop())
			stop := start(t, w)
			time.Sleep(time.Second)
			for i, run := range runs {
				scan := press(0, run)
				scan.Snapshot = i == 0
				w.Offer(scan)
				time.Sleep(time.Second)
			}
			if err := stop(); err != nil {
				t.Fatal(err)
			}
		}
		session(true, false)
		time.Sleep(time.Minute)
		session(true, true)
		if n := len(log.Events); n != 1 {
			t.Errorf("%d events, want the first state alone: %v", n, log.Events)
		}
	})
}
