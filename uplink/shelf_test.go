package uplink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sluice-edge/sluice/plant"
)

// shelfQueue is a fakeQueue with a Shelf, whose dead letters are q.dead.
type shelfQueue struct {
	*fakeQueue
	full bool
}

var _ Shelf = (*shelfQueue)(nil)

func (q *shelfQueue) Each(_ context.Context, prefix string, do func(plant.KV) bool) error {
	q.mu.Lock()
	var all []plant.KV
	for key, value := range q.memory {
		if strings.HasPrefix(key, prefix) && value != nil {
			all = append(all, plant.KV{Key: key, Value: value})
		}
	}
	q.mu.Unlock()
	slices.SortFunc(all, func(a, b plant.KV) int { return strings.Compare(a.Key, b.Key) })
	for _, kv := range all {
		if !do(kv) {
			break
		}
	}
	return nil
}

// letter returns the place of a dead letter; the machine's name is in its key.
func (q *shelfQueue) letter(m plant.MachineID, s plant.Sequence) int {
	return slices.IndexFunc(q.dead, func(r plant.Result) bool {
		return r.Last == s && slices.ContainsFunc(q.streams[m], func(e plant.Event) bool { return e.Sequence == s })
	})
}

func (q *shelfQueue) Letter(_ context.Context, m plant.MachineID, s plant.Sequence) (plant.Event, bool, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.letter(m, s) < 0 {
		return plant.Event{}, false, nil
	}
	return q.streams[m][s-1], true, nil
}

func (q *shelfQueue) AnswerLetter(_ context.Context, m plant.MachineID, s plant.Sequence, r plant.Result) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.full {
		return plant.ErrFull
	}
	for _, kv := range r.Put {
		q.memory[kv.Key] = kv.Value
	}
	i := q.letter(m, s)
	switch {
	case i < 0:
	case r.Status == plant.Delivered:
		q.dead = slices.Delete(q.dead, i, i+1)
	case r.Status == plant.Rejected:
		q.dead[i].Cause = r.Cause
	}
	return nil
}

// family is a receiver in which the odd events of a machine are children that
// need the key "parent", and whose sender keeps to the contract of a Held result.
type family struct {
	*fakeSender
	q *shelfQueue
	f *Forwarder
	// got are the events in the order in which they came; refuse and busy are
	// what it says to children.
	got    []uint64
	refuse bool
	// flew are the children that were said to be on their way while they were sent.
	flew []uint64
	busy atomic.Bool
}

func newFamily() *family {
	q := newFakeQueue()
	s := &family{fakeSender: &fakeSender{queue: q}, q: &shelfQueue{fakeQueue: q}}
	s.answer = s.take
	return s
}

func (s *family) take(_ context.Context, m plant.MachineID, events []plant.Event) (results []plant.Result) {
	held := false
	for i := range events {
		e := &events[i]
		child := m == "kid" && e.Sequence%2 == 1
		id, _ := s.q.Memory("parent")
		r := plant.Result{First: e.Sequence, Last: e.Sequence}
		switch {
		case child && (held || id == nil || s.f.Shelved(m, "parent")):
			held = true
			r.Status, r.WaitsFor, r.Cause = plant.Held, "parent", errors.New("the parent's id is not known")
		case child && s.refuse:
			r = refuse(e, "no such child")
		case child && s.busy.Load():
			return append(results, plant.Result{First: e.Sequence, Last: e.Sequence, Status: plant.Retry, Cause: errors.New("busy")})
		default:
			r = s.deliver(events[i : i+1])[0]
			if m == "kid" {
				s.got = append(s.got, uint64(e.Sequence))
				if s.f.Sending(m, e.Sequence) {
					s.flew = append(s.flew, uint64(e.Sequence))
				}
			} else {
				r.Put = []plant.KV{{Key: "parent", Value: []byte("id")}}
			}
		}
		results = append(results, r)
	}
	return results
}

// begin starts a Forwarder on what the queue has.
func (s *family) begin(t *testing.T) *rig {
	core, logs := observer.New(zap.InfoLevel)
	ctx, stop := context.WithCancel(t.Context())
	r := &rig{t: t, queue: s.q.fakeQueue, sender: s.fakeSender, logs: logs, stop: stop, ended: make(chan error, 1)}
	r.f = NewForwarder("up", s.q, s, DefaultOptions(), zap.New(core))
	s.f = r.f
	go func() { r.ended <- r.f.Run(ctx) }()
	synctest.Wait()
	return r
}

// shelfState is what is on the shelf, durably and by count.
func (s *family) shelfState() string {
	n := 0
	_ = s.q.Each(context.Background(), shelfPrefix, func(plant.KV) bool { n++; return true }) // a fake has no errors
	return fmt.Sprintf("%d shown, %d kept, %d dead letters", s.f.Stats().Shelved, n, len(s.q.deadLetters()))
}

// Children wait for their parent's answer, and only they: what else their machine
// has goes on, and they come in their order, also after a restart.
func TestChildrenWaitAndOnlyThey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFamily()
		s.q.add("kid", plant.KindCounter, 6)
		r := s.begin(t)
		elapse(time.Minute)
		if got := fmt.Sprint(s.got); got != "[2 4 6]" || s.q.at("kid") != 6 {
			t.Errorf("the receiver has %s, the cursor is at %d", got, s.q.at("kid"))
		}
		if got := s.shelfState(); got != "3 shown, 3 kept, 3 dead letters" {
			t.Error(got)
		}
		if p := r.f.Stats().Problems; len(p) > 0 {
			t.Errorf("problems: %+v", p)
		}
		r.finish()

		s.closed = false
		r = s.begin(t)
		s.q.add("kid", plant.KindCounter, 1)
		elapse(time.Minute)
		s.q.add("parent", plant.KindCounter, 1)
		synctest.Wait()
		s.q.add("kid", plant.KindCounter, 2)
		elapse(time.Second)
		if got := fmt.Sprint(s.got); got != "[2 4 6 1 3 5 7 8 9]" {
			t.Errorf("the receiver has %s", got)
		}
		if got := s.shelfState(); got != "0 shown, 0 kept, 0 dead letters" {
			t.Error(got)
		}
		r.finish()
	})
}

// A person who sends again what is set aside is told that it is sent by itself; of
// another event that waits, a dead letter of its own, that is not said.
func TestWhatIsSetAsideIsSentByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFamily()
		s.q.add("kid", plant.KindCounter, 1)
		r := s.begin(t)
		elapse(time.Minute)
		aside := s.q.streams["kid"][0]
		other := aside
		other.Sequence = 99
		for _, test := range []struct {
			event plant.Event
			want  string
		}{{aside, "parent"}, {other, ""}} {
			results, err := r.f.Resend(t.Context(), "kid", []plant.Event{test.event})
			if err != nil || len(results) != 1 || results[0].Status != plant.Held || results[0].WaitsFor != test.want {
				t.Errorf("%d: %+v, %v", test.event.Sequence, results, err)
			}
		}
		r.finish()
	})
}

// The room on the shelf is bounded: behind it the stream is held as without one.
func TestTheShelfIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFamily()
		s.q.add("kid", plant.KindCounter, 2*maxShelved+100)
		r := s.begin(t)
		elapse(time.Minute)
		st := r.f.Stats()
		if s.q.at("kid") != 2*maxShelved || st.Shelved != maxShelved || len(st.Problems) != 1 {
			t.Errorf("the cursor is at %d, %d are set aside, problems %+v", s.q.at("kid"), st.Shelved, st.Problems)
		}
		s.q.add("parent", plant.KindCounter, 1)
		elapse(10 * time.Minute)
		if !s.q.settled() || s.shelfState() != "0 shown, 0 kept, 0 dead letters" {
			t.Errorf("the cursor is at %d, %s", s.q.at("kid"), s.shelfState())
		}
		children := slices.DeleteFunc(slices.Clone(s.got), func(n uint64) bool { return n%2 == 0 })
		if len(children) != maxShelved+50 || !slices.IsSorted(children) {
			t.Errorf("%d children, in order: %v", len(children), slices.IsSorted(children))
		}
		r.finish()
	})
}

// A child that is refused when its parent is there is a dead letter like any
// other.
func TestAChildThatIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFamily()
		s.refuse = true
		s.q.add("kid", plant.KindCounter, 3)
		r := s.begin(t)
		elapse(time.Second)
		s.q.add("parent", plant.KindCounter, 1)
		elapse(time.Minute)
		if got := s.shelfState(); got != "0 shown, 0 kept, 2 dead letters" {
			t.Error(got)
		}
		for _, d := range s.q.deadLetters() {
			if d.Cause.Error() != "no such child" {
				t.Errorf("the words are %q", d.Cause)
			}
		}
		r.finish()
	})
}

// A receiver that is busy when the parent is there is asked again, more and more
// seldom, and the rest of the machine does not wait for it.
func TestAChildThatIsToComeLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFamily()
		s.q.add("kid", plant.KindCounter, 2)
		r := s.begin(t)
		elapse(time.Second)
		s.busy.Store(true)
		s.q.add("parent", plant.KindCounter, 1)
		elapse(time.Second)
		before := s.count("kid")
		elapse(10 * time.Minute)
		if n := s.count("kid") - before; n < 5 || n > 40 {
			t.Errorf("%d attempts in ten minutes", n)
		}
		s.busy.Store(false)
		elapse(2 * time.Minute)
		if got := s.shelfState(); got != "0 shown, 0 kept, 0 dead letters" || fmt.Sprint(s.got) != "[2 1]" {
			t.Errorf("%s, the receiver has %v", got, s.got)
		}
		r.finish()
	})
}

// What people drop of the shelf is forgotten, and a disk that is full is no
// failure.
func TestAChildThatIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFamily()
		s.q.add("kid", plant.KindCounter, 3)
		r := s.begin(t)
		elapse(time.Second)
		s.q.mu.Lock()
		s.q.dead = s.q.dead[1:]
		s.q.full = true
		s.q.mu.Unlock()
		elapse(3 * time.Minute)
		if got := s.f.Stats().Shelved; got != 2 {
			t.Errorf("%d are set aside while the disk is full", got)
		}
		s.q.mu.Lock()
		s.q.full = false
		s.q.mu.Unlock()
		elapse(5 * time.Minute)
		if got := s.shelfState(); got != "1 shown, 1 kept, 1 dead letters" {
			t.Error(got)
		}
		s.q.add("parent", plant.KindCounter, 1)
		elapse(time.Second)
		if fmt.Sprint(s.got) != "[2 3]" || fmt.Sprint(s.flew) != "[3]" || s.f.Sending("kid", 3) {
			t.Errorf("the receiver has %v, on their way were %v", s.got, s.flew)
		}
		r.finish()
	})
}

func TestShelfKeys(t *testing.T) {
	for _, m := range []plant.MachineID{"M", "LINE/1", "/", "ü"} {
		if got, s, ok := parseShelfKey(shelfKey(m, 1<<53)); got != m || s != 1<<53 || !ok {
			t.Errorf("%q, %d, %v", got, s, ok)
		}
	}
	for _, bad := range []string{shelfPrefix, shelfPrefix + "12/M", shelfPrefix + "00000000000000000012/", shelfPrefix + "0000000000000000001x/M"} {
		if _, _, ok := parseShelfKey(bad); ok {
			t.Errorf("%q is a key", bad)
		}
	}
}
