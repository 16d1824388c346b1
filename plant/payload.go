package plant

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Seconds is a length of time that JSON carries as a number of seconds with at
// most three digits after the point.
type Seconds time.Duration

// MarshalJSON writes a number of seconds.
func (s Seconds) MarshalJSON() ([]byte, error) { return s.append(nil), nil }

// UnmarshalJSON reads a number of seconds without going through a float.
func (s *Seconds) UnmarshalJSON(b []byte) error {
	d, err := ParseDecimal(string(b))
	if err != nil {
		return err
	}
	ns, err := d.Normal().Rescale(9)
	if err != nil {
		return fmt.Errorf("plant: parse seconds %q: %w", b, err)
	}
	*s = Seconds(ns.Unscaled)
	return nil
}

func (s Seconds) append(dst []byte) []byte {
	ms := time.Duration(s).Round(time.Millisecond).Milliseconds()
	if ms < 0 {
		dst, ms = append(dst, '-'), -ms
	}
	dst = strconv.AppendInt(dst, ms/1000, 10)
	if ms %= 1000; ms == 0 {
		return dst
	}
	dst = append(dst, '.', byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10))
	for dst[len(dst)-1] == '0' {
		dst = dst[:len(dst)-1]
	}
	return dst
}

// Head is what the data of every kind begins with.
type Head struct {
	Machine MachineID `json:"machine"`
	Mode    Mode      `json:"mode"`
	// Order is what the machine worked on at the time of the event; nil if none
	// is known.
	Order *Order `json:"order,omitempty"`
}

// ScrapCount is the scrap of one code.
type ScrapCount struct {
	Code string `json:"code"`
	// Quantity is cumulative, Delta the part that is new.
	Quantity int64 `json:"quantity"`
	Delta    int64 `json:"delta"`
}

// Counter is the data of a KindCounter event: pieces made. Good, Scrap and
// Rework are cumulative, kept by the gateway and never decrease; the deltas
// belong to the interval From…To. Produced quantity = good + scrap + rework
// (ISO 22400).
type Counter struct {
	Head
	Good        int64        `json:"good"`
	GoodDelta   int64        `json:"good_delta"`
	Scrap       []ScrapCount `json:"scrap,omitempty"`
	Rework      int64        `json:"rework,omitempty"`
	ReworkDelta int64        `json:"rework_delta,omitempty"`
	// Cycles are counts of the device where one is not one piece (cavities),
	// cumulative like the pieces.
	Cycles      int64     `json:"cycles,omitempty"`
	CyclesDelta int64     `json:"cycles_delta,omitempty"`
	From        time.Time `json:"from"`
	To          time.Time `json:"to"`
	// Raw is the last believed number of the device's main counter.
	Raw int64 `json:"raw"`
	// Reset: the device's counter began again from zero within the interval.
	Reset bool `json:"reset,omitempty"`
	// Rollover: it went over the end of its range and was counted through.
	Rollover bool `json:"rollover,omitempty"`
	// Gap is how long nobody looked within the interval.
	Gap Seconds `json:"gap,omitempty"`
	// LowerBound: there were at least so many pieces (a reset or signals within a
	// gap, a counter that can count no further).
	LowerBound bool `json:"lower_bound,omitempty"`
	// Saturated: a counter stands at its highest number, or did within the
	// interval: there were more pieces than it could count.
	Saturated bool `json:"saturated,omitempty"`
	// Ambiguous: the counter may have gone round unseen within a gap, or nobody
	// knows how many pieces each of its cycles was.
	Ambiguous bool `json:"ambiguous,omitempty"`
	// Unattributed: the order changed within the gap, so the pieces belong to no
	// order that anybody knows.
	Unattributed bool `json:"unattributed,omitempty"`
	// Shift is the shift in which the pieces were made, empty where the calendar has
	// none then. AcrossShifts: they are those of a gap over the end of a shift, so
	// nobody knows of which.
	Shift        string `json:"shift,omitempty"`
	AcrossShifts bool   `json:"across_shifts,omitempty"`
	// Suspect: a change was larger than the machine can make, or the clock ran
	// back; a person should look.
	Suspect bool `json:"suspect,omitempty"`
	// Rebase: the first after a lost tail of events; take the cumulative counts.
	Rebase bool `json:"rebase,omitempty"`
	// MicroStops is the number of stops too short for an event of their own
	// since the last start/stop or counter event, MicroSeconds their length.
	MicroStops   int64   `json:"micro_stops,omitempty"`
	MicroSeconds Seconds `json:"micro_seconds,omitempty"`
}

// Pieces returns how many pieces of any quality the machine has made in all, and
// how many of them the event tells: good, scrap and rework.
func (c *Counter) Pieces() (all, delta int64) {
	all, delta = c.Good+c.Rework, c.GoodDelta+c.ReworkDelta
	for i := range c.Scrap {
		all += c.Scrap[i].Quantity
		delta += c.Scrap[i].Delta
	}
	return all, delta
}

// StartStop is the data of a KindStartStop event: the machine began to run or
// to stand.
type StartStop struct {
	Head
	// Running is 1 or 0.
	Running int `json:"running"`
	// StopID numbers the stops of a machine, from 1; a start has the number of
	// the stop that it ends. 0 on a start before any stop.
	StopID uint64 `json:"stop_id,omitempty"`
	// Type is the downtime type and ReasonName the text that the code table
	// gives for Reason, the raw code.
	Type       string `json:"type,omitempty"`
	Reason     string `json:"reason,omitempty"`
	ReasonName string `json:"reason_name,omitempty"`
	// State and UnitMode are the PackML state and unit mode that it came with,
	// where the machine has them.
	State    string `json:"state,omitempty"`
	UnitMode string `json:"unit_mode,omitempty"`
	// Since is, on a start, when the stop began; Duration is its length.
	Since    time.Time `json:"since,omitzero"`
	Duration Seconds   `json:"duration,omitempty"`
	// Gap is how long nobody had looked when the state was seen changed: the
	// true time lies within it.
	Gap          Seconds `json:"gap,omitempty"`
	MicroStops   int64   `json:"micro_stops,omitempty"`
	MicroSeconds Seconds `json:"micro_seconds,omitempty"`
	// MissedStops began and ended within the gap, by the PLC's own counter, and
	// MissedSeconds is how long the machine stood within it as far as no Duration
	// says so. LowerBound: there were at least so many, since the PLC's counter
	// began anew.
	MissedStops   int64   `json:"missed_stops,omitempty"`
	MissedSeconds Seconds `json:"missed_seconds,omitempty"`
	LowerBound    bool    `json:"lower_bound,omitempty"`
}

// Reason is the data of a KindReason event: the reason of a stop that was
// already reported became known or changed.
type Reason struct {
	Head
	StopID     uint64 `json:"stop_id"`
	Type       string `json:"type"`
	Reason     string `json:"reason"`
	ReasonName string `json:"reason_name,omitempty"`
}

// Parameter is one process value. Value is a JSON number, bool or string.
type Parameter struct {
	Code    string          `json:"code"`
	Value   json.RawMessage `json:"value"`
	Unit    string          `json:"unit,omitempty"`
	Quality string          `json:"quality"`
	Time    time.Time       `json:"time"`
	// What follows is of an interval, From…To; Value is then the newest in it.
	// Min, Max and Mean are JSON numbers; the mean weighs each value by how long it
	// held. Seconds is how much of the interval was observed, and Samples how many
	// values were read in it.
	From    time.Time       `json:"from,omitzero"`
	To      time.Time       `json:"to,omitzero"`
	Min     json.RawMessage `json:"min,omitempty"`
	Max     json.RawMessage `json:"max,omitempty"`
	Mean    json.RawMessage `json:"mean,omitempty"`
	Samples int64           `json:"samples,omitempty"`
	Seconds Seconds         `json:"seconds,omitempty"`
}

// Parameters is the data of a KindParameters event.
type Parameters struct {
	Head
	// At is "start" or "stop" for the values that the machine had when it started
	// or stopped; StopID is then that of the start or stop.
	At         string      `json:"at,omitempty"`
	StopID     uint64      `json:"stop_id,omitempty"`
	Parameters []Parameter `json:"parameters"`
}

// Totals are the pieces made on one order.
type Totals struct {
	Good   int64        `json:"good"`
	Scrap  []ScrapTotal `json:"scrap,omitempty"`
	Rework int64        `json:"rework,omitempty"`
}

// ScrapTotal is the scrap of one code.
type ScrapTotal struct {
	Code     string `json:"code"`
	Quantity int64  `json:"quantity"`
}

// DoseTotal is what went in of one component.
type DoseTotal struct {
	Component string  `json:"component"`
	Quantity  Decimal `json:"quantity"`
	Unit      string  `json:"unit"`
	// Doses is how many doses they were; drift is none.
	Doses int64 `json:"doses"`
}

// OrderEvent is the data of a KindOrder event: what the machine works on
// changed. Its Head has the next order.
type OrderEvent struct {
	Head
	// Previous is the order that ended, nil for none; Next the one that began.
	Previous *Order `json:"previous,omitempty"`
	Next     *Order `json:"next,omitempty"`
	// Since is when the previous order began, and Totals what was made on it.
	Since  time.Time `json:"since,omitzero"`
	Totals *Totals   `json:"totals,omitempty"`
	By     string    `json:"by,omitempty"`
	// Planned is how many are to be made on the next order, nil if nobody said;
	// PreviousPlanned the same of the one that ended.
	Planned         *Decimal `json:"planned,omitempty"`
	PreviousPlanned *Decimal `json:"previous_planned,omitempty"`
	// RunSeconds and StopSeconds are how long the machine ran and stood on the order
	// that ended, Stops how often it stopped.
	RunSeconds  Seconds `json:"run_seconds,omitempty"`
	StopSeconds Seconds `json:"stop_seconds,omitempty"`
	Stops       int64   `json:"stops,omitempty"`
	// Doses are what went in on the order that ended.
	Doses []DoseTotal `json:"doses,omitempty"`
}

// ModeCause says, for programs, why a machine is used for something else. The
// set is closed within a version of the kind.
type ModeCause string

// The causes.
const (
	// ModeSet: somebody said so.
	ModeSet ModeCause = "set"
	// ModeOver: the time for which a mode was set is over.
	ModeOver ModeCause = "over"
	// ModeConfig: the config names another mode than before.
	ModeConfig ModeCause = "config"
)

// ModeEvent is the data of a KindMode event: the machine is used for something
// else from now on. Its Head has the mode that began.
type ModeEvent struct {
	Head
	// Previous is the mode that ended, and Since when it began; zero for one that
	// was there from the first.
	Previous Mode      `json:"previous"`
	Since    time.Time `json:"since,omitzero"`
	// Cause is why; By names who said so.
	Cause ModeCause `json:"cause"`
	By    string    `json:"by,omitempty"`
	// Until is when the mode ends by itself, zero for not at all.
	Until time.Time `json:"until,omitzero"`
}

// GapCause says, for programs, why something is missing. The set is closed
// within a version of the kind.
type GapCause string

// The causes. The first two are of readings that never became events; the
// others are of events that the buffer had recorded.
const (
	// GapMailbox: readings were lost while commits waited for the disk.
	GapMailbox GapCause = "mailbox"
	// GapUnread: the PLC offered records that nobody read in time.
	GapUnread GapCause = "unread"
	// GapDamaged: the record is there and cannot be read.
	GapDamaged GapCause = "damaged"
	// GapMissing: the record is gone from between others.
	GapMissing GapCause = "missing"
	// GapLostTail: the newest records are gone.
	GapLostTail GapCause = "lost_tail"
	// GapRestoredCopy: the store is an older one than what was used last.
	GapRestoredCopy GapCause = "restored_copy"
	// GapEvicted: deleted before it was delivered, to make room.
	GapEvicted GapCause = "evicted"
	// GapRefused: a receiver refused them, and what was kept of them was given up
	// since there were too many.
	GapRefused GapCause = "refused"
	// GapMarkLost: what tells whether the newest records are missing is gone, so
	// that it is not known.
	GapMarkLost GapCause = "mark_lost"
)

// GapCauses returns every cause of this version.
func GapCauses() []GapCause {
	return []GapCause{GapMailbox, GapUnread, GapDamaged, GapMissing, GapLostTail, GapRestoredCopy, GapEvicted, GapRefused, GapMarkLost}
}

// GapData is the data of a KindGap event: what is known to be missing.
type GapData struct {
	Head
	// First and Last are the sequences of missing events; 0 where readings are
	// missing that never became events. All missing ones lie between the two; not
	// all between the two are missing if Count is smaller.
	First Sequence `json:"first,omitempty"`
	Last  Sequence `json:"last,omitempty"`
	// Count is how many are missing, 0 where it is not known or where no event
	// but the state of the machine's rules is lost.
	Count  uint64   `json:"count"`
	Device DeviceID `json:"device,omitempty"`
	// Cause is for programs, Reason for people.
	Cause  GapCause `json:"cause,omitempty"`
	Reason string   `json:"reason"`
	// Kinds is how many of each kind are missing, where that is known.
	Kinds map[EventKind]uint64 `json:"kinds,omitempty"`
	// Delivered is set if every uplink had had the missing events: they are
	// missing only where they would be sent again.
	Delivered bool `json:"delivered,omitempty"`
	// Uplinks are those that had not had the missing events; absent where that
	// holds for all, or is not known.
	Uplinks []string `json:"uplinks,omitempty"`
	// Pieces says how many the missing counter events told, where that is known.
	Pieces *GapPieces `json:"pieces,omitempty"`
}

// GapPieces are the pieces of missing counter events: good, scrap and rework. All
// of them lie between two cumulative counts of the machine.
type GapPieces struct {
	// From is the cumulative count before the first missing event, To that after the
	// last one.
	From int64 `json:"from"`
	To   int64 `json:"to"`
	// Count is how many are missing; less than To - From if events in between are not
	// missing.
	Count int64 `json:"count"`
}

// StoreGapKey is the key among a machine's kept values by which the store tells
// the rules of a loss that it has recorded as a gap: the next counter event is
// a rebase. The rules delete it with the commit that takes note of it.
const StoreGapKey = "store_gap"

// Alarm is the data of a KindAlarm event: something a person should look at
// was raised or has cleared.
type Alarm struct {
	Head
	// Alarm names the condition and what it is about, for example
	// "counter_suspect:total"; raised and cleared carry the same.
	Alarm  string `json:"alarm"`
	Raised bool   `json:"raised"`
	Text   string `json:"text"`
	Remedy string `json:"remedy,omitempty"`
	// Fields are, of a handshake record that was refused, all that came.
	Fields []Field `json:"fields,omitempty"`
}

// Observed is the data of a KindObserved event: whether somebody looks at the
// machine.
type Observed struct {
	Head
	Observed bool `json:"observed"`
	// Since is when the machine was seen last (or, once back, not seen first).
	Since  time.Time `json:"since"`
	Device DeviceID  `json:"device"`
	Cause  string    `json:"cause,omitempty"`
}

// SchemaURI returns the name by which events of that kind and version call their schema,
// for CloudEvents' dataschema; Schema returns the text itself.
func SchemaURI(kind EventKind, version uint8) string {
	return "urn:sluice:schema:" + string(kind) + ":v" + strconv.Itoa(int(version))
}

func schemaFile(kind EventKind, version uint8) string {
	return strings.Join([]string{"schema/", string(kind), ".v", strconv.Itoa(int(version)), ".json"}, "")
}
