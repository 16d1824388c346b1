package buffer

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/sluice-edge/sluice/plant"
)

// TestTheFirstCountAfterALossRebases tells losses at random between and beside the
// commits of rules that run, and reads the stream: behind each gap event that may
// have held counts the next counter event carries a rebase, over restarts too.
func TestTheFirstCountAfterALossRebases(t *testing.T) {
	for seed := range uint64(8) {
		random := rand.New(rand.NewPCG(seed, 4))
		o := testOptions(quickDir(t))
		b := open(t, o)
		rebase, refused := loadRules(t, b), 0
		for step := range 120 {
			var beside chan error
			switch random.IntN(6) {
			case 0:
				b.loseForTest(t, step)
			case 1:
				beside = make(chan error, 1)
				s := b.stream("M1")
				b.mu.Lock()
				s.addUntold(gap{cause: plant.GapDamaged, reason: fmt.Sprint("beside step ", step)})
				b.mu.Unlock()
				go func() { beside <- b.tell(t.Context(), s) }()
			case 2:
				if random.IntN(4) == 0 {
					o.Path = crash(t, b)
					b = open(t, o)
					rebase = loadRules(t, b)
				}
			}
			refused += countOnce(t, b, &rebase, step)
			if beside != nil {
				if err := <-beside; err != nil {
					t.Fatal(err)
				}
			}
		}
		waiting, gaps := false, 0
		for e, err := range b.Events(t.Context(), "M1", 0, 10_000) {
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case e.Kind == plant.KindGap:
				waiting = true
				gaps++
			case waiting && string(e.Data) != rebased:
				t.Errorf("seed %d: event %d follows a gap without a rebase", seed, uint64(e.Sequence))
				waiting = false
			default:
				waiting = false
			}
		}
		if gaps < 10 || refused == 0 {
			t.Errorf("seed %d: %d gaps and %d refused commits: the test shows nothing", seed, gaps, refused)
		}
		mustClose(t, b)
	}
}

// loseForTest tells a loss of which nobody knows the kinds.
func (b *Buffer) loseForTest(t *testing.T, step int) {
	t.Helper()
	s := b.stream("M1")
	b.mu.Lock()
	s.addUntold(gap{cause: plant.GapDamaged, reason: fmt.Sprint("step ", step)})
	b.mu.Unlock()
	if err := b.tell(t.Context(), s); err != nil {
		t.Fatal(err)
	}
}

// rebased is the data of a counter event with a rebase.
const rebased = `{"rebase":true}`

// loadRules begins rules that do with a rebase what derive does.
func loadRules(t *testing.T, b *Buffer) (rebase bool) {
	t.Helper()
	state, err := b.Load(t.Context(), "M1", func(kv plant.KV) error {
		rebase = rebase || kv.Key == plant.StoreGapKey
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return rebase || string(state) == rebased
}

// countOnce commits a state, and now and then a counter event.
func countOnce(t *testing.T, b *Buffer, rebase *bool, step int) (refused int) {
	t.Helper()
	batch := plant.Batch{}
	for {
		waits := *rebase
		if batch.Events = nil; step%3 > 0 {
			e := count(step)
			if e.Data = []byte(`{}`); waits {
				e.Data = []byte(rebased)
			}
			batch.Events, waits = []plant.Event{e}, false
		}
		if batch.State = []byte(`{}`); waits {
			batch.State = []byte(rebased)
		}
		_, err := b.Commit(t.Context(), "M1", batch)
		switch {
		case errors.Is(err, plant.ErrGap) && refused == 0:
			refused++
			*rebase, batch.Delete = true, []string{plant.StoreGapKey}
			continue
		case err != nil:
			t.Fatal(err)
		}
		*rebase = waits
		return refused
	}
}

// TestALaterLoadHearsNothing: a recording reads the state while the rules run;
// they have not heard of a loss by that.
func TestALaterLoadHearsNothing(t *testing.T) {
	b := open(t, testOptions(quickDir(t)))
	loadRules(t, b)
	b.loseForTest(t, 1)
	loadRules(t, b)
	if _, err := b.Commit(t.Context(), "M1", plant.Batch{Events: []plant.Event{count(1)}}); !errors.Is(err, plant.ErrGap) {
		t.Errorf("a count that knows of no loss is taken: %v", err)
	}
}
