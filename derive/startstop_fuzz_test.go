package derive

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/derive/parameters"
	"github.com/sluice-edge/sluice/derive/startstop"
	"github.com/sluice-edge/sluice/plant"
)

// FuzzDecodeStateOfStartStop: whatever the state of start/stop and process values
// says, it is refused, or the steps from it make valid events and a state that can
// be written again.
func FuzzDecodeStateOfStartStop(f *testing.F) {
	m, err := NewModel("PRESS-01", Options{
		Device: "press",
		StartStop: &startstop.Options{
			Running: startstop.Running{PackML: &startstop.PackML{State: "state", Mode: "mode"}}, Reason: "code", ReasonBefore: config.Duration(time.Second),
			MinStop: config.Duration(time.Second), Stops: &startstop.Stops{Count: "stops", Seconds: "stood"},
		},
		Parameters: parameters.Options{Rows: []config.Row[parameters.Parameter]{
			{Name: "T", Value: parameters.Parameter{Tag: "stood", Over: config.Duration(time.Minute)}},
			{Name: "S", Value: parameters.Parameter{Tag: "state"}},
		}},
	}, Catalog{"press": {
		{ID: "state", Type: plant.TypeInt32}, {ID: "mode", Type: plant.TypeInt32}, {ID: "code", Type: plant.TypeUint16},
		{ID: "stops", Type: plant.TypeUint16}, {ID: "stood", Type: plant.TypeFloat64},
	}})
	if err != nil {
		f.Fatal(err)
	}
	scan := func(i int, snapshot bool) plant.Scan {
		good := func(tag plant.TagID, v plant.Value) plant.Reading {
			return plant.Reading{Tag: tag, Value: v, Quality: plant.Good}
		}
		return plant.Scan{Device: "press", Received: base.Add(time.Duration(i) * 40 * time.Second), Snapshot: snapshot, Readings: []plant.Reading{
			good("state", plant.IntValue(int64(6-i%2))), good("mode", plant.IntValue(1)), good("code", plant.IntValue(int64(i))),
			good("stops", plant.IntValue(int64(i))), good("stood", plant.FloatValue(float64(i)/3)),
		}}
	}
	var s State
	for i := range 4 {
		s, _ = m.Step(s, scan(i, i == 0))
		b, err := m.Encode(&s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := m.Decode(b, nil)
		if err != nil {
			return
		}
		for i := range 6 {
			var out Output
			s, out = m.Step(s, scan(i, i == 2))
			if _, err := m.Encode(&s); err != nil {
				t.Fatal(err)
			}
			for _, e := range out.Events {
				if !json.Valid(e.Data) {
					t.Fatalf("event %s", e.Data)
				}
			}
		}
	})
}
