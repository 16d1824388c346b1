package status

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/buffer"
	"github.com/sluice-edge/sluice/internal/balance"
	"github.com/sluice-edge/sluice/internal/journal"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

// Desk is what the pages about the central systems need besides the Snapshot. Its
// methods are called from the goroutine of each request; they may read the disk.
type Desk interface {
	// Journal is the integration log, with all that was noted so far.
	Journal() *journal.Log
	// DeadLetters are those of an uplink, of all machines if none is named. A
	// damaged one comes with the error, and with what is known of it.
	DeadLetters(ctx context.Context, uplink string, m plant.MachineID) (iter.Seq2[buffer.DeadLetter, error], error)
	// Balance says where the pieces of a machine are, for the newest shifts up to a
	// moment, newest first.
	Balance(ctx context.Context, m plant.MachineID, until time.Time, shifts int) ([]balance.Sheet, error)
	// TestUplink tries an uplink and notes who asked for it. It blocks for
	// uplink.TryTimeout at most.
	TestUplink(ctx context.Context, name string) (uplink.Tested, error)
}

// ErrNotYet says that the gateway is still starting.
var ErrNotYet = errors.New("the gateway is starting: try again in a moment")

// subpages are the pages besides the first one.
var subpages = template.Must(template.ParseFS(ui, "ui/head.html", "ui/log.html", "ui/dead.html", "ui/counts.html", "ui/test.html", "ui/stops.html"))

// route adds the pages and paths that need a Desk.
func (s *Server) route(mux *http.ServeMux) {
	s.routeStops(mux)
	if s.options.Desk == nil {
		return
	}
	mux.HandleFunc("GET /log", s.serveLogPage)
	mux.HandleFunc("GET /api/v1/log", s.serveLog)
	mux.HandleFunc("GET /dead", s.serveDeadPage)
	mux.HandleFunc("GET /api/v1/dead", s.serveDead)
	mux.HandleFunc("GET /counts", s.serveCountsPage)
	mux.HandleFunc("GET /api/v1/counts", s.serveCounts)
	mux.HandleFunc("POST "+testPath, s.serveTest)
}

// head is what every page begins with.
type head struct {
	Title, Gateway, Now string
	// Here is the path, so that its link is marked.
	Here string
	// Error is shown in place of what was asked for.
	Error string
}

func (s *Server) head(title, here string, snap *Snapshot) head {
	return head{Title: title, Gateway: snap.Gateway, Here: here, Now: snap.At.In(s.options.Location).Format("2006-01-02 15:04:05 MST")}
}

// failed notes why the page has not what was asked for, if it has not, and returns
// the status of the answer.
func (h *head) failed(err error) int {
	if err != nil {
		h.Error = err.Error()
	}
	return statusOf(err)
}

// show renders a page into memory first, so that a failure is a 500 and not half
// a page.
func (s *Server) show(w http.ResponseWriter, status int, name string, data any) {
	var b bytes.Buffer
	if err := subpages.ExecuteTemplate(&b, name, data); err != nil {
		s.log.Error("status: render a page", zap.String("page", name), zap.Error(err))
		http.Error(w, "internal error; the log has the cause", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	// The client may have gone; there is nobody left to tell.
	_, _ = w.Write(b.Bytes())
}

// refuse answers a request of a program that cannot be served.
func (s *Server) refuse(w http.ResponseWriter, err error) {
	status := statusOf(err)
	if status == http.StatusInternalServerError {
		s.log.Warn("status: a request could not be answered", zap.Error(err))
	}
	http.Error(w, err.Error(), status)
}

// answer gives a program what it asked for.
func answer(w http.ResponseWriter, doc any) {
	w.Header().Set("Content-Type", "application/json")
	// The client may have gone; there is nobody left to tell.
	_ = json.NewEncoder(w).Encode(doc)
}

// statusOf is the status of a request that cannot be served: who asked is to
// blame, unless the error says otherwise.
func statusOf(err error) int {
	switch {
	case err == nil:
		return http.StatusOK
	case errors.Is(err, ErrNotYet):
		return http.StatusServiceUnavailable
	case errors.Is(err, errRead):
		return http.StatusInternalServerError
	default:
		return http.StatusBadRequest
	}
}

// errRead says that the fault is ours, or the disk's.
var errRead = errors.New("it cannot be read")

// numberIn reads a number of a query, within bounds.
func numberIn(q url.Values, key string, otherwise, least, most uint64) (uint64, error) {
	text := q.Get(key)
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n < least || n > most {
		return 0, fmt.Errorf("%s=%q is no number from %d to %d", key, text, least, most)
	}
	return n, nil
}

// onlyKeys refuses keys that mean nothing, since a misspelt filter would show
// everything.
func onlyKeys(q url.Values, known func(string) bool) error {
	for key, values := range q {
		if !known(key) {
			return fmt.Errorf("%q is not known here", key)
		}
		if len(values) > 1 {
			return fmt.Errorf("%s is given %d times", key, len(values))
		}
	}
	return nil
}

// filled leaves out what a form sends empty, so that links stay short.
func filled(q url.Values, without ...string) string {
	short := url.Values{}
	for key, values := range q {
		if len(values) > 0 && strings.TrimSpace(values[0]) != "" {
			short.Set(key, values[0])
		}
	}
	for _, key := range without {
		short.Del(key)
	}
	return short.Encode()
}

// uplinkNames returns those of the config, in its order.
func (s *Snapshot) uplinkNames() (names []string) {
	for i := range s.Uplinks {
		names = append(names, s.Uplinks[i].Uplink)
	}
	return names
}

// machineNames returns those of the config, in its order.
func (s *Snapshot) machineNames() (names []string) {
	for i := range s.Machines {
		names = append(names, string(s.Machines[i].Machine))
	}
	return names
}

// stall is how long a client of a long answer may not read before it is dropped.
const stall = 15 * time.Second

// patientWriter writes an answer of unknown length; the deadline of the server is
// for short ones.
type patientWriter struct {
	w     http.ResponseWriter
	rc    *http.ResponseController
	dated time.Time
}

func newPatientWriter(w http.ResponseWriter) *patientWriter {
	return &patientWriter{w: w, rc: http.NewResponseController(w)}
}

// Write implements io.Writer.
func (p *patientWriter) Write(b []byte) (int, error) {
	if now := time.Now(); now.Sub(p.dated) > time.Second {
		p.dated = now
		if err := p.rc.SetWriteDeadline(now.Add(stall)); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return 0, err
		}
	}
	return p.w.Write(b)
}
