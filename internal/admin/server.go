package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/buffer"
	"github.com/sluice-edge/sluice/derive/ledger"
	"github.com/sluice-edge/sluice/internal/audit"
	"github.com/sluice-edge/sluice/internal/pki"
	"github.com/sluice-edge/sluice/internal/recording"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

// Options is what a Server works with.
type Options struct {
	Store *buffer.Buffer
	Audit *audit.Log
	// Jobs does what takes long; nil where the gateway is stopped: jobs are then
	// kept and begin when it starts.
	Jobs *Jobs
	// Recordings keeps what machines do; nil where the gateway is stopped.
	Recordings *recording.Set
	// Ledger opens the books of material, or returns those that are open; nil
	// without an error where there are none.
	Ledger func() (*ledger.Keeper, error)
	// Uplink says what the config has of an uplink; ok is false if it has none.
	Uplink func(name string) (u UplinkInfo, ok bool)
	// Uplinks names those of the config, for the words to who misspells one.
	Uplinks []string
	// Rules is the way to the rules of the machines; nil where the gateway is
	// stopped.
	Rules Rules
	// Trust are the stores of certificates; empty where no device has any.
	Trust []*pki.Store
	// Test tries an uplink; nil where the gateway is stopped.
	Test TestFunc
	// Note keeps in the integration log that a dead letter was given up.
	Note func(uplink.Exchange)
	// Gateway is the gateway's name, Version the program's.
	Gateway, Version string
	Log              *zap.Logger
}

// UplinkInfo is what the config says of an uplink.
type UplinkInfo struct {
	// Deduplicates is set if the receiver drops what it has had.
	Deduplicates bool
	// Machines says whose events go there, nil for all.
	Machines func(plant.MachineID) bool
}

// Server answers the command line. Its handlers may run at the same time.
type Server struct {
	Options
	// adding gives each job a number of its own.
	adding sync.Mutex
}

// NewServer returns a Server. It does no I/O.
func NewServer(o Options) *Server { return &Server{Options: o} }

// Handler returns the routes.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	for _, r := range []struct {
		pattern string
		serve   func(http.ResponseWriter, *http.Request) error
	}{
		{"GET /v1/about", s.about},
		{"GET /v1/stats", s.stats},
		{"GET /v1/events", s.events},
		{"GET /v1/event", s.event},
		{"POST /v1/uplink/forget", s.forgetUplink},
		{"POST /v1/uplink/test", s.testUplink},
		{"GET /v1/dead", s.dead},
		{"POST /v1/dead/drop", s.dropDead},
		{"POST /v1/dead/retry", s.retryDead},
		{"POST /v1/resend", s.resend},
		{"GET /v1/jobs", s.jobs},
		{"POST /v1/jobs/cancel", s.cancelJob},
		{"GET /v1/backup", s.backup},
		{"GET /v1/trust", s.trusted},
		{"POST /v1/trust/add", s.addTrust},
		{"POST /v1/trust/remove", s.removeTrust},
		{"POST /v1/trust/renew", s.renewOwn},
		{"GET /v1/modes", s.modes},
		{"POST /v1/mode", s.setMode},
		{"GET /v1/record", s.recordings},
		{"POST /v1/record", s.startRecording},
		{"POST /v1/record/stop", s.stopRecording},
		{"GET /v1/ledger/stock", s.stock},
		{"GET /v1/ledger/consumption", s.consumption},
		{"POST /v1/ledger/check", s.checkBooks},
	} {
		mux.HandleFunc(r.pattern, func(w http.ResponseWriter, q *http.Request) {
			if err := r.serve(w, q); err != nil {
				s.fail(w, err)
			}
		})
	}
	return mux
}

// requestError is a fault of the request, with what it means in HTTP.
type requestError struct {
	status int
	text   string
}

// Error implements error.
func (e *requestError) Error() string { return e.text }

func badRequest(format string, args ...any) error {
	return &requestError{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

func conflict(format string, args ...any) error {
	return &requestError{http.StatusConflict, fmt.Sprintf(format, args...)}
}

func notFound(format string, args ...any) error {
	return &requestError{http.StatusNotFound, fmt.Sprintf(format, args...)}
}

func (s *Server) fail(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	var request *requestError
	switch {
	case errors.As(err, &request):
		status = request.status
	case errors.Is(err, buffer.ErrNoDeadLetter):
		status = http.StatusNotFound
	case errors.Is(err, plant.ErrFull):
		status = http.StatusInsufficientStorage
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(failure{Error: err.Error()}); err != nil {
		s.Log.Debug("an answer was not taken", zap.Error(err))
	}
}

// failure is an answer that is none.
type failure struct {
	Error string `json:"error"`
}

func answer(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	// A client that hangs up has its own error.
	_ = json.NewEncoder(w).Encode(v)
	return nil
}

func read(r *http.Request, into any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return badRequest("the request cannot be read: %v", err)
	}
	if d.More() {
		return badRequest("the request has more than one JSON value")
	}
	return nil
}

// change writes that something is begun, does it, and writes what came of it. It
// is not begun if that cannot be written.
func (s *Server) change(by, action, object, detail string, do func() error) error {
	e := audit.Entry{By: by, Action: action, Object: object, Detail: detail, Outcome: audit.Begun}
	if _, err := s.Audit.Append(e); err != nil {
		return &requestError{http.StatusServiceUnavailable, "nothing was changed, since the audit log cannot be written: " + err.Error()}
	}
	err := do()
	e.Outcome = audit.Done
	if err != nil {
		e.Outcome, e.Detail = audit.Failed, err.Error()
	}
	if _, auditErr := s.Audit.Append(e); auditErr != nil {
		// The change is announced, so it is not hidden; the page shows the problem.
		s.Log.Error("the audit log has no word of how a change ended", zap.String("action", action), zap.String("object", object), zap.Error(auditErr))
	}
	return err
}

// About says who answers.
type About struct {
	Protocol int    `json:"protocol"`
	Gateway  string `json:"gateway"`
	Version  string `json:"version"`
	// Running is false where the command has opened the store itself.
	Running bool `json:"running"`
}

func (s *Server) about(w http.ResponseWriter, _ *http.Request) error {
	return answer(w, About{Protocol: Protocol, Gateway: s.Gateway, Version: s.Version, Running: s.Jobs != nil})
}

// Stats is what is stored, for people and scripts.
type Stats struct {
	Path      string        `json:"path"`
	Epoch     string        `json:"epoch"`
	LiveBytes int64         `json:"live_bytes"`
	DiskBytes int64         `json:"disk_bytes"`
	FreeBytes int64         `json:"free_bytes"`
	Quota     int64         `json:"quota_bytes"`
	Full      string        `json:"full,omitempty"`
	Lost      uint64        `json:"damaged_records"`
	Machines  []MachineStat `json:"machines"`
	Uplinks   []UplinkStat  `json:"uplinks"`
}

// MachineStat is one machine's stream.
type MachineStat struct {
	Machine string `json:"machine"`
	First   uint64 `json:"first"`
	Last    uint64 `json:"last"`
	Stored  uint64 `json:"stored"`
	Bytes   int64  `json:"bytes"`
}

// UplinkStat is one uplink's queue.
type UplinkStat struct {
	Uplink      string     `json:"uplink"`
	Backlog     uint64     `json:"backlog"`
	Oldest      *time.Time `json:"oldest"`
	DeadLetters uint64     `json:"dead_letters"`
	Problem     string     `json:"problem,omitempty"`
}

func (s *Server) stats(w http.ResponseWriter, _ *http.Request) error {
	b := s.Store.Stats()
	st := Stats{
		Path: b.Path, Epoch: b.Epoch.String(), LiveBytes: b.LiveBytes, DiskBytes: b.DiskBytes, FreeBytes: b.FreeBytes,
		Quota: b.Quota, Full: b.FullReason, Lost: b.Lost, Machines: []MachineStat{}, Uplinks: []UplinkStat{},
	}
	for _, m := range b.Streams {
		stat := MachineStat{Machine: string(m.Machine), Last: uint64(m.Last), Stored: m.Stored, Bytes: m.Bytes}
		if m.Stored > 0 {
			stat.First = uint64(m.Before) + 1
		}
		st.Machines = append(st.Machines, stat)
	}
	for _, q := range b.Queues {
		stat := UplinkStat{Uplink: q.Uplink, Backlog: q.Backlog, DeadLetters: q.DeadLetters, Problem: q.Problem}
		if _, known := s.Uplink(q.Uplink); known && s.Jobs == nil {
			stat.Problem = "" // nobody serves it while the gateway is stopped
		}
		if !q.Oldest.IsZero() {
			stat.Oldest = &q.Oldest
		}
		st.Uplinks = append(st.Uplinks, stat)
	}
	return answer(w, st)
}
