package admin

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/sluice-edge/sluice/buffer"
	"github.com/sluice-edge/sluice/plant"
)

// The kinds of jobs.
const (
	jobResend = "resend"
	jobRetry  = "retry"
)

// Job is a resend or a retry of dead letters: its own queue with its own cursor,
// durable, so that it goes on where it was after a restart. What it sent since
// its last save is sent again then, under the same ids.
type Job struct {
	ID      uint64    `json:"id"`
	Kind    string    `json:"kind"`
	Uplink  string    `json:"uplink"`
	By      string    `json:"by"`
	Created time.Time `json:"created"`
	// From and To bound the times of the events of a resend, From inclusive; zero
	// for no bound.
	From time.Time `json:"from,omitzero"`
	To   time.Time `json:"to,omitzero"`
	// Rate is in events a second.
	Rate int `json:"rate"`
	// Streams is what is left; one that is done is taken out.
	Streams []JobStream `json:"streams,omitempty"`
	// Delivered and Refused count what the receiver answered, Gone what was not
	// stored any more or cannot be read.
	Delivered uint64 `json:"delivered"`
	Refused   uint64 `json:"refused"`
	Gone      uint64 `json:"gone"`
	// SetAside counts those that wait for another event, a parent's id for example:
	// the uplink sends them by itself when that is there.
	SetAside uint64 `json:"set_aside,omitempty"`
	// Settled is how many of those that a resend delivered were dead letters; they
	// are none any more.
	Settled uint64 `json:"settled,omitempty"`
	// LastError holds the newest words of a failure or a refusal.
	LastError string `json:"last_error,omitempty"`
	// Ended is zero while there is work left; Outcome is then "done" or
	// "cancelled".
	Ended   time.Time `json:"ended,omitzero"`
	Outcome string    `json:"outcome,omitempty"`
	// Waiting says why it does not go on at the moment; it is not stored.
	Waiting string `json:"waiting,omitempty"`
}

// JobStream is what is left of one machine: behind At, up to Last.
type JobStream struct {
	Machine plant.MachineID `json:"machine"`
	At      plant.Sequence  `json:"at"`
	Last    plant.Sequence  `json:"last"`
	// Time is when the event At happened; zero if nobody knows.
	Time time.Time `json:"time,omitzero"`
}

// record returns what is stored of the job.
func (j *Job) record(put []plant.KV) (buffer.Job, error) {
	stored := *j
	stored.Waiting = ""
	data, err := json.Marshal(stored)
	if err != nil {
		return buffer.Job{}, fmt.Errorf("admin: encode job %d: %w", j.ID, err)
	}
	return buffer.Job{ID: j.ID, Record: data, Uplink: j.Uplink, Put: put}, nil
}

func readJob(b buffer.Job) (j Job, err error) {
	if err := json.Unmarshal(b.Record, &j); err != nil {
		return j, fmt.Errorf("admin: read job %d: %w", b.ID, err)
	}
	if j.ID != b.ID || j.Kind != jobResend && j.Kind != jobRetry || j.Rate < 1 {
		return j, fmt.Errorf("admin: read job %d: it is none that this version knows", b.ID)
	}
	return j, nil
}

// pass moves the cursor of the first stream to an event of that time, which is zero
// if nobody knows it, takes out what is done, and ends the job if nothing is left.
func (j *Job) pass(to plant.Sequence, at time.Time) {
	s := &j.Streams[0]
	if to > s.At {
		s.At, s.Time = to, at
	}
	if s.At >= s.Last {
		j.Streams = j.Streams[1:]
	}
	if len(j.Streams) == 0 {
		j.Ended, j.Outcome = time.Now().UTC(), "done"
	}
}

// covers reports whether the job is still to send a dead letter, whose event is of
// that time; zero if nobody knows.
func (j *Job) covers(f flight, at time.Time) bool {
	if j.Uplink != f.uplink || !j.Ended.IsZero() || j.Kind == jobResend && !at.IsZero() && !inTime(at, j.From, j.To) {
		return false
	}
	return slices.ContainsFunc(j.Streams, func(s JobStream) bool { return s.Machine == f.machine && s.At < f.sequence && f.sequence <= s.Last })
}

// cancel ends the job before it is done.
func (j *Job) cancel() { j.Ended, j.Outcome, j.Streams = time.Now().UTC(), "cancelled", nil }

func (j *Job) String() string {
	text := fmt.Sprintf("job %d, %s to %s: %d delivered, %d refused, %d gone", j.ID, j.Kind, j.Uplink, j.Delivered, j.Refused, j.Gone)
	if j.SetAside > 0 {
		text += fmt.Sprintf(", %d set aside: they wait for another event and are sent by themselves then", j.SetAside)
	}
	if j.Settled > 0 {
		text += fmt.Sprintf(", %d of the delivered were dead letters and are none any more", j.Settled)
	}
	return text
}
