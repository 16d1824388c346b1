package status

import (
	"slices"
	"strings"
	"testing"

	"github.com/sluice-edge/sluice/drivers"
)

// A line shows how busy it is and who takes most of it, and one without time left
// is a problem.
func TestLinesAreShown(t *testing.T) {
	snap := wellPlant()
	for i, share := range []float64{0.2, 0.5} {
		d := &snap.Devices[i]
		d.Line, d.Unit, d.LineShare, d.Skipped = "hall", i+1, share, uint64(i+1)
	}
	lines := linesOf(append(slices.Clone(snap.Devices), drivers.Stats{Device: "other", Line: "cellar"}))
	if len(lines) != 2 || lines[0].Line != "cellar" || lines[1].Share != 0.7 || lines[1].Most != "filler-plc" || lines[1].MostShare != 0.5 || lines[1].Skipped != 3 || len(lines[1].Devices) != 2 {
		t.Errorf("%+v", lines)
	}
	if ps := Problems(snap); len(ps) != 0 {
		t.Errorf("a line with time left is a problem: %q", whats(ps))
	}
	for path, want := range map[string]string{
		"/":              "hall, busy for 70 % of the last minute; 50 % of it for this device, most for filler-plc",
		"/metrics":       `sluice_line_busy_ratio{line="hall"} 0.7`,
		"/api/v1/status": `"most": "filler-plc"`,
	} {
		if body := ask(t, snap, "GET", path).Body.String(); !strings.Contains(body, want) {
			t.Errorf("%s does not have %q", path, want)
		}
	}
	snap.Devices[1].LineShare = 0.76
	ps := Problems(snap)
	if len(ps) != 1 || ps[0].What != "Line hall is too slow for what is asked of it" || !strings.Contains(ps[0].Cause, "filler-plc took most, 76 %") || ps[0].Do == "" {
		t.Errorf("%+v", ps)
	}

	// Who took it all and is named for that already is not named twice, in words
	// that lead elsewhere.
	snap.Devices[1].Notices = []drivers.Notice{{Text: "unit 2 answers wrongly now and then", Do: "unplug it"}}
	if ps := Problems(snap); len(ps) != 1 || strings.Contains(ps[0].What, "too slow") {
		t.Errorf("%q", whats(ps))
	}
	snap.Devices[0].LineShare = 0.9
	if ps := Problems(snap); len(ps) != 2 {
		t.Errorf("a line that is full by another one: %q", whats(ps))
	}
}
