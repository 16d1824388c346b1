package parameters

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/sluice-edge/sluice/plant"
)

// TestAValueSurvivesItsState: each type of value reads back as itself, or a
// restart would report it as changed.
func TestAValueSurvivesItsState(t *testing.T) {
	for _, v := range []plant.Value{
		{}, plant.BoolValue(true), plant.BoolValue(false), plant.IntValue(math.MinInt64), plant.UintValue(math.MaxUint64),
		plant.FloatValue(0.1), plant.FloatValue(-1e300), plant.ExactValue(plant.Decimal{Unscaled: -1250, Scale: 2}),
		plant.TextValue(""), plant.TextValue("a \"quoted\" ünïcode\n"),
	} {
		b, err := json.Marshal(sample{Value: value{v}})
		if err != nil {
			t.Fatal(err)
		}
		var back sample
		if err := json.Unmarshal(b, &back); err != nil || back.Value.Value != v {
			t.Errorf("%s reads back as %v: %v", b, back.Value, err)
		}
	}
	for _, bad := range []string{`{"v":""}`, `{"v":"q1"}`, `{"v":"ix"}`, `{"v":"f"}`} {
		var s sample
		if err := json.Unmarshal([]byte(bad), &s); err == nil {
			t.Errorf("%s was accepted", bad)
		}
	}
}

func TestDeadbandForms(t *testing.T) {
	for text, want := range map[string]Deadband{"0.5": {Amount: 0.5}, "2%": {Amount: 2, Percent: true}, "2 %": {Amount: 2, Percent: true}, "0": {}} {
		var d Deadband
		if err := d.UnmarshalText([]byte(text)); err != nil || d != want {
			t.Errorf("%q: %+v %v", text, d, err)
		}
	}
	for _, text := range []string{"", "-1", "NaN", "inf", "%", "2pct"} {
		var d Deadband
		if err := d.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q was accepted as %+v", text, d)
		}
	}
}
