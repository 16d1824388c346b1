package buffer

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-edge/sluice/plant"
)

// refusedWith has n events refused, with words by which their place in a table is
// found.
func refusedWith(t *testing.T, b *Buffer, q *Queue, words string, n int) {
	t.Helper()
	m := next(t, q)
	var results []plant.Result
	for _, e := range peekAll(t, q, m, 0, n) {
		cause := fmt.Sprintf("%s-%s-%d-%s", words, q.name, e.Sequence, strings.Repeat("x", 1000))
		results = append(results, plant.Result{First: e.Sequence, Last: e.Sequence, Status: plant.Rejected, Cause: errors.New(cause)})
	}
	if len(results) != n {
		t.Fatalf("%d events to refuse, want %d", len(results), n)
	}
	settle(t, q, m, results[n-1].Last, results...)
}

// unreadableHead returns a store whose oldest dead letters, those of mes, stand in
// a block that Badger panics over: 70 of mes, of which some at the head are gone,
// and 20 of erp.
func unreadableHead(t *testing.T, o Options, size int) {
	t.Helper()
	b := open(t, o)
	mes, erp := queue(t, b, "mes", only(plant.KindCounter)), queue(t, b, "erp", only(plant.KindCounter))
	for i := range 120 {
		commit(t, b, "M1", count(i))
	}
	refusedWith(t, b, mes, "old", 70)
	refusedWith(t, b, erp, "new", 20)
	mustClose(t, b)
	for _, name := range filesOf(t, o.Path, "*.sst") {
		change(t, name, func(data []byte) []byte {
			if at := bytes.Index(data, []byte("old-mes-1-")); at >= 0 {
				clear(data[at : at+size])
			}
			return data
		})
	}
}

// Over 3000 zeros Badger panics, at 8000 its iterator ends.
func TestUnreadableDeadLettersArePassedOver(t *testing.T) {
	for _, size := range []int{3000, 8000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) { unreadableDeadLetters(t, size) })
	}
}

// Dead letters that nobody can read stop no refusal once their bound is reached:
// they are passed over, told once, and delivery goes on; the others can be listed.
func unreadableDeadLetters(t *testing.T, size int) {
	o := unmergedOptions(quickDir(t))
	o.DeadLetters = MinDeadLetters
	unreadableHead(t, o, size)
	b := open(t, o)
	of := deadOf{"mes", "M1"}
	seen := 0
	if err := b.eachDead(t.Context(), of, 0, func(_, _ []byte) bool { seen++; return true }); seen > 0 {
		t.Fatalf("the head can be read, the test shows nothing: %v", err)
	}
	// list returns how many can be read, and whether somebody says that others cannot.
	list := func() (n int, damaged bool) {
		t.Helper()
		for _, uplink := range []string{"mes", "erp"} {
			for d, err := range b.DeadLetters(t.Context(), uplink) {
				if err == nil {
					n++
					continue
				}
				damaged = true
				if d.Uplink != uplink || d.Event.Machine != "M1" || d.Event.Sequence == 0 || !errors.Is(err, errDamaged) {
					t.Errorf("what cannot be listed is %+v, %v", d, err)
				}
			}
		}
		return n, damaged
	}
	listed, damaged := list()
	if listed < 75 || listed > 88 || !damaged {
		t.Errorf("%d of 90 listed, said to be damaged: %t", listed, damaged)
	}
	mes := queue(t, b, "mes", only(plant.KindCounter))
	queue(t, b, "erp", only(plant.KindCounter))
	refusedWith(t, b, mes, "newest", 30)
	if err := b.Err(); err != nil {
		t.Fatal(err)
	}
	told := uint64(0)
	account := func(when string) {
		told = 0
		for e, err := range b.Events(t.Context(), "M1", 0, 10_000) {
			if err != nil {
				t.Fatal(err)
			}
			if e.Kind == plant.KindGap {
				g := gapOf(t, e)
				if g.Cause != plant.GapRefused || len(g.Uplinks) != 1 || g.First == 0 || g.Count > uint64(g.Last-g.First)+1 {
					t.Errorf("%s: told %+v", when, g)
				}
				told += g.Count
			}
		}
		kept, _ := list()
		if kept+int(told) != 120 {
			t.Errorf("%s: of 120 refused %d can be listed and %d are told", when, kept, told)
		}
		if s := b.Stats(); s.DeadLetters > MinDeadLetters || int(s.DeadLetters) != kept {
			t.Errorf("%s: %d dead letters count, %d can be listed", when, s.DeadLetters, kept)
		}
	}
	account("now")
	if int(told) <= 90-listed {
		t.Errorf("%d are told", told)
	}
	if files, err := filepath.Glob(filepath.Join(b.aside.path, "*.json")); err != nil || len(files) == 0 {
		t.Errorf("in quarantine are %v, %v", files, err)
	}
	before := told
	for range 2 {
		o.Path = crash(t, b)
		b = open(t, o)
		account("after a kill")
		mes = queue(t, b, "mes", only(plant.KindCounter))
		if err := b.boundDead(t.Context()); err != nil {
			t.Error(err)
		}
		if told != before {
			t.Errorf("told are %d, were %d: a restart tells them again", told, before)
		}
	}
	// It goes on where all are refused.
	for i := range 30 {
		commit(t, b, "M1", count(i))
	}
	refusedWith(t, b, mes, "last", 20)
	if err := b.Err(); err != nil {
		t.Error(err)
	}
}
