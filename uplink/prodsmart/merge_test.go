package prodsmart

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// TestMergingFastAndSlowlyIsTheSame for counts of any sort.
func TestMergingFastAndSlowlyIsTheSame(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 7))
	orders := []*plant.Order{nil, {Number: "A"}, {Number: `B "}]{,`, SKU: "x"}, {Number: "A", Operation: "10"}}
	fast := 0
	for range 5000 {
		made := func(good int64) plant.Event {
			c := plant.Counter{Head: plant.Head{Machine: `M "1`, Mode: "production", Order: orders[random.IntN(2)*random.IntN(4)]}, Good: good, GoodDelta: random.Int64N(9), Raw: good, From: at(1), To: at(2)}
			for _, code := range []string{"BURR", `C "\ä`}[:random.IntN(3)] {
				c.Scrap = append(c.Scrap, plant.ScrapCount{Code: code, Quantity: random.Int64N(5), Delta: random.Int64N(3)})
			}
			c.Rework, c.Unattributed, c.Rebase = random.Int64N(3), random.IntN(9) == 0, random.IntN(5) == 0
			return plant.Event{Kind: plant.KindCounter, Data: c.AppendJSON(nil)}
		}
		a, b := made(random.Int64N(20)), made(10+random.Int64N(20))
		slow, want := mergeSlowly(a, b)
		e, l := a, b
		merged, sure := mergeFast(&e, &l)
		if !sure || merged != want {
			t.Fatalf("%s\n%s\nmerged %v, sure %v, want %v", a.Data, b.Data, merged, sure, want)
		}
		if !merged {
			continue
		}
		fast++
		var got, other plant.Counter
		if err := errors.Join(json.Unmarshal(l.Data, &got), json.Unmarshal(slow.Data, &other)); err != nil {
			t.Fatalf("%s: %v", l.Data, err)
		}
		other.From, other.To, other.Raw, other.Rebase = time.Time{}, time.Time{}, 0, false
		if !reflect.DeepEqual(got, other) {
			t.Fatalf("%+v\nwant %+v", got, other)
		}
	}
	if fast < 200 {
		t.Errorf("only %d were merged", fast)
	}
}

// FuzzMembers: no data makes it fail, and what it takes is JSON to others too.
func FuzzMembers(f *testing.F) {
	for _, seed := range []string{`{}`, `{"a":1}`, `{"a":"\"","b":[{"c":1},2]}`, `{"a"`, `{"a":1,}`, `{"a":}`, `{"a":1}}`, `{"a" :1}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		n := 0
		took := members(data, func(_, value []byte) {
			n++
			items(value, func([]byte) bool { return true })
		})
		var object map[string]json.RawMessage
		if took && json.Unmarshal(data, &object) == nil && len(object) > n {
			t.Errorf("%q has %d members, %d were seen", data, len(object), n)
		}
	})
}

func counterEvents(n int) []plant.Event {
	l := &line{begun: time.Now(), backlog: n}
	all := make([]plant.Event, n)
	for i := range all {
		all[i] = l.event("M-1", plant.Sequence(i+1))
	}
	return all
}

// BenchmarkMergeCounts is what a backlog costs: each event once.
func BenchmarkMergeCounts(b *testing.B) {
	events := counterEvents(1000)
	s := &Sender{}
	b.ReportAllocs()
	i := 0
	merged := events[0]
	for b.Loop() {
		i++
		if i == 500 { // the order changes there
			i, merged = 1, events[0]
		}
		m, ok := s.Merge(merged, events[i])
		if !ok {
			b.Fatal("not merged")
		}
		merged = m
	}
}
