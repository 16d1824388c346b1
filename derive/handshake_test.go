package derive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
)

// moment is a point of a handshake at which the gateway can die.
type moment uint8

const (
	never moment = iota
	triggerSeen
	recordRead
	beforeCommit
	afterCommit
	beforeAck
	afterAck
	beforeRelease
	afterRelease
	moments
)

func (m moment) String() string {
	return [...]string{"never", "trigger seen", "record read", "before commit", "after commit", "before ack write", "after ack write", "before ack release", "after ack release"}[m]
}

var errKilled = errors.New("killed")

// book is a PLC that hands over doses strictly by the book, the driver that
// reads it, and the disk. It holds the gateway to its side: what it acknowledges
// must be on disk, once.
type book struct {
	t        *testing.T
	sequence bool
	log      *memLog

	mu      sync.Mutex
	random  *rand.Rand
	session uint64
	// The PLC: dose is what is offered, 0 for nothing; next is what it will offer
	// then; acked counts what was acknowledged.
	offer    bool
	dose     int64
	ack      int64
	acked    int64
	released bool
	// The gateway dies at kill; dead is set since.
	kill moment
	dead bool
	// lose makes the next write fail with a lost session.
	lose bool
}

// equal doses: only the handshake can tell one from the next.
const doseWeight = 1250

func newBook(t *testing.T, sequence bool, seed uint64) *book {
	b := &book{t: t, sequence: sequence, log: &memLog{delay: 3 * time.Millisecond, after: false}, random: rand.New(rand.NewPCG(seed, 2))}
	b.log.fail = func(batch plant.Batch) error {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.log.after = false
		doses := 0
		for _, e := range batch.Events {
			if e.Kind == plant.KindDosing {
				doses++
			}
		}
		switch {
		case b.dead:
			return errKilled
		case doses > 0 && b.dies(beforeCommit):
			return errKilled
		case doses > 0 && b.dies(afterCommit):
			b.log.after = true
			return errKilled
		default:
			return nil
		}
	}
	return b
}

// dies reports whether the gateway dies at m; b.mu is held.
func (b *book) dies(m moment) bool {
	if b.kill == m && !b.dead {
		b.dead = true
		return true
	}
	return false
}

// cycle is one scan of the PLC's program; b.mu is held.
func (b *book) cycle() {
	if b.sequence {
		if b.dose == 0 || b.ack == b.dose { // answered: the next one
			if b.dose != 0 {
				b.acked++
			}
			b.dose++
		}
		return
	}
	switch {
	case b.offer && b.ack == 1:
		b.offer, b.released = false, true
		b.acked++
	case !b.offer && b.released && b.ack == 0:
		b.released = false
	case !b.offer && !b.released && b.ack == 0:
		b.dose++
		b.offer = true
	}
}

// read is what the driver does in one cycle: the block, then the record behind
// it, which counts only while the trigger stands.
func (b *book) read(offer func(plant.Input), snapshot bool) {
	b.mu.Lock()
	b.cycle()
	block := plant.Scan{Device: "press", Session: b.session, Snapshot: snapshot, Received: time.Now(), Readings: []plant.Reading{
		{Tag: "ack", Quality: plant.Good, Value: plant.IntValue(b.ack)},
	}}
	trigger := b.dose
	if !b.sequence {
		trigger = 0
		if b.offer {
			trigger = 1
		}
	}
	block.Readings = append(block.Readings, plant.Reading{Tag: "offer", Quality: plant.Good, Value: plant.IntValue(trigger)})
	dead := b.dead || trigger != 0 && b.dies(triggerSeen)
	b.mu.Unlock()
	if dead {
		return
	}
	offer(block)
	// The network takes its time, and the PLC goes on meanwhile.
	time.Sleep(time.Duration(b.random.IntN(3)) * time.Millisecond)
	b.mu.Lock()
	b.cycle()
	record := plant.Scan{Device: "press", Session: b.session, Record: "PRESS-01/dosing", Received: time.Now(), Readings: []plant.Reading{
		{Tag: "offer", Quality: plant.Good, Value: plant.IntValue(b.dose)},
		{Tag: "qty", Quality: plant.Good, Value: plant.ExactValue(plant.Decimal{Unscaled: doseWeight, Scale: 2})},
	}}
	if !b.sequence {
		record.Readings = record.Readings[1:]
	}
	stands := trigger != 0 && (b.sequence || b.offer)
	dead = b.dead
	b.mu.Unlock()
	if !stands || dead {
		return
	}
	offer(record)
	b.mu.Lock()
	b.dies(recordRead)
	b.mu.Unlock()
}

// durable counts the doses on disk.
func (b *book) durable() (n int64) {
	for _, e := range b.log.snapshot() {
		if e.Kind == plant.KindDosing {
			n++
		}
	}
	return n
}

// Write implements Writer.
func (b *book) Write(_ context.Context, w plant.Write) error {
	kept := b.durable()
	b.mu.Lock()
	defer b.mu.Unlock()
	n, _ := w.Value.Int()
	up := n != 0
	if b.dead || up && b.dies(beforeAck) || !up && b.dies(beforeRelease) {
		return errKilled
	}
	if w.Session != b.session || b.lose {
		b.lose = false
		return errors.New("the session of this write is over")
	}
	switch {
	case w.Tag != "ack" || w.Device != "press":
		b.t.Errorf("write to %s/%s", w.Device, w.Tag)
	case b.sequence && n > b.dose:
		b.t.Errorf("record %d is acknowledged, the PLC is at %d", n, b.dose)
	case up && kept < b.dose && (b.offer || b.sequence && n == b.dose):
		b.t.Errorf("dose %d is acknowledged, %d are on disk", b.dose, kept)
	}
	b.ack = n
	b.cycle()
	if up {
		b.dies(afterAck)
	} else {
		b.dies(afterRelease)
	}
	return nil
}

func bookModel(t *testing.T, sequence bool) *Model {
	t.Helper()
	protocol := "level"
	if sequence {
		protocol = "sequence"
	}
	section, faults := config.ParseSection("PRESS-01", "m.yaml", fmt.Sprintf("device: press\ndosing: {trigger: offer, ack: ack, protocol: %s, component: SUGAR, quantity: qty}", protocol))
	var o Options
	if faults = append(faults, section.Decode(&o)...); len(faults) > 0 {
		t.Fatal(faults)
	}
	m, err := NewModel("PRESS-01", o, Catalog{"press": {{ID: "offer", Type: plant.TypeUint32}, {ID: "ack", Type: plant.TypeUint32}, {ID: "qty", Type: plant.TypeInt32, Scaled: true}}})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// live runs a worker until it dies, or for the given number of reads.
func (b *book) live(m *Model, reads int, kill moment) {
	b.mu.Lock()
	b.kill, b.dead = kill, false
	b.session = 1 // as in a new process
	b.mu.Unlock()
	ctx, cancel := context.WithCancel(b.t.Context())
	defer cancel()
	w := NewWorker(m, b.log, b, WorkerOptions{}, zap.NewNop())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	snapshot := true
	for range reads {
		b.read(w.Offer, snapshot)
		snapshot = false
		time.Sleep(time.Duration(b.random.IntN(12)) * time.Millisecond)
		b.mu.Lock()
		dead := b.dead
		if !dead && b.random.IntN(15) == 0 { // the cable
			w.Offer(plant.DeviceState{At: time.Now(), Device: "press", Session: b.session})
			b.session++
			b.lose = b.random.IntN(2) == 0
			snapshot = true
		}
		b.mu.Unlock()
		if dead {
			break
		}
	}
	if kill == never {
		time.Sleep(time.Second)
	} else {
		b.mu.Lock()
		b.dead = true // what the worker still does reaches neither disk nor PLC
		b.mu.Unlock()
	}
	cancel()
	if err := <-done; err != nil && !errors.Is(err, errKilled) {
		b.t.Errorf("run: %v", err)
	}
	for _, p := range w.Stats().Problems {
		if strings.Contains(p.Text, "has not written there") {
			b.t.Errorf("a PLC by the book is suspected: %s", p.Text)
		}
	}
}

// TestAKillAtAnyPointOfAHandshake kills the gateway at each point of a handshake
// with a PLC that follows the book, and starts it again from disk: what the PLC
// handed over is there once, and nothing was acknowledged that was not on disk.
func TestAKillAtAnyPointOfAHandshake(t *testing.T) {
	for _, sequence := range []bool{false, true} {
		for at := triggerSeen; at < moments; at++ {
			if sequence && (at == beforeRelease || at == afterRelease) {
				continue // an echo is not released
			}
			t.Run(fmt.Sprintf("sequence=%v/%s", sequence, at), func(t *testing.T) {
				for seed := range uint64(6) {
					synctest.Test(t, func(t *testing.T) {
						b := newBook(t, sequence, seed)
						m := bookModel(t, sequence)
						died := 0
						for range 12 {
							b.live(m, 60, at)
							if b.dead {
								died++
							}
						}
						b.live(m, 60, never)
						if died < 10 {
							t.Errorf("the gateway died %d times", died)
						}
						b.settle()
					})
				}
			})
		}
	}
}

// TestKillsAtRandomPointsOfAHandshake mixes all of them.
func TestKillsAtRandomPointsOfAHandshake(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			b := newBook(t, seed%2 == 0, seed)
			m := bookModel(t, b.sequence)
			for range 30 {
				b.live(m, 30, moment(b.random.IntN(int(moments))))
			}
			b.live(m, 60, never)
			b.settle()
		})
	}
}

// settle compares both ends. The PLC may be in the middle of one dose.
func (b *book) settle() {
	b.t.Helper()
	kept := b.durable()
	if kept != b.acked && kept != b.acked+1 || b.acked < 5 {
		b.t.Errorf("%d doses on disk, %d acknowledged", kept, b.acked)
	}
	if kept > b.dose {
		b.t.Errorf("%d doses on disk, the PLC offered %d", kept, b.dose)
	}
	last := int64(0)
	for _, e := range b.log.snapshot() {
		switch e.Kind {
		case plant.KindDosing:
			var d plant.Dosing
			if err := json.Unmarshal(e.Data, &d); err != nil {
				b.t.Fatal(err)
			}
			last++
			if b.sequence && d.Dose != fmt.Sprint(last) || len(d.Flagged) > 0 {
				b.t.Errorf("dose %d: %s", last, e.Data)
			}
		case plant.KindGap, plant.KindAlarm:
			b.t.Errorf("%s %s", e.Kind, e.Data)
		}
	}
}

// TestASlowDiskQueuesNoRepeats: while a commit takes its time the PLC's record
// is read again and again; the mailbox holds it once, loses no piece, and
// reports no gap.
func TestASlowDiskQueuesNoRepeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t, false, 1)
		b.log.delay = time.Minute
		m := bookModel(t, false)
		w := NewWorker(m, b.log, b, WorkerOptions{Mailbox: 8}, zap.NewNop())
		stop := start(t, w)
		b.session = 1
		for range 1000 {
			b.read(w.Offer, false)
			time.Sleep(100 * time.Millisecond)
		}
		w.mailbox.mu.Lock()
		waiting := len(w.mailbox.items)
		w.mailbox.mu.Unlock()
		if waiting > 2*8+1 {
			t.Errorf("%d inputs wait", waiting)
		}
		b.log.mu.Lock()
		b.log.delay = time.Millisecond
		b.log.mu.Unlock()
		time.Sleep(2 * time.Minute)
		for range 100 {
			b.read(w.Offer, false)
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(5 * time.Minute)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if lost := w.Stats().Overflows; lost != 0 {
			t.Errorf("%d readings lost", lost)
		}
		b.settle()
	})
}

// TestTheLastWriteOfACommitCounts: of what one commit answers only the newest is
// written, so that the PLC sees no answer to a record that it has taken back.
func TestTheLastWriteOfACommitCounts(t *testing.T) {
	m := bookModel(t, false)
	var s State
	var out Output
	r := run{m: m}
	scan := func(offer int64) plant.Scan {
		return plant.Scan{Device: "press", Session: 1, Received: base, Readings: []plant.Reading{{Tag: "offer", Quality: plant.Good, Value: plant.IntValue(offer)}, {Tag: "ack", Quality: plant.Good, Value: plant.IntValue(0)}}}
	}
	r.step(&s, scan(1), &out)
	r.step(&s, dose(1250), &out)
	if len(out.Writes) != 1 || out.Writes[0].Value != plant.IntValue(1) {
		t.Fatalf("writes %+v", out.Writes)
	}
	r.step(&s, scan(0), &out)
	if len(out.Writes) != 1 || out.Writes[0].Value != plant.IntValue(0) || len(out.Events) != 1 {
		t.Errorf("writes %+v, events %d", out.Writes, len(out.Events))
	}
}

func dose(unscaled int64) plant.Scan {
	return plant.Scan{Device: "press", Session: 1, Record: "PRESS-01/dosing", Received: base, Readings: []plant.Reading{
		{Tag: "qty", Quality: plant.Good, Value: plant.ExactValue(plant.Decimal{Unscaled: unscaled, Scale: 2})},
	}}
}

// TestTheMailboxHoldsARecordOnce unless its trigger moved in between.
func TestTheMailboxHoldsARecordOnce(t *testing.T) {
	block := func(offer, qty int64) plant.Scan {
		return plant.Scan{Device: "press", Session: 1, Received: base, Readings: []plant.Reading{
			{Tag: "offer", Quality: plant.Good, Value: plant.IntValue(offer)}, {Tag: "qty", Quality: plant.Good, Value: plant.IntValue(qty)},
		}}
	}
	records := func(b *mailbox) (n int) {
		for i := range b.items {
			if b.items[i].scan.Record != "" {
				n++
			}
		}
		return n
	}
	later := dose(1250)
	later.Session = 2
	foreign := dose(1)
	foreign.Record = "PRESS-02/dosing"
	for _, c := range []struct {
		what string
		in   []plant.Input
		want int
	}{
		{"the same", []plant.Input{block(1, 0), dose(1250), block(1, 7), dose(1250)}, 1},
		{"another", []plant.Input{block(1, 0), dose(1250), block(1, 0), dose(1251)}, 2},
		{"the trigger fell", []plant.Input{block(1, 0), dose(1250), block(0, 0), block(1, 0), dose(1250)}, 2},
		{"another session", []plant.Input{block(1, 0), dose(1250), later}, 2},
		{"another machine's", []plant.Input{block(1, 0), foreign}, 0},
	} {
		b := newMailbox(bookModel(t, false), 4)
		for _, in := range c.in {
			b.offer(in)
		}
		if n := records(b); n != c.want {
			t.Errorf("%s: %d records wait, want %d", c.what, n, c.want)
		}
	}
}

// TestAFullMailboxKeepsRecordsApart: nothing is ever merged into a record, and
// what does not fit is a gap only where the PLC does not offer it again.
func TestAFullMailboxKeepsRecordsApart(t *testing.T) {
	for _, sequence := range []bool{false, true} {
		b := newMailbox(bookModel(t, sequence), 4)
		for i := range int64(100) {
			b.offer(plant.Scan{Device: "press", Session: 1, Received: base, Readings: []plant.Reading{{Tag: "ack", Quality: plant.Good, Value: plant.IntValue(i)}}})
			b.offer(dose(i))
		}
		if n := len(b.items); n != 12 {
			t.Errorf("%d inputs wait, want 12", n)
		}
		for i := range b.items {
			if s := b.items[i].scan; s.Record != "" && (len(s.Readings) != 1 || s.Readings[0].Tag != "qty") {
				t.Errorf("record %+v", s)
			}
		}
		if (b.gap.Count > 0) != sequence {
			t.Errorf("sequence %v: a gap of %d", sequence, b.gap.Count)
		}
	}
}

// TestFieldsOfRecordsAreNotKeptFromBlocks: what nobody offers says nothing and
// costs the machine no memory.
func TestFieldsOfRecordsAreNotKeptFromBlocks(t *testing.T) {
	b := newMailbox(bookModel(t, false), 4)
	b.offer(plant.Scan{Device: "press", Received: base, Readings: []plant.Reading{{Tag: "qty", Quality: plant.Good, Value: plant.IntValue(1)}}})
	if len(b.items) != 0 {
		t.Errorf("%+v", b.items)
	}
}
