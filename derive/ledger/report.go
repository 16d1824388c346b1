package ledger

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// StockLine is how much of a lot lies at a location, by the books.
type StockLine struct {
	Component string          `json:"component"`
	Lot       string          `json:"lot,omitempty"`
	Location  string          `json:"location,omitempty"`
	Machine   plant.MachineID `json:"machine,omitempty"`
	Quantity  plant.Decimal   `json:"quantity"`
	Unit      string          `json:"unit,omitempty"`
}

// UseLine is what was consumed of a component.
type UseLine struct {
	// From is the beginning of the hour; zero where hours are summed up.
	From      time.Time       `json:"from,omitzero"`
	Component string          `json:"component"`
	Order     string          `json:"order,omitempty"`
	Lot       string          `json:"lot,omitempty"`
	Purpose   string          `json:"purpose,omitempty"`
	Machine   plant.MachineID `json:"machine,omitempty"`
	Quantity  plant.Decimal   `json:"quantity"`
	// Estimated is the part of Quantity that was worked out, not weighed.
	Estimated plant.Decimal `json:"estimated,omitzero"`
	Unit      string        `json:"unit,omitempty"`
	// Doses is how many entries it is the sum of.
	Doses uint64 `json:"doses"`
}

// Detail says which columns lines are told apart by; what is false is summed up.
type Detail struct{ Lot, Location, Order, Purpose, Machine, Hour bool }

// Stock returns the stock of each component, in order, without lines of zero. It
// blocks on disk reads and may be called from any goroutine.
func (k *Keeper) Stock(ctx context.Context, by Detail) ([]StockLine, error) {
	var sum summed[StockLine]
	err := k.walk(ctx, rowStock, func(p *parser, value []byte) error {
		line := StockLine{Machine: plant.MachineID(p.text())}
		at := p.place()
		var row stock
		if err := cmp.Or(p.end(), json.Unmarshal(value, &row)); err != nil {
			return err
		}
		line.Component, line.Unit = at.component, at.unit
		if by.Lot {
			line.Lot = at.lot
		}
		if by.Location {
			line.Location = at.location
		}
		if !by.Machine {
			line.Machine = ""
		}
		return sum.add(line, func(l *StockLine) (err error) { l.Quantity, err = add(l.Quantity, row.Quantity); return err })
	})
	lines := slices.DeleteFunc(sum.lines, func(l StockLine) bool { return l.Quantity.IsZero() })
	slices.SortFunc(lines, func(a, b StockLine) int {
		return cmp.Or(cmp.Compare(a.Component, b.Component), cmp.Compare(a.Lot, b.Lot), cmp.Compare(a.Location, b.Location), cmp.Compare(a.Machine, b.Machine), cmp.Compare(a.Unit, b.Unit))
	})
	return lines, err
}

// Consumption returns what was consumed from a time on (zero: ever) to before
// another (zero: now). The books count by the hour, so both are taken down to
// their hour. It blocks on disk reads and may be called from any goroutine.
func (k *Keeper) Consumption(ctx context.Context, from, to time.Time, by Detail) ([]UseLine, error) {
	var sum summed[UseLine]
	err := k.walk(ctx, rowUse, func(p *parser, value []byte) error {
		line := UseLine{Machine: plant.MachineID(p.text())}
		p.number()
		hour := int64(p.number())
		line.Component, line.Unit, line.Order, line.Lot, line.Purpose = p.text(), p.text(), p.text(), p.text(), p.text()
		var row use
		if err := cmp.Or(p.end(), json.Unmarshal(value, &row)); err != nil {
			return err
		}
		if !from.IsZero() && hour < from.Unix()/3600 || !to.IsZero() && hour >= to.Unix()/3600 {
			return nil
		}
		line.keep(by, hour)
		return sum.add(line, func(l *UseLine) (err error) {
			l.Doses += row.Doses
			if l.Estimated, err = add(l.Estimated, row.Estimated); err == nil {
				l.Quantity, err = add(l.Quantity, row.Quantity)
			}
			return err
		})
	})
	slices.SortFunc(sum.lines, func(a, b UseLine) int {
		return cmp.Or(a.From.Compare(b.From), cmp.Compare(a.Component, b.Component), cmp.Compare(a.Order, b.Order), cmp.Compare(a.Lot, b.Lot),
			cmp.Compare(a.Purpose, b.Purpose), cmp.Compare(a.Machine, b.Machine), cmp.Compare(a.Unit, b.Unit))
	})
	return sum.lines, err
}

// keep empties the columns that are summed up.
func (l *UseLine) keep(by Detail, hour int64) {
	if by.Hour {
		l.From = time.Unix(hour*3600, 0).UTC()
	}
	for _, column := range []struct {
		keep bool
		text *string
	}{{by.Order, &l.Order}, {by.Lot, &l.Lot}, {by.Purpose, &l.Purpose}, {by.Machine, (*string)(&l.Machine)}} {
		if !column.keep {
			*column.text = ""
		}
	}
}

// summed collects lines by their columns.
type summed[L comparable] struct {
	lines []L
	at    map[L]int
}

// add adds a row to the line with those columns, whose sums are zero.
func (s *summed[L]) add(line L, row func(*L) error) error {
	if s.at == nil {
		s.at = map[L]int{}
	}
	i, ok := s.at[line]
	if !ok {
		i = len(s.lines)
		s.at[line] = i
		s.lines = append(s.lines, line)
	}
	return row(&s.lines[i])
}

// walk calls do for every row of a sort, with its key behind the letter.
func (k *Keeper) walk(ctx context.Context, row byte, do func(p *parser, value []byte) error) error {
	var bad error
	err := k.store.Each(ctx, string(row), func(kv plant.KV) bool {
		if err := do(&parser{rest: []byte(kv.Key[1:])}, kv.Value); err != nil {
			bad = fmt.Errorf("%w: %s: %w", errRow, describe(kv.Key), err)
		}
		return bad == nil
	})
	if errors.Is(err, plant.ErrUnreadable) || bad != nil {
		return fmt.Errorf("%w: sluice ledger check names such rows, and with --mend --reason \"...\" puts them right", cmp.Or(bad, err))
	}
	return err
}

// Missing names the machines whose books lack events: lost ones, and such as
// could not be booked.
func (k *Keeper) Missing(ctx context.Context) (all []Verdict, err error) {
	err = k.walk(ctx, rowHead, func(p *parser, value []byte) error {
		v := Verdict{Machine: plant.MachineID(p.text())}
		var h head
		if err := cmp.Or(p.end(), json.Unmarshal(value, &h)); err != nil {
			return err
		}
		if v.Missing, v.Unbooked, v.Reason = h.Missing, h.Unbooked, h.Reason; h.Missing+h.Unbooked > 0 {
			all = append(all, v)
		}
		return nil
	})
	return all, err
}

// describe says which row a key is, for people.
func describe(key string) string {
	p := parser{rest: []byte(key[1:])}
	machine := p.text()
	var parts []string
	at := func() {
		w := p.place()
		parts = append(parts, w.component, w.lot, w.location, w.unit)
	}
	what := "?"
	switch key[0] {
	case rowHead:
		what = "head"
	case rowDay:
		what = "day " + strconv.FormatUint(p.number(), 10)
	case rowStock:
		what = "stock"
		at()
	case rowOpening:
		what = "stock before day " + strconv.FormatUint(p.number(), 10)
		at()
	case rowUse:
		what = "use on day " + strconv.FormatUint(p.number(), 10) + ", " + time.Unix(int64(p.number())*3600, 0).UTC().Format("2006-01-02 15h")
		for range 5 {
			parts = append(parts, p.text())
		}
	}
	return strings.TrimRight(machine+": "+what+" "+strings.Join(parts, "/"), " ")
}
