package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

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
	b.stop() // the audit log has the end of a job behind the store
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
		if ended.Delivered != delivered || ended.Settled != delivered || ended.SetAside != 1 || ended.Refused != 0 || ended.LastError != "" {
			t.Errorf("%s: %+v", path, ended)
		}
	}
	if lines := b.lines("/dead", url.Values{"uplink": {"mes"}}); len(lines) != 1 || !strings.Contains(lines[0], "unknown code") {
		t.Errorf("dead letters %q", lines)
	}
}
