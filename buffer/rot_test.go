package buffer

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/plant"
)

// TestRottenTables overwrites bytes within Badger's tables. Badger does not
// notice, gives wrong bytes, skips thousands of keys, or panics; the queue must
// give each event unharmed or count it as lost, in order, and end.
func TestRottenTables(t *testing.T) {
	const events, seeds = 4000, 12
	sound := quickDir(t)
	b := open(t, testOptions(sound))
	queue(t, b, "mes", all)
	for n := 0; n < events; n += 50 {
		var batch []plant.Event
		for i := range 50 {
			batch = append(batch, count(n+i+1))
		}
		commit(t, b, "M1", batch...)
	}
	mustClose(t, b)
	var refused, lossy int
	for seed := range uint64(seeds) {
		path := quickDir(t)
		if err := os.Mkdir(filepath.Join(path, storeFolder), 0o700); err != nil {
			t.Fatal(err)
		}
		from := filepath.Join(sound, storeFolder)
		if err := copyStore(filepath.Join(path, storeFolder), from, listing(t, from)); err != nil {
			t.Fatal(err)
		}
		copyMark(t, path, sound)
		rot(t, path, rand.New(rand.NewPCG(seed, 1)))
		b, err := Open(context.Background(), unmergedOptions(path), zap.NewNop())
		if err != nil {
			refused++
			continue
		}
		q := queue(t, b, "mes", all)
		got, told, last := 0, uint64(0), plant.Sequence(0)
		for range 2 * events {
			m, ok := q.take()
			if !ok {
				break
			}
			page := peekAll(t, q, m, 0, 100)
			for _, e := range page {
				if e.Kind == plant.KindGap {
					told += gapCount(t, e)
					last = e.Sequence
					continue
				}
				if e.Sequence <= last || string(e.Data) != string(count(int(e.Sequence)).Data) {
					t.Fatalf("seed %d: after %d comes %d with %s", seed, uint64(last), uint64(e.Sequence), e.Data)
				}
				last = e.Sequence
				got++
			}
			settle(t, q, m, last, delivered(0, last))
		}
		s := b.Stats()
		if uint64(got)+s.Lost != events || told != s.Lost || s.Queues[0].Backlog != 0 {
			t.Errorf("seed %d: %d events given, %d counted as lost, %d told, a backlog of %d; %d were committed", seed, got, s.Lost, told, s.Queues[0].Backlog, events)
		}
		if s.Lost > 0 {
			lossy++
		}
		if first, want := commit(t, b, "M1", count(1)), events+1+plant.Sequence(len(s.Gaps)); len(s.Gaps) < maxDamage && first != want {
			t.Errorf("seed %d: the sequence goes on at %d", seed, uint64(first))
		}
		mustClose(t, b)
	}
	t.Logf("of %d stores %d were refused and %d lost events, each of them counted", seeds, refused, lossy)
	if lossy == 0 {
		t.Error("no damage was hit: the test proves nothing")
	}
}

func gapCount(t *testing.T, e plant.Event) uint64 {
	t.Helper()
	var g plant.GapData
	if err := json.Unmarshal(e.Data, &g); err != nil {
		t.Fatalf("gap event %s: %v", e.Data, err)
	}
	return g.Count
}

// rot overwrites 64 bytes somewhere in the data of a table.
func rot(t *testing.T, path string, r *rand.Rand) {
	t.Helper()
	tables, err := filepath.Glob(filepath.Join(path, storeFolder, "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("no tables: %v", err)
	}
	name := tables[r.IntN(len(tables))]
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	// The last tenth is Badger's index, which it does check.
	at := r.IntN(len(data) * 9 / 10)
	for i := at; i < min(at+64, len(data)); i++ {
		data[i] = byte(r.Uint32())
	}
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
