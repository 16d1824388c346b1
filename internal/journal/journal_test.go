package journal

import (
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

func options() Options { return Options{Bytes: 4 << 20, Keep: 24 * time.Hour} }

// exchange returns the i-th of a row that no two look alike.
func exchange(i int) uplink.Exchange {
	return uplink.Exchange{
		Time: time.Date(2026, 11, 22, 8, 0, i, 0, time.UTC), Uplink: "mes", Machine: plant.MachineID(fmt.Sprintf("M-%d", i%3)), Kind: plant.KindCounter,
		First: plant.Sequence(i + 1), Last: plant.Sequence(i + 1), Events: 1, RequestID: fmt.Sprintf("request-%d", i),
		Method: "POST", Where: "https://mes.example/events", Status: 200 + i%2*303, Duration: time.Duration(i) * time.Millisecond,
		Outcome: []uplink.Outcome{uplink.OutcomeDelivered, uplink.OutcomeRetry}[i%2], Words: []string{"", "Störung \"A\""}[i%2],
	}
}

// filled returns a log with n entries on disk.
func filled(t *testing.T, n int, o Options) *Log {
	t.Helper()
	l := New(t.TempDir(), o, zap.NewNop())
	for i := range n {
		l.Add(exchange(i))
		if i%100 == 99 {
			l.Flush()
		}
	}
	l.Flush()
	if s := l.Stats(); s.Problem != "" || s.Lost > 0 {
		t.Fatalf("%+v", s)
	}
	return l
}

func search(t *testing.T, r *Reader, f Filter, before uint64, limit int) Found {
	t.Helper()
	found, err := r.Search(t.Context(), f, before, limit, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func numbers(entries []Entry) (out []uint64) {
	for i := range entries {
		out = append(out, entries[i].Number)
	}
	return out
}

// TestWhatWasAddedIsFound: each entry comes back as it was, by pages of any
// size, newest first, and oldest first by Each.
func TestWhatWasAddedIsFound(t *testing.T) {
	l := filled(t, 200, options())
	for _, page := range []int{1, 7, 200, 5000} {
		var all []Entry
		before := uint64(0)
		for {
			found := search(t, &l.Reader, Filter{}, before, page)
			all = append(all, found.Entries...)
			if before = found.Before; !found.More || found.Damaged > 0 {
				break
			}
			if page == 1 && len(all) == 50 {
				break
			}
		}
		for i := range all {
			want := exchange(200 - 1 - i)
			if all[i].Number != uint64(200-i) || fmt.Sprint(all[i].Exchange) != fmt.Sprint(want) {
				t.Fatalf("pages of %d: entry %d is %+v, want %+v", page, i, all[i], want)
			}
		}
		if page > 1 && len(all) != 200 {
			t.Errorf("pages of %d: %d entries", page, len(all))
		}
	}
	var got []uint64
	last, damaged, err := l.Each(t.Context(), Filter{}, 190, func(e *Entry) error { got = append(got, e.Number); return nil })
	if err != nil || damaged > 0 || last != 200 || len(got) != 10 || got[0] != 191 || !slices.IsSorted(got) {
		t.Errorf("after 190: %v, last %d, %d damaged, %v", got, last, damaged, err)
	}
}

func TestFilter(t *testing.T) {
	l := New(t.TempDir(), options(), zap.NewNop())
	at := time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)
	for _, x := range []uplink.Exchange{
		1: {Uplink: "mes", Machine: "A", Kind: plant.KindCounter, First: 5, Last: 9, Events: 3, Status: 201, Outcome: uplink.OutcomeDelivered, RequestID: "r-1"},
		2: {Uplink: "erp", Machine: "A", Kind: plant.KindSerial, First: 6, Last: 6, Events: 1, Status: 503, Outcome: uplink.OutcomeRetry, Words: "Wartung bis 9 Uhr"},
		3: {Uplink: "mes", Machine: "B", First: 1, Last: 40, Events: 40, Outcome: uplink.OutcomeDelivered, Merged: []uplink.Merged{{Kind: plant.KindCounter, First: 1, Into: 39, Count: 30}}},
		4: {Uplink: "mes", Status: 401, Outcome: uplink.OutcomeAsked, Where: "https://mes.example/token", RequestID: "r-4 → OLD-4"},
		5: {Uplink: "mes", Machine: "A", Kind: plant.KindCounter, First: 10, Last: 10, Events: 1, Status: 422, Outcome: uplink.OutcomeRefused, Words: "unknown order 0012345", RequestID: "r-5", ReceiverID: "PO/A-17"},
	}[1:] {
		x.Time, at = at, at.Add(time.Hour)
		l.Add(x)
	}
	l.Flush()
	zone, err := time.LoadLocation("Europe/Lisbon")
	if err != nil {
		t.Fatal(err)
	}
	for query, want := range map[string]string{
		"":                                    "[5 4 3 2 1]",
		"uplink=mes":                          "[5 4 3 1]",
		"uplink=me":                           "[]",
		"machine=A":                           "[5 2 1]",
		"kind=counter":                        "[5 3 1]",
		"kind=serial":                         "[3 2]",
		"outcome=refused":                     "[5]",
		"outcome=delivered&machine=B":         "[3]",
		"status=503":                          "[2]",
		"status=4xx":                          "[5 4]",
		"from=2026-11-22T10:00":               "[5 4 3]",
		"to=2026-11-22T09:00:00Z":             "[1]",
		"from=2026-11-22&to=2026-11-22T09:00": "[1]",
		"id=r-1":                              "[1]",
		"id=r":                                "[]",
		"id=r-5":                              "[5]",
		"id=PO/A-17":                          "[5]",
		"id=PO":                               "[]",
		"id=OLD-4":                            "[4]",
		"id=r-4":                              "[4]",
		"id=A/6":                              "[2 1]",
		"id=B/39":                             "[3]",
		"id=gw/A/00000000000000c1-10":         "[5]",
		"q=wartung":                           "[2]",
		"q=0012345":                           "[5]",
		"q=TOKEN":                             "[4]",
		"q=nothing":                           "[]",
		"status=":                             "[5 4 3 2 1]",
	} {
		q, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		f, err := ParseFilter(q, zone)
		if err != nil {
			t.Errorf("%s: %v", query, err)
			continue
		}
		if got := fmt.Sprint(numbers(search(t, &l.Reader, f, 0, 100).Entries)); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
		each := 0
		if _, _, err := l.Each(t.Context(), f, 0, func(*Entry) error { each++; return nil }); err != nil || each != len(strings.Fields(strings.Trim(want, "[]"))) {
			t.Errorf("%s: Each calls %d times, %v", query, each, err)
		}
	}
	for query, words := range map[string]string{
		"outcome=lots": "lost", "status=5x": "503", "status=-1": "5xx", "status=xx": "5xx", "from=yesterday": "2026-07-27", "machine=B&id=A/6": "machine A",
	} {
		q, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseFilter(q, zone); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v", query, err)
		}
	}
}

// TestPlainDeliveriesAreOneLineASecond: what is steady costs one line a machine
// and a second, whatever the number of Sends.
func TestPlainDeliveriesAreOneLineASecond(t *testing.T) {
	l := New(t.TempDir(), options(), zap.NewNop())
	for i := range 1000 {
		for _, m := range []plant.MachineID{"A", "B"} {
			l.Add(uplink.Exchange{Uplink: "mqtt", Machine: m, Kind: plant.KindCounter, First: plant.Sequence(5*i + 1), Last: plant.Sequence(5*i + 5), Events: 5, Duration: time.Duration(i%7) * time.Millisecond, Outcome: uplink.OutcomeDelivered})
		}
		if i == 499 { // what happens in between parts them
			l.Add(uplink.Exchange{Uplink: "mqtt", Machine: "A", First: 2501, Last: 2501, Events: 1, Outcome: uplink.OutcomeRetry, Words: "broken pipe"})
		}
	}
	l.Flush()
	found := search(t, &l.Reader, Filter{Machine: "A"}, 0, 100)
	if len(found.Entries) != 3 {
		t.Fatalf("%+v", found.Entries)
	}
	newest, oldest := found.Entries[0], found.Entries[2]
	if newest.First != 2501 || newest.Last != 5000 || newest.Events != 2500 || newest.Sends != 500 || oldest.First != 1 || oldest.Last != 2500 || oldest.Events != 2500 || oldest.Duration != 6*time.Millisecond {
		t.Errorf("%+v\n%+v", newest, oldest)
	}
	if found := search(t, &l.Reader, Filter{Machine: "B"}, 0, 100); len(found.Entries) != 1 || found.Entries[0].Events != 5000 {
		t.Errorf("%+v", found.Entries)
	}
}

// TestSizeIsBounded: the oldest files go, the newest entries stay, and numbers
// go on over restarts.
func TestSizeIsBounded(t *testing.T) {
	folder := t.TempDir()
	o := Options{Bytes: 8 * minFile, Keep: time.Hour}
	total := uint64(0)
	for range 4 {
		l := New(folder, o, zap.NewNop())
		for i := range 3000 {
			x := exchange(i)
			x.Words = strings.Repeat("w", 200)
			l.Add(x)
			if total++; i%50 == 49 {
				l.Flush()
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	r := NewReader(folder)
	names, err := r.names()
	if err != nil {
		t.Fatal(err)
	}
	size := int64(0)
	for _, name := range names {
		info, err := os.Stat(filepath.Join(r.Folder(), name))
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	// A file may exceed its bound by what one write brings.
	if size > o.Bytes+flushBytes || size < o.Bytes/2 {
		t.Errorf("%d bytes in %d files, bound %d", size, len(names), o.Bytes)
	}
	found := search(t, &r, Filter{}, 0, 100_000)
	if got := numbers(found.Entries); len(got) == 0 || got[0] != total || found.Damaged > 0 {
		t.Fatalf("newest %v of %d", got[:min(3, len(got))], total)
	}
	for i, n := range numbers(found.Entries) {
		if n != total-uint64(i) {
			t.Fatalf("%d comes after %d", n, total-uint64(i)+1)
		}
	}
}

// TestAgeIsBounded: a file whose newest entry is too old goes, and each day
// begins one.
func TestAgeIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options()
		o.Keep = 48 * time.Hour
		l := New(t.TempDir(), o, zap.NewNop())
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- l.Run(ctx) }()
		for day := range 6 {
			x := exchange(day)
			x.Time = time.Now()
			l.Add(x)
			time.Sleep(2 * time.Second)
			names, err := l.names()
			if err != nil {
				t.Fatal(err)
			}
			// The bubble's clock is not the disk's.
			if err := os.Chtimes(filepath.Join(l.Folder(), names[len(names)-1]), time.Now(), time.Now()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(24 * time.Hour)
		}
		names, err := l.names()
		if err != nil || len(names) != 2 {
			t.Errorf("files %v, %v", names, err)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// TestReadersBesideTheWriter: whoever reads meets whole lines only, in order.
func TestReadersBesideTheWriter(t *testing.T) {
	l := New(t.TempDir(), Options{Bytes: 4 * minFile, Keep: time.Hour}, zap.NewNop())
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			after := uint64(0)
			for ctx.Err() == nil {
				previous := after
				last, damaged, err := l.Each(t.Context(), Filter{}, after, func(e *Entry) error {
					if e.Number <= previous {
						return fmt.Errorf("%d after %d", e.Number, previous)
					}
					previous = e.Number
					return nil
				})
				if err != nil || damaged > 0 {
					t.Errorf("%v, %d damaged", err, damaged)
					return
				}
				after = last
			}
		})
	}
	for i := range 5000 {
		l.Add(exchange(i))
		if i%20 == 0 {
			l.Flush()
		}
	}
	stop()
	all.Wait()
}

func TestCSVIsHarmless(t *testing.T) {
	var out bytes.Buffer
	c := NewCSV(&out)
	for i, evil := range []string{`=cmd|' /C calc'!A0`, "+1", "-1", "@SUM(1)", "\t=1", "\r=1", "a\nb", `"x",y`} {
		x := exchange(i)
		x.Words, x.Machine, x.RequestID = evil, plant.MachineID(evil), evil
		x.Merged = []uplink.Merged{{Kind: plant.KindCounter, First: 1, Into: 9, Count: 4}}
		if err := c.Put(&Entry{Number: uint64(i + 1), Exchange: x}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(bytes.NewReader(out.Bytes())).ReadAll()
	if err != nil || len(rows) != 9 || strings.Join(rows[0], ",") != strings.Join(columns, ",") {
		t.Fatalf("%v, %d rows", err, len(rows))
	}
	for _, row := range rows[1:] {
		for at, cell := range row {
			if cell != "" && strings.ContainsRune("=+-@\t\r", rune(cell[0])) {
				t.Errorf("column %s begins with %q", columns[at], cell[:1])
			}
		}
		if row[8] != "counter 1-9 (4)" {
			t.Errorf("merged %q", row[8])
		}
	}
}

// BenchmarkAdd is what a Send pays: plain as MQTT's steady state is, and with a
// request of its own as REST's.
func BenchmarkAdd(b *testing.B) {
	for name, make := range map[string]func(i int) uplink.Exchange{
		"plain": func(i int) uplink.Exchange {
			return uplink.Exchange{Uplink: "mqtt", Machine: "M", Kind: plant.KindCounter, First: plant.Sequence(i + 1), Last: plant.Sequence(i + 1), Events: 1, Outcome: uplink.OutcomeDelivered}
		},
		"request": exchange,
	} {
		b.Run(name, func(b *testing.B) {
			l := New(b.TempDir(), options(), zap.NewNop())
			j := uplink.NewJournal("mqtt", l.Add)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				j.Note(make(i))
				if i%1000 == 999 {
					l.Flush()
				}
			}
		})
	}
}
