package uplink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Tested is what came of a test of an uplink.
type Tested struct {
	Uplink string `json:"uplink"`
	// OK is set if the receiver has taken the gateway for what it is.
	OK bool `json:"ok"`
	// Error says in plain words what the receiver or the network said, and what to
	// do; empty if OK.
	Error string `json:"error,omitempty"`
	// Exchanges are the requests of the test, in the order of their ends.
	Exchanges []Exchange `json:"exchanges"`
	// Took is how long all of it was.
	Took time.Duration `json:"took_ns"`
}

// TryTimeout bounds a Try.
const TryTimeout = 20 * time.Second

// ErrNoTest says that a kind of uplink has no test.
var ErrNoTest = errors.New("an uplink of this driver cannot be tested: look at its deliveries instead (sluice uplink log)")

// Try tests the uplink behind s by its own test action and tells what was said;
// j is the Journal that s notes in. It blocks for TryTimeout at most, may be
// called from any goroutine and beside Sends, and does not touch their state.
func Try(ctx context.Context, name string, s Sender, j *Journal) Tested {
	ctx, cancel := context.WithTimeout(ctx, TryTimeout)
	defer cancel()
	t := Tested{Uplink: name, Exchanges: []Exchange{}}
	var mu sync.Mutex
	stop := j.Watch(func(x Exchange) {
		if x.Outcome != OutcomeTest {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		t.Exchanges = append(t.Exchanges, x)
	})
	began := time.Now()
	err := try(ctx, s)
	stop()
	mu.Lock() // a test that was left behind may still note
	defer mu.Unlock()
	t.Took = time.Since(began)
	t.Exchanges = slices.Clone(t.Exchanges)
	if t.OK = err == nil; err != nil {
		t.Error = shown(err.Error(), mostWords)
	}
	return t
}

// try guards against a panic of the Sender, as call does.
func try(ctx context.Context, s Sender) (err error) {
	tester, ok := s.(Tester)
	if !ok {
		return ErrNoTest
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the sender panicked: %v", p)
		}
	}()
	return tester.Test(ctx)
}
