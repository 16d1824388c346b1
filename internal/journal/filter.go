package journal

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

// Filter says which entries are meant. The zero Filter means all; each field
// that is set narrows it down.
type Filter struct {
	Uplink  string
	Machine plant.MachineID
	// Kind also lets through what is of several kinds.
	Kind    plant.EventKind
	Outcome uplink.Outcome
	// Status is a number of the receiver, StatusClass its first digit: 503, or 5.
	Status, StatusClass int
	// From and To bound the time: not before From, before To.
	From, To time.Time
	// RequestID is what our id of the request or the receiver's own is, in full. Sequence is an event, of Machine: meant is
	// what was told of it, also inside others.
	RequestID string
	Sequence  plant.Sequence
	// Text stands anywhere, in any case.
	Text string
}

// The names of the fields in a query, in the order of the page.
const (
	keyUplink  = "uplink"
	keyMachine = "machine"
	keyKind    = "kind"
	keyOutcome = "outcome"
	keyStatus  = "status"
	keyFrom    = "from"
	keyTo      = "to"
	keyID      = "id"
	keyText    = "q"
)

// IsKey reports whether ParseFilter reads that key of a query.
func IsKey(name string) bool {
	switch name {
	case keyUplink, keyMachine, keyKind, keyOutcome, keyStatus, keyFrom, keyTo, keyID, keyText:
		return true
	}
	return false
}

// ParseFilter reads a filter from a query; empty values mean nothing. zone is
// that of times without one. Keys that are none of the filter's are left to the
// caller. The error says in plain words what was meant to stand there.
func ParseFilter(q url.Values, zone *time.Location) (f Filter, err error) {
	get := func(key string) string { return strings.TrimSpace(q.Get(key)) }
	f = Filter{Uplink: get(keyUplink), Machine: plant.MachineID(get(keyMachine)), Kind: plant.EventKind(get(keyKind)), Outcome: uplink.Outcome(get(keyOutcome)), Text: get(keyText)}
	if f.Outcome != "" && f.Outcome != Lost {
		known := false
		for _, o := range uplink.Outcomes() {
			known = known || o == f.Outcome
		}
		if !known {
			return f, fmt.Errorf("%q is no outcome: write delivered, refused, retry, held, dropped, asked, test or lost", f.Outcome)
		}
	}
	if err := f.parseStatus(get(keyStatus)); err != nil {
		return f, err
	}
	if f.From, err = parseTime(get(keyFrom), zone); err != nil {
		return f, err
	}
	if f.To, err = parseTime(get(keyTo), zone); err != nil {
		return f, err
	}
	return f, f.parseID(get(keyID))
}

func (f *Filter) parseStatus(text string) error {
	if text == "" {
		return nil
	}
	digits := strings.TrimSuffix(strings.ToLower(text), "xx")
	n, err := strconv.Atoi(digits)
	switch {
	case err == nil && digits != text && n >= 1 && n <= 9:
		f.StatusClass = n
	case err == nil && digits == text && n > 0:
		f.Status = n
	default:
		return fmt.Errorf("%q is no status: write a number such as 503, or 5xx", text)
	}
	return nil
}

// parseID takes "gateway/machine/epoch-number" or "machine/number" for an event,
// anything else for the id of a request.
func (f *Filter) parseID(text string) error {
	if text == "" {
		return nil
	}
	if id, err := plant.ParseEventID(text); err == nil {
		return f.event(string(id.Machine), id.Sequence)
	}
	if machine, number, ok := strings.Cut(text, "/"); ok && !strings.Contains(number, "/") {
		if n, err := strconv.ParseUint(number, 10, 64); err == nil && n > 0 && machine != "" {
			return f.event(machine, plant.Sequence(n))
		}
	}
	f.RequestID = text
	return nil
}

func (f *Filter) event(machine string, n plant.Sequence) error {
	if f.Machine != "" && string(f.Machine) != machine {
		return fmt.Errorf("the event is of machine %s, and machine %s is asked for", machine, f.Machine)
	}
	f.Machine, f.Sequence = plant.MachineID(machine), n
	return nil
}

func parseTime(text string, zone *time.Location) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, text, zone); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no moment: write 2026-07-27, 2026-07-27T14:00 (the plant's time) or 2026-07-27T12:00:00Z", text)
}

// match reports whether e is meant.
func (f *Filter) match(e *Entry) bool {
	switch {
	case f.Uplink != "" && e.Uplink != f.Uplink,
		f.Machine != "" && e.Machine != f.Machine,
		f.Kind != "" && !e.has(f.Kind),
		f.Outcome != "" && e.Outcome != f.Outcome,
		f.Status != 0 && e.Status != f.Status,
		f.StatusClass != 0 && e.Status/100 != f.StatusClass,
		!f.From.IsZero() && e.Time.Before(f.From),
		!f.To.IsZero() && !e.Time.Before(f.To),
		f.RequestID != "" && !e.isCalled(f.RequestID),
		f.Sequence != 0 && !e.covers(f.Sequence):
		return false
	}
	return f.Text == "" || e.contains(strings.ToLower(f.Text))
}

// isCalled reports whether that is our id of the request or the receiver's. An
// older version wrote both into one.
func (e *Entry) isCalled(id string) bool {
	return e.RequestID == id || e.ReceiverID == id || strings.HasSuffix(e.RequestID, " → "+id) || strings.HasPrefix(e.RequestID, id+" → ")
}

// has reports whether e may be about events of that kind.
func (e *Entry) has(kind plant.EventKind) bool {
	if e.Kind == kind {
		return true
	}
	for _, m := range e.Merged {
		if m.Kind == kind {
			return true
		}
	}
	return e.Kind == "" && e.Events > 0
}

// covers reports whether e is about that event.
func (e *Entry) covers(s plant.Sequence) bool {
	if e.First <= s && s <= e.Last && s > 0 {
		return true
	}
	for _, m := range e.Merged {
		if m.First <= s && s <= m.Into {
			return true
		}
	}
	return false
}

// contains reports whether text, in lower case, stands anywhere in e.
func (e *Entry) contains(text string) bool {
	for _, field := range []string{
		e.Words, e.Where, e.RequestID, e.ReceiverID, string(e.Machine), e.Uplink, string(e.Kind), string(e.Outcome), e.Method, strconv.Itoa(e.Status),
		strconv.FormatUint(uint64(e.First), 10), strconv.FormatUint(uint64(e.Last), 10),
	} {
		if strings.Contains(strings.ToLower(field), text) {
			return true
		}
	}
	return false
}

// needles returns what must stand in a line that matches, so that most lines
// need not be parsed.
func (f *Filter) needles() (all [][]byte) {
	quoted := func(value string) []byte {
		text, err := json.Marshal(value)
		if err != nil {
			panic(err) // a string always has a JSON form
		}
		return text
	}
	add := func(key, value string) {
		if value != "" {
			all = append(all, append([]byte(`"`+key+`":`), quoted(value)...))
		}
	}
	// What is rarest comes first. An id may stand in more than one place.
	if text := quoted(f.RequestID); f.RequestID != "" {
		all = append(all, text[1:len(text)-1])
	}
	add("outcome", string(f.Outcome))
	add("uplink", f.Uplink)
	add("machine", string(f.Machine))
	return all
}

func hasAll(line []byte, needles [][]byte) bool {
	for _, n := range needles {
		if !bytes.Contains(line, n) {
			return false
		}
	}
	return true
}
