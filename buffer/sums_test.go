package buffer

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/dgraph-io/badger/v4"

	"github.com/sluice-edge/sluice/plant"
)

// checkSide compares what is counted with what is really there.
func checkSide(t *testing.T, b *Buffer, when string) {
	t.Helper()
	want, err := b.countSide(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	states := int64(0)
	if err := b.view(func(txn *badger.Txn) error {
		return eachSize(t.Context(), txn, appendClass(nil, classState), func(_ []byte, size int64) { states += size })
	}); err != nil {
		t.Fatal(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	type sum struct {
		count uint64
		bytes int64
	}
	plain := func(s side) (all map[deadOf]sum, total sum) {
		all = map[deadOf]sum{}
		for of, d := range s.dead {
			all[of] = sum{d.count, d.bytes}
			total = sum{total.count + d.count, total.bytes + d.bytes}
		}
		return all, total
	}
	got, total := plain(b.side)
	really, _ := plain(want)
	if b.side.other != want.other || b.side.states != states || !maps.Equal(got, really) || total != (sum{b.side.deadCount, b.side.deadBytes}) || b.side.doubtful {
		t.Fatalf("%s: counted %+v %v, there are states %d, other %d, dead %v", when, b.side, got, states, want.other, really)
	}
}

// refuseNext has the uplink refuse the next n events of a machine.
func refuseNext(t *testing.T, q *Queue, n int) plant.MachineID {
	t.Helper()
	m := next(t, q)
	var results []plant.Result
	for _, e := range peekAll(t, q, m, 0, n) {
		results = append(results, plant.Result{First: e.Sequence, Last: e.Sequence, Status: plant.Rejected, Cause: errors.New("unknown code")})
	}
	settle(t, q, m, results[len(results)-1].Last, results...)
	return m
}

// TestWhatIsKeptBesideEventsIsCounted does at random what changes it, with kills
// and stops in between, and compares each time.
func TestWhatIsKeptBesideEventsIsCounted(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 11))
	o := testOptions(quickDir(t))
	b := open(t, o)
	q := queue(t, b, "mes", all)
	for step := range 120 {
		m := plant.MachineID(fmt.Sprint("M", random.IntN(3)))
		what := random.IntN(8)
		value := make([]byte, random.IntN(400))
		switch what {
		case 0, 1:
			batch := plant.Batch{State: value, Put: []plant.KV{{Key: fmt.Sprint(random.IntN(5)), Value: value}, {Key: "twice", Value: value[:len(value)/2]}}, Delete: []string{fmt.Sprint(random.IntN(5)), "twice"}}
			if _, err := b.Commit(t.Context(), m, batch); err != nil {
				t.Fatal(err)
			}
		case 2:
			job := Job{ID: uint64(random.IntN(3)), Record: value, Uplink: "mes", Put: []plant.KV{{Key: fmt.Sprint(random.IntN(4)), Value: value}}}
			if len(value)%3 == 0 {
				job.Record = nil
			}
			if err := b.SaveJob(t.Context(), job); err != nil {
				t.Fatal(err)
			}
		case 3, 4:
			commit(t, b, m, count(1), count(2), count(3))
			refuseNext(t, q, 2)
		case 5:
			for d, err := range b.DeadLetters(t.Context(), "mes") {
				if err != nil {
					t.Fatal(err)
				}
				if err := b.RefuseDead(t.Context(), "mes", d.Event.Machine, d.Event.Sequence, errors.New(string(value)), nil); err != nil {
					t.Fatal(err)
				}
				if err := b.RemoveDead(t.Context(), "mes", d.Event.Machine, d.Event.Sequence, nil); len(value)%2 == 0 && err != nil {
					t.Fatal(err)
				}
				break
			}
		case 6, 7:
			if what == 6 {
				mustClose(t, b)
			} else {
				o.Path = crash(t, b)
			}
			b = open(t, o)
			q = queue(t, b, "mes", all)
		}
		checkSide(t, b, fmt.Sprintf("step %d, %d", step, what))
	}
}

// TestASumOfAnOlderGatewayIsNotTaken: one that counts nothing was at work.
func TestASumOfAnOlderGatewayIsNotTaken(t *testing.T) {
	path := t.TempDir()
	b := open(t, testOptions(path))
	q := queue(t, b, "mes", all)
	commit(t, b, "M1", count(1), count(2))
	refuseNext(t, q, 2)
	mustClose(t, b)
	damage(t, path, func(txn *badger.Txn) error {
		if err := txn.Delete(deadKey("mes", "M1", 1)); err != nil {
			return err
		}
		// What an older gateway writes at its opening: one more of them.
		return txn.Set(formatKey, func() []byte {
			dst := appendUvarints(appendEnvelope(nil), formatMajor, formatMinor)
			dst = appendUvarints(append(dst, b.id[:]...), b.opening+1)
			seal(dst, 0, formatKey, envelopeSize)
			return dst
		}())
	})
	b = open(t, testOptions(path))
	queue(t, b, "mes", all)
	checkSide(t, b, "after an older gateway")
	if n := queueStats(t, b, "mes").DeadLetters; n != 1 {
		t.Errorf("%d dead letters, want 1", n)
	}
	mustClose(t, b)
	// Sums that hold are taken as they are: opening walks through nothing.
	damage(t, path, func(txn *badger.Txn) error { return txn.Delete(deadKey("mes", "M1", 2)) })
	b = open(t, testOptions(path))
	queue(t, b, "mes", all)
	if n := queueStats(t, b, "mes").DeadLetters; n != 1 {
		t.Errorf("%d dead letters, want the 1 that the sums tell", n)
	}
}

// TestDamagedSumsAreCountedAgain: so are those that are gone.
func TestDamagedSumsAreCountedAgain(t *testing.T) {
	for name, change := range map[string]func(*badger.Txn) error{
		"all":    flip(appendClass(nil, classSums)),
		"one":    flip(deadOf{"mes", "M1"}.sumKey()),
		"absent": func(txn *badger.Txn) error { return txn.Delete(appendClass(nil, classSums)) },
	} {
		t.Run(name, func(t *testing.T) {
			path := t.TempDir()
			b := open(t, testOptions(path))
			q := queue(t, b, "mes", all)
			commit(t, b, "M1", count(1), count(2))
			refuseNext(t, q, 2)
			mustClose(t, b)
			damage(t, path, change)
			b = open(t, testOptions(path))
			queue(t, b, "mes", all)
			checkSide(t, b, "after damage")
			mustClose(t, b)
			b = open(t, testOptions(path))
			checkSide(t, b, "after another start")
		})
	}
}

// TestDeadLettersAreBounded: the oldest go, each of them is told, and the bound
// holds at each commit.
func TestDeadLettersAreBounded(t *testing.T) {
	o := testOptions(quickDir(t))
	o.DeadLetters = MinDeadLetters
	dropped := map[deadOf]uint64{}
	o.OnDeadDropped = func(d DeadDropped) { dropped[deadOf{d.Uplink, d.Machine}] += d.Count }
	most := 0
	commitNow := o.commit
	o.commit = func(txn *badger.Txn) error {
		n := 0
		for _, uplink := range []string{"erp", "mes"} {
			if err := eachSize(t.Context(), txn, uplinkKey(classDead, uplink), func([]byte, int64) { n++ }); err != nil {
				return err
			}
		}
		most = max(most, n)
		return commitNow(txn)
	}
	b := open(t, o)
	mes, erp := queue(t, b, "mes", only(plant.KindCounter)), queue(t, b, "erp", only(plant.KindCounter))
	ever := map[deadOf]int{}
	for round := range 40 {
		m := plant.MachineID(fmt.Sprint("M", round%3))
		var events []plant.Event
		for i := range 10 {
			events = append(events, count(10*round+i))
		}
		commit(t, b, m, events...)
		for _, q := range []*Queue{mes, erp} {
			ever[deadOf{q.name, refuseNext(t, q, 10)}] += 10
		}
		checkSide(t, b, fmt.Sprint("round ", round))
		if round == 20 {
			o.Path = crash(t, b)
			b = open(t, o)
			mes, erp = queue(t, b, "mes", only(plant.KindCounter)), queue(t, b, "erp", only(plant.KindCounter))
		}
	}
	if s := b.Stats(); most > MinDeadLetters || s.DeadLetters < MinDeadLetters/2 || s.DeadMost != MinDeadLetters {
		t.Errorf("at most %d were kept, %d are: %d allowed", most, s.DeadLetters, MinDeadLetters)
	}
	told := map[deadOf]uint64{}
	for _, m := range b.Machines() {
		for e, err := range b.Events(t.Context(), m, 0, 10_000) {
			if err != nil {
				t.Fatal(err)
			}
			if e.Kind != plant.KindGap {
				continue
			}
			g := gapOf(t, e)
			if g.Cause != plant.GapRefused || len(g.Uplinks) != 1 || g.Kinds[plant.KindCounter] != g.Count || g.Delivered {
				t.Errorf("told %+v", g)
			}
			told[deadOf{g.Uplinks[0], m}] += g.Count
		}
	}
	if !maps.Equal(told, dropped) {
		t.Errorf("gap events tell %v, the audit log %v", told, dropped)
	}
	for of, n := range ever {
		var kept []plant.Sequence
		for d, err := range b.DeadLettersOf(t.Context(), of.uplink, of.machine, 0) {
			if err != nil {
				t.Fatal(err)
			}
			kept = append(kept, d.Event.Sequence)
		}
		if len(kept)+int(told[of]) != n {
			t.Errorf("%v: %d refused, %d kept, %d told", of, n, len(kept), told[of])
		}
		if !slices.IsSorted(kept) || len(kept) > 0 && int(kept[0]) <= int(told[of]) {
			t.Errorf("%v: not the oldest went: kept from %d, %d are gone", of, kept[0], told[of])
		}
	}
}

// TestLargeDeadLettersAreBounded by the room that they take; a bound that becomes
// smaller holds without a refusal.
func TestLargeDeadLettersAreBounded(t *testing.T) {
	o := testOptions(quickDir(t))
	o.Quota, o.DeadShare = MinQuota, 20
	b := open(t, o)
	q := queue(t, b, "mes", only(plant.KindCounter))
	for i := range 30 {
		commit(t, b, "M1", heavy(count(i), 200<<10))
		refuseNext(t, q, 1)
		if s := b.Stats(); s.DeadBytes > s.DeadMostBytes || s.DeadMostBytes != MinQuota/100*20 {
			t.Fatalf("%d bytes of %d", s.DeadBytes, s.DeadMostBytes)
		}
	}
	before := b.Stats().DeadLetters
	mustClose(t, b)
	o.DeadShare, o.housework = 10, 1e6
	b = open(t, o)
	eventually(t, "the smaller bound holds", func() bool { s := b.Stats(); return s.DeadBytes <= s.DeadMostBytes && s.DeadLetters < before })
	checkSide(t, b, "after the housekeeping")
}

// TestRefusedEventsWithoutABound: nothing goes.
func TestRefusedEventsWithoutABound(t *testing.T) {
	o := testOptions(quickDir(t))
	o.DeadLetters = 0
	b := open(t, o)
	q := queue(t, b, "mes", all)
	for i := range 30 {
		commit(t, b, "M1", count(i), count(i), count(i), count(i))
		refuseNext(t, q, 4)
	}
	if n := queueStats(t, b, "mes").DeadLetters; n != 120 {
		t.Errorf("%d of 120 are kept", n)
	}
}

func TestSumsOnDisk(t *testing.T) {
	r := &request{}
	putDeadSum(r, deadOf{"mes", "M1"}, deadSum{count: 300, bytes: 70_000})
	want := []byte{recordMajor, recordMinor, 0, envelopeSize, 0, 0, 0, 0}
	want = binary.AppendUvarint(binary.AppendUvarint(want, 300), 70_000)
	seal(want, 0, r.entries[0].Key, envelopeSize)
	if string(r.entries[0].Key) != "\x01n\x03mes\x02M1" || !slices.Equal(r.entries[0].Value, want) {
		t.Errorf("key %q, value %x, want %x", r.entries[0].Key, r.entries[0].Value, want)
	}
}

func gapOf(t *testing.T, e plant.Event) (g plant.GapData) {
	t.Helper()
	if err := json.Unmarshal(e.Data, &g); err != nil {
		t.Fatal(err)
	}
	return g
}
