package buffer

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/sluice-edge/sluice/plant"
)

func quarantined(t *testing.T, path string) (all []setAside) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(path, quarantineFolder, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var a setAside
		if err := json.Unmarshal(data, &a); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has the mode %v, %v", name, info.Mode(), err)
		}
		all = append(all, a)
	}
	return all
}

// TestDamagedRecordsAreSetAside: each kind of record, its key and bytes as they
// were, once over restarts; the rules that lost their state hear of it.
func TestDamagedRecordsAreSetAside(t *testing.T) {
	path := quickDir(t)
	b := open(t, testOptions(path))
	q := queue(t, b, "mes", all)
	for n := range 3 {
		if _, err := b.Commit(context.Background(), "M1", plant.Batch{
			State: []byte("state"), Events: []plant.Event{count(n + 1)}, Put: []plant.KV{{Key: "a", Value: []byte("1")}, {Key: "b", Value: []byte("2")}},
		}); err != nil {
			t.Fatal(err)
		}
	}
	m := next(t, q)
	peekAll(t, q, m, 0, 1)
	settle(t, q, m, 1, delivered(1, 1))
	mustClose(t, b)
	event := eventKey("M1", 2)
	var was []byte
	damage(t, path, func(txn *badger.Txn) error {
		item, err := txn.Get(event)
		if err != nil {
			return err
		}
		was, err = item.ValueCopy(nil)
		return err
	})
	kept := append(machineKey(classKV, "M1"), 'a')
	damage(t, path, flip(event))
	damage(t, path, flip(machineKey(classState, "M1")))
	damage(t, path, flip(kept))
	damage(t, path, flip(cursorKey("mes", "M1")))

	for round := range 2 {
		b = open(t, testOptions(path))
		keys := ""
		state, err := b.Load(context.Background(), "M1", func(kv plant.KV) error { keys += kv.Key + " "; return nil })
		if err != nil || state != nil || keys != "b "+plant.StoreGapKey+" " {
			t.Fatalf("round %d: the rules find %q and the keys %q, %v", round, state, keys, err)
		}
		got := drainGaps(t, queue(t, b, fmt.Sprint("reader", round), all))["M1"]
		if fmt.Sprint(sequences(got.events)) != "[1 3]" || len(got.gaps) != 3 || !strings.Contains(got.told(), "2…2 1 damaged") || strings.Count(got.told(), "0…0 0 damaged") != 2 {
			t.Errorf("round %d: %v and %s", round, sequences(got.events), got.told())
		}
		words := ""
		for _, a := range quarantined(t, path) {
			words += a.Record + ", "
			if a.Record != "an event" {
				continue
			}
			if want := append(was[:len(was)-1:len(was)-1], was[len(was)-1]^0x10); !bytes.Equal(a.Key, event) || !bytes.Equal(a.Value, want) || a.Sequence != 2 || a.Machine != "M1" {
				t.Errorf("set aside is %+v", a)
			}
		}
		if s := b.Stats().Quarantine; s.Files != 4 || s.Dropped != 0 || strings.Count(words, ",") != 4 {
			t.Errorf("round %d: set aside are %+v: %s", round, s, words)
		}
		mustClose(t, b)
	}
}

func TestQuarantineIsBounded(t *testing.T) {
	b := open(t, testOptions(quickDir(t)))
	big := bytes.Repeat([]byte("x"), maxQuarantineBytes/4)
	for i := range 6 {
		b.quarantine(setAside{Record: "an event", Key: []byte{byte(i)}, Value: big})
	}
	if s := b.Stats().Quarantine; s.Files != 2 || s.Bytes > maxQuarantineBytes || s.Dropped != 4 {
		t.Errorf("%+v", s)
	}
}

// TestScrubFindsWhatNobodyReads: rot in delivered events and in side records is
// found without a reader, and told once.
func TestScrubFindsWhatNobodyReads(t *testing.T) {
	o := testOptions(quickDir(t))
	o.housework, o.scrubEvery = time.Millisecond, time.Nanosecond
	b := open(t, o)
	q := queue(t, b, "mes", all)
	for n := range 50 {
		commit(t, b, plant.MachineID(fmt.Sprint("M", n%2)), count(n+1))
	}
	if _, err := b.Commit(context.Background(), "M0", plant.Batch{Put: []plant.KV{{Key: "a", Value: []byte("1")}}}); err != nil {
		t.Fatal(err)
	}
	drainGaps(t, q)
	mustClose(t, b)
	damage(t, o.Path, flip(eventKey("M1", 7)))
	damage(t, o.Path, func(txn *badger.Txn) error { return txn.Delete(eventKey("M0", 3)) })
	damage(t, o.Path, flip(append(machineKey(classKV, "M0"), 'a')))
	b = open(t, o)
	queue(t, b, "mes", all)
	eventually(t, "the scrub finds all three", func() bool { return b.Stats().Lost == 3 && len(b.Stats().Gaps) == 2 })
	// Many passes later it is still three.
	began := b.Stats().Commits
	for range 100 {
		b.keeper.kick()
	}
	if s := b.Stats(); s.Lost != 3 || len(s.Gaps) != 2 || s.Commits != began {
		t.Errorf("%d lost, %d told, %d commits since", s.Lost, len(s.Gaps), s.Commits-began)
	}
	mustClose(t, b)
}
