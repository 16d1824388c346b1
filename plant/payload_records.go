package plant

import "time"

// Tolerance is how far a dose may be off its target, in Unit.
type Tolerance struct {
	Minus Decimal `json:"minus"`
	Plus  Decimal `json:"plus"`
	Unit  string  `json:"unit,omitempty"`
}

// DosedLot is the part of a dose that came from one lot.
type DosedLot struct {
	Lot      string  `json:"lot"`
	Quantity Decimal `json:"quantity"`
}

// Weights are what the scale showed before and after a dose.
type Weights struct {
	Before Decimal `json:"before"`
	After  Decimal `json:"after"`
}

// Dosing is the data of a KindDosing event: material went in. Amounts are exact
// decimals in Unit.
type Dosing struct {
	Head
	// Component is the material definition; empty if the record names none,
	// which is flagged.
	Component string  `json:"component"`
	Quantity  Decimal `json:"quantity"`
	Unit      string  `json:"unit,omitempty"`
	// Target is what was asked for, Deviation Quantity − Target.
	Target      *Decimal   `json:"target,omitempty"`
	Deviation   *Decimal   `json:"deviation,omitempty"`
	Tolerance   *Tolerance `json:"tolerance,omitempty"`
	InTolerance *bool      `json:"in_tolerance,omitempty"`
	// Status is "complete" or "aborted"; Purpose "production", "purge",
	// "calibration" or "manual".
	Status  string     `json:"status"`
	Purpose string     `json:"purpose"`
	Started time.Time  `json:"started,omitzero"`
	Ended   time.Time  `json:"ended,omitzero"`
	Lots    []DosedLot `json:"lots,omitempty"`
	// Recipe, Batch, ProcessUnit and Phase are those of ISA-88.
	Recipe      string `json:"recipe,omitempty"`
	Batch       string `json:"batch,omitempty"`
	ProcessUnit string `json:"process_unit,omitempty"`
	Phase       string `json:"phase,omitempty"`
	Scale       string `json:"scale,omitempty"`
	// Method is how the dose was found, for example "handshake".
	Method string `json:"method"`
	// Dose is the PLC's own number of the dose, as it writes it.
	Dose    string   `json:"dose,omitempty"`
	Weights *Weights `json:"weights,omitempty"`
	// Estimated: worked out, not weighed. Drift: the sum of what was too small
	// to be doses; it is below 0 where the weight rose.
	Estimated bool `json:"estimated,omitempty"`
	Drift     bool `json:"drift,omitempty"`
	// Flagged names what a person should look at, for example "component".
	Flagged []string `json:"flagged,omitempty"`
	// Location is the hopper or vessel that it was dosed from or into.
	Location string `json:"location,omitempty"`
	// Gap to Suspect are the markers of a total, as those of Counter.
	Gap        Seconds `json:"gap,omitempty"`
	Reset      bool    `json:"reset,omitempty"`
	Rollover   bool    `json:"rollover,omitempty"`
	LowerBound bool    `json:"lower_bound,omitempty"`
	Ambiguous  bool    `json:"ambiguous,omitempty"`
	Suspect    bool    `json:"suspect,omitempty"`
}

// The actions of Serial and ItemAttach events. An attach is never updated.
const (
	ActionAdd    = "add"
	ActionUpdate = "update"
	ActionRemove = "remove"
)

// Serial is the data of a KindSerial event: a unit with a serial number came,
// changed or went. Its key is SKU and Serial together.
type Serial struct {
	Head
	// Action is ActionAdd, ActionUpdate or ActionRemove.
	Action string `json:"action"`
	Serial string `json:"serial"`
	// OldSerial is, on an update, what the unit was called before.
	OldSerial string `json:"old_serial,omitempty"`
	SKU       string `json:"sku,omitempty"`
	Station   string `json:"station,omitempty"`
	// Pass counts the passes through the station, from 1. From 2 on the action
	// is ActionUpdate.
	Pass int `json:"pass,omitempty"`
	// Flagged names what a person should look at: "order" if the unit was seen
	// under another order before.
	Flagged []string `json:"flagged,omitempty"`
}

// AttachedItem is a component of a unit.
type AttachedItem struct {
	SKU      string   `json:"sku"`
	Quantity *Decimal `json:"quantity,omitempty"`
	Unit     string   `json:"unit,omitempty"`
	Serial   string   `json:"serial,omitempty"`
	Order    string   `json:"order,omitempty"`
	Lot      string   `json:"lot,omitempty"`
}

// ItemAttach is the data of a KindItemAttach event: a component was built into
// a unit, or taken out.
type ItemAttach struct {
	Head
	// Action is ActionAdd or ActionRemove.
	Action string `json:"action"`
	// SKU and Serial are the unit's.
	SKU    string       `json:"sku,omitempty"`
	Serial string       `json:"serial"`
	Item   AttachedItem `json:"item"`
	// AttachID is the rule's own number of the attach, the same on its remove; 0
	// on the remove of an attach that nobody remembers.
	AttachID uint64 `json:"attach_id,omitempty"`
	// Flagged names what a person should look at: "item" if the component is in
	// another unit already, "attach" if it is in none, "repeat" if it may have been
	// told before: the state was lost, and the PLC offered this record still.
	Flagged []string `json:"flagged,omitempty"`
}

// Operation is the data of a KindOperation event: work was done on an order.
type Operation struct {
	Head
	// Action is ActionAdd or ActionRemove.
	Action string `json:"action"`
	// RoutingOperation is the step of the routing, WorkCenter where it was done,
	// Position the place there.
	RoutingOperation string `json:"routing_operation,omitempty"`
	WorkCenter       string `json:"work_center,omitempty"`
	Position         string `json:"position,omitempty"`
	SKU              string `json:"sku,omitempty"`
	// Serial is the unit that was worked on.
	Serial string `json:"serial,omitempty"`
	// Valid and Invalid are how many pieces came out good and how many not. Of
	// the operations that follow from a counter the sums are the deltas of its
	// events: good, and scrap of all codes.
	Valid   *Decimal `json:"valid,omitempty"`
	Invalid *Decimal `json:"invalid,omitempty"`
	// Unattributed: pieces of a gap in which the order changed, so that nobody
	// knows to which order they belong.
	Unattributed bool `json:"unattributed,omitempty"`
	// Flagged names the fields that could not be read; "repeat" as in ItemAttach.
	Flagged []string `json:"flagged,omitempty"`
}

// Field is one field of a record that could not be read, as it came.
type Field struct {
	Tag     TagID  `json:"tag"`
	Value   string `json:"value,omitempty"`
	Quality string `json:"quality"`
	Cause   string `json:"cause,omitempty"`
}
