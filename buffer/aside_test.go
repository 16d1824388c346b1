package buffer

import (
	"context"
	"errors"
	"testing"

	"github.com/sluice-edge/sluice/plant"
)

// What a receiver says of a dead letter that an uplink sends once more is kept
// with what the answer put, also over a restart, and also when somebody has taken
// the letter away meanwhile.
func TestLettersAreAnswered(t *testing.T) {
	path := quickDir(t)
	b := open(t, testOptions(path))
	q := queue(t, b, "mes", all)
	ctx := context.Background()
	commit(t, b, "M1", count(1), count(2), count(3), count(4))
	m := next(t, q)
	peekAll(t, q, m, 0, 10)
	waits := errors.New("waits for its parent")
	var results []plant.Result
	for n := range plant.Sequence(4) {
		results = append(results, plant.Result{First: n + 1, Last: n + 1, Status: plant.Rejected, Cause: waits})
	}
	settle(t, q, m, 4, results...)

	e, ok, err := q.Letter(ctx, m, 2)
	if err != nil || !ok || e.Sequence != 2 || e.Machine != m || string(e.Data) != string(count(2).Data) || e.Epoch != b.Epoch() {
		t.Fatalf("%+v, %v, %v", e, ok, err)
	}
	put := func(key string) []plant.KV { return []plant.KV{{Key: key, Value: []byte("1")}} }
	for s, r := range map[plant.Sequence]plant.Result{
		1: {Status: plant.Delivered, Put: put("delivered")},
		2: {Status: plant.Rejected, Cause: errors.New("no such serial"), Put: put("refused")},
		3: {Status: plant.Held, Put: put("held")},
		4: {Status: plant.Skipped},
		9: {Status: plant.Delivered, Put: put("gone")},
	} {
		if err := q.AnswerLetter(ctx, m, s, r); err != nil {
			t.Errorf("answer %d: %v", s, err)
		}
	}
	if err := q.AnswerLetter(ctx, m, 9, plant.Result{Status: plant.Delivered}); err != nil {
		t.Errorf("no letter, nothing put: %v", err)
	}
	mustClose(t, b)
	b = open(t, testOptions(path))
	q = queue(t, b, "mes", all)
	if _, ok, err := q.Letter(ctx, m, 1); ok || err != nil {
		t.Errorf("delivered: %v, %v", ok, err)
	}
	causes := map[plant.Sequence]string{}
	for d, err := range b.DeadLetters(ctx, "mes") {
		if err != nil {
			t.Fatal(err)
		}
		causes[d.Event.Sequence] = d.Cause
	}
	if len(causes) != 2 || causes[2] != "no such serial" || causes[3] != waits.Error() {
		t.Errorf("dead letters %q", causes)
	}
	for _, key := range []string{"delivered", "refused", "held", "gone"} {
		if v, err := q.Memory(key); string(v) != "1" || err != nil {
			t.Errorf("memory %q: %q, %v", key, v, err)
		}
	}
	if got := queueStats(t, b, "mes"); got.DeadLetters != 2 {
		t.Errorf("%d dead letters are counted", got.DeadLetters)
	}
}
