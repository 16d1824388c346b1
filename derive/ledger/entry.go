// Package ledger keeps the books of material: what came in, what was refilled,
// what was consumed for which order and lot, and what must be left. It is a
// projection: a reader of the recorded events with a cursor of its own, whose
// rows are committed together with the cursor, so that each event is booked
// once. The same events always give the same books, and Check proves it.
package ledger

import (
	"cmp"
	"encoding/json"
	"fmt"

	"github.com/sluice-edge/sluice/plant"
)

// Entry is one line of the books: by how much the stock of a lot at a location
// changed. A transfer is two entries whose sum is zero.
type Entry struct {
	Component, Lot, Location string
	// Quantity is what the location gained, negative for what it lost.
	Quantity plant.Decimal
	Unit     string
	// Use is set for what was consumed, by Order and for Purpose.
	Use            bool
	Order, Purpose string
	// Estimated: worked out, not weighed.
	Estimated bool
}

// Moves reports whether events of a kind move material.
func Moves(k plant.EventKind) bool {
	return k == plant.KindDosing || k == plant.KindRefill || k == plant.KindRemoval || k == plant.KindReceipt
}

// Carries reports whether the ledger reads events of a kind: those that move
// material, correct what was booked, or say that some of them are missing.
func Carries(k plant.EventKind) bool {
	return Moves(k) || k == plant.KindCorrection || k == plant.KindGap
}

// Entries returns what an event does to the books, appended to dst. It is pure.
// An event that moves no material has no entries; the error says why one that
// should have some cannot be booked.
func Entries(dst []Entry, e *plant.Event) ([]Entry, error) {
	switch e.Kind {
	case plant.KindDosing:
		return dosing(dst, e)
	case plant.KindRefill, plant.KindRemoval, plant.KindReceipt:
		return movement(dst, e)
	case plant.KindCorrection:
		return correction(dst, e)
	}
	return dst, nil
}

// dosing books a dose lot by lot; what no lot covers is booked without one.
func dosing(dst []Entry, e *plant.Event) ([]Entry, error) {
	var d plant.Dosing
	if err := json.Unmarshal(e.Data, &d); err != nil {
		return dst, fmt.Errorf("the dose cannot be read: %w", err)
	}
	in := Entry{Component: d.Component, Location: cmp.Or(d.Location, d.Scale), Unit: d.Unit, Use: true, Order: number(d.Order), Purpose: d.Purpose, Estimated: d.Estimated}
	rest := d.Quantity
	for _, part := range d.Lots {
		var err error
		if rest, err = rest.Sub(part.Quantity); err != nil {
			return dst, fmt.Errorf("the lots of the dose do not add up: %w", err)
		}
		in.Lot, in.Quantity = part.Lot, part.Quantity.Neg()
		dst = append(dst, in)
	}
	if !rest.IsZero() || len(d.Lots) == 0 {
		in.Lot, in.Quantity = "", rest.Neg()
		dst = append(dst, in)
	}
	return dst, nil
}

// number is the number of an order, empty for none.
func number(o *plant.Order) string {
	if o == nil {
		return ""
	}
	return o.Number
}

// movement books a refill as a transfer to its location from the component's
// stock that lies nowhere in particular, so that it changes no sum; what arrived
// or left without being dosed changes the location alone.
func movement(dst []Entry, e *plant.Event) ([]Entry, error) {
	var m plant.Movement
	if err := json.Unmarshal(e.Data, &m); err != nil {
		return dst, fmt.Errorf("the %s cannot be read: %w", e.Kind, err)
	}
	in := Entry{Component: m.Component, Lot: m.Lot, Location: cmp.Or(m.Location, m.Scale), Quantity: m.Quantity, Unit: m.Unit, Estimated: m.Estimated}
	switch e.Kind {
	case plant.KindRemoval:
		in.Quantity = in.Quantity.Neg()
	case plant.KindRefill:
		from := in
		from.Location, from.Quantity = "", in.Quantity.Neg()
		dst = append(dst, from)
	}
	return append(dst, in), nil
}

// correction books by how much a stock was found to differ, as an entry of its
// own: what was booked before stays. One of pieces moves no material.
func correction(dst []Entry, e *plant.Event) ([]Entry, error) {
	var c plant.CorrectionEvent
	if err := json.Unmarshal(e.Data, &c); err != nil {
		return dst, fmt.Errorf("the correction cannot be read: %w", err)
	}
	if m := c.Material; m != nil {
		dst = append(dst, Entry{Component: m.Component, Lot: m.Lot, Location: m.Location, Quantity: m.Quantity, Unit: m.Unit})
	}
	return dst, nil
}

// base returns a quantity in the unit that the books are kept in: kilograms for
// a weight, as it is for anything else.
func base(quantity plant.Decimal, unit string) (plant.Decimal, string, error) {
	u, ok := plant.ParseMassUnit(unit)
	if !ok {
		return quantity, unit, nil
	}
	in, err := u.Convert(quantity, plant.Kilogram)
	return in, string(plant.Kilogram), err
}
