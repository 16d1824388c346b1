package plantsim

import (
	"encoding/json"
	"fmt"
	"hash/maphash"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/sluice-edge/sluice/plant"
)

// MES is the receiver at the far end: it takes CloudEvents, knows each by
// source and id, counts what arrived once, and holds the stream against its own
// claims: the same id has the same bytes, sequences grow, and previous names
// the event that came before. It reads the JSON with types of its own, so that
// a mistake of the sender is not made twice. Its methods may be called from any
// goroutine.
type MES struct {
	seed maphash.Seed
	// check, if it is set, is asked about the data of each event.
	check func(kind plant.EventKind, version uint8, data []byte) error

	mu         sync.Mutex
	seen       map[string]uint64
	machines   map[string]*mesMachine
	kinds      map[string]int64
	pieces     int64
	rollovers  int64
	resets     int64
	arrivals   uint64
	duplicates uint64
	violations []string
}

// mesMachine is what the receiver knows of one source.
type mesMachine struct {
	last        uint64
	good, scrap int64
	deltas      int64
	weighed     []Weighing
}

// Weighing is a dose, refill or removal as an event told it.
type Weighing struct {
	Kind plant.EventKind
	// Quantity is in Unit, as a receiver reads it.
	Quantity float64
	Unit     string
}

// mesEvent is the part of an event that the receiver reads.
type mesEvent struct {
	ID       string `json:"id"`
	Source   string `json:"source"`
	Type     string `json:"type"`
	Subject  string `json:"subject"`
	Sequence string `json:"sequence"`
	Previous string `json:"previous"`
	Data     struct {
		Good      int64 `json:"good"`
		GoodDelta int64 `json:"good_delta"`
		Scrap     []struct {
			Quantity int64 `json:"quantity"`
			Delta    int64 `json:"delta"`
		} `json:"scrap"`
		ReworkDelta int64 `json:"rework_delta"`
		Rework      int64 `json:"rework"`
		Rollover    bool  `json:"rollover"`
		Reset       bool  `json:"reset"`

		Quantity float64 `json:"quantity"`
		Unit     string  `json:"unit"`
	} `json:"data"`
}

// maxViolations bounds what a wrong stream may fill.
const maxViolations = 20

// NewMES returns a receiver that has seen nothing.
func NewMES() *MES {
	return &MES{seed: maphash.MakeSeed(), seen: map[string]uint64{}, machines: map[string]*mesMachine{}, kinds: map[string]int64{}}
}

// Check makes the receiver ask check about the data of each event that it sees
// for the first time; an error is a violation. It is called before the first
// event.
func (m *MES) Check(check func(kind plant.EventKind, version uint8, data []byte) error) {
	m.check = check
}

// Publish takes one MQTT message; messages that are no events (retained state)
// are ignored.
func (m *MES) Publish(_ string, payload []byte) {
	var e mesEvent
	if err := json.Unmarshal(payload, &e); err != nil || e.ID == "" {
		return
	}
	m.receive(e, payload)
}

// receive takes one event with the bytes that it came in.
func (m *MES) receive(e mesEvent, raw []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.arrivals++
	key, sum := e.Source+" "+e.ID, maphash.Bytes(m.seed, raw)
	if known, again := m.seen[key]; again {
		m.duplicates++
		if known != sum {
			m.violate("event %s came again with other bytes", e.ID)
		}
		return
	}
	m.seen[key] = sum
	m.holds(e, raw)
	machine := m.machines[e.Subject]
	if machine == nil {
		machine = &mesMachine{}
		m.machines[e.Subject] = machine
	}
	m.follow(machine, e)
	m.count(machine, e)
}

// holds asks the check about the data of an event.
func (m *MES) holds(e mesEvent, raw []byte) {
	if m.check == nil {
		return
	}
	var whole struct {
		Data json.RawMessage `json:"data"`
	}
	_, number, _ := strings.Cut(strings.TrimPrefix(e.Type, typePrefix), ".v")
	version, err := strconv.ParseUint(number, 10, 8)
	if err == nil {
		err = json.Unmarshal(raw, &whole)
	}
	if err == nil {
		err = m.check(plant.EventKind(kindOf(e.Type)), uint8(version), whole.Data)
	}
	if err != nil {
		m.violate("event %s: %v", e.ID, err)
	}
}

// follow checks the chain of sequence and previous.
func (m *MES) follow(machine *mesMachine, e mesEvent) {
	sequence, err := strconv.ParseUint(e.Sequence, 10, 64)
	if err != nil {
		m.violate("event %s has the sequence %q", e.ID, e.Sequence)
		return
	}
	previous, err := strconv.ParseUint("0"+e.Previous, 10, 64)
	if err != nil || previous != machine.last {
		m.violate("event %s names %q as previous, but %d was the last to arrive", e.ID, e.Previous, machine.last)
	}
	if sequence <= machine.last {
		m.violate("event %s has sequence %d after %d", e.ID, sequence, machine.last)
	}
	machine.last = sequence
}

// count adds up what the event says was made.
func (m *MES) count(machine *mesMachine, e mesEvent) {
	kind := kindOf(e.Type)
	m.kinds[kind]++
	switch plant.EventKind(kind) {
	case plant.KindDosing, plant.KindRefill, plant.KindRemoval:
		machine.weighed = append(machine.weighed, Weighing{Kind: plant.EventKind(kind), Quantity: e.Data.Quantity, Unit: e.Data.Unit})
		return
	case plant.KindCounter:
	default:
		return
	}
	delta := e.Data.GoodDelta + e.Data.ReworkDelta
	var scrap int64
	for _, s := range e.Data.Scrap {
		delta += s.Delta
		scrap += s.Quantity
	}
	if e.Data.Good < machine.good || scrap < machine.scrap {
		m.violate("event %s lowers a cumulative count", e.ID)
	}
	machine.good, machine.scrap = e.Data.Good, scrap
	if e.Data.Rollover {
		m.rollovers++
	}
	if e.Data.Reset {
		m.resets++
	}
	machine.deltas += delta
	m.pieces += delta
	if total := machine.good + machine.scrap + e.Data.Rework; machine.deltas != total {
		m.violate("event %s: the deltas add up to %d, the cumulative counts to %d", e.ID, machine.deltas, total)
	}
}

func (m *MES) violate(format string, args ...any) {
	if len(m.violations) < maxViolations {
		m.violations = append(m.violations, fmt.Sprintf(format, args...))
	}
}

// typePrefix is what the type of an event begins with.
const typePrefix = "dev.sluice."

// kindOf takes "counter" out of "dev.sluice.counter.v1".
func kindOf(eventType string) string {
	if len(eventType) < len(typePrefix) || eventType[:len(typePrefix)] != typePrefix {
		return eventType
	}
	rest := eventType[len(typePrefix):]
	for i := range rest {
		if rest[i] == '.' {
			return rest[:i]
		}
	}
	return rest
}

// Count returns the number of different events of that kind.
func (m *MES) Count(kind plant.EventKind) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.kinds[string(kind)]
}

// Arrived returns what the events of that kind add up to: pieces for counter,
// events for the others.
func (m *MES) Arrived(kind plant.EventKind) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if kind == plant.KindCounter {
		return m.pieces
	}
	return m.kinds[string(kind)]
}

// Pieces returns what the counter events of one machine add up to.
func (m *MES) Pieces(machine plant.MachineID) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if known := m.machines[string(machine)]; known != nil {
		return known.deltas
	}
	return 0
}

// Weighed returns the doses, refills and removals of one machine in the order in
// which they arrived.
func (m *MES) Weighed(machine plant.MachineID) []Weighing {
	m.mu.Lock()
	defer m.mu.Unlock()
	if known := m.machines[string(machine)]; known != nil {
		return slices.Clone(known.weighed)
	}
	return nil
}

// Delivered returns the number of different events that arrived.
func (m *MES) Delivered() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.arrivals - m.duplicates
}

// Duplicates returns how often an event came again.
func (m *MES) Duplicates() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.duplicates
}

// Seen returns how many counter events were marked as counted through a
// rollover of the PLC's counter, and through a reset of it.
func (m *MES) Seen() (rollovers, resets int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rollovers, m.resets
}

// Violations returns what was wrong with the streams, at most 20.
func (m *MES) Violations() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.violations...)
}
