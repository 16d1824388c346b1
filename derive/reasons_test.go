package derive

import (
	"testing"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/derive/startstop"
	"github.com/sluice-edge/sluice/plant"
)

// TestDowntimeTypeOfAnUplink: a code has the name that its uplink gives it, else
// the general one; what the table does not have has the default, by uplink too.
func TestDowntimeTypeOfAnUplink(t *testing.T) {
	m, err := NewModel("PRESS-01", Options{Device: "press", StartStop: &startstop.Options{
		Running: startstop.Running{Tag: "run"}, Reason: "code", DefaultType: "other", DefaultTypes: map[string]string{"erp": "9999"},
		Reasons: config.Table[startstop.ReasonCode]{Rows: []config.Row[startstop.ReasonCode]{
			{Name: "21", Value: startstop.ReasonCode{Type: "Waiting", Types: map[string]string{"erp": "M-21", "mes": ""}}},
			{Name: "31", Value: startstop.ReasonCode{Type: "Jam"}},
		}},
	}}, Catalog{"press": {{ID: "run", Type: plant.TypeBool}, {ID: "code", Type: plant.TypeUint16}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		uplink, code, want string
		own                bool
	}{
		{"erp", "21", "M-21", true}, {"mes", "21", "", true}, {"broker", "21", "Waiting", false},
		{"erp", "31", "Jam", false}, {"erp", "99", "9999", true}, {"broker", "99", "other", false},
		{"erp", "", "9999", true}, {"broker", "", "other", false},
	} {
		if got, own := m.DowntimeType(c.uplink, c.code); own != c.own || got != c.want {
			t.Errorf("%s calls %q %q (own %v), want %q (%v)", c.uplink, c.code, got, own, c.want, c.own)
		}
	}
	if errs := m.CheckUplinks([]string{"erp"}); len(errs) != 1 {
		t.Errorf("mes is no uplink: %v", errs)
	}
	if errs := m.CheckUplinks([]string{"erp", "mes"}); len(errs) != 0 {
		t.Errorf("all are there: %v", errs)
	}
}
