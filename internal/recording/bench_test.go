package recording

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/derive"
	"github.com/sluice-edge/sluice/derive/counter"
	"github.com/sluice-edge/sluice/derive/parameters"
	"github.com/sluice-edge/sluice/derive/startstop"
	"github.com/sluice-edge/sluice/plant"
)

// line is a machine of 1000 tags: two counters, a state, a reason, and process
// values with a deadband.
func line(tb testing.TB) (*derive.Model, *plant.Scan) {
	tb.Helper()
	o := derive.Options{
		Device:    "press",
		Counter:   &counter.Options{Total: "t0", Scrap: config.Table[string]{Rows: []config.Row[string]{{Name: "SCRAP", Value: "t1"}}}, MaxRate: config.Rate{Count: 100, Per: time.Second}, Every: config.Duration(10 * time.Second)},
		StartStop: &startstop.Options{Running: startstop.Running{Tag: "t2"}, Reason: "t3"},
	}
	scan := &plant.Scan{Device: "press"}
	var tags []plant.Tag
	for i := range 1000 {
		id := plant.TagID(fmt.Sprintf("t%d", i))
		tags = append(tags, plant.Tag{ID: id, Type: plant.TypeFloat32})
		if i < 4 {
			tags[i].Type = plant.TypeUint16
		}
		scan.Readings = append(scan.Readings, plant.Reading{Tag: id, Value: plant.UintValue(1), Quality: plant.Good})
		if i > 3 {
			scan.Readings[i].Value = plant.FloatValue(20)
			o.Parameters.Rows = append(o.Parameters.Rows, config.Row[parameters.Parameter]{Name: fmt.Sprintf("P%d", i), Value: parameters.Parameter{Tag: string(id), Deadband: parameters.Deadband{Amount: 5}, MinInterval: config.Duration(time.Minute)}})
		}
	}
	m, err := derive.NewModel("PRESS-01", o, derive.Catalog{"press": tags})
	if err != nil {
		tb.Fatal(err)
	}
	return m, scan
}

// day records the line for so many seconds: it makes two pieces a second, stops
// now and then, and moving of its process values change with each answer.
func day(tb testing.TB, seconds, moving int) []byte {
	m, scan := line(tb)
	rules, err := m.NewReplay(nil, nil)
	if err != nil {
		tb.Fatal(err)
	}
	state, err := rules.State()
	if err != nil {
		tb.Fatal(err)
	}
	var b bytes.Buffer
	w, err := NewWriter(&b, Head{Machine: "PRESS-01", Run: "00c0ffee", Part: 1}, state, nil)
	if err != nil {
		tb.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	made, first := uint64(0), plant.Sequence(1)
	for i := range seconds {
		scan.Received = base.Add(time.Duration(i)*time.Second + time.Duration(r.IntN(1000))*time.Microsecond)
		scan.Asked = scan.Received.Add(-time.Duration(2000+r.IntN(3000)) * time.Microsecond)
		running := i%600 > 40
		if running {
			made += 2
		}
		scan.Readings[0].Value, scan.Readings[2].Value = plant.UintValue(made%65536), plant.BoolValue(running)
		for range moving {
			at := 4 + r.IntN(len(scan.Readings)-4)
			scan.Readings[at].Value = plant.FloatValue(float64(float32(20 + r.NormFloat64())))
		}
		st := derive.Step{In: scan}
		events := rules.Step(st)
		if err := w.Add([]derive.Step{st}, events, first); err != nil {
			tb.Fatal(err)
		}
		first += plant.Sequence(len(events))
	}
	if err := w.End("its time was over", false); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// BenchmarkReplay replays 24 hours of a line of 1000 tags that is read each
// second: 86.4 million readings. The target is 30 s.
func BenchmarkReplay(b *testing.B) {
	const seconds = 24 * 60 * 60
	for _, moving := range []int{10, 100} {
		b.Run(fmt.Sprintf("24h-1000-tags-%d-moving", moving), func(b *testing.B) {
			data := day(b, seconds, moving)
			b.ReportAllocs()
			b.ResetTimer()
			events := 0
			for b.Loop() {
				m, _ := line(b)
				r, err := NewReader(bytes.NewReader(data))
				if err != nil {
					b.Fatal(err)
				}
				rules, err := m.NewReplay(r.State())
				if err != nil {
					b.Fatal(err)
				}
				events = 0
				var e Entry
				for {
					err := r.Next(&e)
					if errors.Is(err, io.EOF) {
						break
					}
					if err != nil {
						b.Fatal(err)
					}
					if e.Step.In != nil {
						events += len(rules.Step(e.Step))
					}
				}
			}
			b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s/day")
			b.ReportMetric(float64(len(data))/1e6, "MB")
			b.ReportMetric(float64(events), "events")
		})
	}
}

// BenchmarkRecord is what an answer of 1000 tags costs a machine that is
// recorded, of which 10 changed.
func BenchmarkRecord(b *testing.B) {
	_, scan := line(b)
	w, err := NewWriter(io.Discard, Head{}, nil, nil)
	if err != nil {
		b.Fatal(err)
	}
	steps := []derive.Step{{In: scan}}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		scan.Received = base.Add(time.Duration(n) * time.Second)
		for i := range 10 {
			scan.Readings[4+(n+i*97)%900].Value = plant.FloatValue(float64(n))
		}
		n++
		if err := w.Add(steps, nil, 0); err != nil {
			b.Fatal(err)
		}
	}
}
