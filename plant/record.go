package plant

// Trigger says when a device offers a record.
type Trigger uint8

// The triggers.
const (
	// WhileHigh: the trigger tag is true or not 0. The record is read at every
	// Read while it is, so that a record whose acknowledgement was lost comes
	// again.
	WhileHigh Trigger = iota
	// OnChange: the trigger tag, a number or a text, differs from what it was when
	// the record was last read; the first Read of a session counts as a change.
	OnChange
	// WhileUnanswered: the trigger tag differs from Record.Answer. The record is
	// read at every Read while it does. In a ring the trigger is how many records
	// were ever put into the slots, the answer how many of them are kept: a slot
	// is read while its record is one of those between.
	WhileUnanswered
)

// Record is tags of one device that are read together, in one request that is
// sent after the trigger was seen: what a handshake hands over, or an order that
// changes with the counters. Rules ask for it (derive), drivers read it.
type Record struct {
	ID      RecordID
	Device  DeviceID
	Trigger TagID
	On      Trigger
	// Fields are all tags of the record; the Trigger is read with them if it is
	// one of them.
	Fields []TagID
	// Writes are the tags that the rule answers with. They are writable without
	// a word in the device's own config.
	Writes []TagID
	// Answer is the one of Writes that the trigger is compared with for
	// WhileUnanswered.
	Answer TagID
	// Optional says that the rules do without the record where it cannot be had.
	// Nothing is read for it that no tag names and the config does not allow to
	// be read over, and of each change it is read once, whole or not.
	Optional bool
	// Slot is the record's place in a ring of Slots, which is a power of two; a
	// record outside of a ring has none.
	Slot, Slots int
}

// Unanswered reports whether values of good quality of Trigger and Answer say
// that the record is offered. It is of use for WhileUnanswered only, and says
// yes rather than no: the rule knows what it has taken.
func (r *Record) Unanswered(trigger, answer Value) bool {
	offered, ok := trigger.Int()
	kept, known := answer.Int()
	switch {
	case !ok || !known:
		return false
	case r.Slots <= 1:
		return offered != kept
	default:
		behind := (uint64(r.Slot) - uint64(kept)) % uint64(r.Slots)
		return behind < uint64(offered)-uint64(kept)
	}
}
