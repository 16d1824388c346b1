package main

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/buffer"
	"github.com/sluice-edge/sluice/internal/admin"
	"github.com/sluice-edge/sluice/internal/audit"
	"github.com/sluice-edge/sluice/internal/balance"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

// press is a machine whose truth is known, and receivers that count themselves.
type press struct {
	t     *testing.T
	store *buffer.Buffer
	at    time.Time
	raw   int64
	good  int64
	scrap int64
	// shiftOf and piecesOf say of each event in which shift it is and how many
	// pieces it tells.
	shiftOf  map[plant.Sequence]string
	piecesOf map[plant.Sequence]int64
	made     map[string]int64
	names    map[*buffer.Queue]string
	book     *shiftBook
}

func shiftAt(t time.Time) string {
	if t.Hour() < 14 {
		return "early"
	}
	return "late"
}

// make lets the press make pieces for a while, one event every ten seconds. Each
// event is large, so that few of them fill the store.
func (p *press) make(events int) {
	p.t.Helper()
	for i := range events {
		good, scrap := int64(1+i%3), int64(i%2)
		from := p.at
		p.at = p.at.Add(10 * time.Second)
		p.raw, p.good, p.scrap = p.raw+good+scrap, p.good+good, p.scrap+scrap
		data, err := json.Marshal(struct {
			plant.Counter
			Pad string `json:"pad"`
		}{plant.Counter{
			Head: plant.Head{Machine: "PRESS-01", Mode: plant.Production}, Good: p.good, GoodDelta: good,
			Scrap: []plant.ScrapCount{{Code: "BURR", Quantity: p.scrap, Delta: scrap}}, From: from, To: p.at, Raw: p.raw,
		}, strings.Repeat("x", 20_000)})
		if err != nil {
			p.t.Fatal(err)
		}
		var seq plant.Sequence
		awaitCLI(p.t, "room for an event", func() bool {
			seq, err = p.store.Commit(p.t.Context(), "PRESS-01", plant.Batch{Events: []plant.Event{{Kind: plant.KindCounter, Version: 1, Time: p.at, TimeSource: plant.DeviceTime, Data: data}}})
			if err != nil && !errors.Is(err, plant.ErrFull) {
				p.t.Fatal(err)
			}
			return err == nil
		})
		p.book.note("PRESS-01", []plant.Event{{Kind: plant.KindCounter, Time: p.at, Data: data}})
		shift := shiftAt(from)
		p.shiftOf[seq], p.piecesOf[seq] = shift, good+scrap
		p.made[shift] += good + scrap
	}
}

// take drains an uplink up to most events; refuse says which ones it will not
// have. It returns the pieces that it has taken, by shift, and what it refused.
func (p *press) take(q *buffer.Queue, most int, refuse func(plant.Sequence) bool, taken map[string]int64) (refused []plant.Sequence) {
	p.t.Helper()
	for most > 0 && p.backlog(q) > 0 {
		m, err := q.Next(p.t.Context())
		if err != nil {
			p.t.Fatal(err)
		}
		events, err := q.Peek(p.t.Context(), m, 0, min(most, 50), 8<<20)
		if err != nil {
			p.t.Fatal(err)
		}
		var results []plant.Result
		upTo := plant.Sequence(0)
		for _, e := range events {
			r := plant.Result{First: e.Sequence, Last: e.Sequence, Status: plant.Delivered}
			if e.Kind == plant.KindCounter && refuse(e.Sequence) {
				r.Status, r.Cause = plant.Rejected, errors.New("unknown order")
				refused = append(refused, e.Sequence)
			} else if e.Kind == plant.KindCounter {
				taken[p.shiftOf[e.Sequence]] += p.piecesOf[e.Sequence]
			}
			results, upTo = append(results, r), e.Sequence
		}
		if err := q.Settle(p.t.Context(), m, upTo, results); err != nil {
			p.t.Fatal(err)
		}
		most -= len(events)
	}
	return refused
}

func (p *press) backlog(q *buffer.Queue) uint64 {
	for _, s := range p.store.Stats().Queues {
		if s.Uplink == p.names[q] {
			return s.Backlog
		}
	}
	return 0
}

// TestThePiecesAddUp: through an outage, refusals, one that is given up, one that
// is sent again and an eviction, what the PLC counted is what the gateway recorded,
// and what each uplink accepted, has to get, refused or will never get; the
// receivers count themselves.
func TestThePiecesAddUp(t *testing.T) {
	config, folder := storedPlant(t, "http://127.0.0.1:9/", "")
	if err := os.RemoveAll(folder); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	withShifts := strings.Replace(string(text), "timezone: Europe/Lisbon}", `shifts: {early: "06:00-14:00", late: "14:00-22:00"}}`, 1)
	if err := os.WriteFile(config, []byte(withShifts), 0o600); err != nil {
		t.Fatal(err)
	}
	p, faults := loadPlan(config, driverKinds, uplinkKinds)
	if errs := faults.Errors(); len(errs) > 0 {
		t.Fatal(errs)
	}
	store := openStore(t, config, func(o *buffer.Options) {
		o.Quota, o.WhenFull, o.Ballast, o.DeadShare = buffer.MinQuota, buffer.EvictOldest, 0, 50
	})
	defer store.Close()
	names := map[*buffer.Queue]string{}
	all := func(plant.EventKind) bool { return true }
	queue := func(name string) *buffer.Queue {
		q, err := store.Queue(name, all)
		if err != nil {
			t.Fatal(err)
		}
		names[q] = name
		return q
	}
	book := newShiftBook(folder, p.Machines, shiftAround(time.UTC), zap.NewNop())
	if err := book.load(t.Context(), store.Newest); err != nil {
		t.Fatal(err)
	}
	mes, erp := queue("mes"), queue("erp")
	machine := &press{
		t: t, store: store, at: time.Date(2026, 7, 27, 13, 30, 0, 0, time.UTC), raw: 5000,
		shiftOf: map[plant.Sequence]string{}, piecesOf: map[plant.Sequence]int64{}, made: map[string]int64{}, names: names, book: book,
	}
	machine.raw = 0
	atMES, atERP := map[string]int64{}, map[string]int64{}
	never := func(plant.Sequence) bool { return false }
	tenth := func(s plant.Sequence) bool { return s%10 == 0 }

	machine.make(200) // half an hour before the end of the shift, and a little of the next
	machine.take(mes, 1000, never, atMES)
	refused := machine.take(erp, 1000, tenth, atERP)

	log := logOf(p, func() bool { return true }, zap.NewNop())
	defer log.Close()
	b := books{store: store, log: log.Reader, zone: time.UTC, shifts: book}
	sheets := func() []balance.Sheet {
		t.Helper()
		log.Flush()
		all, err := b.sheets(t.Context(), p.Machines[0], machine.at, 2)
		if err != nil || len(all) != 2 {
			t.Fatalf("%d sheets, %v", len(all), err)
		}
		return all
	}
	check := func(when string) (late, early balance.Sheet) {
		t.Helper()
		all := sheets()
		for _, s := range all {
			d := s.Device
			if s.Pieces != machine.made[s.Shift] || d == nil || d.Moved != s.Pieces || s.Good+s.Scrap+s.Lost != s.Pieces || !s.Balanced {
				t.Errorf("%s, %s: made %d, sheet %+v, device %+v", when, s.Shift, machine.made[s.Shift], s, d)
			}
			for i, has := range []map[string]int64{atMES, atERP} {
				if i >= len(s.Uplinks) {
					t.Fatalf("%s: uplinks %+v", when, s.Uplinks)
				}
				line := s.Uplinks[i]
				if line.Accepted != has[s.Shift] || line.Sum() != s.Pieces {
					t.Errorf("%s, %s: %s has %d, line %+v of %d pieces", when, s.Shift, line.Uplink, has[s.Shift], line, s.Pieces)
				}
			}
		}
		return all[0], all[1]
	}
	_, early := check("after refusals")
	if early.Uplinks[1].Dead == 0 || early.Uplinks[0].Dead != 0 || early.Uplinks[0].Pending != 0 {
		t.Errorf("%+v", early.Uplinks)
	}

	// One dead letter is given up by hand, one is sent again.
	notes := audit.New(folder, audit.Options{})
	defer notes.Close()
	server := admin.NewServer(admin.Options{Store: store, Audit: notes, Uplink: p.uplinkInfo, Note: log.Add, Gateway: "gw-1", Log: zap.NewNop()})
	client := admin.Local(server.Handler(), "test")
	defer client.Close()
	var dropped admin.Dropped
	if err := client.Post(t.Context(), "/dead/drop", map[string]any{"uplink": "erp", "machine": "PRESS-01", "sequences": []uint64{uint64(refused[0])}, "reason": "test pieces"}, &dropped); err != nil || dropped.Dropped != 1 {
		t.Fatalf("%+v, %v", dropped, err)
	}
	if err := store.RemoveDead(t.Context(), "erp", "PRESS-01", refused[1], nil); err != nil {
		t.Fatal(err)
	}
	atERP[machine.shiftOf[refused[1]]] += machine.piecesOf[refused[1]]
	if _, early = check("after the drop"); early.Uplinks[1].Dropped != machine.piecesOf[refused[0]] {
		t.Errorf("%+v", early.Uplinks)
	}

	// Another one is given up, and a resend brings it to the receiver all the same.
	if err := client.Post(t.Context(), "/dead/drop", map[string]any{"uplink": "erp", "machine": "PRESS-01", "sequences": []uint64{uint64(refused[2])}, "reason": "test pieces"}, &dropped); err != nil || dropped.Dropped != 1 {
		t.Fatalf("%+v, %v", dropped, err)
	}
	told := uplink.Exchange{Time: time.Now(), Uplink: "erp", Machine: "PRESS-01", Kind: plant.KindCounter, Method: "POST", Status: 201, Outcome: uplink.OutcomeDelivered}
	around, resent := told, told
	around.First, around.Last, around.Events = refused[0]-1, refused[2]+1, 3 // the refused ones are not among them
	resent.First, resent.Last, resent.Events = refused[2], refused[2], 1
	log.Add(around)
	log.Add(resent)
	atERP[machine.shiftOf[refused[2]]] += machine.piecesOf[refused[2]]
	if _, early = check("after a resend of what was given up"); early.Uplinks[1].Dropped != machine.piecesOf[refused[0]] {
		t.Errorf("%+v", early.Uplinks)
	}

	// What waits for a receiver that is away is pending, and nothing else.
	before := machine.made["late"]
	machine.make(40)
	machine.take(erp, 1000, tenth, atERP)
	machine.take(mes, 15, never, atMES)
	if late, _ := check("in an outage"); late.Uplinks[0].Pending == 0 || late.Uplinks[0].Accepted < before || late.Uplinks[1].Pending != 0 {
		t.Errorf("%+v", late.Uplinks)
	}

	// It stays away for so long that the oldest events that wait for it go, and with
	// them those that both have had.
	for i := 0; store.Stats().Missing[plant.GapEvicted] < 100; i++ {
		if i > 200 {
			t.Fatal("nothing is evicted")
		}
		machine.make(50)
		machine.take(erp, 1000, tenth, atERP)
	}
	evicted := func(when string) (late balance.Sheet) {
		t.Helper()
		for _, s := range sheets() {
			if s.Pieces != machine.made[s.Shift] || s.Lost == 0 || s.Good+s.Scrap+s.Lost != s.Pieces {
				t.Errorf("%s, %s: made %d, sheet %+v", when, s.Shift, machine.made[s.Shift], s)
			}
			for i, has := range []map[string]int64{atMES, atERP} {
				if line := s.Uplinks[i]; line.Accepted != has[s.Shift] || line.Sum() != s.Pieces {
					t.Errorf("%s, %s: %s has %d, line %+v of %d pieces", when, s.Shift, line.Uplink, has[s.Shift], line, s.Pieces)
				}
			}
			if s.Shift == "late" {
				late = s
			}
		}
		return late
	}
	late := evicted("after an eviction")
	if late.Uplinks[0].Gaps == 0 || late.Uplinks[0].Pending == 0 || late.Uplinks[1].Gaps != 0 || late.Uplinks[1].Dead == 0 || late.Device.Moved != late.Pieces {
		t.Errorf("%+v %+v", late, late.Device)
	}

	// It is back: what is left arrives, and what went is still named, also to a
	// gateway that has just started.
	machine.take(mes, 1_000_000, never, atMES)
	if err := book.save(); err != nil {
		t.Fatal(err)
	}
	again := newShiftBook(folder, p.Machines, shiftAround(time.UTC), zap.NewNop())
	if err := again.load(t.Context(), store.Newest); err != nil {
		t.Fatal(err)
	}
	b.shifts, machine.book = again, again
	gone := late.Uplinks[0].Gaps
	if late = evicted("after the drain"); late.Uplinks[0].Pending != 0 || late.Uplinks[0].Gaps != gone {
		t.Errorf("%+v, %d were gone", late.Uplinks, gone)
	}
	machine.make(3)
	evicted("after three more")
}
