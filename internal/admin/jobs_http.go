package admin

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/buffer"
	"github.com/sluice-edge/sluice/plant"
)

// resendQuery is what is to be sent again.
type resendQuery struct {
	Uplink   string            `json:"uplink"`
	Machines []plant.MachineID `json:"machines,omitempty"`
	From     time.Time         `json:"from,omitzero"`
	To       time.Time         `json:"to,omitzero"`
	Force    bool              `json:"force,omitempty"`
	Rate     int               `json:"rate,omitempty"`
}

// mayRepeat refuses what a receiver would count twice, and says which uplink is
// meant.
func (s *Server) mayRepeat(uplink string, force bool) error {
	u, ok := s.Uplink(uplink)
	if !ok {
		return notFound("%s", unknown("uplink", uplink, s.queueNames()))
	}
	if !u.Deduplicates && !force {
		return conflict("uplink %s says `deduplicates: false`: its receiver would count what it has had a second time; use --force if that is right", uplink)
	}
	return nil
}

func rateOf(rate int) (int, error) {
	switch {
	case rate == 0:
		return defaultRate, nil
	case rate < 1 || rate > maxRate:
		return 0, badRequest("a rate is from 1 to %d events a second", maxRate)
	}
	return rate, nil
}

func (s *Server) resend(w http.ResponseWriter, r *http.Request) error {
	var q resendQuery
	if err := read(r, &q); err != nil {
		return err
	}
	if !q.From.IsZero() && !q.To.IsZero() && !q.From.Before(q.To) {
		return badRequest("from is not before to: nothing can be in between")
	}
	rate, err := rateOf(q.Rate)
	if err != nil {
		return err
	}
	if err := s.mayRepeat(q.Uplink, q.Force); err != nil {
		return err
	}
	st := s.Store.Stats()
	all := spans(&st)
	if err := (&filter{machines: q.Machines}).check(s.Store.Machines()); err != nil {
		return err
	}
	takes := func(plant.MachineID) bool { return true }
	if u, _ := s.Uplink(q.Uplink); u.Machines != nil {
		takes = u.Machines
	}
	for _, m := range q.Machines {
		if !takes(m) {
			return conflict("uplink %s leaves out %s (`machines` in the config), so nothing of it would be sent: name another machine or uplink, or take it into `machines`", q.Uplink, m)
		}
	}
	job := &Job{Kind: jobResend, Uplink: q.Uplink, By: peer(r), From: q.From, To: q.To, Rate: rate}
	for _, m := range s.Store.Machines() {
		if here := all[m]; here.after < here.last && takes(m) && (len(q.Machines) == 0 || slices.Contains(q.Machines, m)) {
			job.Streams = append(job.Streams, JobStream{Machine: m, At: here.after, Last: here.last})
		}
	}
	detail := fmt.Sprintf("machines %s, from %s to %s, %d events a second, force %t", machineNames(q.Machines), instant(q.From), instant(q.To), rate, q.Force)
	return s.addJob(w, r, job, detail)
}

func machineNames(machines []plant.MachineID) string {
	if len(machines) == 0 {
		return "all"
	}
	names := make([]string, len(machines))
	for i, m := range machines {
		names[i] = string(m)
	}
	return strings.Join(names, ", ")
}

func instant(t time.Time) string {
	if t.IsZero() {
		return "any time"
	}
	return t.UTC().Format(time.RFC3339Nano)
}

func (s *Server) retryDead(w http.ResponseWriter, r *http.Request) error {
	var q deadQuery
	if err := read(r, &q); err != nil {
		return err
	}
	if err := q.check(); err != nil {
		return err
	}
	rate, err := rateOf(q.Rate)
	if err != nil {
		return err
	}
	if err := s.mayRepeat(q.Uplink, q.Force); err != nil {
		return err
	}
	job := &Job{Kind: jobRetry, Uplink: q.Uplink, By: peer(r), Rate: rate}
	if err := s.eachDead(r, &q, func(d *buffer.DeadLetter) {
		m, n := d.Event.Machine, d.Event.Sequence
		if last := len(job.Streams) - 1; len(q.Sequences) == 0 && last >= 0 && job.Streams[last].Machine == m {
			job.Streams[last].Last = n
			return
		}
		job.Streams = append(job.Streams, JobStream{Machine: m, At: n - 1, Last: n})
	}); err != nil {
		return err
	}
	return s.addJob(w, r, job, fmt.Sprintf("%s, %d events a second, force %t", q.String(), rate, q.Force))
}

// addJob makes a job durable and wakes its worker.
func (s *Server) addJob(w http.ResponseWriter, r *http.Request, job *Job, detail string) error {
	if len(job.Streams) == 0 {
		return notFound("there is nothing to send")
	}
	if len(job.Streams) > maxJobStreams {
		return badRequest("more than %d at once: name a machine instead of single events", maxJobStreams)
	}
	s.adding.Lock()
	defer s.adding.Unlock()
	jobs, err := listJobs(r.Context(), s.Store, s.Log)
	if err != nil {
		return err
	}
	job.ID, job.Created = 1, time.Now().UTC()
	open := 0
	for i := range jobs {
		job.ID = max(job.ID, jobs[i].ID+1)
		if jobs[i].Ended.IsZero() {
			open++
		}
	}
	if open >= maxJobs {
		return conflict("%d jobs are waiting already: cancel some, or wait", open)
	}
	err = s.change(peer(r), "events."+job.Kind, job.Uplink, fmt.Sprintf("job %d: %s", job.ID, detail), func() error {
		record, err := job.record(nil)
		if err != nil {
			return err
		}
		if err := s.Store.SaveJob(r.Context(), record); err != nil {
			return err
		}
		return s.forgetEnded(r.Context(), jobs)
	})
	if err != nil {
		return err
	}
	if s.Jobs != nil {
		s.Jobs.added(job.Uplink)
	}
	job.Waiting = s.Jobs.reason(job, true)
	return answer(w, job)
}

// forgetEnded deletes the oldest ended jobs where there are too many.
func (s *Server) forgetEnded(ctx context.Context, jobs []Job) error {
	for i := range jobs {
		if len(jobs)-i < maxJobs {
			return nil
		}
		if jobs[i].Ended.IsZero() {
			continue
		}
		if err := s.Store.SaveJob(ctx, buffer.Job{ID: jobs[i].ID}); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) jobs(w http.ResponseWriter, r *http.Request) error {
	jobs, err := listJobs(r.Context(), s.Store, s.Log)
	if err != nil {
		return err
	}
	if jobs == nil {
		jobs = []Job{}
	}
	for i := range jobs {
		_, known := s.Uplink(jobs[i].Uplink)
		jobs[i].Waiting = s.Jobs.reason(&jobs[i], known)
	}
	return answer(w, jobs)
}

type jobQuery struct {
	ID uint64 `json:"id"`
}

func (s *Server) cancelJob(w http.ResponseWriter, r *http.Request) error {
	var q jobQuery
	if err := read(r, &q); err != nil {
		return err
	}
	jobs, err := listJobs(r.Context(), s.Store, s.Log)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(jobs, func(j Job) bool { return j.ID == q.ID })
	switch {
	case i < 0:
		return notFound("there is no job %d", q.ID)
	case !jobs[i].Ended.IsZero():
		return conflict("job %d has ended already: %s", q.ID, jobs[i].Outcome)
	}
	job := &jobs[i]
	err = s.change(peer(r), "job.cancel", job.Uplink, job.String(), func() error { return s.Jobs.cancel(r.Context(), s.Store, job) })
	if err != nil {
		return err
	}
	return answer(w, job)
}
