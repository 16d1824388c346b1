package admin

import (
	"errors"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

// TestAJobThatWaitsForItsTurnGoesOnAtOnce: a receiver's share of requests that is
// used up for the moment is no failure, and backs nothing off.
func TestAJobThatWaitsForItsTurnGoesOnAtOnce(t *testing.T) {
	turn := plant.Result{Status: plant.Retry, Cause: &uplink.NotYet{Why: "the share of requests is used up"}}
	const each = 7 // backed off, they would take two minutes
	tries := map[plant.Sequence]int{}
	answer := func(e plant.Event) plant.Result {
		if tries[e.Sequence]++; tries[e.Sequence] < each {
			return turn
		}
		return plant.Result{Status: plant.Delivered}
	}
	for _, test := range []struct {
		path string
		in   map[string]any
	}{
		{"/resend", map[string]any{"uplink": "mes", "rate": 10000}},
		{"/dead/retry", map[string]any{"uplink": "mes", "all": true, "rate": 10000}},
	} {
		b := openBed(t, t.TempDir(), true)
		clear(tries)
		b.refuse("A", 3)
		b.uplink.answer = answer
		var job Job
		if err := b.Post(t.Context(), test.path, test.in, &job); err != nil {
			t.Fatal(err)
		}
		ended := b.job(job.ID, func(j *Job) bool { return !j.Ended.IsZero() })
		if ended.Delivered != 3 || ended.Refused != 0 || ended.LastError != "" {
			t.Errorf("%s: %+v", test.path, ended)
		}
		b.stop()
	}
}

// TestRhythm: failures back off, from the first wait again once something was
// settled, and are told once.
func TestRhythm(t *testing.T) {
	const pace = 100 * time.Millisecond
	failed := func(wait time.Duration, onward bool) *later {
		l := tryAgain(plant.Result{Cause: errors.New("503"), Wait: wait})
		l.onward = onward
		return l
	}
	r := rhythm{pause: firstWait}
	for i, step := range []struct {
		again *later
		wait  time.Duration
		fails bool
	}{
		{nil, pace, false},
		{failed(0, false), time.Second, true},
		{failed(0, false), 2 * time.Second, false},
		{failed(time.Minute, false), time.Minute, false},
		{failed(0, true), time.Second, false},
		{failed(0, false), 2 * time.Second, false},
		{&later{turn: true}, pace, false},
		{failed(0, false), time.Second, false},
		{&later{turn: true, wait: 3 * time.Second, onward: true}, 3 * time.Second, false},
		{failed(0, false), time.Second, true},
		{nil, pace, false},
		{failed(0, false), time.Second, true},
	} {
		if wait, fails := r.after(step.again, pace); wait != step.wait || fails != step.fails {
			t.Errorf("step %d: %v %v, want %v %v", i, wait, fails, step.wait, step.fails)
		}
	}
	for range 10 {
		r.after(failed(0, false), pace)
	}
	if wait, _ := r.after(failed(0, false), pace); wait != longestWait {
		t.Errorf("it waits %v at most", wait)
	}
}
