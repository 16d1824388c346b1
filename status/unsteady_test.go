package status

import (
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/drivers"
)

// A device that comes and goes is one problem with a remedy, whether it is there
// at the moment or not; away for long, it is away.
func TestADeviceThatComesAndGoesIsAProblem(t *testing.T) {
	snap := wellPlant()
	d := &snap.Devices[0]
	d.Unsteady = drivers.Unsteady{Since: noon.Add(-time.Hour), Times: 12, Within: 5 * time.Minute}
	d.LastError = "line: read from 10.0.0.7:4001: the device closed the connection"
	for _, c := range []struct {
		connected bool
		away      time.Duration
		what      string
		follows   int
	}{
		{true, 0, "Device press-plc: it comes and goes: lost 12 times in the last 5 minutes", 0},
		{false, time.Second, "Device press-plc: it comes and goes: lost 12 times in the last 5 minutes", 1},
		{false, longAway, "Device press-plc is away", 1},
	} {
		d.Connected, d.Since = c.connected, noon.Add(-c.away)
		ps := Problems(snap)
		if len(ps) != 1 || ps[0].What != c.what || len(ps[0].Follows) != c.follows || ps[0].Severity != Stuck {
			t.Fatalf("%+v: %+v", c, ps)
		}
		if !strings.Contains(ps[0].Cause, "closed the connection") || !strings.Contains(ps[0].Do, "It closed the connection") {
			t.Errorf("%+v: %+v", c, ps[0])
		}
		if c.away < longAway && (!strings.HasPrefix(ps[0].Cause, "the last time: ") || !strings.Contains(ps[0].Do, "loose plug") || !ps[0].Since.Equal(d.Unsteady.Since)) {
			t.Errorf("%+v: %+v", c, ps[0])
		}
	}
	doc := deviceDocument(d)
	if doc.Unsteady != d.Unsteady.String() || len(doc.Advice) != 1 || !strings.Contains(doc.Advice[0], "lost 12 times") || time.Time(doc.UnsteadySince) != d.Unsteady.Since {
		t.Errorf("API: %+v", doc)
	}
	if body := ask(t, snap, "GET", "/metrics").Body.String(); !strings.Contains(body, `sluice_device_unsteady{device="press-plc"} 1`) {
		t.Error("no metric says so")
	}
	if body := ask(t, snap, "GET", "/").Body.String(); !strings.Contains(body, "lost 12 times") {
		t.Error("the page does not say so")
	}
}
