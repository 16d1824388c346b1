package status

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/buffer"
	"github.com/sluice-edge/sluice/derive"
	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

// The documents of /api/v1/status. Their names are stable: fields are only ever
// added under v1. Times are RFC 3339 in UTC, null where there is none yet;
// durations end in _seconds and sizes in _bytes. docs/api.md describes them for
// those who read them.
type statusDoc struct {
	At       instant      `json:"at"`
	Gateway  string       `json:"gateway"`
	Version  string       `json:"version"`
	Started  instant      `json:"started"`
	Ready    bool         `json:"ready"`
	Healthy  bool         `json:"healthy"`
	NotReady []string     `json:"not_ready"`
	Clock    bool         `json:"clock_uncertain"`
	Problems []problemDoc `json:"problems"`
	Devices  []deviceDoc  `json:"devices"`
	Lines    []lineDoc    `json:"lines"`
	Machines []machineDoc `json:"machines"`
	Uplinks  []uplinkDoc  `json:"uplinks"`
	Buffer   bufferDoc    `json:"buffer"`
}

type problemDoc struct {
	Severity string   `json:"severity"`
	What     string   `json:"what"`
	Cause    string   `json:"cause,omitempty"`
	Do       string   `json:"do,omitempty"`
	Since    instant  `json:"since"`
	Follows  []string `json:"follows"`
}

type deviceDoc struct {
	Device      string            `json:"device"`
	Driver      string            `json:"driver,omitempty"`
	Endpoint    string            `json:"endpoint"`
	Connected   bool              `json:"connected"`
	Since       instant           `json:"since"`
	LastError   string            `json:"last_error,omitempty"`
	LastErrorAt instant           `json:"last_error_at"`
	Session     uint64            `json:"session"`
	Reads       uint64            `json:"reads"`
	Errors      uint64            `json:"errors"`
	Reconnects  uint64            `json:"reconnects"`
	Readings    uint64            `json:"readings"`
	BadReadings uint64            `json:"bad_readings"`
	Subscribed  bool              `json:"subscribed"`
	LastRead    instant           `json:"last_read"`
	LastValues  instant           `json:"last_values"`
	ReadTime    float64           `json:"read_seconds"`
	Late        float64           `json:"late_seconds"`
	Skipped     uint64            `json:"skipped"`
	Writes      uint64            `json:"writes"`
	WriteErrors uint64            `json:"write_errors"`
	Duplicates  uint64            `json:"duplicates"`
	Panics      uint64            `json:"panics"`
	BadTags     map[string]string `json:"bad_tags"`
	// BadSince has the tags of BadTags.
	BadSince map[string]instant `json:"bad_since"`
	// ClockOffset is null while nothing is known of the device's clock.
	ClockOffset *float64 `json:"clock_offset_seconds"`
	ClockWrong  bool     `json:"clock_wrong"`
	ClockSince  instant  `json:"clock_since"`
	Advice      []string `json:"advice,omitempty"`
	// Line and Unit are its place on a line, LineShare its part of the line's last
	// minute.
	Line      string  `json:"line,omitempty"`
	Unit      int     `json:"unit,omitempty"`
	LineShare float64 `json:"line_share,omitempty"`
	// Unsteady says that the device comes and goes, since UnsteadySince.
	Unsteady      string  `json:"unsteady,omitempty"`
	UnsteadySince instant `json:"unsteady_since"`
}

type machineDoc struct {
	Machine       string            `json:"machine"`
	Devices       []plant.DeviceID  `json:"devices"`
	Good          int64             `json:"good"`
	Scrap         int64             `json:"scrap"`
	Running       *bool             `json:"running"`
	StateSince    instant           `json:"state_since"`
	Reason        string            `json:"reason,omitempty"`
	Order         string            `json:"order,omitempty"`
	OrderContext  *plant.Order      `json:"order_context,omitempty"`
	OrderOwner    string            `json:"order_owner,omitempty"`
	Mode          string            `json:"mode,omitempty"`
	ModeSince     instant           `json:"mode_since"`
	ModeUntil     instant           `json:"mode_until"`
	ModeBy        string            `json:"mode_by,omitempty"`
	Shift         string            `json:"shift,omitempty"`
	ShiftUntil    instant           `json:"shift_until"`
	LastEvent     string            `json:"last_event,omitempty"`
	LastEventTime instant           `json:"last_event_time"`
	LastSequence  uint64            `json:"last_sequence"`
	Inputs        uint64            `json:"inputs"`
	Commits       uint64            `json:"commits"`
	Events        map[string]uint64 `json:"events"`
	Overflows     uint64            `json:"overflows"`
	WritesFailed  uint64            `json:"writes_failed"`
	Waiting       bool              `json:"waiting"`
	WaitingSince  instant           `json:"waiting_since"`
	Problems      []string          `json:"problems"`
}

type uplinkDoc struct {
	Uplink       string     `json:"uplink"`
	Endpoint     string     `json:"endpoint"`
	Breaker      string     `json:"breaker"`
	Since        instant    `json:"since"`
	Down         bool       `json:"down"`
	Next         instant    `json:"next_try"`
	DownSince    instant    `json:"down_since"`
	Backlog      uint64     `json:"backlog"`
	Oldest       instant    `json:"oldest"`
	OldestAge    float64    `json:"oldest_age_seconds"`
	DeadLetters  uint64     `json:"dead_letters"`
	Delivered    uint64     `json:"delivered"`
	Rejected     uint64     `json:"rejected"`
	Retried      uint64     `json:"retried"`
	LastDelivery instant    `json:"last_delivery"`
	LastError    string     `json:"last_error,omitempty"`
	LastErrorAt  instant    `json:"last_error_at"`
	Concurrent   int        `json:"concurrent"`
	Waiting      int        `json:"waiting_machines"`
	Shelved      int        `json:"shelved"`
	Stuck        []stuckDoc `json:"stuck_machines"`
	// Skipped are no business of the system by its config.
	Skipped  uint64                `json:"skipped"`
	Passed   []uplink.PassedOver   `json:"passed_over"`
	Expires  []expiryDoc           `json:"expires"`
	Unmapped []uplink.UnmappedCode `json:"unmapped_codes"`
}

type expiryDoc struct {
	What string  `json:"what"`
	At   instant `json:"at"`
}

// stuckDoc is a machine whose events one uplink does not get rid of.
type stuckDoc struct {
	Machine string  `json:"machine"`
	Kind    string  `json:"kind,omitempty"`
	Held    bool    `json:"held"`
	Since   instant `json:"since"`
	Next    instant `json:"next_try"`
	Text    string  `json:"text"`
}

type bufferDoc struct {
	Path       string  `json:"path"`
	Epoch      string  `json:"epoch"`
	Commits    uint64  `json:"commits"`
	Syncs      uint64  `json:"syncs"`
	Events     uint64  `json:"events"`
	Live       int64   `json:"live_bytes"`
	Disk       int64   `json:"disk_bytes"`
	Free       int64   `json:"free_bytes"`
	Reserve    int64   `json:"reserve_bytes"`
	Quota      int64   `json:"quota_bytes"`
	Full       bool    `json:"full"`
	FullReason string  `json:"full_reason,omitempty"`
	FullSince  instant `json:"full_since"`
	Fault      string  `json:"fault,omitempty"`
	Damaged    uint64  `json:"damaged_records"`
}

// instant is a time that is null in JSON where there is none.
type instant time.Time

// MarshalJSON implements json.Marshaler.
func (t instant) MarshalJSON() ([]byte, error) {
	if time.Time(t).IsZero() {
		return []byte("null"), nil
	}
	return time.Time(t).UTC().AppendFormat(nil, `"2006-01-02T15:04:05.000Z"`), nil
}

func (s *Server) serveStatus(w http.ResponseWriter, _ *http.Request) {
	s.answerIndented(w, document(s.source.Snapshot()))
}

// answerIndented is answer for what people read as well.
func (s *Server) answerIndented(w http.ResponseWriter, doc any) {
	b, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		s.log.Error("status: encode an answer", zap.Error(err))
		http.Error(w, "internal error; the log has the cause", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	// The client may have gone; there is nobody left to tell.
	_, _ = w.Write(append(b, '\n'))
}

// schemaDoc names one schema.
type schemaDoc struct {
	Kind    plant.EventKind `json:"kind"`
	Version uint8           `json:"version"`
	ID      string          `json:"id"`
	Path    string          `json:"path"`
}

// serveSchemas lists the schemas of all kinds and versions, by kind.
func (s *Server) serveSchemas(w http.ResponseWriter, _ *http.Request) {
	kinds := plant.EventKinds()
	slices.Sort(kinds)
	doc := struct {
		Schemas []schemaDoc `json:"schemas"`
	}{Schemas: []schemaDoc{}}
	for _, kind := range kinds {
		for version := uint8(1); ; version++ {
			if _, ok := plant.Schema(kind, version); !ok {
				break
			}
			doc.Schemas = append(doc.Schemas, schemaDoc{kind, version, plant.SchemaURI(kind, version), fmt.Sprintf("/api/v1/schemas/%s/%d", kind, version)})
		}
	}
	s.answerIndented(w, doc)
}

// serveSchema serves the JSON Schema of a kind's data, by kind and version or
// under its file name, "counter.v1.json".
func serveSchema(w http.ResponseWriter, r *http.Request) {
	file := r.PathValue("file")
	if file == "" {
		file = r.PathValue("kind") + ".v" + r.PathValue("version") + ".json"
	}
	kind, version, ok := parseSchemaFile(file)
	var schema []byte
	if ok {
		schema, ok = plant.Schema(kind, version)
	}
	if !ok {
		http.Error(w, "no such schema; the form is /api/v1/schemas/counter/1, and /api/v1/schemas lists them", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/schema+json")
	// The client may have gone; there is nobody left to tell.
	_, _ = w.Write(schema)
}

// parseSchemaFile reads "kind.vN.json". A kind is lower-case letters and
// underscores, so that nothing else becomes a path.
func parseSchemaFile(name string) (kind plant.EventKind, version uint8, ok bool) {
	name, ok = strings.CutSuffix(name, ".json")
	if !ok {
		return "", 0, false
	}
	word, number, ok := strings.Cut(name, ".v")
	if !ok || word == "" || strings.Trim(word, "abcdefghijklmnopqrstuvwxyz_") != "" {
		return "", 0, false
	}
	n, err := strconv.ParseUint(number, 10, 8)
	return plant.EventKind(word), uint8(n), err == nil && strconv.FormatUint(n, 10) == number
}

func document(snap Snapshot) statusDoc {
	doc := statusDoc{
		At: instant(snap.At), Gateway: snap.Gateway, Version: snap.Version, Started: instant(snap.Started),
		Ready: snap.Ready && snap.Buffer.Fault == "", Healthy: snap.Buffer.Fault == "", NotReady: list(snap.Waiting), Clock: snap.ClockUncertain,
		Problems: []problemDoc{}, Devices: []deviceDoc{}, Lines: linesOf(snap.Devices), Machines: []machineDoc{}, Uplinks: []uplinkDoc{},
		Buffer: bufferDocument(&snap.Buffer),
	}
	for _, p := range Problems(snap) {
		doc.Problems = append(doc.Problems, problemDoc{
			Severity: p.Severity.String(), What: p.What, Cause: p.Cause, Do: p.Do, Since: instant(p.Since), Follows: list(p.Follows),
		})
	}
	for i := range snap.Devices {
		doc.Devices = append(doc.Devices, deviceDocument(&snap.Devices[i]))
	}
	for i := range snap.Machines {
		doc.Machines = append(doc.Machines, machineDocument(&snap.Machines[i], snap.Feeds[snap.Machines[i].Machine]))
	}
	for i := range snap.Uplinks {
		doc.Uplinks = append(doc.Uplinks, uplinkDocument(&snap.Uplinks[i], snap.queue(snap.Uplinks[i].Uplink), snap.At))
	}
	return doc
}

func deviceDocument(s *drivers.Stats) deviceDoc {
	doc := deviceDoc{
		Device: string(s.Device), Driver: s.Driver, Endpoint: s.Endpoint, Connected: s.Connected, Since: instant(s.Since),
		LastError: s.LastError, LastErrorAt: instant(s.LastErrorAt), Session: s.Session,
		Reads: s.Reads, Errors: s.Errors, Reconnects: s.Reconnects, Readings: s.Readings, BadReadings: s.BadReadings,
		Subscribed: s.Subscribed, LastRead: instant(s.LastRead), LastValues: instant(s.LastValues), ReadTime: s.ReadTime.Seconds(), Late: s.Late.Seconds(),
		Skipped: s.Skipped, Writes: s.Writes, WriteErrors: s.WriteErrors, Duplicates: s.Duplicates, Panics: s.Panics,
		BadTags: make(map[string]string, len(s.BadTags)), BadSince: make(map[string]instant, len(s.BadTags)),
		ClockWrong: s.ClockWrong, ClockSince: instant(s.ClockSince), Advice: s.Advice,
		Line: s.Line, Unit: s.Unit, LineShare: s.LineShare, Unsteady: s.Unsteady.String(), UnsteadySince: instant(s.Unsteady.Since),
	}
	if doc.Unsteady != "" {
		doc.Advice = append([]string{doc.Unsteady + ": " + deviceAdvice(s.LastError) + " " + unsteadyAdvice}, s.Advice...)
	}
	for tag, cause := range s.BadTags {
		doc.BadTags[string(tag)] = cause
		doc.BadSince[string(tag)] = instant(s.BadSince[tag])
	}
	if s.ClockKnown {
		offset := s.ClockOffset.Seconds()
		doc.ClockOffset = &offset
	}
	return doc
}

func machineDocument(s *derive.Stats, feeds []plant.DeviceID) machineDoc {
	doc := machineDoc{
		Machine: string(s.Machine), Devices: list(feeds), Good: s.Good, Scrap: s.Scrap,
		Running: s.Running, StateSince: instant(s.StateSince), Reason: s.Reason, Order: s.Order, OrderOwner: s.OrderOwner, Mode: string(s.Mode),
		ModeSince: instant(s.ModeSince), ModeUntil: instant(s.ModeUntil), ModeBy: s.ModeBy,
		Shift: s.Shift, ShiftUntil: instant(s.ShiftUntil),
		LastEvent: string(s.LastEvent), LastEventTime: instant(s.LastEventTime), LastSequence: uint64(s.LastSequence),
		Inputs: s.Inputs, Commits: s.Commits, Events: make(map[string]uint64, len(s.Events)),
		Overflows: s.Overflows, WritesFailed: s.WritesFailed, Waiting: s.Waiting, WaitingSince: instant(s.WaitingSince), Problems: []string{},
	}
	if s.OrderContext != (plant.Order{}) {
		doc.OrderContext = &s.OrderContext
	}
	for _, p := range s.Problems {
		doc.Problems = append(doc.Problems, p.Text)
	}
	for kind, n := range s.Events {
		doc.Events[string(kind)] = n
	}
	return doc
}

func uplinkDocument(s *uplink.Stats, q buffer.QueueStats, now time.Time) uplinkDoc {
	doc := uplinkDoc{
		Uplink: s.Uplink, Endpoint: s.Endpoint, Breaker: s.Breaker, Since: instant(s.Since),
		Backlog: q.Backlog, Oldest: instant(q.Oldest), OldestAge: age(now, q.Oldest).Seconds(), DeadLetters: q.DeadLetters,
		Delivered: s.Delivered, Rejected: s.Rejected, Retried: s.Retried, LastDelivery: instant(s.LastDelivery),
		LastError: s.LastError, LastErrorAt: instant(s.LastErrorAt), Concurrent: s.Concurrent,
		Down: s.Down, DownSince: instant(s.DownSince), Next: instant(s.Next), Waiting: s.Waiting, Shelved: s.Shelved, Stuck: []stuckDoc{},
		Skipped: s.Skipped, Passed: list(s.PassedOver), Expires: []expiryDoc{}, Unmapped: list(s.Unmapped),
	}
	for _, e := range s.Expires {
		doc.Expires = append(doc.Expires, expiryDoc{e.What, instant(e.At)})
	}
	for _, p := range s.Problems {
		doc.Stuck = append(doc.Stuck, stuckDoc{string(p.Machine), string(p.Kind), p.Held, instant(p.Since), instant(p.Next), p.Text})
	}
	return doc
}

func bufferDocument(s *buffer.Stats) bufferDoc {
	return bufferDoc{
		Path: s.Path, Epoch: s.Epoch.String(), Commits: s.Commits, Syncs: s.Groups, Events: s.Events,
		Live: s.LiveBytes, Disk: s.DiskBytes, Free: s.FreeBytes, Reserve: s.Reserve,
		Quota: s.Quota, FullReason: s.FullReason, Full: s.Full, FullSince: instant(s.FullSince), Fault: s.Fault, Damaged: s.Lost,
	}
}

// list returns s as JSON wants it: an empty list, never null.
func list[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
