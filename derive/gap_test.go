package derive

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/plant"
)

// TestALossWhileTheRulesRunRebasesTheNextCount: the store has told a loss just
// before a commit. The commit is refused, and the count that comes in its place
// carries the rebase; no piece is counted twice or left out.
func TestALossWhileTheRulesRunRebasesTheNextCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told, refused := false, 0
		log := &memLog{}
		log.fail = func(b plant.Batch) error {
			counts := slices.ContainsFunc(b.Events, func(e plant.Event) bool { return e.Kind == plant.KindCounter })
			if slices.Contains(b.Delete, plant.StoreGapKey) {
				told = false
			}
			if told && counts {
				refused++
				return fmt.Errorf("buffer: commit: %w", plant.ErrGap)
			}
			return nil
		}
		w := NewWorker(pressModel(t), log, nil, WorkerOptions{}, zap.NewNop())
		stop := start(t, w)
		for i := range 10 {
			if i == 3 || i == 7 {
				log.mu.Lock()
				told = true
				log.mu.Unlock()
			}
			w.Offer(press(uint64(100+i), true))
			time.Sleep(time.Second)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if refused != 2 {
			t.Errorf("%d commits were refused, want 2", refused)
		}
		if got := pieces(t, log.snapshot()); got != 9 {
			t.Errorf("%d pieces, want 9", got)
		}
		var rebased []string
		for _, e := range log.snapshot() {
			var c plant.Counter
			if e.Kind != plant.KindCounter {
				continue
			}
			if err := json.Unmarshal(e.Data, &c); err != nil {
				t.Fatal(err)
			}
			if c.Rebase {
				rebased = append(rebased, fmt.Sprint(c.Good))
			}
		}
		if fmt.Sprint(rebased) != "[3 7]" {
			t.Errorf("the counts with a rebase are %v, want 3 and 7", rebased)
		}
	})
}
