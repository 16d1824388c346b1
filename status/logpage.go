package status

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/internal/journal"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

const (
	// logPage is how many entries a page shows, logDefault and logMost how many a
	// program gets at once.
	logPage    = 50
	logDefault = 200
	logMost    = 10_000
	// patience is how long a search may take before it shows what it has.
	patience = 3 * time.Second
)

// logPageDoc is what the template of the log shows.
type logPageDoc struct {
	head
	Uplinks, Machines, Kinds, Outcomes []choice
	// Values are the texts of the other fields of the form.
	Values  map[string]string
	Entries []entryCard
	Nothing string
	Damaged string
	// Older leads on, empty for nothing more; CSV and JSONL export all that the
	// filter means.
	Older, CSV, JSONL string
	// Problem says why the log is not written.
	Problem string
	// Test are the uplinks that can be tried from here.
	Test []string
}

// choice is an option of a select.
type choice struct {
	Value    string
	Selected bool
}

func choices(all []string, selected string) (out []choice) {
	for _, one := range all {
		out = append(out, choice{one, one == selected})
	}
	return out
}

// entryCard is one entry, in words.
type entryCard struct {
	Class, Time, Outcome, About, Request, ID, Words string
	Merged                                          []string
}

// serveLogPage shows the newest entries that the form means.
func (s *Server) serveLogPage(w http.ResponseWriter, r *http.Request) {
	snap := s.source.Snapshot()
	q := r.URL.Query()
	doc := logPageDoc{head: s.head("Integration log", "/log", &snap), Values: map[string]string{}, Test: snap.uplinkNames()}
	doc.Uplinks, doc.Machines = choices(snap.uplinkNames(), q.Get("uplink")), choices(snap.machineNames(), q.Get("machine"))
	var kinds, outcomes []string
	for _, k := range plant.EventKinds() {
		kinds = append(kinds, string(k))
	}
	for _, o := range append(uplink.Outcomes(), journal.Lost) {
		outcomes = append(outcomes, string(o))
	}
	doc.Kinds, doc.Outcomes = choices(kinds, q.Get("kind")), choices(outcomes, q.Get("outcome"))
	for _, key := range []string{"status", "from", "to", "id", "q"} {
		doc.Values[key] = q.Get(key)
	}
	status := doc.failed(s.fillLog(r, q, &doc))
	s.show(w, status, "log", doc)
}

func (s *Server) fillLog(r *http.Request, q url.Values, doc *logPageDoc) error {
	log := s.options.Desk.Journal()
	stats := log.Stats()
	doc.Problem = stats.Problem
	f, before, err := s.logQuery(q)
	if err != nil {
		return err
	}
	log.Flush()
	found, err := log.Search(r.Context(), f, before, logPage, patience)
	if err != nil {
		return fmt.Errorf("%w: %w", errRead, err)
	}
	for i := range found.Entries {
		doc.Entries = append(doc.Entries, newEntryCard(&found.Entries[i], s.options.Location))
	}
	query := filled(q, "before")
	export := "/api/v1/log?" + strings.TrimPrefix(query+"&format=", "&")
	doc.CSV, doc.JSONL = export+"csv", export+"jsonl"
	if found.More {
		doc.Older = "/log?" + strings.TrimPrefix(fmt.Sprintf("%s&before=%d", query, found.Before), "&")
	}
	if found.Damaged > 0 {
		doc.Damaged = count(uint64(found.Damaged), "line") + " could not be read and were left out: the disk is failing, or somebody changed the files."
	}
	switch {
	case len(doc.Entries) > 0:
	case found.More:
		doc.Nothing = "Nothing was found back to " + found.Back.In(s.options.Location).Format("2006-01-02 15:04:05") + "; there is more to look through."
	case query == "":
		doc.Nothing = "Nothing was exchanged yet."
	default:
		doc.Nothing = "Nothing in the log is like that."
	}
	return nil
}

// logQuery reads what the form, or a program, asks for.
func (s *Server) logQuery(q url.Values) (f journal.Filter, before uint64, err error) {
	if err := onlyKeys(q, func(key string) bool {
		return journal.IsKey(key) || key == "before" || key == "after" || key == "limit" || key == "format"
	}); err != nil {
		return f, 0, err
	}
	if before, err = numberIn(q, "before", 0, 1, ^uint64(0)); err != nil {
		return f, 0, err
	}
	f, err = journal.ParseFilter(q, s.options.Location)
	return f, before, err
}

// ids are our id of a request and the receiver's.
func ids(e *journal.Entry) string {
	if e.ReceiverID == "" {
		return e.RequestID
	}
	return strings.TrimSpace(e.RequestID + " → " + e.ReceiverID)
}

func newEntryCard(e *journal.Entry, loc *time.Location) entryCard {
	c := entryCard{Time: e.Time.In(loc).Format("2006-01-02 15:04:05.000"), Outcome: string(e.Outcome), ID: ids(e), Words: e.Words, Class: "unknown"}
	switch e.Outcome {
	case uplink.OutcomeDelivered, uplink.OutcomeAsked:
		c.Class = "good"
	case uplink.OutcomeRefused, uplink.OutcomeHeld, journal.Lost:
		c.Class = "bad"
	}
	var about []string
	for _, part := range []string{e.Uplink, string(e.Machine), events(e)} {
		if part != "" {
			about = append(about, part)
		}
	}
	c.About = strings.Join(about, " · ")
	var request []string
	if e.Method+e.Where != "" {
		request = append(request, strings.TrimSpace(e.Method+" "+e.Where))
	}
	if e.Status > 0 {
		request = append(request, fmt.Sprintf("status %d", e.Status))
	}
	if e.Duration > 0 {
		took := e.Duration.Round(time.Millisecond / 10).String()
		if e.Sends > 1 {
			took = fmt.Sprintf("%s, the slowest %s", count(uint64(e.Sends), "send"), took)
		}
		request = append(request, took)
	}
	c.Request = strings.Join(request, " · ")
	for _, m := range e.Merged {
		c.Merged = append(c.Merged, fmt.Sprintf("%s from %d on sent as %d", count(uint64(m.Count), string(m.Kind)+" event"), uint64(m.First), uint64(m.Into)))
	}
	return c
}

// events says which events an entry is about.
func events(e *journal.Entry) string {
	what := "event"
	if e.Kind != "" {
		what = string(e.Kind) + " event"
	}
	switch e.First {
	case 0:
		return ""
	case e.Last:
		return fmt.Sprintf("%s %d", what, uint64(e.First))
	default:
		return fmt.Sprintf("%s, %d to %d", count(uint64(e.Events), what), uint64(e.First), uint64(e.Last))
	}
}

// logDoc is the answer of /api/v1/log.
type logDoc struct {
	Entries []journal.Entry `json:"entries"`
	More    bool            `json:"more"`
	Before  uint64          `json:"before,omitempty"`
	Damaged int             `json:"damaged"`
}

// serveLog answers programs: newest first as JSON, or everything that is meant,
// oldest first, as a file.
func (s *Server) serveLog(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	f, before, err := s.logQuery(q)
	if err != nil {
		s.refuse(w, err)
		return
	}
	limit, err := numberIn(q, "limit", logDefault, 1, logMost)
	if err != nil {
		s.refuse(w, err)
		return
	}
	after, err := numberIn(q, "after", 0, 0, ^uint64(0))
	if err != nil {
		s.refuse(w, err)
		return
	}
	log := s.options.Desk.Journal()
	log.Flush()
	switch format := q.Get("format"); format {
	case "", "json":
		found, err := log.Search(r.Context(), f, before, int(limit), patience)
		if err != nil {
			s.refuse(w, fmt.Errorf("%w: %w", errRead, err))
			return
		}
		doc := logDoc{Entries: found.Entries, More: found.More, Damaged: found.Damaged}
		if doc.Entries == nil {
			doc.Entries = []journal.Entry{}
		}
		if found.More {
			doc.Before = found.Before
		}
		answer(w, doc)
	case "csv", "jsonl":
		s.exportLog(w, r, f, after, format)
	default:
		s.refuse(w, fmt.Errorf("format=%q: write json, jsonl or csv", format))
	}
}

// exportLog streams entries in bounded memory. An answer that is cut short has no
// end in HTTP either, so that nobody takes it for whole.
func (s *Server) exportLog(w http.ResponseWriter, r *http.Request, f journal.Filter, after uint64, format string) {
	kind := "text/csv; charset=utf-8"
	if format == "jsonl" {
		kind = "application/x-ndjson"
	}
	name := "sluice-log-" + time.Now().In(s.options.Location).Format("20060102-1504") + "." + format
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Disposition", `attachment; filename="`+name+`"`)
	out := bufio.NewWriterSize(newPatientWriter(w), 32<<10)
	err := writeLog(s.options.Desk.Journal(), r, f, after, format, out)
	if err == nil {
		err = out.Flush()
	}
	if err != nil {
		if r.Context().Err() == nil {
			s.log.Debug("status: an export of the integration log was cut short", zap.Error(err))
		}
		panic(http.ErrAbortHandler)
	}
}

func writeLog(log *journal.Log, r *http.Request, f journal.Filter, after uint64, format string, out io.Writer) error {
	if format == "jsonl" {
		var line []byte
		_, _, err := log.Each(r.Context(), f, after, func(e *journal.Entry) (err error) {
			if line, err = journal.AppendJSON(line[:0], e); err != nil {
				return err
			}
			_, err = out.Write(line)
			return err
		})
		return err
	}
	table := journal.NewCSV(out)
	if _, _, err := log.Each(r.Context(), f, after, table.Put); err != nil {
		return err
	}
	return table.Close()
}
