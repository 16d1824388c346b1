package plant

// Trigger says when a device offers a record.
type Trigger uint8

// The triggers.
const (
	// WhileHigh: the trigger tag is true or not 0. The record is read at every
	// Read while it is, so that a record whose acknowledgement was lost comes
	// again.
	WhileHigh Trigger = iota
	// OnChange: the trigger tag, a number, differs from what it was at the last
	// Read; the first Read of a session counts as a change.
	OnChange
)

// Record is a handshake record: tags of one device that are read together, in
// one request that is sent after the trigger was seen. Rules ask for it
// (derive), drivers read it.
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
}
