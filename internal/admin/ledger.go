package admin

import (
	"context"
	"iter"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/derive/ledger"
	"github.com/sluice-edge/sluice/plant"
)

// Stock is what lies where, by the books.
type Stock struct {
	Lines []ledger.StockLine `json:"lines"`
	// Lacking are machines of whose events some are not in the books.
	Lacking []ledger.Verdict `json:"lacking,omitempty"`
}

// Consumption is what was consumed, by the books.
type Consumption struct {
	Lines   []ledger.UseLine `json:"lines"`
	Lacking []ledger.Verdict `json:"lacking,omitempty"`
}

// Books is what a check of the books found, machine by machine.
type Books struct {
	Machines []ledger.Verdict `json:"machines"`
}

// booksQuery asks for a check of the books, of one machine if it is named.
type booksQuery struct {
	Machine string `json:"machine,omitempty"`
	// Mend puts rows right, for a Reason.
	Mend   bool   `json:"mend,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// columns are what lines can be told apart by.
var columns = map[string]func(*ledger.Detail){
	"lot":      func(d *ledger.Detail) { d.Lot = true },
	"location": func(d *ledger.Detail) { d.Location = true },
	"order":    func(d *ledger.Detail) { d.Order = true },
	"purpose":  func(d *ledger.Detail) { d.Purpose = true },
	"machine":  func(d *ledger.Detail) { d.Machine = true },
	"hour":     func(d *ledger.Detail) { d.Hour = true },
}

// detail reads the columns that are asked for, of those that there are.
func detail(q url.Values, there ...string) (d ledger.Detail, err error) {
	for _, name := range q["by"] {
		if !slices.Contains(there, name) {
			return d, badRequest("lines cannot be told apart by %q: there are %s", name, strings.Join(there, ", "))
		}
		columns[name](&d)
	}
	return d, nil
}

func (s *Server) books() (*ledger.Keeper, error) {
	k, err := s.Ledger()
	if err == nil && k == nil {
		err = notFound("there are no books: no machine of the config doses, refills or receives material")
	}
	return k, err
}

func (s *Server) stock(w http.ResponseWriter, r *http.Request) error {
	k, err := s.books()
	if err != nil {
		return err
	}
	by, err := detail(r.URL.Query(), "lot", "location", "machine")
	if err != nil {
		return err
	}
	var a Stock
	if a.Lines, err = k.Stock(r.Context(), by); err != nil {
		return err
	}
	if a.Lacking, err = k.Missing(r.Context()); err != nil {
		return err
	}
	return answer(w, a)
}

func (s *Server) consumption(w http.ResponseWriter, r *http.Request) error {
	k, err := s.books()
	if err != nil {
		return err
	}
	q := r.URL.Query()
	by, err := detail(q, "order", "lot", "purpose", "machine", "hour")
	if err != nil {
		return err
	}
	var from, to time.Time
	for name, t := range map[string]*time.Time{"from": &from, "to": &to} {
		if text := q.Get(name); text != "" {
			if *t, err = time.Parse(time.RFC3339Nano, text); err != nil {
				return badRequest("%s: %v", name, err)
			}
		}
	}
	var a Consumption
	if a.Lines, err = k.Consumption(r.Context(), from, to, by); err != nil {
		return err
	}
	if a.Lacking, err = k.Missing(r.Context()); err != nil {
		return err
	}
	return answer(w, a)
}

// checkBooks makes the books again from the events and compares.
func (s *Server) checkBooks(w http.ResponseWriter, r *http.Request) error {
	var q booksQuery
	if err := read(r, &q); err != nil {
		return err
	}
	k, err := s.books()
	if err != nil {
		return err
	}
	if q.Mend && strings.TrimSpace(q.Reason) == "" {
		return badRequest("a reason is needed: --reason \"...\"; it is kept in the audit log")
	}
	var a Books
	check := func() error {
		for _, m := range s.Store.Stats().Streams {
			if q.Machine != "" && q.Machine != string(m.Machine) {
				continue
			}
			v, err := k.Check(r.Context(), m.Machine, m.Last-plant.Sequence(m.Stored)+1, s.all(r.Context(), m.Machine), q.Mend)
			if err != nil {
				return err
			}
			if v.Kept > 0 {
				a.Machines = append(a.Machines, v)
			}
		}
		return nil
	}
	if q.Mend {
		err = s.change(peer(r), "ledger.mend", q.Machine, q.Reason, check)
	} else {
		err = check()
	}
	if err != nil {
		return err
	}
	return answer(w, a)
}

// all yields every event of a machine that is kept.
func (s *Server) all(ctx context.Context, m plant.MachineID) iter.Seq2[plant.Event, error] {
	return s.Store.Events(ctx, m, 0, math.MaxInt)
}
