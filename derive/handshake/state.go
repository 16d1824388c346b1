package handshake

import (
	"time"

	"github.com/sluice-edge/sluice/plant"
)

const (
	// Maybe begins State.Told where the next record may as well be another one that is
	// equal: it is told, and flagged Repeat.
	Maybe = "?"
	// Repeat is what a record is flagged that may have been told before.
	Repeat = "repeat"
)

// State is what a handshake remembers.
type State struct {
	// Binding ties it to its tags.
	Binding string `json:"b,omitempty"`
	// Content is the record that was answered last, for as long as its trigger
	// has not been seen low; Refused if the answer was no.
	Content string `json:"c,omitempty"`
	Refused bool   `json:"r,omitempty"`
	// Number is the PLC's number of the newest record that was taken, Phase the
	// level of a toggle that offered it.
	Number string `json:"n,omitempty"`
	Phase  int64  `json:"ph,omitempty"`
	// Wait is what was read but not believed yet.
	Wait *Waiting `json:"w,omitempty"`
	// Older is set while this may be of before the newest record: the store has
	// lost what it had last. How many records nobody read is not known then.
	Older bool `json:"od,omitempty"`
	// Told is what the newest event says of its record, since the state that knew the
	// record is gone: until the first one is taken, or the trigger is low, it may be
	// the one that the PLC offers still. Empty for none; where several equal records
	// may follow each other it begins with Maybe.
	Told string `json:"to,omitempty"`
	// Alarmed is set since a record was refused, until one is taken; Why says what
	// was wrong with the newest of them.
	Alarmed bool   `json:"a,omitempty"`
	Why     string `json:"y,omitempty"`
	// Taken and Unreadable count the records, for people.
	Taken      uint64 `json:"t,omitempty"`
	Unreadable uint64 `json:"u,omitempty"`

	// Next is the position of the record of a ring that is taken next, once Synced.
	Next   uint64 `json:"nx,omitempty"`
	Synced bool   `json:"sy,omitempty"`
	// LostCount is what the PLC's count of lost records showed last, once
	// LostKnown.
	LostCount int64 `json:"lc,omitempty"`
	LostKnown bool  `json:"lk,omitempty"`

	// What follows is of Session, and read again in the next.
	Session uint64 `json:"s,omitempty"`
	Trigger answer `json:"tr,omitzero"`
	Ack     answer `json:"ak,omitzero"`
	Bad     answer `json:"er,omitzero"`
	Lost    answer `json:"lo,omitzero"`
	// offered is set once Content was read behind its trigger in this session: in
	// no other one is it answered. It is not kept on disk, since sessions begin
	// at 1 again when the gateway does.
	offered bool
	// left is what the PLC has taken back unread, from Seen to Settle.
	left *Waiting
	// wrote is the newest value that was written to the ack; foreign weighs how
	// often it showed one that nobody here wrote, since the newest record.
	wrote   int64
	foreign int
}

// Waiting is a record that is not believed yet. It is never changed in place.
type Waiting struct {
	Content string `json:"c"`
	Reads   int    `json:"n"`
	Since   int64  `json:"t"`
	// Problem and Fields are of one that cannot be read.
	Problem string        `json:"p,omitempty"`
	Fields  []plant.Field `json:"f,omitempty"`
	Number  string        `json:"no,omitempty"`
	Value   int64         `json:"v,omitempty"`
}

// answer is what is known of the trigger or of a tag that is written.
type answer struct {
	Known bool  `json:"k,omitempty"`
	Value int64 `json:"v,omitempty"`
	// written is set once it was cleared in this session without being known.
	written bool
	// owed is set when a record is taken back: its answer may still be on its
	// way, so that what the tag shows says nothing yet.
	owed bool
}

// Shift follows a step of the gateway's clock.
func (s *State) Shift(step time.Duration) {
	if s.Wait != nil {
		moved := *s.Wait
		moved.Since += int64(step)
		s.Wait = &moved
	}
}

// begin notes the session of a scan.
func (s *State) begin(session uint64) {
	if s.Session != session {
		s.Session, s.Trigger, s.Ack, s.Bad, s.Lost, s.offered = session, answer{}, answer{}, answer{}, answer{}, false
	}
}

// suspect looks for another writer of the ack. A PLC that clears it is none.
func (s *State) suspect(before answer) {
	now := &s.Ack
	switch {
	case !now.Known || now.Value == 0 || now.Value == s.wrote:
	case before.Known && before.Value != now.Value:
		s.foreign += foreignChange
	case before.written:
		s.foreign += foreignHeld
	}
}

func (a *answer) note(v *plant.Reading) {
	n, ok := v.Value.Int()
	*a = answer{Known: ok && v.Quality == plant.Good, Value: n, written: a.written, owed: a.owed}
}

// unread reports whether a record waits that cannot be read.
func (s *State) unread() bool { return s.Wait != nil && s.Wait.Problem != "" }

// leave notes that a record that cannot be read is not offered any more, and
// tellLeft says so: it was handed over, and nobody has it.
func (s *State) leave() {
	if s.unread() {
		s.left = s.Wait
	}
}
