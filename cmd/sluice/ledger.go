package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/buffer"
	"github.com/sluice-edge/sluice/derive/ledger"
	"github.com/sluice-edge/sluice/internal/admin"
)

// openLedger opens the books of material, nil if no machine of the plan can
// make events for them and the store has none from before.
func openLedger(p *plan, store *buffer.Buffer, log *zap.Logger) (*ledger.Keeper, error) {
	kept := slices.ContainsFunc(store.Stats().Queues, func(q buffer.QueueStats) bool { return q.Uplink == ledger.Name })
	for _, m := range p.Machines {
		for _, k := range m.Kinds() {
			kept = kept || ledger.Moves(k)
		}
	}
	if !kept {
		return nil, nil
	}
	queue, err := store.Queue(ledger.Name, ledger.Carries)
	if err != nil {
		return nil, err
	}
	return ledger.NewKeeper(queue, ledger.Options{}, log.Named("ledger")), nil
}

// ledgerCmd shows the books of material.
type ledgerCmd struct {
	Stock       ledgerStockCmd       `cmd:"" help:"What must be left of each component, by what was recorded."`
	Consumption ledgerConsumptionCmd `cmd:"" help:"What was consumed in a period, of an order, of a lot."`
	Check       ledgerCheckCmd       `cmd:"" help:"Make the books again from the events that are kept, and compare."`
}

// ledgerStockCmd prints the stock.
type ledgerStockCmd struct {
	storeFlag
	By   []string `help:"Tell lots, locations or machines apart." enum:"lot,location,machine" placeholder:"COLUMN"`
	JSON bool     `help:"Print one JSON document."`
}

// Run prints a table.
func (e *ledgerStockCmd) Run(ctx context.Context, c *console) error {
	return e.use(ctx, c, func(a *access) error {
		var s admin.Stock
		if err := a.Get(ctx, "/ledger/stock", url.Values{"by": e.By}, &s); err != nil {
			return err
		}
		if e.JSON {
			return encodeJSON(c.Out, s)
		}
		t := newTable(c.Out, e.By, "COMPONENT", "QUANTITY", "UNIT")
		for _, l := range s.Lines {
			t.line(map[string]string{"lot": l.Lot, "location": l.Location, "machine": string(l.Machine)},
				l.Component, l.Quantity.String(), l.Unit)
		}
		lacking(c.Err, s.Lacking)
		return t.Flush()
	})
}

// ledgerConsumptionCmd prints what was consumed.
type ledgerConsumptionCmd struct {
	storeFlag
	period
	By   []string `help:"Tell orders, lots, purposes, machines or hours apart." enum:"order,lot,purpose,machine,hour" placeholder:"COLUMN"`
	JSON bool     `help:"Print one JSON document."`
}

// Run prints a table.
func (e *ledgerConsumptionCmd) Run(ctx context.Context, c *console) error {
	return e.use(ctx, c, func(a *access) error {
		zone := a.plan.Config.Site.Location()
		from, to, err := e.times(zone)
		if err != nil {
			return err
		}
		q := url.Values{"by": e.By}
		for name, t := range map[string]time.Time{"from": from, "to": to} {
			if !t.IsZero() {
				q.Set(name, t.UTC().Format(time.RFC3339Nano))
			}
		}
		var s admin.Consumption
		if err := a.Get(ctx, "/ledger/consumption", q, &s); err != nil {
			return err
		}
		if e.JSON {
			return encodeJSON(c.Out, s)
		}
		t := newTable(c.Out, e.By, "COMPONENT", "QUANTITY", "UNIT", "ESTIMATED", "DOSES")
		for _, l := range s.Lines {
			t.line(map[string]string{
				"order": l.Order, "lot": l.Lot, "purpose": l.Purpose, "machine": string(l.Machine), "hour": l.From.In(zone).Format("2006-01-02 15:04"),
			}, l.Component, l.Quantity.String(), l.Unit, l.Estimated.String(), strconv.FormatUint(l.Doses, 10))
		}
		lacking(c.Err, s.Lacking)
		return t.Flush()
	})
}

// ledgerCheckCmd compares the books with the events.
type ledgerCheckCmd struct {
	storeFlag
	Machine string `help:"Only this machine." short:"m"`
	Mend    bool   `help:"Put right what differs."`
	Reason  string `help:"Why; it is kept in the audit log. Needed with --mend."`
	JSON    bool   `help:"Print one JSON document."`
}

// Run fails if the books are not what the events lead to and stay so.
func (e *ledgerCheckCmd) Run(ctx context.Context, c *console) error {
	return e.use(ctx, c, func(a *access) error {
		var b admin.Books
		if err := a.Post(ctx, "/ledger/check", map[string]any{"machine": e.Machine, "mend": e.Mend, "reason": e.Reason}, &b); err != nil {
			return err
		}
		if e.JSON {
			if err := encodeJSON(c.Out, b); err != nil {
				return err
			}
		}
		wrong := 0
		for _, m := range b.Machines {
			if !m.Mended {
				wrong += len(m.Differences)
			}
			if e.JSON {
				continue
			}
			fmt.Fprintf(c.Out, "%s: %d of %d days made again from %s: ", plain(string(m.Machine)), m.Days, m.Kept, count(int(m.Events), "event"))
			switch {
			case len(m.Differences) == 0:
				fmt.Fprintln(c.Out, "the books are the same")
			case m.Mended:
				fmt.Fprintf(c.Out, "%s put right\n", count(len(m.Differences), "row"))
			default:
				fmt.Fprintf(c.Out, "%s differ\n", count(len(m.Differences), "row"))
			}
			for _, d := range m.Differences {
				fmt.Fprintf(c.Out, "  %s\n    books  %s\n    events %s\n", plain(d.Row), plain(d.Stored), plain(d.Events))
				if d.Lost != "" {
					fmt.Fprintf(c.Out, "    lost   %s\n", plain(d.Lost))
				}
			}
		}
		if !e.JSON {
			lacking(c.Err, b.Machines)
		}
		if wrong > 0 {
			return errors.New("the books are not what the events lead to: sluice ledger check --mend --reason \"...\" puts them right")
		}
		return nil
	})
}

// lacking names machines of whose events some are not in the books.
func lacking(out io.Writer, all []ledger.Verdict) {
	for _, words := range lackingWords(all) {
		fmt.Fprintln(out, "sluice:", plain(words))
	}
}

// lackingWords says which events are not in the books.
func lackingWords(all []ledger.Verdict) (words []string) {
	for _, v := range all {
		if v.Missing > 0 {
			words = append(words, fmt.Sprintf("%s: %s of it were lost before they could be booked; sluice events export --kind gap names them", v.Machine, count(int(v.Missing), "event")))
		}
		if v.Unbooked > 0 {
			words = append(words, fmt.Sprintf("%s: %s of it could not be booked, the newest because %s", v.Machine, count(int(v.Unbooked), "event"), v.Reason))
		}
	}
	return words
}

// table prints lines whose first columns are chosen.
type table struct {
	*tabwriter.Writer
	by []string
}

func newTable(out io.Writer, by []string, columns ...string) *table {
	t := &table{Writer: tabwriter.NewWriter(out, 0, 0, 2, ' ', 0), by: by}
	heads := map[string]string{}
	for _, name := range by {
		heads[name] = strings.ToUpper(name)
	}
	t.line(heads, columns...)
	return t
}

func (t *table) line(chosen map[string]string, rest ...string) {
	for _, name := range t.by {
		fmt.Fprintf(t, "%s\t", plain(chosen[name]))
	}
	for _, text := range rest {
		fmt.Fprintf(t, "%s\t", plain(text))
	}
	fmt.Fprintln(t)
}
