package ledger

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"

	"github.com/sluice-edge/sluice/plant"
)

// ErrBusy says that the books are being written, and are to be asked again in a
// moment. Nobody waits for that in Total: while the disk is full it may last.
var ErrBusy = errors.New("ledger: the books are being written")

// Total is what the books say must be left of one component, wherever it is.
type Total struct {
	// Lines are its sums, one for each unit, in order and also those of zero; none if
	// no event has ever moved the component.
	Lines []StockLine
	// Booked is up to where the events of one machine are in them.
	Booked plant.Sequence
	// Lacking are the machines that move material and in whose books events are
	// missing.
	Lacking []Verdict
}

// Total returns the stock of a component, and up to where the events of a machine
// are in it: never half an event, since nothing is booked meanwhile. It blocks on
// disk reads and may be called from any goroutine. ErrBusy is for later.
func (k *Keeper) Total(ctx context.Context, component string, m plant.MachineID) (Total, error) {
	if !k.turn.TryLock() {
		return Total{}, ErrBusy
	}
	defer k.turn.Unlock()
	total := Total{Booked: k.store.Settled(m)}
	var sum summed[StockLine]
	moves := make(map[plant.MachineID]bool)
	err := k.walk(ctx, rowStock, func(p *parser, value []byte) error {
		moves[plant.MachineID(p.text())] = true
		at := p.place()
		if err := p.end(); err != nil || at.component != component {
			return err
		}
		var row stock
		if err := json.Unmarshal(value, &row); err != nil {
			return err
		}
		return sum.add(StockLine{Component: component, Unit: at.unit}, func(l *StockLine) (err error) {
			l.Quantity, err = add(l.Quantity, row.Quantity)
			return err
		})
	})
	if err != nil {
		return Total{}, err
	}
	slices.SortFunc(sum.lines, func(a, b StockLine) int { return cmp.Compare(a.Unit, b.Unit) })
	total.Lines = sum.lines
	missing, err := k.Missing(ctx)
	total.Lacking = slices.DeleteFunc(missing, func(v Verdict) bool { return !moves[v.Machine] })
	return total, err
}
