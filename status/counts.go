package status

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/sluice-edge/sluice/internal/balance"
	"github.com/sluice-edge/sluice/plant"
)

// shiftsShown is how many shifts the page shows, and a program gets unless it
// asks for others; shiftsMost bounds that.
const shiftsShown, shiftsMost = 3, 30

// errNoMachine says that the config has none of that name.
var errNoMachine = errors.New("name a machine of the config with machine=")

// sheetDoc is a sheet for programs.
type sheetDoc struct {
	Begin instant `json:"begin"`
	End   instant `json:"end"`
	balance.Sheet
}

// sheets reads what the query asks for.
func (s *Server) sheets(r *http.Request, snap *Snapshot, machine string) ([]balance.Sheet, error) {
	q := r.URL.Query()
	if err := onlyKeys(q, func(key string) bool { return slices.Contains([]string{"machine", "until", "shifts"}, key) }); err != nil {
		return nil, err
	}
	shifts, err := numberIn(q, "shifts", shiftsShown, 1, shiftsMost)
	if err != nil {
		return nil, err
	}
	until := snap.At
	if text := q.Get("until"); text != "" {
		if until, err = s.moment(text); err != nil {
			return nil, err
		}
	}
	if !slices.Contains(snap.machineNames(), machine) {
		return nil, errNoMachine
	}
	all, err := s.options.Desk.Balance(r.Context(), plant.MachineID(machine), until, int(shifts))
	if err != nil && !errors.Is(err, ErrNotYet) {
		err = fmt.Errorf("%w: %w", errRead, err)
	}
	return all, err
}

// moment reads a time of a form or of a program.
func (s *Server) moment(text string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, text, s.options.Location); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no moment: write 2026-07-27T14:00 (the plant's time) or 2026-07-27T12:00:00Z", text)
}

// serveCounts answers programs.
func (s *Server) serveCounts(w http.ResponseWriter, r *http.Request) {
	snap := s.source.Snapshot()
	all, err := s.sheets(r, &snap, r.URL.Query().Get("machine"))
	if err != nil {
		s.refuse(w, err)
		return
	}
	doc := struct {
		Shifts []sheetDoc `json:"shifts"`
	}{Shifts: []sheetDoc{}}
	for i := range all {
		doc.Shifts = append(doc.Shifts, sheetDoc{instant(all[i].Begin), instant(all[i].End), all[i]})
	}
	answer(w, doc)
}

// countsDoc is what the template of the balance shows.
type countsDoc struct {
	head
	Machines []choice
	Until    string
	Sheets   []sheetCard
	Nothing  string
	Older    string
}

// sheetCard is one shift, in words.
type sheetCard struct {
	Class, Title, Word string
	Lines              []line
	Uplinks            []upCard
	Doubts             []string
}

// upCard is one uplink's row.
type upCard struct {
	Name  string
	Lines []line
}

// serveCountsPage shows where the pieces of a machine are.
func (s *Server) serveCountsPage(w http.ResponseWriter, r *http.Request) {
	snap := s.source.Snapshot()
	q := r.URL.Query()
	machine := q.Get("machine")
	if names := snap.machineNames(); machine == "" && len(names) > 0 {
		machine = names[0]
	}
	doc := countsDoc{head: s.head("Where the pieces are", "/counts", &snap), Machines: choices(snap.machineNames(), machine), Until: q.Get("until")}
	all, err := s.sheets(r, &snap, machine)
	status := doc.failed(err)
	for i := range all {
		doc.Sheets = append(doc.Sheets, newSheetCard(&all[i], s.options.Location, snap.At))
	}
	if n := len(all); n > 0 {
		before := all[n-1].Begin.Add(-time.Minute).In(s.options.Location)
		doc.Older = "/counts?" + url.Values{"machine": {machine}, "until": {before.Format("2006-01-02T15:04")}}.Encode()
	} else if err == nil {
		doc.Nothing = "Nothing was counted."
	}
	s.show(w, status, "counts", doc)
}

func newSheetCard(b *balance.Sheet, loc *time.Location, now time.Time) sheetCard {
	c := sheetCard{Class: "good", Word: "it adds up", Doubts: b.Doubts}
	if !b.Balanced {
		c.Class, c.Word = "unknown", "somebody should look"
	}
	begin, end := b.Begin.In(loc), b.End.In(loc)
	c.Title = begin.Format("Mon 2006-01-02 15:04") + " – " + end.Format("15:04")
	switch {
	case b.Shift != "":
		c.Title = b.Shift + ", " + c.Title
	case end.Sub(begin) > 20*time.Hour:
		c.Title = begin.Format("Mon 2006-01-02")
	}
	if b.End.After(now) {
		c.Title += " (now)"
	}
	add := func(lines *[]line, label, text string) { *lines = append(*lines, line{label, text}) }
	if d := b.Device; d != nil {
		text := fmt.Sprintf("%s (%s, from %s to %s)", number(d.Moved), d.Counts, number(d.From), number(d.To))
		if d.Cycles {
			text = fmt.Sprintf("%s cycles (%s, from %s to %s)", number(d.Moved), d.Counts, number(d.From), number(d.To))
		}
		if d.Through > 0 {
			text += fmt.Sprintf(", %s of it over a reset or the counter's end", number(d.Through))
		}
		add(&c.Lines, "PLC", text)
	}
	text := number(b.Pieces)
	if b.Scrap > 0 || b.Rework > 0 {
		text += fmt.Sprintf(" (%s good, %s scrap, %s rework)", number(b.Good), number(b.Scrap), number(b.Rework))
	}
	add(&c.Lines, "Gateway", text)
	for i := range b.Uplinks {
		u := &b.Uplinks[i]
		row := upCard{Name: u.Uplink}
		add(&row.Lines, "Accepted", number(u.Accepted))
		for _, part := range []struct {
			label string
			n     int64
		}{{"Pending", u.Pending}, {"Refused", u.Dead}, {"Given up", u.Dropped}, {"Lost", u.Gaps}} {
			if part.n != 0 {
				add(&row.Lines, part.label, number(part.n))
				if part.label != "Pending" {
					c.Class = "bad"
				}
			}
		}
		add(&row.Lines, "Together", number(u.Sum()))
		c.Uplinks = append(c.Uplinks, row)
	}
	if c.Class == "bad" {
		c.Word = "not all arrived, and each is named"
	}
	return c
}
