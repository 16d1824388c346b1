package plant

import "time"

// MaterialEntry is what a person, a scanner or a system says about material.
type MaterialEntry struct {
	At time.Time
	// Kind is KindMaterial (loaded onto Location), KindRefill, KindRemoval or
	// KindReceipt (arrived at the plant).
	Kind EventKind
	// Location is the hopper, feeder or reel, or for a receipt the store.
	Location, Component, Lot string
	// Quantity is in Unit; 0 for material of which nobody says how much it is.
	Quantity Decimal
	Unit     string
	// By names who said so.
	By string
}

// When implements Input.
func (e MaterialEntry) When() time.Time { return e.At }

func (MaterialEntry) input() {}
