package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"github.com/sluice-edge/sluice/buffer"
	"github.com/sluice-edge/sluice/derive/ledger"
	"github.com/sluice-edge/sluice/internal/audit"
	"github.com/sluice-edge/sluice/plant"
)

// bed is a store with a Server, and a client of it in memory.
type bed struct {
	*Client
	t      *testing.T
	folder string
	store  *buffer.Buffer
	audit  *audit.Log
	server *Server
	// repeats and machines are what the config says of the uplink "mes".
	repeats  bool
	machines func(plant.MachineID) bool
	uplink   *fakeUplink
	stop     func()
}

func openBed(t *testing.T, folder string, running bool) *bed {
	t.Helper()
	o := buffer.DefaultOptions(folder)
	o.Gateway, o.Source = "gw", "/e/s/a"
	store, err := buffer.Open(t.Context(), o, zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	b := &bed{t: t, folder: folder, store: store, audit: audit.New(folder, audit.Options{}), repeats: true, uplink: &fakeUplink{t: t}}
	options := Options{
		Store: store, Audit: b.audit, Gateway: "gw", Version: "test", Log: zaptest.NewLogger(t),
		Uplink: func(name string) (UplinkInfo, bool) {
			return UplinkInfo{Deduplicates: b.repeats, Machines: b.machines}, name == "mes"
		},
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	if running {
		all := func(plant.EventKind) bool { return true }
		options.Jobs = NewJobs(store, b.audit, []Target{{Name: "mes", Carries: all, Uplink: b.uplink}}, zaptest.NewLogger(t))
		go func() { ended <- options.Jobs.Run(ctx) }()
	} else {
		ended <- nil
	}
	b.server = NewServer(options)
	b.Client = Local(b.server.Handler(), "uid 7 (ann)")
	var once sync.Once
	b.stop = func() {
		once.Do(func() {
			cancel()
			if err := errors.Join(b.Close(), <-ended, store.Close(), b.audit.Close()); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(b.stop)
	return b
}

func (b *bed) commit(m plant.MachineID, at time.Time, n int) {
	b.t.Helper()
	for i := range n {
		e := plant.Event{Kind: plant.KindCounter, Version: 1, Time: at.Add(time.Duration(i) * time.Second), TimeSource: plant.GatewayTime, Data: fmt.Appendf(nil, `{"machine":%q,"good":%d}`, m, i+1)}
		if _, err := b.store.Commit(b.t.Context(), m, plant.Batch{Events: []plant.Event{e}}); err != nil {
			b.t.Fatal(err)
		}
	}
}

// refuse has n events of m refused by the uplink.
func (b *bed) refuse(m plant.MachineID, n int) {
	b.t.Helper()
	q, err := b.store.Queue("mes", func(plant.EventKind) bool { return true })
	if err != nil {
		b.t.Fatal(err)
	}
	b.commit(m, time.Unix(1000, 0), n)
	if got, err := q.Next(b.t.Context()); err != nil || got != m {
		b.t.Fatal(got, err)
	}
	events, err := q.Peek(b.t.Context(), m, 0, n, 1<<20)
	if err != nil || len(events) != n {
		b.t.Fatal(len(events), err)
	}
	var results []plant.Result
	for _, e := range events {
		results = append(results, plant.Result{First: e.Sequence, Last: e.Sequence, Status: plant.Rejected, Cause: errors.New("unknown code")})
	}
	if err := q.Settle(b.t.Context(), m, events[n-1].Sequence, results); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) lines(path string, q url.Values) []string {
	b.t.Helper()
	var all []string
	if _, err := b.Lines(b.t.Context(), path, q, func(line []byte) error { all = append(all, string(line)); return nil }); err != nil {
		b.t.Fatalf("%s %v: %v", path, q, err)
	}
	return all
}

func (b *bed) job(id uint64, ok func(*Job) bool) Job {
	b.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		var jobs []Job
		if err := b.Get(b.t.Context(), "/jobs", nil, &jobs); err != nil {
			b.t.Fatal(err)
		}
		for i := range jobs {
			if jobs[i].ID == id && ok(&jobs[i]) {
				return jobs[i]
			}
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("job %d: %+v", id, jobs)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// stats waits until what is counted is so.
func (b *bed) stats(ok func(*Stats) bool) {
	b.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		var st Stats
		if err := b.Get(b.t.Context(), "/stats", nil, &st); err != nil {
			b.t.Fatal(err)
		}
		if ok(&st) {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("%+v", st)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (b *bed) audited() (all []string) {
	b.t.Helper()
	if err := audit.Read(b.folder, func(r audit.Record, err error) error {
		all = append(all, r.By+" "+r.Action+" "+r.Outcome)
		return err
	}); err != nil {
		b.t.Error(err)
	}
	if r, err := audit.Verify(b.folder); err != nil || r.Broken != "" {
		b.t.Errorf("%+v, %v", r, err)
	}
	return all
}

// fakeUplink is a receiver by script.
type fakeUplink struct {
	t  *testing.T
	mu sync.Mutex
	// answer, nil for Delivered, is asked once for each event.
	answer func(plant.Event) plant.Result
	got    []plant.EventID
	block  chan struct{}
	// merges is set where a newer count contains an older one, up to the event of
	// that number, with which another order begins.
	merges bool
	order  plant.Sequence
	// aside is what the uplink itself sends right now.
	aside plant.Sequence
}

func (f *fakeUplink) MostEvents() int { return 10 }

func (f *fakeUplink) Merge(earlier, later plant.Event) (plant.Event, bool) {
	return later, f.merges && later.Kind == earlier.Kind && later.Sequence < f.order
}

func (f *fakeUplink) Sending(_ plant.MachineID, s plant.Sequence) bool { return s == f.aside }

func (f *fakeUplink) Resend(ctx context.Context, m plant.MachineID, events []plant.Event) (results []plant.Result, err error) {
	f.mu.Lock()
	block := f.block
	f.mu.Unlock()
	if block != nil {
		select {
		case <-block:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range events {
		if e.Machine != m || e.Previous != 0 {
			f.t.Errorf("%+v in a call for %s", e, m)
		}
		r := plant.Result{Status: plant.Delivered}
		if f.answer != nil {
			r = f.answer(e)
		}
		r.First, r.Last = e.Sequence, e.Sequence
		results = append(results, r)
		if r.Status != plant.Delivered && r.Status != plant.Rejected {
			return results, nil
		}
		f.got = append(f.got, e.ID())
	}
	return results, nil
}

func (f *fakeUplink) ids() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := ""
	for _, id := range f.got {
		s += fmt.Sprintf("%s/%d ", id.Machine, uint64(id.Sequence))
	}
	return strings.TrimSpace(s)
}

func TestEventsAreListedFilteredAndFollowed(t *testing.T) {
	b := openBed(t, t.TempDir(), false)
	day := time.Date(2026, 7, 27, 6, 0, 0, 0, time.UTC)
	b.commit("A", day, 600)
	b.commit("B", day.Add(time.Hour), 3)
	for _, c := range []struct {
		q    string
		want int
	}{
		{"", 603}, {"machine=A", 600}, {"machine=B&machine=A", 603}, {"newest=2", 4}, {"machine=A&newest=5", 5},
		{"kind=counter", 603}, {"kind=dosing", 0},
		{"from=2026-07-27T06:00:10Z&to=2026-07-27T06:00:20Z", 10}, {"from=2026-07-27T07:00:01%2B00:00", 2},
	} {
		q, err := url.ParseQuery(c.q)
		if err != nil {
			t.Fatal(err)
		}
		lines := b.lines("/events", q)
		if len(lines) != c.want {
			t.Errorf("%s: %d events, want %d", c.q, len(lines), c.want)
		}
		for _, line := range lines {
			if !json.Valid([]byte(line)) {
				t.Errorf("%s: %s", c.q, line)
			}
		}
	}
	for q, status := range map[string]int{
		"machine=C": 404, "kind=counters": 400, "from=yesterday": 400, "newest=-1": 400, "follow=perhaps": 400, "nonsense=1": 400,
		"from=2026-07-27T07:00:00Z&to=2026-07-27T07:00:00Z": 400, "to=2026-07-27T07:00:00Z&to=2026-07-27T08:00:00Z": 400,
	} {
		v, err := url.ParseQuery(q)
		if err != nil {
			t.Fatal(err)
		}
		_, err = b.Lines(t.Context(), "/events", v, func([]byte) error { t.Errorf("%s gives a line", q); return nil })
		var refused *Error
		if !errors.As(err, &refused) || refused.Status != status || refused.Text == "" {
			t.Errorf("%s: %v", q, err)
		}
	}
	// Followed: what comes later is seen, over the end of the first listing.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	got := make(chan string, 10)
	ended := make(chan error, 1)
	go func() {
		_, err := b.Lines(ctx, "/events", url.Values{"newest": {"1"}, "follow": {"true"}, "machine": {"B"}}, func(line []byte) error { got <- string(line); return nil })
		ended <- err
	}()
	if line := <-got; !strings.Contains(line, `"good":3`) {
		t.Error(line)
	}
	b.commit("A", day, 1)
	b.commit("B", day, 1)
	if line := <-got; !strings.Contains(line, `B/`+b.store.Epoch().String()+`-4"`) {
		t.Error(line)
	}
	cancel()
	if err := <-ended; err == nil {
		t.Error("a stream that was cut looks whole")
	}
}

func TestOneEvent(t *testing.T) {
	b := openBed(t, t.TempDir(), false)
	b.commit("A", time.Unix(0, 0), 3)
	var e struct{ ID, Sequence string }
	if err := b.Get(t.Context(), "/event", url.Values{"machine": {"A"}, "sequence": {"2"}, "epoch": {b.store.Epoch().String()}}, &e); err != nil || e.ID != "gw/A/"+b.store.Epoch().String()+"-2" {
		t.Errorf("%+v, %v", e, err)
	}
	for q, status := range map[string]int{"machine=A&sequence=4": 404, "machine=C&sequence=1": 404, "machine=A&sequence=0": 400, "machine=A&sequence=x": 400, "machine=A&sequence=2&epoch=0000000000000001": 404, "": 400} {
		v, err := url.ParseQuery(q)
		if err != nil {
			t.Fatal(err)
		}
		var refused *Error
		if err := b.Get(t.Context(), "/event", v, &e); !errors.As(err, &refused) || refused.Status != status {
			t.Errorf("%s: %v", q, err)
		}
	}
}

// A resend is durable: it goes on after a restart where it was, under the same
// ids, and does not move the live cursor.
func TestResendGoesOnAfterARestart(t *testing.T) {
	folder := t.TempDir()
	b := openBed(t, folder, true)
	day := time.Date(2026, 7, 27, 6, 0, 0, 0, time.UTC)
	b.commit("A", day, 40)
	b.commit("B", day, 5)
	b.uplink.block = make(chan struct{}, 2)
	b.uplink.block <- struct{}{}
	var job Job
	if err := b.Post(t.Context(), "/resend", map[string]any{"uplink": "mes", "from": day.Add(5 * time.Second), "to": day.Add(35 * time.Second), "rate": 10000}, &job); err != nil {
		t.Fatal(err)
	}
	b.job(job.ID, func(j *Job) bool { return j.Delivered == 10 })
	before := b.uplink.ids()
	epoch := b.store.Epoch()
	b.stop()

	b = openBed(t, folder, true)
	ended := b.job(job.ID, func(j *Job) bool { return !j.Ended.IsZero() })
	if ended.Delivered != 30 || ended.Refused != 0 || ended.Outcome != "done" || ended.By != "uid 7 (ann)" {
		t.Errorf("%+v", ended)
	}
	want := ""
	for n := 6; n <= 35; n++ {
		want += fmt.Sprintf("A/%d ", n)
	}
	if got := before + " " + b.uplink.ids(); got != strings.TrimSpace(want) {
		t.Errorf("got %s", got)
	}
	for _, id := range b.uplink.got {
		if id.Epoch != epoch {
			t.Errorf("%s is another id than the first time", id)
		}
	}
	if got := fmt.Sprint(b.audited()); got != "[uid 7 (ann) events.resend begun uid 7 (ann) events.resend done uid 7 (ann) job.end done]" {
		t.Error(got)
	}
}

func TestResendIsRefused(t *testing.T) {
	b := openBed(t, t.TempDir(), false)
	b.commit("A", time.Unix(0, 0), 3)
	b.repeats = false
	for _, c := range []struct {
		in     map[string]any
		status int
	}{
		{map[string]any{"uplink": "mes"}, 409},
		{map[string]any{"uplink": "erp", "force": true}, 404},
		{map[string]any{"uplink": "mes", "force": true, "machines": []string{"C"}}, 404},
		{map[string]any{"uplink": "mes", "force": true, "rate": -1}, 400},
		{map[string]any{"uplink": "mes", "force": true, "forse": true}, 400},
		{map[string]any{"uplink": "mes", "force": true, "from": time.Unix(2, 0), "to": time.Unix(1, 0)}, 400},
	} {
		var refused *Error
		if err := b.Post(t.Context(), "/resend", c.in, new(Job)); !errors.As(err, &refused) || refused.Status != c.status {
			t.Errorf("%v: %v", c.in, err)
		}
	}
	if got := b.audited(); len(got) != 0 {
		t.Errorf("a refusal is in the audit log: %v", got)
	}
	var job Job
	if err := b.Post(t.Context(), "/resend", map[string]any{"uplink": "mes", "force": true}, &job); err != nil || job.Waiting == "" {
		t.Errorf("%+v, %v", job, err)
	}
	if err := b.Post(t.Context(), "/jobs/cancel", map[string]any{"id": job.ID}, &job); err != nil || job.Outcome != "cancelled" {
		t.Errorf("%+v, %v", job, err)
	}
	var refused *Error
	if err := b.Post(t.Context(), "/jobs/cancel", map[string]any{"id": job.ID}, &job); !errors.As(err, &refused) || refused.Status != 409 {
		t.Error(err)
	}
}

// TestWhatTheUplinkSendsIsNotGivenUp: what was set aside and is on its way now may be
// taken by the receiver.
func TestWhatTheUplinkSendsIsNotGivenUp(t *testing.T) {
	b := openBed(t, t.TempDir(), true)
	b.refuse("A", 2)
	b.uplink.aside = 2
	var refused *Error
	if err := b.Post(t.Context(), "/dead/drop", map[string]any{"uplink": "mes", "all": true, "reason": "no"}, new(Dropped)); !errors.As(err, &refused) || refused.Status != 409 || !strings.Contains(err.Error(), "right now") {
		t.Errorf("%v", err)
	}
	var n Dropped
	if err := b.Post(t.Context(), "/dead/drop", map[string]any{"uplink": "mes", "machine": "A", "sequences": []int{1}, "reason": "no"}, &n); err != nil || n.Dropped != 1 {
		t.Errorf("%+v, %v", n, err)
	}
}

// TestResendSettlesDeadLetters: what a resend delivers is a dead letter no more,
// what it does not stays one, and nobody gives up what it is still to send.
func TestResendSettlesDeadLetters(t *testing.T) {
	b := openBed(t, t.TempDir(), true)
	b.refuse("A", 4)
	b.uplink.answer = func(e plant.Event) plant.Result {
		if e.Sequence == 2 {
			return plant.Result{Status: plant.Rejected, Cause: errors.New("still unknown")}
		}
		return plant.Result{Status: plant.Delivered}
	}
	b.uplink.block = make(chan struct{})
	var job Job
	if err := b.Post(t.Context(), "/resend", map[string]any{"uplink": "mes", "to": time.Unix(1003, 0)}, &job); err != nil {
		t.Fatal(err)
	}
	var refused *Error
	drop := map[string]any{"uplink": "mes", "machine": "A", "sequences": []int{1}, "reason": "no"}
	if err := b.Post(t.Context(), "/dead/drop", drop, new(Dropped)); !errors.As(err, &refused) || refused.Status != 409 || !strings.Contains(err.Error(), "job 1") {
		t.Errorf("a drop of what is being sent: %v", err)
	}
	close(b.uplink.block)
	ended := b.job(job.ID, func(j *Job) bool { return !j.Ended.IsZero() })
	if ended.Delivered != 2 || ended.Refused != 1 || ended.Settled != 2 {
		t.Errorf("%+v", ended)
	}
	var left []string
	for _, line := range b.lines("/dead", url.Values{"uplink": {"mes"}}) {
		var d DeadLetter
		if err := json.Unmarshal([]byte(line), &d); err != nil {
			t.Fatal(err)
		}
		left = append(left, fmt.Sprintf("%s/%d", d.Machine, d.Sequence))
	}
	if got := strings.Join(left, " "); got != "A/2 A/4" { // 4 was not asked for
		t.Errorf("dead letters are left: %s", got)
	}
	b.stats(func(s *Stats) bool { return len(s.Uplinks) == 1 && s.Uplinks[0].DeadLetters == 2 })
	if text := ended.String(); !strings.Contains(text, "2 of the delivered were dead letters") { // as the audit log has it
		t.Error(text)
	}
	// What the job is done with may be given up.
	drop["sequences"] = []int{4}
	if err := b.Post(t.Context(), "/dead/drop", drop, new(Dropped)); err != nil {
		t.Error(err)
	}
}

// TestACancelledResendKeepsItsAnswers: the receiver has taken what was on its way.
func TestACancelledResendKeepsItsAnswers(t *testing.T) {
	folder := t.TempDir()
	b := openBed(t, folder, true)
	b.refuse("A", 2)
	b.uplink.block = make(chan struct{})
	b.uplink.answer = func(e plant.Event) plant.Result {
		return plant.Result{Status: plant.Delivered, Put: []plant.KV{{Key: fmt.Sprintf("id/%d", uint64(e.Sequence)), Value: []byte("4711")}}}
	}
	var job Job
	if err := b.Post(t.Context(), "/resend", map[string]any{"uplink": "mes"}, &job); err != nil {
		t.Fatal(err)
	}
	sending := func() bool {
		_, ok := b.server.Jobs.sending(flight{"mes", "A", 1})
		return ok
	}
	for end := time.Now().Add(20 * time.Second); !sending() && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if err := b.Post(t.Context(), "/jobs/cancel", map[string]any{"id": job.ID}, &job); err != nil {
		t.Fatal(err)
	}
	close(b.uplink.block)
	ended := b.job(job.ID, func(j *Job) bool { return j.Delivered == 2 })
	if ended.Outcome != "cancelled" || ended.Ended.IsZero() {
		t.Errorf("%+v", ended)
	}
	if lines := b.lines("/dead", url.Values{"uplink": {"mes"}}); len(lines) != 0 {
		t.Errorf("dead letters are left: %s", lines)
	}
	b.stop()
	b = openBed(t, folder, false)
	q, err := b.store.Queue("mes", func(plant.EventKind) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	if value, err := q.Memory("id/2"); err != nil || string(value) != "4711" {
		t.Errorf("kept %q, %v", value, err)
	}
}

// TestResendToWhoLeavesTheMachineOut is refused with what to do, and leaves such
// machines out where all are meant.
func TestResendToWhoLeavesTheMachineOut(t *testing.T) {
	b := openBed(t, t.TempDir(), true)
	b.machines = func(m plant.MachineID) bool { return m != "B" }
	b.commit("A", time.Unix(1000, 0), 2)
	b.commit("B", time.Unix(1000, 0), 2)
	var refused *Error
	err := b.Post(t.Context(), "/resend", map[string]any{"uplink": "mes", "machines": []string{"A", "B"}}, new(Job))
	if !errors.As(err, &refused) || refused.Status != 409 || !strings.Contains(err.Error(), "leaves out B") || !strings.Contains(err.Error(), "`machines`") {
		t.Errorf("%v", err)
	}
	var job Job
	if err := b.Post(t.Context(), "/resend", map[string]any{"uplink": "mes"}, &job); err != nil {
		t.Fatal(err)
	}
	if ended := b.job(job.ID, func(j *Job) bool { return !j.Ended.IsZero() }); ended.Delivered != 2 {
		t.Errorf("%+v", ended)
	}
}

// TestWhatIsGone: numbers count that were stored and may be meant, not those that
// an older copy of the store has never had, nor what lies outside the time.
func TestWhatIsGone(t *testing.T) {
	at := func(s int64) time.Time { return time.Unix(1000+s, 0) }
	gap := func(cause plant.GapCause, first, last int) []byte {
		return fmt.Appendf(nil, `{"machine":"A","first":%d,"last":%d,"count":%d,"cause":%q,"reason":"x"}`, first, last, last-first+1, cause)
	}
	for name, c := range map[string]struct {
		before, from, to time.Time
		kind             plant.EventKind
		data             []byte
		want             uint64
	}{
		"without bounds":                  {before: at(5), kind: plant.KindCounter, want: 9},
		"within the bounds":               {before: at(5), from: at(1), to: at(9), kind: plant.KindCounter, want: 9},
		"over the end":                    {before: at(5), from: at(1), to: at(6), kind: plant.KindCounter, want: 9},
		"behind the end":                  {before: at(5), from: at(1), to: at(5), kind: plant.KindCounter},
		"before the beginning":            {before: at(5), from: at(9), kind: plant.KindCounter},
		"from when is not known":          {to: at(5), kind: plant.KindCounter, want: 9},
		"an older copy never had them":    {before: at(5), kind: plant.KindGap, data: gap(plant.GapRestoredCopy, 11, 19)},
		"an older copy had the first two": {before: at(5), kind: plant.KindGap, data: gap(plant.GapRestoredCopy, 13, 19), want: 2},
		"another span":                    {before: at(5), kind: plant.KindGap, data: gap(plant.GapRestoredCopy, 2, 9), want: 9},
		"evicted":                         {before: at(5), kind: plant.KindGap, data: gap(plant.GapEvicted, 11, 19), want: 9},
	} {
		s := JobStream{Machine: "A", Last: 30}
		if got := s.gone(10, c.before, &plant.Event{Sequence: 20, Time: at(8), Kind: c.kind, Data: c.data}, c.from, c.to); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

// TestWhatIsGoneIsCountedOnce, though a step that did not get to it looks again.
func TestWhatIsGoneIsCountedOnce(t *testing.T) {
	job := Job{}
	holes := []hole{{next: 5, count: 2}, {next: 9, count: 3}}
	job.goOver(holes, 7)
	job.goOver(holes[1:], 9)
	if job.Gone != 5 {
		t.Errorf("%d are gone, want 5", job.Gone)
	}
}

// What is taken is a dead letter no more, what is refused again has the newest
// words, and what the receiver wants later stays.
// One that waits for another event keeps no job: that other one may be behind it,
// in a resend and in a retry.
func TestAnEventThatWaitsForAnotherKeepsNoJob(t *testing.T) {
	b := openBed(t, t.TempDir(), true)
	b.refuse("A", 3)
	b.uplink.answer = func(e plant.Event) plant.Result {
		if e.Sequence == 1 {
			return plant.Result{Status: plant.Held, WaitsFor: "parent", Cause: errors.New("the parent's id is not known")}
		}
		return plant.Result{Status: plant.Delivered}
	}
	for _, path := range []string{"/resend", "/dead/retry"} {
		query := map[string]any{"uplink": "mes", "rate": 10000}
		if path == "/dead/retry" {
			query["all"] = true
		}
		var job Job
		if err := b.Post(t.Context(), path, query, &job); err != nil {
			t.Fatal(err)
		}
		ended := b.job(job.ID, func(j *Job) bool { return !j.Ended.IsZero() })
		// What the resend has delivered is no dead letter any more.
		delivered := map[string]uint64{"/resend": 2, "/dead/retry": 0}[path]
		if ended.Delivered != delivered || ended.Settled != delivered || ended.Refused != 1 || ended.LastError != "the parent's id is not known" {
			t.Errorf("%s: %+v", path, ended)
		}
	}
	if lines := b.lines("/dead", url.Values{"uplink": {"mes"}}); len(lines) != 1 || !strings.Contains(lines[0], "the parent's id is not known") {
		t.Errorf("dead letters %q", lines)
	}
}

func TestDeadLettersAreRetried(t *testing.T) {
	b := openBed(t, t.TempDir(), true)
	b.refuse("A", 4)
	later := 2
	b.uplink.answer = func(e plant.Event) plant.Result {
		switch {
		case e.Sequence == 2:
			return plant.Result{Status: plant.Rejected, Cause: errors.New("still unknown")}
		case e.Sequence == 3 && later > 0:
			later--
			return plant.Result{Status: plant.Retry, Cause: errors.New("busy")}
		}
		return plant.Result{Status: plant.Delivered}
	}
	var job Job
	if err := b.Post(t.Context(), "/dead/retry", map[string]any{"uplink": "mes", "machine": "A", "sequences": []int{3, 2, 1}}, &job); err != nil {
		t.Fatal(err)
	}
	waits := b.job(job.ID, func(j *Job) bool { return j.Waiting != "" })
	if waits.Waiting != "busy" {
		t.Errorf("%+v", waits)
	}
	ended := b.job(job.ID, func(j *Job) bool { return !j.Ended.IsZero() })
	if ended.Delivered != 2 || ended.Refused != 1 || ended.LastError != "still unknown" || later != 0 {
		t.Errorf("%+v", ended)
	}
	left := ""
	for _, line := range b.lines("/dead", url.Values{"uplink": {"mes"}}) {
		var d DeadLetter
		if err := json.Unmarshal([]byte(line), &d); err != nil {
			t.Fatal(err)
		}
		left += fmt.Sprintf("%d %s; ", d.Sequence, d.Cause)
	}
	if left != "2 still unknown; 4 unknown code; " {
		t.Error(left)
	}
	// The job's end is read from the store as soon as it is there; what is counted
	// in memory follows once the commit has returned.
	b.stats(func(st *Stats) bool { return len(st.Uplinks) == 1 && st.Uplinks[0].DeadLetters == 2 })
}

// TestCountsAreRetriedWithTheCurrentTotal: a receiver of totals gets the newest
// count of the order in the place of one that it has refused, and that is settled
// then; others get the event itself.
func TestCountsAreRetriedWithTheCurrentTotal(t *testing.T) {
	b := openBed(t, t.TempDir(), true)
	b.refuse("A", 9)
	b.uplink.merges, b.uplink.order = true, 6
	retry := func(n int) {
		t.Helper()
		var job Job
		if err := b.Post(t.Context(), "/dead/retry", map[string]any{"uplink": "mes", "machine": "A", "sequences": []int{n}}, &job); err != nil {
			t.Fatal(err)
		}
		if ended := b.job(job.ID, func(j *Job) bool { return !j.Ended.IsZero() }); ended.Delivered != 1 || ended.Refused != 0 {
			t.Errorf("%+v", ended)
		}
	}
	retry(2)
	retry(7)
	b.uplink.mu.Lock()
	b.uplink.merges = false
	b.uplink.mu.Unlock()
	retry(3)
	if got := b.uplink.ids(); got != "A/5 A/7 A/3" {
		t.Errorf("sent %s", got)
	}
	left := b.lines("/dead", url.Values{"uplink": {"mes"}})
	if len(left) != 6 {
		t.Errorf("%d dead letters are left", len(left))
	}
}

// What a retry is sending, or is still to send, is not given up: the receiver may
// take it, and then it is no piece that was given up.
func TestWhatIsOnItsWayIsNotDropped(t *testing.T) {
	b := openBed(t, t.TempDir(), true)
	b.refuse("A", 4)
	sent, answer := make(chan struct{}), make(chan struct{})
	b.uplink.answer = func(e plant.Event) plant.Result {
		if e.Sequence == 2 {
			sent <- struct{}{}
			<-answer
		}
		return plant.Result{Status: plant.Delivered}
	}
	var job Job
	if err := b.Post(t.Context(), "/dead/retry", map[string]any{"uplink": "mes", "machine": "A", "sequences": []int{2, 3}}, &job); err != nil {
		t.Fatal(err)
	}
	<-sent
	drop := func(sequences ...int) (n Dropped, refused *Error) {
		t.Helper()
		err := b.Post(t.Context(), "/dead/drop", map[string]any{"uplink": "mes", "machine": "A", "sequences": sequences, "reason": "a test"}, &n)
		if err != nil && !errors.As(err, &refused) {
			t.Fatal(err)
		}
		return n, refused
	}
	for _, sequence := range []int{2, 3} {
		want := fmt.Sprintf("A/%d is being sent by job %d: wait for its end, or end it: sluice events jobs --cancel %d", sequence, job.ID, job.ID)
		if n, refused := drop(1, sequence); refused == nil || refused.Status != http.StatusConflict || !strings.Contains(refused.Error(), want) || n.Dropped != 0 {
			t.Errorf("%d: %+v, %v", sequence, n, refused)
		}
	}
	if n, refused := drop(4); refused != nil || n.Dropped != 1 {
		t.Errorf("another one: %+v, %v", n, refused)
	}
	if err := b.Post(t.Context(), "/jobs/cancel", map[string]any{"id": job.ID}, &job); err != nil {
		t.Fatal(err)
	}
	if n, refused := drop(2); refused == nil || !strings.Contains(refused.Error(), "A/2 is on its way by job") || n.Dropped != 0 {
		t.Errorf("after the cancellation: %+v, %v", n, refused)
	}
	if n, refused := drop(3); refused != nil || n.Dropped != 1 {
		t.Errorf("what the cancelled job was still to send: %+v, %v", n, refused)
	}
	close(answer)
	b.stats(func(st *Stats) bool { return len(st.Uplinks) == 1 && st.Uplinks[0].DeadLetters == 1 })
	if _, refused := drop(2); refused == nil || refused.Status != http.StatusNotFound {
		t.Errorf("what was taken: %v", refused)
	}
}

func TestDeadLettersAreDropped(t *testing.T) {
	b := openBed(t, t.TempDir(), false)
	b.refuse("A", 4)
	for _, c := range []struct {
		in     map[string]any
		status int
	}{
		{map[string]any{"uplink": "mes", "all": true}, 400},
		{map[string]any{"uplink": "mes", "all": true, "reason": " \n"}, 400},
		{map[string]any{"uplink": "mes", "reason": "x"}, 400},
		{map[string]any{"uplink": "mes", "sequences": []int{1}, "reason": "x"}, 400},
		{map[string]any{"uplink": "erp", "all": true, "reason": "x"}, 404},
		{map[string]any{"uplink": "mes", "machine": "B", "reason": "x"}, 404},
		{map[string]any{"uplink": "mes", "machine": "A", "sequences": []int{1, 9}, "reason": "x"}, 404},
	} {
		var refused *Error
		if err := b.Post(t.Context(), "/dead/drop", c.in, new(Dropped)); !errors.As(err, &refused) || refused.Status != c.status {
			t.Errorf("%v: %v", c.in, err)
		}
	}
	var n Dropped
	if err := b.Post(t.Context(), "/dead/drop", map[string]any{"uplink": "mes", "machine": "A", "sequences": []int{1, 3, 3}, "reason": "a test"}, &n); err != nil || n.Dropped != 2 {
		t.Errorf("%+v, %v", n, err)
	}
	if left := b.lines("/dead", nil); len(left) != 2 {
		t.Error(left)
	}
	// Without an audit log nothing is changed.
	if err := errors.Join(b.audit.Close(), os.RemoveAll(filepath.Join(b.folder, "audit")), os.WriteFile(filepath.Join(b.folder, "audit"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	var refused *Error
	if err := b.Post(t.Context(), "/dead/drop", map[string]any{"uplink": "mes", "all": true, "reason": "a test"}, &n); !errors.As(err, &refused) || refused.Status != http.StatusServiceUnavailable {
		t.Error(err)
	}
	if left := b.lines("/dead", nil); len(left) != 2 {
		t.Errorf("dropped without a word in the audit log: %v", left)
	}
	if text, _ := b.audit.Problem(); text == "" {
		t.Error("the page is not told")
	}
}

func FuzzFilter(f *testing.F) {
	f.Add("machine=A&from=2026-07-27T06:00:00Z&newest=3&follow=true&kind=counter")
	f.Add("from=0000-01-01T00:00:00Z&to=9999-12-31T23:59:59.999999999Z")
	f.Fuzz(func(t *testing.T, raw string) {
		q, err := url.ParseQuery(raw)
		if err != nil {
			return
		}
		p, err := parseFilter(q)
		if err == nil && !p.from.IsZero() && !p.to.IsZero() && !p.from.Before(p.to) {
			t.Errorf("%q: %v to %v", raw, p.from, p.to)
		}
	})
}

// TestTheBooksAreNoneOfTheUplinksWithDeadLetters: they have a queue, and all are
// listed where no uplink is named.
func TestTheBooksAreNoneOfTheUplinksWithDeadLetters(t *testing.T) {
	b := openBed(t, t.TempDir(), false)
	if _, err := b.store.Queue(ledger.Name, ledger.Carries); err != nil {
		t.Fatal(err)
	}
	b.refuse("M-1", 2)
	if got := b.lines("/dead", nil); len(got) != 2 {
		t.Errorf("listed %q", got)
	}
}
