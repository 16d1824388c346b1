package ledger

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sluice-edge/sluice/plant"
)

// plan is a store with events of some days, all booked.
func someDays(t *rapid.T) *store {
	s := newStore()
	at := monday
	for range rapid.IntRange(1, 60).Draw(t, "events") {
		at = at.Add(time.Duration(rapid.IntRange(0, 1500).Draw(t, "minutes")) * time.Minute)
		component := rapid.SampledFrom([]string{"A", "B"}).Draw(t, "component")
		lot := rapid.SampledFrom([]string{"", "L1"}).Draw(t, "lot")
		q := plant.Decimal{Unscaled: int64(rapid.IntRange(0, 5000).Draw(t, "quantity")), Scale: 2}
		switch rapid.IntRange(0, 4).Draw(t, "kind") {
		case 0:
			s.add(plant.KindReceipt, at, moved(component, q.String(), "kg", lot, "SILO"))
		case 1:
			s.add(plant.KindRefill, at, moved(component, q.String(), "kg", lot, "S1"))
		case 2:
			s.add(plant.KindGap, at, plant.GapData{First: 1, Last: 3, Count: 3})
		default:
			s.add(plant.KindDosing, at, dose(component, q.String(), "kg", "A", plant.DosedLot{Lot: lot, Quantity: q}))
		}
	}
	s.book(Options{})
	return s
}

// TestRowsThatCannotBeReadAreMended damages rows at random and mends: what is not said
// to be lost is as it was, no other row changes, the books can be read, and booking
// goes on.
func TestRowsThatCannotBeReadAreMended(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := someDays(t)
		before := maps.Clone(s.rows)
		keys := slices.Sorted(maps.Keys(s.rows))
		bad := map[string]bool{}
		for range rapid.IntRange(1, 4).Draw(t, "damages") {
			key := rapid.SampledFrom(keys).Draw(t, "row")
			bad[key] = true
			s.rows[key] = []byte(rapid.SampledFrom([]string{unreadable, "{", `"x"`}).Draw(t, "as"))
		}
		s.low = plant.Sequence(rapid.Uint64Range(0, uint64(s.last())).Draw(t, "deleted"))
		if rapid.IntRange(0, 4).Draw(t, "cursor lost") == 0 {
			s.cursor = 0
			s.low = 0 // nothing is deleted before it is booked
		}
		k := NewKeeper(s, Options{}, nil)
		v, err := k.Check(context.Background(), machine, s.low+1, s.kept(), false)
		if err != nil || len(v.Differences) < len(bad) || v.Mended {
			t.Fatalf("%d rows are damaged: %+v %v", len(bad), v, err)
		}
		v, err = k.Check(context.Background(), machine, s.low+1, s.kept(), true)
		if err != nil || !v.Mended {
			t.Fatalf("%+v %v", v, err)
		}
		lost := map[string]string{}
		for _, d := range v.Differences {
			lost[d.Row] = d.Lost
			if d.Lost != "" && s.low == 0 && !strings.Contains(d.Row, "head") {
				t.Fatalf("every event is kept, and of %s is lost: %s", d.Row, d.Lost)
			}
		}
		daysDamaged := false
		for key := range bad {
			daysDamaged = daysDamaged || key[0] == rowDay
		}
		for key, was := range before {
			is := s.rows[key]
			switch {
			case slices.Equal(was, is):
			case !bad[key]:
				t.Fatalf("%s was not damaged, and is %s, was %s\n%+v", describe(key), is, was, v)
			case lost[describe(key)] != "":
			case is == nil && (key[0] == rowDay || key[0] == rowOpening): // needed no more
			case daysDamaged && s.low > 0 && key[0] == rowHead:
			default:
				t.Fatalf("%s is %s, was %s, and nothing is said to be lost\n%+v", describe(key), is, was, v)
			}
		}
		if v, err := k.Check(context.Background(), machine, s.low+1, s.kept(), false); err != nil || len(v.Differences) > 0 {
			t.Fatalf("after the mend: %+v %v", v, err)
		}
		if _, err := k.Stock(context.Background(), Detail{}); err != nil {
			t.Fatal(err)
		}
		if _, err := k.Consumption(context.Background(), time.Time{}, time.Time{}, Detail{}); err != nil {
			t.Fatal(err)
		}
		stock := maps.Clone(s.rows)
		s.cursor = max(s.cursor, s.low)
		s.book(Options{})
		for key, was := range stock {
			if key[0] == rowStock && !slices.Equal(was, s.rows[key]) {
				t.Fatalf("an event is booked twice: %s was %s, is %s", describe(key), was, s.rows[key])
			}
		}
	})
}

// TestBooksWithoutAHeadAreNotBookedOver: where the head is gone, what is booked next
// would begin at day 1 again.
func TestBooksWithoutAHeadAreNotBookedOver(t *testing.T) {
	s := newStore()
	for day := range 4 {
		s.add(plant.KindDosing, monday.Add(time.Duration(day)*25*time.Hour), dose("SALT", "1", "kg", "A"))
	}
	s.book(Options{})
	delete(s.rows, string(prefix(rowHead, machine)))
	before := maps.Clone(s.rows)
	k := NewKeeper(s, Options{}, nil)
	if _, err := k.open(t.Context(), machine); err == nil || !strings.Contains(err.Error(), "gone") {
		t.Errorf("the books are opened: %v", err)
	}
	v, err := k.Check(t.Context(), machine, 1, s.kept(), true)
	if err != nil || len(v.Differences) != 1 || !v.Mended || v.Days != 4 || v.Differences[0].Lost == "" {
		t.Errorf("%+v %v", v, err)
	}
	before[string(prefix(rowHead, machine))] = s.rows[string(prefix(rowHead, machine))]
	if !maps.EqualFunc(before, s.rows, slices.Equal) {
		t.Error("another row was changed")
	}
	if b, err := k.open(t.Context(), machine); err != nil || b.head.Day != 4 || b.head.Last != 4 || b.head.Kept != 1 {
		t.Errorf("the head is %+v %v", b.head, err)
	}
}
