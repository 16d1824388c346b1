package uplink

import "github.com/sluice-edge/sluice/plant"

// Stock is what the gateway's books say must be left of one component, wherever
// it is.
type Stock struct {
	// Amounts are its sums, one for each unit that it was booked in, also those of
	// zero; none if no event has ever moved it.
	Amounts []Amount
	// Booked is up to where the events of the machine that asked are in them.
	Booked plant.Sequence
	// Lacking says in words which events are not in the books; empty for none.
	Lacking string
}

// Amount is a quantity in a unit.
type Amount struct {
	Quantity plant.Decimal
	Unit     string
}
