package prodsmart

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/plant"
)

// Keys of the uplink's memory; the machine's id follows.
const (
	machineKey = "machine/"
	missedKey  = "missed/"
)

// memory is what outlives the process of one machine: what Prodsmart was told
// last, since its endpoints take only what is new and none can be read back.
type memory struct {
	// Count is the counter, Waste the waste by Prodsmart's code.
	Count *told           `json:"count,omitempty"`
	Waste map[string]told `json:"waste,omitempty"`
	// Counter is the newest counter event of which they are.
	Counter plant.Sequence `json:"counter,omitempty"`
	// Doubt is a counter body of which nobody knows what became of it.
	Doubt *body `json:"doubt,omitempty"`
	// Offset is the operator's setting that Count began with.
	Offset *int64 `json:"offset,omitempty"`
	// Lost is set after a gap by which the gateway may have forgotten counts that
	// Prodsmart has had, until Prodsmart takes a count again.
	Lost bool `json:"lost,omitempty"`

	// State is the newest start or stop that was dealt with.
	State *state `json:"state,omitempty"`
	// Parameters is the newest event that was sent as parameters.
	Parameters plant.Sequence `json:"parameters,omitempty"`
	// Begun is the newest movement event that may be booked: it is noted before it is
	// sent.
	Begun plant.Sequence `json:"begun,omitempty"`
	// Doubtful are the movements of which nobody knows whether they are booked,
	// oldest first, and Repeated those that were sent again, since the search found
	// none.
	Doubtful []doubtful `json:"doubtful,omitempty"`
	Repeated []repeated `json:"repeated,omitempty"`
}

// told is a cumulative number: Ours was the gateway's when Prodsmart accepted
// Theirs.
type told struct {
	Ours   int64 `json:"ours"`
	Theirs int64 `json:"theirs"`
}

// state is what Prodsmart was last told of running and standing.
type state struct {
	Sequence plant.Sequence `json:"sequence"`
	// Open: the stop StopID was sent with Type, and its start was not.
	Open bool `json:"open,omitempty"`
	// Doubt: the stop StopID was noted with Type before it was sent, and no answer
	// that it was taken is kept.
	Doubt  bool   `json:"doubt,omitempty"`
	StopID uint64 `json:"stop_id,omitempty"`
	Type   string `json:"type,omitempty"`
	// Ended is a stop whose start was sent while the event that holds both is not
	// through: it need not be listed.
	Ended uint64 `json:"ended,omitempty"`
	// Begun is set once any start or stop was sent.
	Begun bool `json:"begun,omitempty"`
}

// place is a part of an event: a dose of several lots makes several movements.
type place struct {
	Sequence plant.Sequence `json:"sequence"`
	Part     int            `json:"part"`
}

// machine is what the Sender knows of one machine. Send has it alone, but for
// what the Sender's lock guards.
type machine struct {
	id plant.MachineID
	memory
	// before is memory as it was last given to the Forwarder.
	before string
	// missed are the downtimes that were not told, oldest first; changed says that
	// they are to be kept. The Sender's lock guards them.
	missed  []Missed
	changed bool

	// held are the classes that wait for a person or for a larger count, and what
	// was said; refused is the newest refusal of each class, so that a stream that
	// is held costs a request only now and then.
	held    map[class]hold
	refused map[class]refusedEvent
	// booked are those that were sent in this run and may not be settled yet.
	booked map[place]bool
	// begunBefore is Begun at the start, and grows with what is settled: what is not
	// above it may be booked, and is looked up.
	begunBefore plant.Sequence
	// loadedBegun is Begun as it was loaded, at loadedAt: of what is not above it
	// something may have been under way when the gateway ended.
	loadedBegun plant.Sequence
	loadedAt    time.Time
	// there are the comments of movements that a search has met, so that one reading
	// of the list answers for many.
	there map[string]bool
	// lookup is the search for a movement, pairs that for one that is there twice.
	lookup, pairs lookup
	// twice are the movements that are, waiting those that wait for their second
	// search; the Sender's lock guards both.
	twice   []repeated
	waiting []doubtful
	// told is what was set of each component's stock a short while ago.
	told map[string]toldStock
	// asked is set while the stop in doubt may have arrived: its request went out, in
	// this process or, for all that is known, in the one before.
	asked bool
	// closed is since when it is known that no production is open on the machine,
	// zero while that is not so; the Sender's lock guards it.
	closed time.Time
	// odd is set once the reply to a count was not the count.
	odd bool
}

// hold is why a class waits, and when it is tried again.
type hold struct {
	until time.Time
	cause error
	count int64
}

type refusedEvent struct {
	sequence plant.Sequence
	at       time.Time
	cause    error
}

// askAnew forgets what Prodsmart has refused and what waits for a person, so that
// the next Send asks it. It is called by the machine's one Send.
func (m *machine) askAnew() {
	clear(m.refused)
	clear(m.held)
	clear(m.there)
}

// load returns what is known of a machine, read from the memory once.
func (s *Sender) load(id plant.MachineID) *machine {
	s.mu.Lock()
	m := s.machines[id]
	s.mu.Unlock()
	if m != nil {
		return m
	}
	m = &machine{id: id, held: map[class]hold{}, refused: map[class]refusedEvent{}, booked: map[place]bool{}, told: map[string]toldStock{}, there: map[string]bool{}}
	s.recall(machineKey+string(id), &m.memory)
	s.recall(missedKey+string(id), &m.missed)
	m.before, m.begunBefore, m.asked = m.encode(), m.Begun, m.known().Doubt
	m.loadedBegun, m.loadedAt, m.twice, m.waiting = m.Begun, time.Now(), m.pairsFound(), m.vain()
	s.mu.Lock()
	defer s.mu.Unlock()
	if other := s.machines[id]; other != nil {
		return other // somebody else has read it meanwhile
	}
	s.machines[id] = m
	return m
}

// recall reads a value of the memory into v, which stays as it is if there is
// none. What cannot be read is as good as new: Prodsmart's refusals bring the
// counts back.
func (s *Sender) recall(key string, v any) {
	value, err := s.env.Memory(key)
	if err == nil && value != nil {
		err = json.Unmarshal(value, v)
	}
	if err == nil {
		return
	}
	what := "cannot be read"
	if errors.Is(err, plant.ErrUnreadable) {
		what = "is damaged"
	}
	s.log.Warn("what Prodsmart was told last "+what+"; it is worked out anew from its answers", zap.String("key", key), zap.Error(err))
}

func (m *machine) encode() string {
	text, err := json.Marshal(&m.memory)
	if err != nil {
		panic(err) // numbers and text always have a JSON form
	}
	return string(text)
}

// put returns what a Result has to keep, nil if nothing has changed.
func (s *Sender) put(m *machine) (kv []plant.KV) {
	if now := m.encode(); now != m.before {
		kv = append(kv, plant.KV{Key: machineKey + string(m.id), Value: []byte(now)})
		m.before = now
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	m.waiting = m.vain()
	if m.changed {
		text, err := json.Marshal(m.missed)
		if err != nil {
			panic(err) // as above
		}
		kv = append(kv, plant.KV{Key: missedKey + string(m.id), Value: text})
		m.changed = false
	}
	return kv
}

// sortedError is a refusal whose sort is known, whatever its words.
type sortedError struct {
	text string
	sort string
}

// Error implements error.
func (e *sortedError) Error() string { return e.text }

// Sort implements uplink.Sorter.
func (e *sortedError) Sort() string { return e.sort }

// unsentError is why no request can be made of an event.
type unsentError struct {
	sortedError

	remedy string
}

// Error implements error.
func (e *unsentError) Error() string { return e.text + "; " + e.remedy }

// Remedy implements uplink.Unsent.
func (e *unsentError) Remedy() string { return e.remedy }

func unsent(sort, remedy, format string, a ...any) error {
	return &unsentError{sortedError{text: "prodsmart: " + fmt.Sprintf(format, a...), sort: sort}, remedy}
}

func problem(sort, format string, a ...any) error {
	return &sortedError{text: "prodsmart: " + fmt.Sprintf(format, a...), sort: sort}
}
