package derive

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
)

// beats is a PLC that counts the changes of its heartbeat.
type beats struct {
	mu sync.Mutex
	n  int
}

func (b *beats) Write(_ context.Context, w plant.Write) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if w.Tag == "alive" {
		b.n++
	}
	return nil
}

func (b *beats) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.n
}

func heartbeatModel(t *testing.T, text string, tags ...plant.Tag) (*Model, error) {
	t.Helper()
	section, faults := config.ParseSection("PRESS-01", "m.yaml", text)
	var o Options
	if faults = append(faults, section.Decode(&o)...); len(faults) > 0 {
		t.Fatal(faults)
	}
	return NewModel("PRESS-01", o, Catalog{"press": tags})
}

// TestNothingBeatsWhatCannotRecord: while the buffer is full, and once it has
// failed, the PLC's heartbeat stands still; when there is room it goes on.
func TestNothingBeatsWhatCannotRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, err := heartbeatModel(t, "device: press\nheartbeat: {tag: alive, every: 5s}\ncounter: {good: made, max_rate: 9/s}",
			plant.Tag{ID: "made", Type: plant.TypeUint32}, plant.Tag{ID: "alive", Type: plant.TypeUint16, Writable: true})
		if err != nil {
			t.Fatal(err)
		}
		plc, log := &beats{}, &memLog{}
		full := func(err error) {
			log.mu.Lock()
			log.fail = func(plant.Batch) error { return err }
			log.mu.Unlock()
		}
		w := NewWorker(m, log, plc, WorkerOptions{}, zap.NewNop())
		stop := start(t, w)
		for range 10 {
			w.Offer(plant.Scan{Device: "press", Session: 1, Received: time.Now(), Readings: []plant.Reading{{Tag: "made", Quality: plant.Good, Value: plant.IntValue(7)}}})
			time.Sleep(10 * time.Second)
		}
		synctest.Wait() // a beat may be due at this very moment
		before := plc.count()
		if before < 15 {
			t.Errorf("%d beats in 100 s, every 5 s", before)
		}
		full(plant.ErrFull)
		time.Sleep(5 * time.Minute)
		if n := plc.count(); n != before {
			t.Errorf("%d beats while nothing can be recorded", n-before)
		}
		full(nil)
		time.Sleep(time.Minute)
		if n := plc.count(); n < before+8 {
			t.Errorf("%d beats in the minute after", n-before)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestHeartbeatOptions(t *testing.T) {
	made, alive := plant.Tag{ID: "made", Type: plant.TypeUint32}, plant.Tag{ID: "alive", Type: plant.TypeUint16, Writable: true}
	for _, c := range []struct {
		heartbeat string
		alive     plant.Tag
		want      string
	}{
		{"alive", alive, ""},
		{"alive", plant.Tag{ID: "alive", Type: plant.TypeUint16}, "may not be written"},
		{"alive", plant.Tag{ID: "alive", Type: plant.TypeString, Writable: true}, "does not count"},
		{"alive", plant.Tag{ID: "alive", Writable: true}, "nothing says what is in tag"},
		{"gone", alive, "gone"},
	} {
		_, err := heartbeatModel(t, "device: press\nheartbeat: "+c.heartbeat+"\ncounter: {good: made, max_rate: 9/s}", made, c.alive)
		if got := errorText(err); c.want == "" && err != nil || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.heartbeat, got, c.want)
		}
	}
	if err := (&HeartbeatOptions{Every: config.Duration(time.Second / 2)}).Validate(); !strings.Contains(errorText(err), "is too often") {
		t.Errorf("twice a second: %v", err)
	}
	_, err := heartbeatModel(t, "device: press\nheartbeat: alive\noperation: {trigger: made, ack: alive, valid: made}", made, alive)
	if !strings.Contains(errorText(err), "belongs to the handshake of operation") {
		t.Errorf("the ack of a handshake: %v", err)
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
