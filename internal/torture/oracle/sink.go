package oracle

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// event is what a receiver reads of a CloudEvent.
type event struct {
	ID       string          `json:"id"`
	Type     string          `json:"type"`
	Subject  string          `json:"subject"`
	Sequence string          `json:"sequence"`
	Epoch    string          `json:"epoch"`
	Previous string          `json:"previous"`
	Data     json.RawMessage `json:"data"`
}

func (e *event) key() (Key, bool) {
	n, err := strconv.ParseUint(e.Sequence, 10, 64)
	k := Key{e.Subject, e.Epoch, n}
	return k, err == nil && strings.HasSuffix(e.ID, "/"+k.String())
}

// kind takes "counter" out of "dev.sluice.counter.v1".
func (e *event) kind() string {
	rest, _ := strings.CutPrefix(e.Type, "dev.sluice.")
	name, _, _ := strings.Cut(rest, ".")
	return name
}

// arrival is an event by the CRC-32 of its bytes: all of them, those without
// previous, and those of its data.
type arrival struct{ bytes, bare, data uint32 }

func newArrival(raw []byte, e *event) arrival {
	bare := bytes.Replace(raw, []byte(`"previous":"`+e.Previous+`",`), nil, 1)
	return arrival{crc32.ChecksumIEEE(raw), crc32.ChecksumIEEE(bare), crc32.ChecksumIEEE(e.Data)}
}

// sink is what one receiver knows.
type sink struct {
	name       string
	arrived    map[Key]arrival
	missing    map[Key]struct{}
	refused    map[Key]struct{}
	streams    map[string]*stream
	lots       map[string]Key
	arrivals   int
	duplicates int
}

func newSink(name string) *sink {
	return &sink{
		name: name, arrived: map[Key]arrival{}, missing: map[Key]struct{}{}, refused: map[Key]struct{}{},
		streams: map[string]*stream{}, lots: map[string]Key{},
	}
}

func (s *sink) clone() *sink {
	c := *s
	c.arrived, c.missing, c.refused, c.lots = maps.Clone(s.arrived), maps.Clone(s.missing), maps.Clone(s.refused), maps.Clone(s.lots)
	c.streams = make(map[string]*stream, len(s.streams))
	for name, st := range s.streams {
		copied := *st
		copied.seen, copied.gaps = maps.Clone(st.seen), slices.Clone(st.gaps)
		c.streams[name] = &copied
	}
	return &c
}

// stream is one machine at one receiver.
type stream struct {
	last       uint64
	seen       map[uint64]struct{}
	gaps       []gap
	told       int // gap events of any sort
	counts     bool
	cumulative int64
	// broken is set by a gap event and by numbers that were passed over, whose gap
	// event comes later, until a counter event closes it.
	broken bool
}

// gap is what a gap event says: the numbers first…last are not all there.
type gap struct {
	first, last, count uint64
	reason             string
}

func (g gap) holds(n uint64) bool { return g.first <= n && n <= g.last }

func (s *sink) stream(machine string) *stream {
	st := s.streams[machine]
	if st == nil {
		st = &stream{seen: map[uint64]struct{}{}}
		s.streams[machine] = st
	}
	return st
}

// named reports whether a gap event says that the number is missing.
func (st *stream) named(n uint64) bool {
	return slices.ContainsFunc(st.gaps, func(g gap) bool { return g.holds(n) })
}

// data is what the oracle reads of the data of all kinds.
type data struct {
	Good      int64 `json:"good"`
	GoodDelta int64 `json:"good_delta"`
	Scrap     []struct {
		Quantity int64 `json:"quantity"`
		Delta    int64 `json:"delta"`
	} `json:"scrap"`
	Rebase bool `json:"rebase"`

	Lots []struct {
		Lot string `json:"lot"`
	} `json:"lots"`
	Quantity json.Number `json:"quantity"`
	Unit     string      `json:"unit"`

	Parameters []struct {
		Code  string `json:"code"`
		Value any    `json:"value"`
	} `json:"parameters"`

	First  uint64 `json:"first"`
	Last   uint64 `json:"last"`
	Count  uint64 `json:"count"`
	Reason string `json:"reason"`
}

// content holds an event that is new against what the PLCs know.
func (a *Oracle) content(s *sink, st *stream, k Key, e *event) {
	var d data
	if err := json.Unmarshal(e.Data, &d); err != nil {
		a.violate("O2 %s: %s: %v", s.name, k, err)
		return
	}
	switch e.kind() {
	case "counter":
		a.count(s, st, k, &d)
	case "dosing":
		a.dose(s, k, &d)
	case "parameters":
		for _, p := range d.Parameters {
			if text, ok := p.Value.(string); ok && text != "" && !a.truth.Said(p.Code, text) {
				a.violate("O2 %s: %s says %s = %.40q, which no PLC has shown", s.name, k, p.Code, text)
			}
		}
	case "gap":
		st.told++
		if d.First == 0 && d.Last == 0 {
			return // readings that never became events, or a loss that nobody can number
		}
		if a.o.NoLoss {
			a.violate("O1 %s: %s says that %d to %d are lost (%s); this fault must cost nothing", s.name, k, d.First, d.Last, d.Reason)
		}
		if d.Last < d.First || d.Count > d.Last-d.First+1 || d.Count == 0 {
			a.violate("O5 %s: %s names %d events from %d to %d", s.name, k, d.Count, d.First, d.Last)
		}
		st.gaps = append(st.gaps, gap{d.First, d.Last, d.Count, d.Reason})
		st.broken = true
		for n := range s.missing {
			if n.Machine == k.Machine && n.Sequence >= d.First && n.Sequence <= d.Last {
				delete(s.missing, n)
			}
		}
	}
}

// count checks that cumulative counts follow from each other and exceed the PLC
// at no time.
func (a *Oracle) count(s *sink, st *stream, k Key, d *data) {
	total, delta := d.Good, d.GoodDelta
	for _, c := range d.Scrap {
		total += c.Quantity
		delta += c.Delta
	}
	if made, ok := a.truth.Pieces(k.Machine); !ok || total > made {
		a.violate("O2 %s: %s counts %d pieces, the PLC %d", s.name, k, total, made)
	}
	if st.cumulative+delta != total && !d.Rebase && !st.broken {
		a.violate("O8 %s: %s adds %d to %d and says %d", s.name, k, delta, st.cumulative, total)
	}
	if total < st.cumulative {
		a.violate("O8 %s: %s lowers the count from %d to %d", s.name, k, st.cumulative, total)
	}
	st.counts, st.cumulative, st.broken = true, total, false
}

func (a *Oracle) dose(s *sink, k Key, d *data) {
	lot := ""
	if len(d.Lots) == 1 {
		lot = d.Lots[0].Lot
	}
	grams, ok := a.truth.Dose(lot)
	kilos, err := strconv.ParseFloat(d.Quantity.String(), 64)
	if !ok || err != nil || int64(kilos*1000+0.5) != grams || d.Unit != "kg" {
		a.violate("O2 %s: %s says lot %q, %s %s; the PLC weighed %d g", s.name, k, lot, d.Quantity, d.Unit, grams)
	}
	if before, twice := s.lots[lot]; twice {
		a.violate("O8 %s: the dose of lot %s is in %s and in %s", s.name, lot, before, k)
	}
	s.lots[lot] = k
}

// Drained reports whether every accepted event is accounted for at every sink.
func (a *Oracle) Drained() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range a.sinks {
		if len(s.missing) > 0 && len(a.lost(s)) > 0 {
			return false
		}
	}
	return true
}

// DrainedAt reports whether what was accepted up to then is accounted for at one
// sink.
func (a *Oracle) DrainedAt(name string, then time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return !slices.ContainsFunc(a.lost(a.sinks[name]), func(k Key) bool { return !a.accepted[k].At.After(then) })
}

// Has reports whether a sink has all accepted events of a machine.
func (a *Oracle) Has(name, machine string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for k := range a.sinks[name].missing {
		if k.Machine == machine {
			return false
		}
	}
	return true
}

// lost returns the accepted events that are missing at s without an excuse.
func (a *Oracle) lost(s *sink) (keys []Key) {
	for k := range s.missing {
		if st := s.streams[k.Machine]; st != nil && st.named(k.Sequence) {
			continue
		}
		if a.excusedAt(a.accepted[k].At) {
			continue
		}
		keys = append(keys, k)
	}
	slices.SortFunc(keys, compareKeys)
	return keys
}

func (a *Oracle) excusedAt(at time.Time) bool {
	return slices.ContainsFunc(a.excused, func(x excuse) bool { return !at.Before(x.from) && !at.After(x.to) })
}

// Settled reports whether all is accounted for and the counts are those of the
// PLCs, which must stand still.
func (a *Oracle) Settled() bool { return a.Drained() && len(a.final()) == 0 }

// Violated reports whether something is wrong already, whatever still comes.
func (a *Oracle) Violated() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.violations) > 0
}

// Judge returns every contradiction. The PLCs must stand still, and the gateway
// must have had the time to deliver.
func (a *Oracle) Judge() []string {
	final := a.final()
	a.mu.Lock()
	defer a.mu.Unlock()
	all := slices.Clone(a.violations)
	if a.dropped > 0 {
		all = append(all, fmt.Sprintf("and %d more", a.dropped))
	}
	for _, name := range slices.Sorted(maps.Keys(a.sinks)) {
		s := a.sinks[name]
		if lost := a.lost(s); len(lost) > 0 {
			first := a.accepted[lost[0]]
			all = append(all, fmt.Sprintf("O1 %s: %d accepted events never arrived and no gap names them, the first is %s, a %s accepted at %s, the last %s",
				s.name, len(lost), lost[0], first.Kind, first.At.Format(time.StampMilli), lost[len(lost)-1]))
		}
		if limit := a.starts * a.o.DuplicatesPerStart; limit > 0 && s.duplicates > limit {
			all = append(all, fmt.Sprintf("O6 %s: %d duplicates in %d starts, at most %d are explained", s.name, s.duplicates, a.starts, limit))
		}
	}
	return append(all, final...)
}

// final is what can only be judged at rest.
func (a *Oracle) final() (wrong []string) {
	bad := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	a.mu.Lock()
	defer a.mu.Unlock()
	acknowledged := a.truth.Acknowledged()
	for _, name := range slices.Sorted(maps.Keys(a.sinks)) {
		s := a.sinks[name]
		for _, machine := range slices.Sorted(maps.Keys(s.streams)) {
			st := s.streams[machine]
			if n, first := st.holes(a.o.Restored); n > 0 && len(a.excused) == 0 {
				bad("O5 %s: %d numbers of %s are missing and no gap names them, the first is %d", s.name, n, machine, first)
			}
			if made, ok := a.truth.Pieces(machine); ok && st.counts && st.cumulative != made {
				bad("O8 %s: %s has counted %d, the PLC %d", s.name, machine, st.cumulative, made)
			}
		}
		a.doses(s, acknowledged, bad)
	}
	return wrong
}

// doses looks for each dose that the PLC was told is safe.
func (a *Oracle) doses(s *sink, acknowledged []string, bad func(string, ...any)) {
	missing := 0
	example := ""
	for _, lot := range acknowledged {
		if _, ok := s.lots[lot]; !ok {
			missing++
			example = lot
		}
	}
	allowed := len(s.refused)
	for _, st := range s.streams {
		for _, g := range st.gaps {
			allowed += int(g.count)
		}
	}
	if missing > allowed && len(a.excused) == 0 {
		bad("O1 %s: %d doses were acknowledged to the PLC and never arrived (%d are refused or in gaps), for example lot %s", s.name, missing, allowed, example)
	}
}

// holes counts the numbers up to the last that are neither there nor named.
func (st *stream) holes(restored bool) (n int, first uint64) {
	if restored {
		return 0, 0
	}
	for i := uint64(1); i <= st.last; i++ {
		if _, ok := st.seen[i]; ok || st.named(i) {
			continue
		}
		if n == 0 {
			first = i
		}
		n++
	}
	return n, first
}

// Summary counts what was judged.
type Summary struct {
	Accepted, Arrived, Duplicates, Refused, GapEvents int
	// Told counts the gap events with those that name no numbers.
	Told int
	// Lost is how many events the gap events name.
	Lost uint64
}

// Summary returns the counts of the first sink, and what any has refused.
func (a *Oracle) Summary() (m Summary) {
	a.mu.Lock()
	defer a.mu.Unlock()
	m.Accepted = len(a.accepted)
	s := a.sinks[a.o.Sinks[0]]
	m.Arrived, m.Duplicates = len(s.arrived), s.duplicates
	for _, other := range a.sinks {
		m.Refused += len(other.refused)
	}
	for _, st := range s.streams {
		m.GapEvents += len(st.gaps)
		m.Told += st.told
		for _, g := range st.gaps {
			m.Lost += g.count
		}
	}
	return m
}

// AcceptedOf returns how many events of a machine were accepted so far.
func (a *Oracle) AcceptedOf(machine string) (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for k := range a.accepted {
		if k.Machine == machine {
			n++
		}
	}
	return n
}
