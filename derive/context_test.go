package derive

import (
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/plant"
)

// TestContextEndsByItself: the end of a shift and of a mode come at their time,
// though no reading does; what a person says is durable when Submit returns.
func TestContextEndsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // which begins at midnight UTC
		s := &scenario{path: "context", files: map[string]string{
			"config":    "device: press\ncounter: {good: made, max_rate: 10/s, every: 24h}\n",
			"site.yaml": "timezone: UTC\nshifts: {first: 00:00-01:00, second: 01:00-02:00}\n",
			"tags":      "press/made uint16\npress/run bool\n",
		}}
		log := &memLog{}
		w := NewWorker(s.model(t, "config", "tags"), log, nil, WorkerOptions{}, zap.NewNop())
		stop := start(t, w)
		midnight := time.Now()
		if err := w.Submit(t.Context(), plant.ModeChange{At: midnight, Mode: plant.Setup, By: "ann", Until: midnight.Add(90 * time.Minute)}); err != nil {
			t.Fatal(err)
		}
		if n := len(log.snapshot()); n != 1 {
			t.Errorf("%d events when the change is durable", n)
		}
		w.Offer(press(1, true))
		time.Sleep(time.Second)
		w.Offer(press(2, true)) // told at once, since nothing was told for long
		time.Sleep(time.Second)
		w.Offer(press(3, true))
		time.Sleep(time.Hour - 3*time.Second)
		if n := len(log.snapshot()); n != 2 {
			t.Errorf("%d events a second before the end of the shift", n)
		}
		time.Sleep(2 * time.Second)
		if st := w.Stats(); st.Shift != "second" || !st.ShiftUntil.Equal(midnight.Add(2*time.Hour)) || st.Mode != plant.Setup || st.ModeBy != "ann" || !st.ModeUntil.Equal(midnight.Add(90*time.Minute)) {
			t.Errorf("%+v", st)
		}
		time.Sleep(30 * time.Minute)
		events := log.snapshot()
		if len(events) != 4 || events[2].Kind != plant.KindCounter || events[3].Kind != plant.KindMode || !events[3].Time.Equal(midnight.Add(90*time.Minute)) {
			t.Fatalf("%+v", events)
		}
		if st := w.Stats(); st.Mode != plant.Production || !st.ModeUntil.IsZero() || !st.ModeSince.Equal(events[3].Time) {
			t.Errorf("%+v", st)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	})
}
