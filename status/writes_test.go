package status

import (
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/derive"
	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/plant"
)

// TestAWriteThatIsRefusedHasItsCauseAndRemedy: the page names device, tag, cause and
// what helps, an acknowledgement in red, and says the same each second.
func TestAWriteThatIsRefusedHasItsCauseAndRemedy(t *testing.T) {
	said := "drivers: write press-plc/ack: modbus: write ack (holding:900): the device answered "
	for _, c := range []struct {
		cause            string
		heartbeat, often bool
		severity         Severity
		what, shown, do  []string
	}{
		{said + "exception 2 (illegal data address) to the write", false, false, Stuck, []string{"gets no acknowledgement", "tag ack of press-plc"}, []string{"ack (holding:900): the device answered exception 2"}, []string{"wrong", "let it be written", "machine may stand"}},
		{said + "exception 3 (illegal data value) to the write", false, false, Stuck, []string{"tag ack of press-plc"}, nil, []string{"address of this tag in the config is wrong"}},
		{said + "exception 4 (server device failure) to the write", false, false, Stuck, []string{"tag ack"}, nil, []string{"look at the PLC", "machine may stand"}},
		{said + "exception 6 (server device busy) to the write", false, true, Doubtful, []string{"now and then", "tag ack"}, nil, []string{"busy", "written again by itself"}},
		{said + "exception 2 (illegal data address) to the write", true, false, Doubtful, []string{"the heartbeat cannot be written", "tag ack of press-plc"}, nil, []string{"let it be written", "take the gateway for dead"}},
		{"drivers: write press-plc/ack: modbus: no answer to the write of ack (holding:900): no answer within 300ms", false, false, Stuck, []string{"tag ack"}, []string{"no answer to the write of ack"}, []string{"can be read and does not answer this write", "machine may stand"}},
		{"drivers: write press-plc/ack: opcua: write ack: the node may not be written (BadNotWritable)", false, false, Stuck, []string{"tag ack"}, []string{"may not be written"}, []string{"Let the server allow"}},
		{"drivers: write press-plc/ack: something new", false, false, Stuck, []string{"tag ack"}, []string{"something new"}, []string{"Look whether the device is well"}},
	} {
		snap := wellPlant()
		snap.Machines[0].WritesFailed = 399
		snap.Machines[0].FailedWrites = []derive.FailedWrite{{Ref: plant.TagRef{Device: "press-plc", Tag: "ack"}, Cause: c.cause, Since: noon, NowAndThen: c.often, Heartbeat: c.heartbeat}}
		ps := Problems(snap)
		if len(ps) != 1 || ps[0].Severity != c.severity || !ps[0].Since.Equal(noon) {
			t.Fatalf("%s: %+v", c.cause, ps)
		}
		for _, has := range []struct {
			in   string
			want []string
		}{{ps[0].What, c.what}, {ps[0].Cause, c.shown}, {ps[0].Do, c.do}} {
			for _, want := range has.want {
				if !strings.Contains(has.in, want) {
					t.Errorf("%s: %q has no %q", c.cause, has.in, want)
				}
			}
		}
		if heartbeat := strings.Contains(ps[0].Do, "acknowledg"); heartbeat == c.heartbeat && !c.often {
			t.Errorf("%s: %q speaks of the wrong thing", c.cause, ps[0].Do)
		}
		if strings.Contains(ps[0].Cause, "drivers:") || strings.Contains(ps[0].What+ps[0].Cause+ps[0].Do, "399") {
			t.Errorf("%s: %+v", c.cause, ps[0])
		}
		snap.Devices[0].Connected, snap.Devices[0].Since = false, noon.Add(-time.Hour)
		for _, p := range Problems(snap) {
			if strings.HasPrefix(p.What, "Machine PRESS-01") {
				t.Errorf("of a device that is away: %+v", p)
			}
		}
		snap.Devices[0].Since = snap.At
		snap.Devices[0].Unsteady = drivers.Unsteady{Since: noon, Times: 4, Within: time.Hour}
		snap.Devices[0].LastError = strings.TrimPrefix(c.cause, "drivers: write press-plc/ack: ")
		if got := Problems(snap); len(got) != 2 || strings.Contains(c.cause, "no answer to the write") != !strings.Contains(got[0].Do+got[1].Do, "loose plug") {
			t.Errorf("of a device that comes and goes: %+v", got)
		}
	}
}
