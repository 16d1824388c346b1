package opcua

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/gopcua/opcua/ua"
	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/drivers/driverstest"
)

// subscribed is a session with as many tags, and a publish with a value of each,
// without any server.
func subscribed(tb testing.TB, tags int) (*session, publish) {
	tb.Helper()
	text := "driver: opcua\nendpoint: opc.tcp://ENDPOINT\ntags:\n"
	for i := range tags {
		text += fmt.Sprintf("  t%d: ns=2;i=%d\n", i, i)
	}
	d, ok := checkPlan(tb, text, "127.0.0.1:4840").Open(drivers.Env{Name: driverstest.Device, Log: zap.NewNop()}).(*driver)
	if !ok {
		tb.Fatal("no driver")
	}
	s := &session{d: d, number: 1, namespaces: []string{"", "urn:own", "urn:line"}}
	came := publish{asked: time.Now()}
	for i, point := range d.points {
		it := &item{point: point, handle: uint32(i + 1)}
		it.resolve(s.namespaces, d.pins.of(point))
		s.items = append(s.items, it)
		came.changes = append(came.changes, sampleOf(it.handle, &ua.DataValue{
			Value: ua.MustVariant(uint32(i)), SourceTimestamp: came.asked.Add(time.Duration(i)),
		}))
	}
	s.changed(tb.Context(), came) // the snapshot, which makes the room
	return s, came
}

// allocations is the least of some measures, since what else goes on in this process
// meanwhile, as at servers of other tests, only adds to one.
func allocations(most float64, run func()) (least float64) {
	least = testing.AllocsPerRun(20, run)
	for range 20 {
		if least <= most {
			break
		}
		least = min(least, testing.AllocsPerRun(20, run))
	}
	return least
}

// A reading allocates nothing between the codec and who takes it.
func TestAReadingAllocatesNothing(t *testing.T) {
	for _, tags := range []int{1, 1000} {
		s, came := subscribed(t, tags)
		if n := allocations(0, func() {
			if scans := s.changed(t.Context(), came); len(scans) != 1 || len(scans[0].Readings) != tags {
				t.Fatalf("%d scans", len(scans))
			}
		}); n > 0 {
			t.Errorf("%d tags: %v allocations for each publish", tags, n)
		}
	}
}

// BenchmarkChanged makes a publish of a thousand values into readings: one of each
// tag, or four of each, tag by tag as servers report their queues.
func BenchmarkChanged(b *testing.B) {
	for name, each := range map[string]int{"one of each tag": 1, "four of each tag": 4} {
		b.Run(name, func(b *testing.B) {
			s, once := subscribed(b, 1000/each)
			came := publish{asked: once.asked}
			for i := range 1000 {
				c := once.changes[i/each]
				c.at = c.at.Add(time.Duration(i%each) * time.Millisecond)
				came.changes = append(came.changes, c)
			}
			reported := slices.Clone(came.changes)
			b.ReportAllocs()
			for b.Loop() {
				copy(came.changes, reported) // which were put in order
				s.changed(b.Context(), came)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/value")
		})
	}
}
