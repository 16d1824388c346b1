package prodsmart

import (
	"testing"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

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
