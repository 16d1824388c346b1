package buffer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/sluice-edge/sluice/plant"
)

// refuse gives n events to the uplink and has them all refused.
func refuse(t *testing.T, b *Buffer, q *Queue, m plant.MachineID, n int) {
	t.Helper()
	for i := range n {
		commit(t, b, m, count(i))
	}
	if got := next(t, q); got != m {
		t.Fatalf("leased %s", got)
	}
	var results []plant.Result
	events := peekAll(t, q, m, 0, n)
	for _, e := range events {
		results = append(results, plant.Result{First: e.Sequence, Last: e.Sequence, Status: plant.Rejected, Cause: errors.New("unknown code")})
	}
	settle(t, q, m, events[len(events)-1].Sequence, results...)
}

func dead(t *testing.T, b *Buffer, uplink string) (found []DeadLetter) {
	t.Helper()
	for d, err := range b.DeadLetters(context.Background(), uplink) {
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, d)
	}
	return found
}

// A removal and its job are one transaction, which holds after a crash; nothing
// is counted twice.
func TestDeadLettersAreRemovedOnce(t *testing.T) {
	b := open(t, testOptions(quickDir(t)))
	q := queue(t, b, "mes", all)
	refuse(t, b, q, "M1", 5)
	ctx := context.Background()
	if err := b.SaveJob(ctx, Job{ID: 7, Record: []byte("begun")}); err != nil {
		t.Fatal(err)
	}
	if err := b.RemoveDead(ctx, "mes", "M1", 2, &Job{ID: 7, Record: []byte("did 2")}); err != nil {
		t.Fatal(err)
	}
	if err := b.RemoveDead(ctx, "mes", "M1", 2, &Job{ID: 7, Record: []byte("did it twice")}); !errors.Is(err, ErrNoDeadLetter) {
		t.Errorf("removed twice: %v", err)
	}
	for _, none := range []struct {
		uplink  string
		machine plant.MachineID
	}{{"mes", "M2"}, {"erp", "M1"}, {"", "M1"}, {strings.Repeat("x", 300), "M1"}} {
		if err := b.RemoveDead(ctx, none.uplink, none.machine, 3, nil); !errors.Is(err, ErrNoDeadLetter) {
			t.Errorf("%+v: %v", none, err)
		}
	}
	if err := b.RefuseDead(ctx, "mes", "M1", 4, errors.New("still unknown"), nil); err != nil {
		t.Fatal(err)
	}
	check := func(b *Buffer) {
		t.Helper()
		letters := dead(t, b, "mes")
		got := ""
		for _, d := range letters {
			got += fmt.Sprintf("%d %s; ", uint64(d.Event.Sequence), d.Cause)
		}
		if want := "1 unknown code; 3 unknown code; 4 still unknown; 5 unknown code; "; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if s := queueStats(t, b, "mes"); s.DeadLetters != 4 {
			t.Errorf("counted %d", s.DeadLetters)
		}
		for j, err := range b.Jobs(ctx) {
			if err != nil || j.ID != 7 || string(j.Record) != "did 2" {
				t.Errorf("job %+v, %v", j, err)
			}
		}
	}
	check(b)
	b = open(t, testOptions(crash(t, b)))
	check(b)
	if err := b.SaveJob(ctx, Job{ID: 7}); err != nil {
		t.Fatal(err)
	}
	for j := range b.Jobs(ctx) {
		t.Errorf("job %+v is still there", j)
	}
	if b.Err() != nil {
		t.Error(b.Err())
	}
}

// A removal beside a settlement that adds dead letters: both count.
func TestDeadLettersAreRemovedWhileOthersCome(t *testing.T) {
	b := open(t, testOptions(quickDir(t)))
	q := queue(t, b, "mes", all)
	refuse(t, b, q, "M1", 3)
	for i := range 3 {
		commit(t, b, "M1", count(i))
	}
	m := next(t, q)
	events := peekAll(t, q, m, 0, 9)
	w, err := q.openSettle(m, 6)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.RemoveDead(context.Background(), "mes", "M1", 1, nil); err != nil {
		t.Fatal(err)
	}
	if w.cursor.lease == nil {
		t.Error("the removal took the lease away")
	}
	var results []plant.Result
	for _, e := range events {
		results = append(results, plant.Result{First: e.Sequence, Last: e.Sequence, Status: plant.Rejected, Cause: errors.New("no")})
	}
	settle(t, q, m, 6, results...)
	if s := queueStats(t, b, "mes"); s.DeadLetters != 5 {
		t.Errorf("counted %d, want 5", s.DeadLetters)
	}
	mustClose(t, b)
	b = open(t, testOptions(b.opts.Path))
	if s := queueStats(t, b, "mes"); s.DeadLetters != 5 || len(dead(t, b, "mes")) != 5 {
		t.Errorf("counted %d after a restart", s.DeadLetters)
	}
}
