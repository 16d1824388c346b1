package derive

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sluice-edge/sluice/plant"
)

// moodyPLC answers a write as the script says.
type moodyPLC struct{ answer func() error }

func (p *moodyPLC) Write(context.Context, plant.Write) error { return p.answer() }

// TestAWriteThatFailsIsTold: which tag, why, since when; a refusal now and then is
// told steadily and once in the log, a single one not to people, and one without a
// session to nobody.
func TestAWriteThatFailsIsTold(t *testing.T) {
	refused := errors.New("exception 2 (illegal data address)")
	away := fmt.Errorf("write press/alive: %w", plant.ErrNoSession)
	for _, c := range []struct {
		name   string
		answer func(n int) error // to the n-th write, one each five seconds
		shown  []string          // after each half minute
		logged []string
	}{
		{"always", func(int) error { return refused }, []string{"fails", "fails", "fails", "fails"}, []string{"begins"}},
		{"one", func(n int) error { return at(n == 2, refused) }, []string{"", "", "", ""}, []string{"begins"}},
		{"mended", func(n int) error { return at(n < 9, refused) }, []string{"fails", "now and then", "now and then", "now and then", "now and then", "now and then", "now and then", "now and then", "now and then", "now and then", "now and then", "", ""}, []string{"begins", "ends"}},
		{"three of four", func(n int) error { return at(n%4 != 3, refused) }, slices.Repeat([]string{"now and then"}, 24), []string{"begins"}},
		{"good, then never", func(n int) error { return at(n == 1 || n > 12, refused) }, []string{"", "", "now and then", "fails", "fails"}, []string{"begins"}},
		{"without a session", func(int) error { return away }, []string{"", ""}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, err := heartbeatModel(t, "device: press\nheartbeat: {tag: alive, every: 5s}\ncounter: {good: made, max_rate: 9/s}",
					plant.Tag{ID: "made", Type: plant.TypeUint32}, plant.Tag{ID: "alive", Type: plant.TypeUint16, Writable: true})
				if err != nil {
					t.Fatal(err)
				}
				core, logs := observer.New(zapcore.InfoLevel)
				n := -1
				plc := &moodyPLC{answer: func() error { n++; return c.answer(n) }}
				w := NewWorker(m, &memLog{}, plc, WorkerOptions{}, zap.New(core))
				stop := start(t, w)
				began := time.Now()
				var shown []string
				for i := range c.shown {
					for range 6 {
						w.Offer(plant.Scan{Device: "press", Session: 1, Received: time.Now(), Readings: []plant.Reading{{Tag: "made", Quality: plant.Good, Value: plant.IntValue(7)}}})
						time.Sleep(5 * time.Second)
					}
					synctest.Wait()
					text := ""
					for _, f := range w.Stats().FailedWrites {
						if f.Ref != (plant.TagRef{Device: "press", Tag: "alive"}) || f.Cause != refused.Error() || !f.Heartbeat || f.Since.Before(began) || f.Since.After(began.Add(90*time.Second)) {
							t.Errorf("after %d half minutes: %+v", i+1, f)
						}
						if text = "fails"; f.NowAndThen {
							text = "now and then"
						}
					}
					shown = append(shown, text)
				}
				if !slices.Equal(shown, c.shown) {
					t.Errorf("shown  %q\nwanted %q", shown, c.shown)
				}
				var logged []string
				for _, e := range logs.All() {
					switch e.Message {
					case "writing to a device works again":
						logged = append(logged, "ends")
					case "writing to a device fails: the next line about this tag follows when no write has failed for a while":
						logged = append(logged, "begins")
						if f := e.ContextMap(); f["tag"] != "alive" || f["device"] != "press" || f["error"] != refused.Error() {
							t.Errorf("logged %v", f)
						}
					}
				}
				if !slices.Equal(logged, c.logged) {
					t.Errorf("logged %q, wanted %q", logged, c.logged)
				}
				if err := stop(); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

func at(so bool, err error) error {
	if so {
		return err
	}
	return nil
}
