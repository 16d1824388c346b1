package main

import (
	"context"
	"errors"
	"strings"

	"github.com/sluice-edge/sluice/derive/ledger"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

// errNoBooks is why no stock is known where nothing moves material.
var errNoBooks = errors.New("no machine of this gateway moves material, so there are no books of it")

// stockOf is what the senders ask for the books' word on a component. Books that
// cannot be read know nothing: what they last said may be long past.
func (g *gateway) stockOf(ctx context.Context, component string, m plant.MachineID) (uplink.Stock, error) {
	if g.ledger == nil {
		return uplink.Stock{}, errNoBooks
	}
	if text, _ := g.ledger.Problem(); text != "" {
		return uplink.Stock{}, errors.New("the books of material cannot be read: " + text)
	}
	total, err := g.ledger.Total(ctx, component, m)
	if errors.Is(err, ledger.ErrBusy) {
		return uplink.Stock{}, &uplink.NotYet{Why: err.Error()}
	}
	if err != nil {
		return uplink.Stock{}, err
	}
	s := uplink.Stock{Booked: total.Booked, Lacking: strings.Join(lackingWords(total.Lacking), "; ")}
	for _, l := range total.Lines {
		s.Amounts = append(s.Amounts, uplink.Amount{Quantity: l.Quantity, Unit: l.Unit})
	}
	return s, nil
}
