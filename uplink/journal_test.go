package uplink

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/plant"
)

// notes collects exchanges.
type notes struct {
	mu  sync.Mutex
	all []Exchange
}

func (n *notes) keep(x Exchange) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all = append(n.all, x)
}

// of returns those of one outcome.
func (n *notes) of(o Outcome) (out []Exchange) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, x := range n.all {
		if x.Outcome == o {
			out = append(out, x)
		}
	}
	return out
}

// journaled runs a Forwarder over queue with a Journal until the queue is
// settled or limit of faked time is over.
func journaled(t *testing.T, q *fakeQueue, s Sender, j *Journal, limit time.Duration) {
	t.Helper()
	f := NewForwarder("up", q, s, DefaultOptions(), zap.NewNop())
	f.Journal(j)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	for end := time.Now().Add(limit); !q.settled() && time.Now().Before(end); {
		elapse(time.Second)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	for _, fault := range q.faults {
		t.Error(fault)
	}
}

// TestJournalOfASilentSender: what becomes of the Sends of a Sender that notes
// nothing is noted for it: one entry a batch, not one an event.
func TestJournalOfASilentSender(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n notes
		q := newFakeQueue()
		s := &fakeSender{queue: q}
		tries := 0
		s.answer = func(_ context.Context, _ plant.MachineID, events []plant.Event) []plant.Result {
			switch tries++; tries {
			case 1:
				return nil
			case 2:
				r := refuse(&events[0], "no such\x1b[31m order")
				return []plant.Result{r}
			}
			return s.deliver(events)
		}
		q.add("M", plant.KindCounter, 40)
		journaled(t, q, s, NewJournal("up", n.keep), time.Minute)
		if got := n.of(OutcomeRetry); len(got) != 1 || got[0].First != 1 || got[0].Last != 40 || got[0].Events != 40 || got[0].Words == "" {
			t.Errorf("retries %+v", got)
		}
		if got := n.of(OutcomeRefused); len(got) != 1 || got[0].First != 1 || got[0].Last != 1 || got[0].Kind != plant.KindCounter || got[0].Words != "dead letter: no such [31m order" {
			t.Errorf("refusals %+v", got)
		}
		events := 0
		for _, x := range n.of(OutcomeDelivered) {
			events += x.Events
			if x.Uplink != "up" || x.Machine != "M" || x.Kind != plant.KindCounter || len(x.Merged) > 0 {
				t.Errorf("delivery %+v", x)
			}
		}
		if events != 39 {
			t.Errorf("%d events noted as delivered", events)
		}
		if got, sends := len(n.all), len(s.all()); got > sends+1 {
			t.Errorf("%d entries of %d Sends", got, sends)
		}
	})
}

// TestJournalHoldsAndMerges: each stored event that was sent inside another one
// is named, and a stream that is held says so.
func TestJournalHoldsAndMerges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n notes
		q := newFakeQueue()
		fake := &fakeSender{queue: q}
		q.add("M", plant.KindCounter, 700)
		q.add("M", plant.KindSerial, 1)
		q.add("M", plant.KindCounter, 20)
		journaled(t, q, mergingSender{fake}, NewJournal("up", n.keep), time.Minute)
		seen := map[plant.Sequence]bool{}
		for _, x := range n.of(OutcomeDelivered) {
			for _, m := range x.Merged {
				count := 0
				for s := m.First; s <= m.Into; s++ {
					if q.streams["M"][s-1].Kind == m.Kind {
						seen[s] = true
						count++
					}
				}
				if count != m.Count {
					t.Errorf("%+v names %d events", m, count)
				}
			}
		}
		if len(seen) != 720 {
			t.Errorf("%d of 720 merged counts are named", len(seen))
		}

		var held notes
		q = newFakeQueue()
		s := &fakeSender{queue: q, answer: func(_ context.Context, _ plant.MachineID, events []plant.Event) []plant.Result {
			return []plant.Result{refuse(&events[0], "unknown machine")}
		}}
		q.add("M", plant.KindCounter, 20)
		journaled(t, q, s, NewJournal("up", held.keep), 30*time.Second)
		if got := held.of(OutcomeHeld); len(got) == 0 || got[0].First != 5 || got[0].Events != 1 || !strings.Contains(got[0].Words, "unknown machine") {
			t.Errorf("held %+v", got)
		}
		if got := held.of(OutcomeRefused); len(got) != 4 {
			t.Errorf("refused %+v", got)
		}
	})
}

// notingSender notes its requests itself.
type notingSender struct {
	*fakeSender
	journal *Journal
}

func (s notingSender) Send(ctx context.Context, m plant.MachineID, events []plant.Event) []plant.Result {
	s.journal.Note(Exchange{Machine: m, First: events[0].Sequence, Last: events[0].Sequence, Events: 1, Outcome: OutcomeDelivered, Status: 201})
	return append(s.deliver(events[:1]), plant.Result{First: events[0].Sequence + 1, Last: events[0].Sequence + 1, Status: plant.Retry, Cause: errors.New("no time")})
}

// TestJournalTellsOnce: what a Sender has noted is not noted for it again, and
// what it has not is.
func TestJournalTellsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n notes
		j := NewJournal("up", n.keep)
		q := newFakeQueue()
		q.add("M", plant.KindCounter, 3)
		journaled(t, q, notingSender{&fakeSender{queue: q}, j}, j, 5*time.Minute)
		if got := n.of(OutcomeDelivered); len(got) != 3 || got[0].Status != 201 {
			t.Errorf("deliveries %+v", got)
		}
		if got := n.of(OutcomeRetry); len(got) == 0 || got[0].First != 2 || got[0].Words != "no time" {
			t.Errorf("retries %+v", got)
		}
	})
}

// refusingSender notes its refusals itself, as each Sender with requests does.
type refusingSender struct {
	*fakeSender
	journal *Journal
}

func (s refusingSender) Send(_ context.Context, m plant.MachineID, events []plant.Event) []plant.Result {
	e := &events[0]
	s.journal.Note(Exchange{Machine: m, Kind: e.Kind, First: e.Sequence, Last: e.Sequence, Events: 1, Outcome: OutcomeRefused, Status: 422, Words: "unknown machine"})
	return []plant.Result{refuse(e, "unknown machine")}
}

// TestJournalOfAHeldRefusal: what a Sender calls refused is "held" in the log while
// the stream is held for it, since it is no dead letter.
func TestJournalOfAHeldRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n notes
		j := NewJournal("up", n.keep)
		q := newFakeQueue()
		q.add("M", plant.KindCounter, 20)
		journaled(t, q, refusingSender{&fakeSender{queue: q}, j}, j, 5*time.Minute)
		for _, x := range n.of(OutcomeRefused) {
			if x.First > 4 {
				t.Errorf("event %d is held, but the log calls it refused: %+v", x.First, x)
			}
		}
		held := n.of(OutcomeHeld)
		if len(held) < 2 {
			t.Fatalf("held %+v", held)
		}
		for _, x := range held {
			if x.First != 5 || x.Status != 422 {
				t.Errorf("held %+v, want the request with event 5", x)
			}
		}
	})
}

func TestJournalNoteIsSafe(t *testing.T) {
	var none *Journal
	none.Note(Exchange{Words: "x"})
	none.Watch(nil)()

	var n notes
	j := NewJournal("up", n.keep)
	var watched []Exchange
	stop := j.Watch(func(x Exchange) { watched = append(watched, x) })
	j.Note(Exchange{
		Where: "https://user:geheim@mes.example/a?access_token=geheim#geheim", RequestID: strings.Repeat("i", 900),
		Words: "Größe\r\n\x1b[2J\u202eab\xff" + strings.Repeat("é", 900), Merged: slices.Repeat([]Merged{{}}, 1000),
	})
	stop()
	j.Note(Exchange{Where: "https://mes.example?geheim"})
	x := n.all[0]
	if x.Where != "https://mes.example/a" || n.all[1].Where != "https://mes.example" {
		t.Errorf("where %q, %q", x.Where, n.all[1].Where)
	}
	if len(x.Words) > mostWords || !utf8.ValidString(x.Words) || !strings.HasPrefix(x.Words, "Größe [2Jabé") || !strings.HasSuffix(x.Words, "é…") {
		t.Errorf("words %q", x.Words)
	}
	if len(x.RequestID) > mostRequest || len(x.Merged) != mostMerged || x.Uplink != "up" || x.Time.IsZero() || x.Time.Location() != time.UTC {
		t.Errorf("%+v", x)
	}
	if len(watched) != 1 || watched[0].Words != x.Words {
		t.Errorf("watched %+v", watched)
	}
}
