package derive

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/plant"
)

// TestAnAckThatThePLCWritesIsNamed: with trigger and ack swapped no record ever
// comes, and nothing else would say why.
func TestAnAckThatThePLCWritesIsNamed(t *testing.T) {
	for name, test := range map[string]struct {
		// ack is what the PLC has in the ack at the n-th read, given what was
		// written to it last.
		ack   func(n int, written int64) int64
		named bool
	}{
		"offered each second read": {func(n int, _ int64) int64 { return int64(n % 2) }, true},
		"held by the PLC":          {func(int, int64) int64 { return 1 }, true},
		"only the gateway's":       {func(_ int, written int64) int64 { return written }, false},
		"left from before":         {func(n int, written int64) int64 { return max(written, int64(1-n)) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				plc := &panel{}
				w := NewWorker(bookModel(t, false), &memLog{}, plc, WorkerOptions{}, zap.NewNop())
				stop := start(t, w)
				for n := range 40 {
					var written int64
					if all := plc.written; len(all) > 0 {
						written, _ = all[len(all)-1].Value.Int()
					}
					w.Offer(plant.Scan{Device: "press", Session: 1, Received: time.Now(), Readings: []plant.Reading{
						{Tag: "offer", Quality: plant.Good, Value: plant.IntValue(0)},
						{Tag: "ack", Quality: plant.Good, Value: plant.IntValue(test.ack(n, written))},
					}})
					time.Sleep(time.Second)
					synctest.Wait()
				}
				st := w.Stats()
				named := len(st.Problems) == 1 && strings.Contains(st.Problems[0].Text, "press/ack shows values") && strings.Contains(st.Problems[0].Remedy, "swapped")
				if named != test.named || !named && len(st.Problems) > 0 {
					t.Errorf("problems %+v", st.Problems)
				}
				if err := stop(); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}
