package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-edge/sluice/derive/ledger"
	"github.com/sluice-edge/sluice/plant"
)

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

// What is taken is a dead letter no more, what is refused again has the newest
// words, and what the receiver wants later stays.
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
