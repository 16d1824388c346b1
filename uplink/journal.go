package uplink

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sluice-edge/sluice/plant"
)

// Outcome is what an Exchange came to.
type Outcome string

// The outcomes of an exchange.
const (
	// OutcomeDelivered: the receiver has the events.
	OutcomeDelivered Outcome = "delivered"
	// OutcomeRefused: the receiver refuses them for good; they become dead letters.
	OutcomeRefused Outcome = "refused"
	// OutcomeRetry: they are sent again later, under the same ids.
	OutcomeRetry Outcome = "retry"
	// OutcomeHeld: the machine's stream waits: for a refusal that looks like a wrong
	// setting to be mended, or for what another event has to bring first.
	OutcomeHeld Outcome = "held"
	// OutcomeDropped: a dead letter that a person has given up, for the reason in
	// Words.
	OutcomeDropped Outcome = "dropped"
	// OutcomeAsked: a request that carries no event, for a token for example, or only
	// makes way for one; it was answered as it should be.
	OutcomeAsked Outcome = "asked"
	// OutcomeTest: a request by which a person tries the uplink.
	OutcomeTest Outcome = "test"
)

// Outcomes returns all outcomes, in the order in which people meet them.
func Outcomes() []Outcome {
	return []Outcome{OutcomeDelivered, OutcomeRefused, OutcomeRetry, OutcomeHeld, OutcomeDropped, OutcomeAsked, OutcomeTest}
}

// Exchange is one request to a receiver and what came of it, or what the
// Forwarder made of the answers to a Send. It holds no secret: who fills it
// leaves them out, and Journal.Note cuts what could hold one.
type Exchange struct {
	// Time is when it began; Note takes now less Duration if it is zero.
	Time time.Time `json:"time"`
	// Uplink is the uplink's name, filled in by Note.
	Uplink string `json:"uplink"`
	// Machine is empty for a request that is no machine's, for a token for example.
	Machine plant.MachineID `json:"machine,omitempty"`
	// Kind is empty if the events are of several kinds.
	Kind plant.EventKind `json:"kind,omitempty"`
	// First and Last are the stored events it is about, 0 for none; Events is how
	// many of them, which is less than the range where other kinds lie in between.
	First  plant.Sequence `json:"first,omitempty"`
	Last   plant.Sequence `json:"last,omitempty"`
	Events int            `json:"events,omitempty"`
	// Sends is how many Sends in a row the entry stands for, 0 for one: a log may
	// take those of a machine together that all went well.
	Sends int `json:"sends,omitempty"`
	// Merged names the stored events that were not sent since later ones contain
	// them.
	Merged []Merged `json:"merged,omitempty"`
	// RequestID is our id of the request, the idempotency key for example, by which
	// the receiver's own log may know it. ReceiverID is the id that the receiver gave
	// in its answer to what was booked.
	RequestID  string `json:"request_id,omitempty"`
	ReceiverID string `json:"receiver_id,omitempty"`
	// Method and Where say how and where it was sent: POST and a URL without query
	// and user, or PUBLISH and a topic.
	Method string `json:"method,omitempty"`
	Where  string `json:"where,omitempty"`
	// Status is the receiver's number, of HTTP for example; 0 for none.
	Status int `json:"status,omitempty"`
	// Duration is from the first byte out to the answer's end; of several Sends it
	// is that of the slowest.
	Duration time.Duration `json:"duration_ns,omitempty"`
	Outcome  Outcome       `json:"outcome"`
	// Words are the receiver's own, or those of the network.
	Words string `json:"words,omitempty"`
	// EventTime and Pieces are of a counter event that was OutcomeDropped: when it
	// happened, and how many pieces it told.
	EventTime time.Time `json:"event_time,omitzero"`
	Pieces    int64     `json:"pieces,omitempty"`
}

// Plain reports whether x says no more than that events were delivered: what
// several of them say can be said in one.
func (x *Exchange) Plain() bool {
	return x.Outcome == OutcomeDelivered && len(x.Merged) == 0 && x.Events > 0 &&
		x.RequestID == "" && x.ReceiverID == "" && x.Method == "" && x.Where == "" && x.Status == 0 && x.Words == ""
}

// Join makes x stand for next, too, which is of the same machine and came
// after it. Both must be Plain.
func (x *Exchange) Join(next *Exchange) {
	if x.Kind != next.Kind {
		x.Kind = ""
	}
	x.First, x.Last = min(x.First, next.First), max(x.Last, next.Last)
	x.Events += next.Events
	x.Sends = max(x.Sends, 1) + max(next.Sends, 1)
	x.Duration = max(x.Duration, next.Duration)
}

// Merged says that the event Into was sent in the place of Count stored events
// of its machine and Kind: all of that kind from First to Into.
type Merged struct {
	Kind  plant.EventKind `json:"kind"`
	First plant.Sequence  `json:"first"`
	Into  plant.Sequence  `json:"into"`
	Count int             `json:"count"`
}

// Bounds of what one Exchange may hold, in bytes and in entries.
const (
	mostWords   = 600
	mostWhere   = 300
	mostRequest = 200
	mostMerged  = 64
)

// Journal takes the exchanges of one uplink. A nil Journal takes nothing, so
// that a Sender need not ask. Its methods may be called from any goroutine.
type Journal struct {
	uplink string
	keep   func(Exchange)

	mu sync.Mutex
	// noted counts what was noted of each machine, so that the Forwarder does not
	// tell again what its Sender has told.
	noted map[plant.MachineID]told
	// sends are the machines that a Send is under way for, with what it has noted
	// from its first refusal on: only the Forwarder knows whether that is final.
	sends map[plant.MachineID][]Exchange
	// watchers are shown what is noted, by a number of their own.
	watchers map[int]func(Exchange)
	next     int
}

// NewJournal returns the Journal of the uplink of that name. keep gets each
// exchange, made safe to show; it must not block for long, since a Send waits
// for it.
func NewJournal(uplink string, keep func(Exchange)) *Journal {
	return &Journal{uplink: uplink, keep: keep, noted: map[plant.MachineID]told{}, sends: map[plant.MachineID][]Exchange{}, watchers: map[int]func(Exchange){}}
}

// Note keeps x. A Sender calls it once for each request that it has made,
// with the outcome that its Result will have; a Forwarder notes what its Sender
// does not: merges, refusals that hold a stream, and Sends without a request.
// Words of others are cut to a bound and freed of what a terminal or a page
// would act on; Where loses its query and its user. A refusal is kept when its
// Send has ended, as OutcomeHeld if the Forwarder holds the stream for it.
func (j *Journal) Note(x Exchange) {
	if j == nil {
		return
	}
	x.Uplink = j.uplink
	if x.Time.IsZero() {
		x.Time = time.Now().Add(-x.Duration)
	}
	x.Time = x.Time.UTC()
	x.Words = shown(x.Words, mostWords)
	x.Where = shown(withoutSecrets(x.Where), mostWhere)
	x.RequestID = shown(x.RequestID, mostRequest)
	x.ReceiverID = shown(x.ReceiverID, mostRequest)
	if len(x.Merged) > mostMerged {
		x.Merged = x.Merged[:mostMerged:mostMerged]
	}
	j.mu.Lock()
	told := j.noted[x.Machine]
	told.all++
	if x.Outcome == OutcomeRetry {
		told.retries++
	}
	j.noted[x.Machine] = told
	if later, sending := j.sends[x.Machine]; sending && (x.Outcome == OutcomeRefused || len(later) > 0) {
		j.sends[x.Machine] = append(later, x)
		j.mu.Unlock()
		return
	}
	j.mu.Unlock()
	j.tell(x)
}

// tell shows x to those who watch, and keeps it.
func (j *Journal) tell(x Exchange) {
	j.mu.Lock()
	watchers := slices.Collect(maps.Values(j.watchers))
	j.mu.Unlock()
	for _, w := range watchers {
		w(x)
	}
	j.keep(x)
}

// begin says that a Send for m begins, and returns what was noted of m so far.
func (j *Journal) begin(m plant.MachineID) told {
	if j == nil {
		return told{}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.sends[m] = nil
	return j.noted[m]
}

// end says that the Send for m has ended, and how: a refusal of what v holds is
// no dead letter. It reports whether there was one.
func (j *Journal) end(m plant.MachineID, v *verdict) (held bool) {
	j.mu.Lock()
	later := j.sends[m]
	delete(j.sends, m)
	j.mu.Unlock()
	for i := range later {
		x := &later[i]
		if x.Outcome == OutcomeRefused && v.held && x.First <= v.stop.Last && v.stop.First <= x.Last {
			x.Outcome, held = OutcomeHeld, true
		}
		j.tell(*x)
	}
	return held
}

// deliver keeps what the Forwarder says of a Send that went well. It is Note for
// an exchange without words of others, and cheaper, since there is one for nearly
// every Send; a Watch is not shown it.
func (j *Journal) deliver(x Exchange) {
	x.Uplink, x.Time = j.uplink, x.Time.UTC()
	j.keep(x)
}

// Watch shows each exchange to see, too, until the returned function is called.
// see may be called from several goroutines at once.
func (j *Journal) Watch(see func(Exchange)) (stop func()) {
	if j == nil {
		return func() {}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	n := j.next
	j.next++
	j.watchers[n] = see
	return func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		delete(j.watchers, n)
	}
}

// told counts what was noted of a machine, and how much of that was to be
// repeated.
type told struct{ all, retries uint64 }

// count returns what was noted of m so far.
func (j *Journal) count(m plant.MachineID) told {
	if j == nil {
		return told{}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.noted[m]
}

// withoutSecrets cuts from where what may hold a secret: the query, the fragment
// and the user of a URL.
func withoutSecrets(where string) string {
	if i := strings.IndexAny(where, "?#"); i >= 0 {
		where = where[:i]
	}
	if scheme, rest, ok := strings.Cut(where, "://"); ok {
		host, path, found := strings.Cut(rest, "/")
		if i := strings.LastIndexByte(host, '@'); i >= 0 {
			host = host[i+1:]
		}
		if where = scheme + "://" + host; found {
			where += "/" + path
		}
	}
	return where
}

// shown returns s for people: valid, on one line, without what changes how the
// rest is shown, and at most so many bytes.
func shown(s string, most int) string {
	if !clean(s) {
		s = strings.Map(func(r rune) rune {
			switch {
			case r == utf8.RuneError, unicode.Is(unicode.Cf, r):
				return -1
			case unicode.IsControl(r), r == '\u2028', r == '\u2029':
				return ' '
			}
			return r
		}, strings.ToValidUTF8(s, ""))
		s = strings.Join(strings.Fields(s), " ")
	}
	if len(s) <= most {
		return s
	}
	const more = "…"
	cut := most - len(more)
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + more
}

// clean reports whether s is printable ASCII, as nearly all of it is.
func clean(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
