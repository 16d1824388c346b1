package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/buffer"
	"github.com/sluice-edge/sluice/internal/audit"
	"github.com/sluice-edge/sluice/plant"
)

// Bounds of the jobs.
const (
	// maxJobs are kept, ended ones among them, so that there is an answer to what
	// became of one.
	maxJobs = 50
	// maxJobStreams bounds a job, so that it fits into a record.
	maxJobStreams = 2000

	defaultRate = 100
	maxRate     = 10_000
	// stepsPerSecond is how often a job sends while it goes at its rate.
	stepsPerSecond = 5

	firstWait   = time.Second
	longestWait = 30 * time.Second
)

// Uplink sends stored events once more. The Forwarder implements it.
type Uplink interface {
	Resend(ctx context.Context, m plant.MachineID, events []plant.Event) ([]plant.Result, error)
	MostEvents() int
	// Merge returns later if that contains earlier for the receiver.
	Merge(earlier, later plant.Event) (plant.Event, bool)
	// Sending reports whether an event that is set aside is being sent right now.
	Sending(m plant.MachineID, s plant.Sequence) bool
}

// Target is an uplink of the running gateway.
type Target struct {
	Name    string
	Carries func(plant.EventKind) bool
	// Machines says whose events go there, nil for all.
	Machines func(plant.MachineID) bool
	Uplink   Uplink
}

// takes reports whether the events of a machine go to this uplink.
func (t *Target) takes(m plant.MachineID) bool { return t.Machines == nil || t.Machines(m) }

// Jobs works jobs off, one at a time for each uplink.
type Jobs struct {
	store   *buffer.Buffer
	audit   *audit.Log
	targets []Target
	log     *zap.Logger
	wake    map[string]chan struct{}

	mu sync.Mutex
	// waiting says why a job rests, by its ID; cancelled holds the jobs that must
	// not be saved again.
	waiting   map[uint64]string
	cancelled map[uint64]bool
	// flying are the dead letters that are being sent now, by their jobs.
	flying map[flight]uint64
}

// flight is a dead letter on its way.
type flight struct {
	uplink   string
	machine  plant.MachineID
	sequence plant.Sequence
}

// NewJobs returns the jobs of a store. It does nothing before Run.
func NewJobs(store *buffer.Buffer, log *audit.Log, targets []Target, z *zap.Logger) *Jobs {
	j := &Jobs{store: store, audit: log, targets: targets, log: z, wake: map[string]chan struct{}{}, waiting: map[uint64]string{}, cancelled: map[uint64]bool{}, flying: map[flight]uint64{}}
	for _, t := range targets {
		j.wake[t.Name] = make(chan struct{}, 1)
	}
	return j
}

// Run works until ctx ends. It returns nil then, and the store's fault else.
func (j *Jobs) Run(ctx context.Context) error {
	failed := make(chan error, len(j.targets))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var workers sync.WaitGroup
	for _, t := range j.targets {
		workers.Go(func() {
			if err := j.work(ctx, t); err != nil && ctx.Err() == nil {
				failed <- err
				cancel()
			}
		})
	}
	<-ctx.Done()
	workers.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

// added tells the worker of an uplink that there is a job.
func (j *Jobs) added(uplink string) {
	if wake, ok := j.wake[uplink]; ok {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
}

// work does one uplink's jobs, oldest first. Only the store's fault ends it: a
// job that cannot go on must not stop the gateway.
func (j *Jobs) work(ctx context.Context, t Target) error {
	for ctx.Err() == nil {
		job, err := j.next(ctx, t.Name)
		if err == nil && job == nil {
			select {
			case <-ctx.Done():
			case <-j.wake[t.Name]:
			}
			continue
		}
		if err == nil {
			j.log.Info("a job begins or goes on", zap.Uint64("job", job.ID), zap.String("kind", job.Kind), zap.String("uplink", job.Uplink), zap.String("by", job.By))
			err = j.run(ctx, t, job)
		}
		if fault := j.store.Err(); fault != nil {
			return fault
		}
		if err != nil && ctx.Err() == nil {
			j.log.Warn("the jobs of an uplink cannot be read, later again", zap.String("uplink", t.Name), zap.Error(err))
			j.rest(ctx, longestWait)
		}
	}
	return nil
}

// next returns the oldest job of an uplink with work left, nil for none.
func (j *Jobs) next(ctx context.Context, uplink string) (*Job, error) {
	jobs, err := listJobs(ctx, j.store, j.log)
	if err != nil {
		return nil, err
	}
	for i := range jobs {
		if jobs[i].Uplink == uplink && jobs[i].Ended.IsZero() {
			return &jobs[i], nil
		}
	}
	return nil, nil
}

// listJobs reads all jobs, oldest first. One that cannot be read is logged and
// left alone: a newer version may know it.
func listJobs(ctx context.Context, store *buffer.Buffer, log *zap.Logger) (jobs []Job, err error) {
	for b, err := range store.Jobs(ctx) {
		if err != nil && b.ID == 0 {
			return nil, err
		}
		var job Job
		if err == nil {
			job, err = readJob(b)
		}
		if err != nil {
			log.Warn("a job cannot be read and rests", zap.Error(err))
			continue
		}
		jobs = append(jobs, job)
	}
	slices.SortFunc(jobs, func(a, b Job) int { return cmp.Compare(a.ID, b.ID) })
	return jobs, nil
}

// run works a job off. It returns at the end of ctx, too, and with the store's
// fault.
func (j *Jobs) run(ctx context.Context, t Target, job *Job) error {
	beat := rhythm{pause: firstWait}
	for len(job.Streams) > 0 {
		began := time.Now()
		// What could not be made durable has not happened to the job.
		next := *job
		next.Streams = slices.Clone(job.Streams)
		sent, again, err := j.step(ctx, t, &next)
		switch {
		case err == nil:
			*job = next
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errCancelled):
			j.log.Info("a job was cancelled", zap.Uint64("job", job.ID))
			return nil
		case j.store.Err() != nil:
			return j.store.Err()
		default:
			again = &later{text: err.Error()}
		}
		if len(job.Streams) == 0 {
			break // its end is durable, and no other start would tell of it
		}
		wait, fails := beat.after(again, time.Duration(sent)*time.Second/time.Duration(job.Rate)-time.Since(began))
		if fails {
			j.log.Warn("a job waits", zap.Uint64("job", job.ID), zap.String("cause", again.text))
		}
		j.note(job.ID, again)
		if !j.rest(ctx, wait) {
			return nil
		}
	}
	j.log.Info("a job has ended", zap.Uint64("job", job.ID), zap.Uint64("delivered", job.Delivered), zap.Uint64("refused", job.Refused), zap.Uint64("gone", job.Gone))
	if _, err := j.audit.Append(audit.Entry{By: job.By, Action: "job.end", Object: job.Uplink, Detail: job.String(), Outcome: audit.Done}); err != nil {
		j.log.Error("the audit log has no word of how a job ended", zap.Error(err))
	}
	return nil
}

func (j *Jobs) note(id uint64, again *later) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if again == nil {
		delete(j.waiting, id)
		return
	}
	j.waiting[id] = again.text
}

// rest waits, and returns false if ctx has ended.
func (j *Jobs) rest(ctx context.Context, wait time.Duration) bool {
	if wait <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// errCancelled says that somebody has ended the job.
var errCancelled = errors.New("the job was cancelled")

// save makes the job durable as it is now, with what the receiver wants kept, and
// what it has taken: of that nothing is a dead letter any more. A job that was
// cancelled stays so; what the receiver has answered counts all the same.
func (j *Jobs) save(ctx context.Context, job *Job, put []plant.KV, taken ...plant.EventID) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.saveLocked(job, func(record buffer.Job) error {
		record.Put, record.Taken = put, taken
		// With the lock: a cancellation is then not overwritten.
		return j.store.SaveJob(context.WithoutCancel(ctx), record)
	})
}

// saveLocked gives the record of a job to save, and returns errCancelled for one
// that was. It is called with mu held.
func (j *Jobs) saveLocked(job *Job, save func(buffer.Job) error) error {
	now, cancelled := *job, j.cancelled[job.ID]
	if cancelled {
		now.cancel()
	}
	record, err := now.record(nil)
	if err == nil {
		err = save(record)
	}
	if err == nil && cancelled {
		return errCancelled
	}
	return err
}

// step sends the next few events of the job's first stream and makes what came
// of it durable. again is set if the receiver wants them later.
func (j *Jobs) step(ctx context.Context, t Target, job *Job) (sent int, again *later, err error) {
	if job.Kind == jobRetry {
		return j.retryStep(ctx, t, job)
	}
	return j.resendStep(ctx, t, job, max(1, min(job.Rate/stepsPerSecond, t.Uplink.MostEvents())))
}

func words(cause error) string {
	if cause == nil {
		return "the receiver gave no reason"
	}
	text := cause.Error()
	const most = 500
	return text[:min(len(text), most)]
}

// retryStep sends one dead letter; what comes of it and the job's cursor are one
// transaction.
func (j *Jobs) retryStep(ctx context.Context, t Target, job *Job) (int, *later, error) {
	s := job.Streams[0]
	var letter *buffer.DeadLetter
	for d, err := range j.store.DeadLettersOf(ctx, job.Uplink, s.Machine, s.At) {
		if err != nil && d.Event.Sequence == 0 {
			return 0, nil, err
		}
		if err != nil && d.Event.Sequence <= s.Last {
			job.Gone++
			job.LastError = words(err)
			job.pass(d.Event.Sequence, time.Time{})
			return 0, nil, j.save(ctx, job, nil)
		}
		if d.Event.Sequence <= s.Last {
			letter = &d
		}
		break
	}
	if letter == nil {
		job.pass(s.Last, time.Time{})
		return 0, nil, j.save(ctx, job, nil)
	}
	land, err := j.takeOff(job, letter.Event.ID())
	if err != nil {
		return 0, nil, err
	}
	defer land()
	event, err := j.current(ctx, t, letter.Event)
	if err != nil {
		return 0, nil, err
	}
	results, err := t.Uplink.Resend(ctx, s.Machine, []plant.Event{event})
	if err != nil {
		return 0, nil, err
	}
	r := plant.Result{}
	if len(results) > 0 {
		r = results[0]
	}
	switch r.Status {
	case plant.Delivered:
		job.Delivered++
	case plant.Rejected, plant.Held, plant.Skipped:
		if r.WaitsFor != "" {
			// It stays for the uplink to send, with its words: what it waits for may be
			// behind it in this very job.
			job.SetAside++
			job.pass(letter.Event.Sequence, time.Time{})
			return 1, nil, j.save(ctx, job, r.Put)
		}
		job.Refused++
		job.LastError = words(r.Cause)
	default:
		return 1, tryAgain(r), nil
	}
	job.pass(letter.Event.Sequence, time.Time{})
	return 1, nil, j.settleDead(ctx, job, letter, &r)
}

// takeOff notes that events are being sent, which may be dead letters, until land is
// called: nobody may give them up meanwhile, since the receiver may take them.
func (j *Jobs) takeOff(job *Job, events ...plant.EventID) (land func(), err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.cancelled[job.ID] {
		return nil, errCancelled
	}
	for _, id := range events {
		j.flying[flight{job.Uplink, id.Machine, id.Sequence}] = job.ID
	}
	return func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		for _, id := range events {
			delete(j.flying, flight{job.Uplink, id.Machine, id.Sequence})
		}
	}, nil
}

// sending returns the job that is sending a dead letter now, 0 if it is the uplink
// itself, which sends what was set aside.
func (j *Jobs) sending(f flight) (job uint64, ok bool) {
	if j == nil {
		return 0, false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if job, ok = j.flying[f]; ok {
		return job, true
	}
	i := slices.IndexFunc(j.targets, func(t Target) bool { return t.Name == f.uplink })
	return 0, i >= 0 && j.targets[i].Uplink.Sending(f.machine, f.sequence)
}

// countsLooked is how many events behind a dead letter are looked through for
// newer counts.
const countsLooked = 20_000

// current returns what a dead letter is sent as: a count for a receiver of totals
// with the newest total of its order, since one that is smaller than what the
// receiver has had since would be refused again. Anything else goes as it is.
func (j *Jobs) current(ctx context.Context, t Target, letter plant.Event) (plant.Event, error) {
	if letter.Kind != plant.KindCounter {
		return letter, nil
	}
	for e, err := range j.store.Events(ctx, letter.Machine, letter.Sequence, countsLooked) {
		if err != nil {
			return plant.Event{}, err
		}
		if e.Kind != plant.KindCounter {
			continue
		}
		newer, ok := t.Uplink.Merge(letter, e)
		if !ok {
			break
		}
		letter = newer
	}
	return letter, nil
}

func (j *Jobs) settleDead(ctx context.Context, job *Job, letter *buffer.DeadLetter, r *plant.Result) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	ctx = context.WithoutCancel(ctx)
	m, n := letter.Event.Machine, letter.Event.Sequence
	return j.saveLocked(job, func(record buffer.Job) (err error) {
		record.Put = r.Put
		if r.Status == plant.Delivered {
			err = j.store.RemoveDead(ctx, job.Uplink, m, n, &record)
		} else {
			err = j.store.RefuseDead(ctx, job.Uplink, m, n, r.Cause, &record)
		}
		if errors.Is(err, buffer.ErrNoDeadLetter) { // somebody dropped it meanwhile
			return j.store.SaveJob(ctx, record)
		}
		return err
	})
}

// cancel ends a job; what is under way may still be answered.
func (j *Jobs) cancel(ctx context.Context, store *buffer.Buffer, job *Job) error {
	if j != nil {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.cancelled[job.ID] = true
	}
	job.cancel()
	record, err := job.record(nil)
	if err != nil {
		return err
	}
	return store.SaveJob(ctx, record)
}

// reason returns why a job rests at the moment.
func (j *Jobs) reason(job *Job, known bool) string {
	switch {
	case !job.Ended.IsZero():
		return ""
	case j == nil:
		return "it goes on when the gateway runs"
	case !known:
		return fmt.Sprintf("the config has no uplink %q", job.Uplink)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.waiting[job.ID]
}
