// Package oracle judges a run of the torture rig: it is told what the PLCs
// served, what the gateway accepted and what arrived at each receiver, and names
// every contradiction. It reads events with types of its own, so that a mistake
// of the sender is not made twice.
package oracle

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Key is the identity of an event within one gateway.
type Key struct {
	Machine  string
	Epoch    string
	Sequence uint64
}

// String returns machine/epoch-sequence, as in an event's id.
func (k Key) String() string { return fmt.Sprintf("%s/%s-%d", k.Machine, k.Epoch, k.Sequence) }

// Accepted is one event that the gateway has committed.
type Accepted struct {
	Key
	Kind string
	// Sum is the CRC-32 (IEEE) of the event's data.
	Sum uint32
	// At is when the rig heard of it.
	At time.Time
}

// ParseTap reads one line of the accept tap, without its newline.
func ParseTap(line string, at time.Time) (Accepted, error) {
	f := strings.Split(line, "\t")
	if len(f) != 5 {
		return Accepted{}, fmt.Errorf("accept tap: %q has %d fields, want 5", line, len(f))
	}
	sequence, err := strconv.ParseUint(f[1], 10, 64)
	sum, err2 := strconv.ParseUint(f[3], 16, 32)
	if err := errors.Join(err, err2); err != nil {
		return Accepted{}, fmt.Errorf("accept tap: %q: %w", line, err)
	}
	return Accepted{Key: Key{f[4], f[0], sequence}, Kind: f[2], Sum: uint32(sum), At: at}, nil
}

// Truth is what the PLCs know. Its methods may be called from any goroutine.
type Truth interface {
	// Pieces returns what the machine's counter has counted; false: it has none.
	Pieces(machine string) (int64, bool)
	// Dose returns the grams of the dose with that lot; false: there was none.
	Dose(lot string) (grams int64, ok bool)
	// Acknowledged returns the lots whose record the PLC was told is safe.
	Acknowledged() []string
	// Said reports whether the PLC has shown that text as a parameter.
	Said(parameter, text string) bool
}

// Options say what a run may do that others may not.
type Options struct {
	Sinks []string
	// CountDuplicates takes each arrival for a new one: the negative control of
	// the receiver that does not know duplicates.
	CountDuplicates bool
	// NoLoss makes a gap event that names recorded events a violation: the fault
	// is one that must cost nothing.
	NoLoss bool
	// Restored allows numbers, not ids, to be given again: the whole folder was
	// put back to an older state, the mark with it.
	Restored bool
	// DuplicatesPerStart bounds O6.
	DuplicatesPerStart int
}

// Oracle collects and judges. Its methods may be called from any goroutine. The
// checks, by their numbers:
//
//	O1 every accepted event arrived, was refused by that receiver, or lies in a gap that was reported
//	O2 nothing arrived that no PLC ever said, and nothing that was altered on the way
//	O3 the same id has the same bytes, but for previous, which an event that
//	   somebody sends again does not have
//	O4 events of a machine arrive in the order of their numbers
//	O5 no number is missing without a gap event
//	O6 no more duplicates than the restarts explain
//	O7 no id and no number is given twice
//	O8 the counts add up to what the PLC counted
type Oracle struct {
	truth Truth
	o     Options

	mu         sync.Mutex
	accepted   map[Key]*Accepted
	numbers    map[string]map[uint64]string // machine → sequence → epoch
	sinks      map[string]*sink
	starts     int
	excused    []excuse
	violations []string
	dropped    int
}

// excuse is a stated limit: what was accepted in between may be missing unnamed.
type excuse struct{ from, to time.Time }

// maxViolations bounds what one wrong run prints.
const maxViolations = 30

// New returns an Oracle that knows nothing yet.
func New(truth Truth, o Options) *Oracle {
	a := &Oracle{truth: truth, o: o, accepted: map[Key]*Accepted{}, numbers: map[string]map[uint64]string{}, sinks: map[string]*sink{}}
	for _, name := range o.Sinks {
		a.sinks[name] = newSink(name)
	}
	return a
}

// Clone returns an Oracle that knows the same.
func (a *Oracle) Clone() *Oracle {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := New(a.truth, a.o)
	c.starts, c.excused, c.violations = a.starts, slices.Clone(a.excused), slices.Clone(a.violations)
	c.accepted = maps.Clone(a.accepted) // what they point to never changes
	for m, numbers := range a.numbers {
		c.numbers[m] = maps.Clone(numbers)
	}
	for name, s := range a.sinks {
		c.sinks[name] = s.clone()
	}
	return c
}

func compareKeys(x, y Key) int {
	if c := strings.Compare(x.Machine, y.Machine); c != 0 {
		return c
	}
	switch {
	case x.Sequence < y.Sequence:
		return -1
	case x.Sequence > y.Sequence:
		return 1
	}
	return strings.Compare(x.Epoch, y.Epoch)
}

// Started counts a start of the gateway.
func (a *Oracle) Started() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.starts++
}

// Excuse lets events accepted in that time be missing unnamed, at the end of
// their stream: the stated limit of the high-water mark, which is written once a
// second.
func (a *Oracle) Excuse(from, to time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.excused = append(a.excused, excuse{from, to})
}

// Accept notes an event that the gateway has committed.
func (a *Oracle) Accept(e Accepted) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.accept(e)
}

func (a *Oracle) accept(e Accepted) {
	if _, twice := a.accepted[e.Key]; twice {
		a.violate("O7 the id %s was given twice", e.Key)
		return
	}
	a.number(e.Key)
	a.accepted[e.Key] = &e
	for _, s := range a.sinks {
		if got, ok := s.arrived[e.Key]; ok {
			a.compare(s, &e, got)
		} else {
			s.missing[e.Key] = struct{}{}
		}
	}
}

// number checks that a number is given in one epoch only.
func (a *Oracle) number(k Key) {
	m := a.numbers[k.Machine]
	if m == nil {
		m = map[uint64]string{}
		a.numbers[k.Machine] = m
	}
	epoch, known := m[k.Sequence]
	if known && epoch != k.Epoch && !a.o.Restored && !a.excusedKey(Key{k.Machine, epoch, k.Sequence}) {
		a.violate("O7 the number %d of %s was given in the epochs %s and %s", k.Sequence, k.Machine, epoch, k.Epoch)
	}
	m[k.Sequence] = k.Epoch
}

// excusedKey reports whether k was lost within a stated limit.
func (a *Oracle) excusedKey(k Key) bool {
	e, ok := a.accepted[k]
	return ok && a.excusedAt(e.At)
}

func (a *Oracle) compare(s *sink, e *Accepted, got arrival) {
	if got.data != e.Sum {
		a.violate("O2 %s: the data of %s differ from what was accepted", s.name, e.Key)
	}
}

func (a *Oracle) violate(format string, args ...any) {
	if len(a.violations) >= maxViolations {
		a.dropped++
		return
	}
	a.violations = append(a.violations, fmt.Sprintf(format, args...))
}

// Arrive takes one message at a sink; what is no event is ignored. refused says
// that the sink will refuse it, so that the gateway must put it aside.
func (a *Oracle) Arrive(sinkName string, raw []byte, refused bool) {
	var e event
	if err := json.Unmarshal(raw, &e); err != nil || e.ID == "" {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.sinks[sinkName]
	s.arrivals++
	k, ok := e.key()
	if !ok {
		a.violate("O2 %s: event %s: epoch %q and sequence %q are not those of the id", s.name, e.ID, e.Epoch, e.Sequence)
		return
	}
	if refused {
		s.refused[k] = struct{}{}
		delete(s.missing, k)
	}
	got := newArrival(raw, &e)
	if known, again := s.arrived[k]; again && !a.o.CountDuplicates {
		s.duplicates++
		if known.bytes != got.bytes && (e.Previous != "" || known.bare != got.bare) {
			a.violate("O3 %s: %s came again with other bytes", s.name, k)
		}
		return
	}
	s.arrived[k] = got
	delete(s.missing, k)
	a.number(k)
	if e, known := a.accepted[k]; known {
		a.compare(s, e, got)
	}
	st := s.stream(k.Machine)
	if k.Sequence <= st.last && !a.o.Restored {
		a.violate("O4 %s: %s arrived after the number %d", s.name, k, st.last)
	}
	st.broken = st.broken || k.Sequence != st.last+1
	st.last = k.Sequence
	st.seen[k.Sequence] = struct{}{}
	if refused {
		return // its content is as good as any other's, but the receiver does not count it
	}
	a.content(s, st, k, &e)
}
