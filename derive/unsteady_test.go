package derive

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// A device that comes and goes is one alarm, also over a restart, and one that is
// none of the machine's any more ends its alarm.
func TestAnUnsteadyDeviceIsOneAlarm(t *testing.T) {
	s := &scenario{path: "m.yaml", files: map[string]string{"tags": modelTags, "config": "device: press\ncounter: {good: made, max_rate: 1/s}\n"}}
	m := s.model(t, "config", "tags")
	state := decode(t, m, nil)
	now := time.Date(2026, 3, 2, 6, 0, 0, 0, time.UTC)
	var got []string
	step := func(device plant.DeviceID, connected bool, unsteady string) {
		t.Helper()
		now = now.Add(time.Second)
		var out Output
		state, out = m.Step(state, plant.DeviceState{At: now, Device: device, Connected: connected, Cause: "cut", Unsteady: unsteady})
		for _, ev := range out.Events {
			if ev.Kind != plant.KindAlarm {
				continue
			}
			var a plant.Alarm
			if err := json.Unmarshal(ev.Data, &a); err != nil {
				t.Fatal(err)
			}
			if a.Raised != (a.Remedy != "") || a.Text == "" {
				t.Errorf("alarm %+v", a)
			}
			got = append(got, fmt.Sprint(a.Alarm, " ", a.Raised))
		}
	}
	restart := func() {
		t.Helper()
		b, err := m.Encode(&state)
		if err != nil {
			t.Fatal(err)
		}
		state = decode(t, m, b)
	}
	const words = "it comes and goes: lost 3 times in the last 5 minutes"
	step("press", false, "")
	step("press", true, "")
	step("press", false, words)
	step("press", true, words)
	restart()
	step("press", false, words)
	step("camera", false, words) // another machine's
	step("press", true, "")
	step("press", true, "")
	step("press", false, words)
	state.gateway.Unsteady = append(slices.Clone(state.gateway.Unsteady), "old")
	step("press", true, words)
	want := []string{"device_unsteady:press true", "device_unsteady:press false", "device_unsteady:press true", "device_unsteady:old false"}
	if !slices.Equal(got, want) {
		t.Errorf("alarms %q, want %q", got, want)
	}
}
