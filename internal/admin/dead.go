package admin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/buffer"
	"github.com/sluice-edge/sluice/derive/ledger"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

// DeadLetter is one refused event, as `sluice events dead list --json` prints it.
type DeadLetter struct {
	Uplink   string `json:"uplink"`
	Machine  string `json:"machine"`
	Sequence uint64 `json:"sequence"`
	// First is the first event that it stands for, where several were merged.
	First   uint64    `json:"first"`
	ID      string    `json:"id,omitempty"`
	Kind    string    `json:"kind,omitempty"`
	Time    time.Time `json:"time"`
	Refused time.Time `json:"refused"`
	Cause   string    `json:"cause"`
	// Damaged says why the record cannot be read; it can only be dropped.
	Damaged string          `json:"damaged,omitempty"`
	Event   json.RawMessage `json:"event,omitempty"`
}

func newDeadLetter(d *buffer.DeadLetter, damaged error) DeadLetter {
	l := DeadLetter{Uplink: d.Uplink, Machine: string(d.Event.Machine), Sequence: uint64(d.Event.Sequence), First: uint64(d.First)}
	if damaged != nil {
		l.Damaged = damaged.Error()
		return l
	}
	l.ID, l.Kind, l.Time = d.Event.ID().String(), string(d.Event.Kind), d.Event.Time.UTC()
	l.Refused, l.Cause = d.Refused.UTC(), d.Cause
	if event := uplink.AppendCloudEvent(nil, &d.Event); json.Valid(event) {
		l.Event = event
	}
	return l
}

// deadQuery names dead letters: of an uplink, of one machine, or single ones.
type deadQuery struct {
	Uplink    string   `json:"uplink"`
	Machine   string   `json:"machine,omitempty"`
	Sequences []uint64 `json:"sequences,omitempty"`
	// All must be set where neither machine nor sequences narrow it down.
	All bool `json:"all,omitempty"`
	// Reason is why they are given up.
	Reason string `json:"reason,omitempty"`
	// Force sends to a receiver that does not de-duplicate; Rate is in events a
	// second.
	Force bool `json:"force,omitempty"`
	Rate  int  `json:"rate,omitempty"`
}

func (q *deadQuery) check() error {
	switch {
	case q.Uplink == "":
		return badRequest("no uplink is named")
	case len(q.Sequences) > 0 && q.Machine == "":
		return badRequest("numbers of events need a machine")
	case q.Machine == "" && !q.All:
		return badRequest("neither events nor a machine are named: say so if all dead letters of %s are meant", q.Uplink)
	}
	slices.Sort(q.Sequences)
	q.Sequences = slices.Compact(q.Sequences)
	return nil
}

func (q *deadQuery) String() string {
	var b strings.Builder
	b.WriteString(q.Uplink)
	if q.Machine != "" {
		b.WriteString("/" + q.Machine)
	}
	for _, n := range q.Sequences {
		fmt.Fprintf(&b, " %d", n)
	}
	return b.String()
}

// knowsQueue refuses an uplink that neither the config nor the store has.
func (s *Server) knowsQueue(name string) error {
	if _, ok := s.Uplink(name); ok {
		return nil
	}
	known := s.queueNames()
	if slices.Contains(known, name) {
		return nil
	}
	return notFound("%s", unknown("uplink", name, known))
}

// queueNames are the uplinks that the config has or the store knows.
func (s *Server) queueNames() []string {
	names := slices.Clone(s.Uplinks)
	for _, q := range s.Store.Stats().Queues {
		if q.Uplink != ledger.Name && !slices.Contains(names, q.Uplink) {
			names = append(names, q.Uplink)
		}
	}
	return names
}

// dead streams dead letters, one a line.
func (s *Server) dead(w http.ResponseWriter, r *http.Request) error {
	names := r.URL.Query()["uplink"]
	if len(names) == 0 {
		names = s.queueNames()
	}
	for _, name := range names {
		if err := s.knowsQueue(name); err != nil {
			return err
		}
	}
	machine := r.URL.Query().Get("machine")
	out := newStream(w, "application/x-ndjson")
	for _, name := range names {
		letters := s.Store.DeadLetters(r.Context(), name)
		if machine != "" {
			letters = s.Store.DeadLettersOf(r.Context(), name, plant.MachineID(machine), 0)
		}
		for d, err := range letters {
			if err != nil && d.Event.Sequence == 0 {
				return out.end(err)
			}
			line, err := json.Marshal(newDeadLetter(&d, err))
			if err == nil {
				err = out.line(append(line, '\n'))
			}
			if err != nil {
				return out.end(err)
			}
		}
	}
	return out.end(nil)
}

// Dropped is the answer to a drop.
type Dropped struct {
	Dropped uint64 `json:"dropped"`
}

// dropDead gives dead letters up, each on its own: what was dropped before an
// error stays dropped, and is counted.
func (s *Server) dropDead(w http.ResponseWriter, r *http.Request) error {
	var q deadQuery
	if err := read(r, &q); err != nil {
		return err
	}
	if err := q.check(); err != nil {
		return err
	}
	if strings.TrimSpace(q.Reason) == "" {
		return badRequest("a reason is needed: --reason \"...\"; it is kept in the audit log")
	}
	if err := s.knowsQueue(q.Uplink); err != nil {
		return err
	}
	var found []plant.EventID
	var times []time.Time
	var notes []uplink.Exchange
	collect := func(d *buffer.DeadLetter) {
		times = append(times, d.Event.Time)
		found, notes = append(found, d.Event.ID()), append(notes, droppedNote(d, peer(r)+": "+q.Reason))
	}
	if err := s.eachDead(r, &q, collect); err != nil {
		return err
	}
	if len(found) == 0 {
		return notFound("there is no such dead letter")
	}
	const most = 100_000
	if len(found) > most {
		return badRequest("more than %d dead letters at once: name a machine", most)
	}
	// No retry begins meanwhile.
	s.adding.Lock()
	defer s.adding.Unlock()
	if err := s.onTheirWay(r, q.Uplink, found, times); err != nil {
		return err
	}
	n := Dropped{}
	detail := fmt.Sprintf("%d events, %s to %s; reason: %s", len(found), name(found[0]), name(found[len(found)-1]), q.Reason)
	err := s.change(peer(r), "dead.drop", q.String(), detail, func() error {
		for i, id := range found {
			if err := s.Store.RemoveDead(r.Context(), q.Uplink, id.Machine, id.Sequence, nil); err != nil {
				return fmt.Errorf("%d of %d were dropped: %w", n.Dropped, len(found), err)
			}
			n.Dropped++
			if s.Note != nil {
				notes[i].Time = time.Now().UTC()
				s.Note(notes[i])
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return answer(w, n)
}

// onTheirWay refuses to give up what a job is sending, or is still to send: the
// receiver may take it, and the books would say that it was given up.
func (s *Server) onTheirWay(r *http.Request, uplink string, letters []plant.EventID, times []time.Time) error {
	jobs, err := listJobs(r.Context(), s.Store, s.Log)
	if err != nil {
		return err
	}
	for k, id := range letters {
		f := flight{uplink, id.Machine, id.Sequence}
		if i := slices.IndexFunc(jobs, func(j Job) bool { return j.covers(f, times[k]) }); i >= 0 {
			return conflict("%s/%d is being sent by job %d: wait for its end, or end it: sluice events jobs --cancel %d; nothing was dropped", id.Machine, id.Sequence, jobs[i].ID, jobs[i].ID)
		}
		job, ok := s.Jobs.sending(f)
		if ok && job == 0 {
			return conflict("%s/%d is being sent by the uplink right now, since what it waited for is there: look again in a moment; nothing was dropped", id.Machine, id.Sequence)
		}
		if ok {
			return conflict("%s/%d is on its way by job %d, which was cancelled: try again when the receiver has answered; nothing was dropped", id.Machine, id.Sequence, job)
		}
	}
	return nil
}

// droppedNote is what the integration log keeps of one that is given up, so that a
// balance knows where its pieces are when the event is gone.
func droppedNote(d *buffer.DeadLetter, words string) uplink.Exchange {
	x := uplink.Exchange{
		Uplink: d.Uplink, Machine: d.Event.Machine, Kind: d.Event.Kind, First: d.Event.Sequence, Last: d.Event.Sequence, Events: 1,
		Outcome: uplink.OutcomeDropped, Words: words,
	}
	var c plant.Counter
	if d.Event.Kind == plant.KindCounter && json.Unmarshal(d.Event.Data, &c) == nil {
		x.EventTime = c.To.UTC()
		_, x.Pieces = c.Pieces()
	}
	return x
}

func name(id plant.EventID) string {
	return fmt.Sprintf("%s %d", string(id.Machine), uint64(id.Sequence))
}

// eachDead calls each for what q names. Of a damaged one only machine and number
// are known.
func (s *Server) eachDead(r *http.Request, q *deadQuery, each func(*buffer.DeadLetter)) error {
	letters := s.Store.DeadLetters(r.Context(), q.Uplink)
	if q.Machine != "" {
		letters = s.Store.DeadLettersOf(r.Context(), q.Uplink, plant.MachineID(q.Machine), 0)
	}
	seen := 0
	for d, err := range letters {
		if err != nil && d.Event.Sequence == 0 {
			return err
		}
		if _, wanted := slices.BinarySearch(q.Sequences, uint64(d.Event.Sequence)); len(q.Sequences) == 0 || wanted {
			seen++
			each(&d)
		}
	}
	if seen < len(q.Sequences) {
		return notFound("%d of the %d events named are no dead letters of %s: nothing was changed", len(q.Sequences)-seen, len(q.Sequences), q.Uplink)
	}
	return nil
}
