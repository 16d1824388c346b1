package derive

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/plant"
)

// TestASubmittedCorrectionIsDurableOrRefused: the caller hears why, and nothing of
// a refused one is kept.
func TestASubmittedCorrectionIsDurableOrRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memLog{}
		w := NewWorker(pressModel(t), log, nil, WorkerOptions{}, zap.NewNop())
		stop := start(t, w)
		c := plant.Correction{At: time.Now(), From: time.Now().Add(-time.Hour), To: time.Now(), Good: -2, Scrap: 2, Code: "BURR", By: "anna"}
		if err := w.Submit(context.Background(), c); err != nil {
			t.Error(err)
		}
		if n := len(log.Events); n != 1 || log.Events[0].Kind != plant.KindCorrection {
			t.Errorf("when Submit is back there are %d events", n)
		}
		c.Scrap = 1
		err := w.Submit(context.Background(), c)
		if want := "derive: submit to PRESS-01: the correction is refused: good -2, scrap +1 and rework +0 add up to -1 pieces, not to 0"; err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s…", err, want)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if n := len(log.Events); n != 1 {
			t.Errorf("%d events", n)
		}
	})
}

// TestAMachineWithoutACounterHasNothingToCorrect.
func TestAMachineWithoutACounterHasNothingToCorrect(t *testing.T) {
	s := &scenario{path: "m.yaml", files: map[string]string{"tags": "press/run bool\n", "config": "device: press\nstartstop: {running: run}\n"}}
	m := s.model(t, "config", "tags")
	c := plant.Correction{At: base, From: base, To: base, Good: -2, Rework: 2, By: "anna"}
	if err := m.accepts(c); err == nil || !strings.Contains(err.Error(), "has no counter to correct") {
		t.Errorf("it was taken: %v", err)
	}
	if _, out := m.Step(State{}, c); len(out.Events) != 0 {
		t.Errorf("events %v", out.Events)
	}
}
