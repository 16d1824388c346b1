package uplink

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sluice-edge/sluice/plant"
)

func TestParseLast(t *testing.T) {
	want := plant.EventID{Gateway: "gw-1", Machine: "FILLER 01", Epoch: 0x9f3a0000000000c1, Sequence: 12}
	for text, err := range map[string]string{
		`{"id":"` + want.String() + `"}`:                                       "",
		` {"specversion":"1.0","id":"` + want.String() + `","data":{"id":3}} `: "",
		`{"id":"gw-1/FILLER 02/9f3a0000000000c1-12"}`:                          "no event of the machine FILLER 01",
		`{"id":"gw-1/FILLER 01/9f3a0000000000c1-18446744073709551615"}`:        "no machine gets to",
		`{"id":"12"}`:             "is no id of an event",
		`{"id":12}`:               "no JSON object",
		`"` + want.String() + `"`: "no JSON object",
		want.String():             "no JSON object",
		`{"id":"` + want.String(): "no JSON object",
		"":                        "no JSON object",
	} {
		got, e := ParseLast("FILLER 01", []byte(text))
		if err == "" && (got != want || e != nil) || err != "" && (got != (plant.EventID{}) || e == nil || !strings.Contains(e.Error(), err)) {
			t.Errorf("%s: %v, %v; want %q", text, got, e, err)
		}
	}
	for _, text := range []string{`{"id":""}`, `{}`, `null`} {
		if got, err := ParseLast("FILLER 01", []byte(text)); got != (plant.EventID{}) || err != nil {
			t.Errorf("%s: %v, %v; want nothing", text, got, err)
		}
	}
}

// askedSender says what the receiver last had.
type askedSender struct {
	*fakeSender
	asked map[plant.MachineID]int
	last  func(n int, m plant.MachineID) (plant.EventID, error)
}

func (s *askedSender) Last(_ context.Context, m plant.MachineID) (plant.EventID, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked[m]++
	return s.last(s.asked[m], m)
}

// reconcilingQueue notes what it is given.
type reconcilingQueue struct {
	*fakeQueue
	given map[plant.MachineID]plant.EventID
	err   error
}

func (q *reconcilingQueue) Reconcile(_ context.Context, m plant.MachineID, last plant.EventID) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.given[m] = last
	return q.err
}

// TestTheReceiverIsAsked before the first Send of each machine, once; one that
// does not answer delays nothing and is asked again.
func TestTheReceiverIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &reconcilingQueue{fakeQueue: newFakeQueue(), given: map[plant.MachineID]plant.EventID{}}
		s := &askedSender{fakeSender: &fakeSender{queue: q.fakeQueue, busy: map[plant.MachineID]bool{}}, asked: map[plant.MachineID]int{}}
		s.last = func(n int, m plant.MachineID) (plant.EventID, error) {
			if m == "M2" && n == 1 {
				return plant.EventID{}, errors.New("status 500")
			}
			if m == "M2" && n == 2 {
				panic("no such thing")
			}
			return plant.EventID{Gateway: "gw", Machine: m, Epoch: 1, Sequence: 9}, nil
		}
		core, logged := observer.New(zap.InfoLevel)
		f := NewForwarder("mes", q, s, DefaultOptions(), zap.New(core))
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- f.Run(ctx) }()
		for range 3 {
			q.add("M1", plant.KindCounter, 1)
			q.add("M2", plant.KindCounter, 1)
			time.Sleep(askAgain + time.Second)
			synctest.Wait()
		}
		stop()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if s.asked["M1"] != 1 || s.asked["M2"] != 3 || len(q.given) != 2 || q.given["M2"].Sequence != 9 {
			t.Errorf("asked %v, given %v", s.asked, q.given)
		}
		if got := f.Stats(); got.Delivered != 6 || got.Silent != 0 {
			t.Errorf("%d of 6 were delivered, %d machines are silent", got.Delivered, got.Silent)
		}
		if logged.FilterMessageSnippet("does not say what it had last").Len() != 1 || logged.FilterMessageSnippet("says what it had last").Len() != 1 {
			t.Errorf("the log has %v", logged.All())
		}
	})
}

// TestAReceiverThatIsBackIsAskedSoon: until it is, a store that was rolled back
// sends it numbers that it has.
func TestAReceiverThatIsBackIsAskedSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &reconcilingQueue{fakeQueue: newFakeQueue(), given: map[plant.MachineID]plant.EventID{}}
		s := &askedSender{fakeSender: &fakeSender{queue: q.fakeQueue, busy: map[plant.MachineID]bool{}}, asked: map[plant.MachineID]int{}}
		s.last = func(int, plant.MachineID) (plant.EventID, error) { return plant.EventID{}, errors.New("refused") }
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		f := NewForwarder("mes", q, s, DefaultOptions(), zap.NewNop())
		go func() { done <- f.Run(ctx) }()
		for i := range 600 {
			if silent := f.Stats().Silent; i == 5 && silent != 1 {
				t.Errorf("%d machines are silent, want 1", silent)
			}
			q.add("M1", plant.KindCounter, 1)
			time.Sleep(time.Second)
			synctest.Wait()
		}
		stop()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		// After 0, 1, 3, 7, 15, 31 and 63 s or a second later each, then once a minute.
		if n := s.asked["M1"]; n < 14 || n > 16 {
			t.Errorf("asked %d times in ten minutes", n)
		}
	})
}

func TestAFailedReconciliationIsFatal(t *testing.T) {
	broken := errors.New("msync: input/output error")
	q := &reconcilingQueue{fakeQueue: newFakeQueue(), given: map[plant.MachineID]plant.EventID{}, err: broken}
	s := &askedSender{fakeSender: &fakeSender{queue: q.fakeQueue, busy: map[plant.MachineID]bool{}}, asked: map[plant.MachineID]int{}}
	s.last = func(int, plant.MachineID) (plant.EventID, error) { return plant.EventID{}, nil }
	q.add("M1", plant.KindCounter, 1)
	if err := NewForwarder("mes", q, s, DefaultOptions(), zap.NewNop()).Run(t.Context()); !errors.Is(err, broken) {
		t.Errorf("run returned %v", err)
	}
}
