package status

import (
	"encoding/csv"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/uplink"
)

// Stops lists the stops that central systems were not told of, since they take no
// times. Its method is called from the goroutine of each request; it may read the
// disk.
type Stops interface {
	// MissedStops returns those of all uplinks and machines, oldest first.
	MissedStops() ([]uplink.MissedStop, error)
}

// stopsDoc is what the template of the stops shows.
type stopsDoc struct {
	head
	Rows    []stopRow
	Nothing string
}

// stopRow is one stop in words.
type stopRow struct {
	Uplink, Machine, Type, Reason, From, To, Length string
	// Doubtful is set if nobody knows whether it was told.
	Doubtful bool
}

// routeStops adds the page of stops and its export.
func (s *Server) routeStops(mux *http.ServeMux) {
	if s.options.Stops == nil {
		return
	}
	mux.HandleFunc("GET /stops", s.serveStopsPage)
	mux.HandleFunc("GET /api/v1/stops", s.serveStops)
}

func (s *Server) serveStopsPage(w http.ResponseWriter, _ *http.Request) {
	snap := s.source.Snapshot()
	doc := stopsDoc{head: s.head("Stops that were not told", "/stops", &snap)}
	all, err := s.options.Stops.MissedStops()
	if err != nil {
		doc.Error = err.Error()
		s.show(w, http.StatusServiceUnavailable, "stops", doc)
		return
	}
	slices.Reverse(all)
	for i := range all {
		doc.Rows = append(doc.Rows, s.stopRow(&all[i]))
	}
	if len(all) == 0 {
		doc.Nothing = "Every stop was told, or is still to be."
	}
	s.show(w, http.StatusOK, "stops", doc)
}

// stopRow puts a stop into words, in the plant's time.
func (s *Server) stopRow(m *uplink.MissedStop) stopRow {
	row := stopRow{Uplink: m.Uplink, Machine: string(m.Machine), Type: m.Type, Reason: m.Reason, From: s.local(m.From), Doubtful: m.Doubtful}
	if !m.To.IsZero() {
		row.To, row.Length = s.local(m.To), m.To.Sub(m.From).Round(time.Second).String()
	}
	return row
}

func (s *Server) local(t time.Time) string {
	return t.In(s.options.Location).Format("2006-01-02 15:04:05 MST")
}

// serveStops answers programs and spreadsheets.
func (s *Server) serveStops(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if err := onlyKeys(q, func(key string) bool { return key == "format" }); err != nil {
		s.refuse(w, err)
		return
	}
	all, err := s.options.Stops.MissedStops()
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	s.writeStops(w, q, all)
}

func (s *Server) writeStops(w http.ResponseWriter, q url.Values, all []uplink.MissedStop) {
	// The client may have gone; there is nobody left to tell.
	switch format := q.Get("format"); format {
	case "", "json":
		if all == nil {
			all = []uplink.MissedStop{}
		}
		answer(w, map[string][]uplink.MissedStop{"stops": all})
	case "csv":
		w.Header().Set("Content-Type", "text/csv; charset=utf-8")
		w.Header().Set("Content-Disposition", `attachment; filename="sluice-stops.csv"`)
		table := csv.NewWriter(w)
		_ = table.Write([]string{"uplink", "machine", "stop_id", "type", "reason", "from", "to", "seconds", "doubtful"})
		for i := range all {
			m := &all[i]
			to, seconds := "", ""
			if !m.To.IsZero() {
				to, seconds = m.To.UTC().Format(time.RFC3339), strconv.FormatInt(int64(m.To.Sub(m.From).Round(time.Second)/time.Second), 10)
			}
			_ = table.Write([]string{text(m.Uplink), text(string(m.Machine)), strconv.FormatUint(m.StopID, 10), text(m.Type), text(m.Reason), m.From.UTC().Format(time.RFC3339), to, seconds, strconv.FormatBool(m.Doubtful)})
		}
		table.Flush()
	default:
		s.refuse(w, fmt.Errorf("format=%q: write json or csv", format))
	}
}

// text keeps a cell from being taken for a formula by a spreadsheet (OWASP, CSV
// injection).
func text(cell string) string {
	if cell != "" && strings.ContainsRune("=+-@\t\r\n", rune(cell[0])) {
		return "'" + cell
	}
	return cell
}
