package oracle

import (
	"fmt"
	"hash/crc32"
	"strings"
	"testing"
	"time"
)

// plc is a Truth of one counter and some doses.
type plc struct {
	pieces int64
	doses  map[string]int64
	acked  []string
}

func (p *plc) Pieces(machine string) (int64, bool) { return p.pieces, machine == "M" }
func (p *plc) Dose(lot string) (int64, bool)       { g, ok := p.doses[lot]; return g, ok }
func (p *plc) Acknowledged() []string              { return p.acked }
func (p *plc) Said(_, text string) bool            { return text == "true" }

// run is an oracle and what is told to it.
type run struct {
	*Oracle
	t *testing.T
}

func newRun(t *testing.T, truth *plc, o Options) run {
	o.Sinks = []string{"s"}
	return run{New(truth, o), t}
}

func message(machine, kind, epoch string, sequence int, data string) []byte {
	return fmt.Appendf(nil, `{"id":"g/%s/%s-%d","type":"dev.sluice.%s.v1","subject":"%s","sequence":"%020d","epoch":"%s","data":%s}`,
		machine, epoch, sequence, kind, machine, sequence, epoch, data)
}

// count commits and delivers one counter event with that many pieces in all.
func (r run) count(epoch string, sequence, good, delta int) {
	r.commit(epoch, sequence, good, delta)
	r.deliver(epoch, sequence, good, delta)
}

func counterData(good, delta int) string {
	return fmt.Sprintf(`{"good":%d,"good_delta":%d}`, good, delta)
}

func (r run) commit(epoch string, sequence, good, delta int) {
	r.Accept(Accepted{Key: Key{"M", epoch, uint64(sequence)}, Kind: "counter", Sum: crc32.ChecksumIEEE([]byte(counterData(good, delta))), At: time.Unix(int64(sequence), 0)})
}

func (r run) deliver(epoch string, sequence, good, delta int) {
	r.Arrive("s", message("M", "counter", epoch, sequence, counterData(good, delta)), false)
}

func (r run) gap(epoch string, sequence int, data string) {
	r.Arrive("s", message("M", "gap", epoch, sequence, data), false)
}

// want checks that the verdict has exactly these beginnings, in any order.
func (r run) want(prefixes ...string) {
	r.t.Helper()
	wrong := r.Judge()
	for _, p := range prefixes {
		found := false
		for _, w := range wrong {
			found = found || strings.HasPrefix(w, p)
		}
		if !found {
			r.t.Errorf("no %s in %q", p, wrong)
		}
	}
	if len(prefixes) == 0 && len(wrong) > 0 {
		r.t.Errorf("a good run is accused: %q", wrong)
	}
}

func TestAGoodRun(t *testing.T) {
	r := newRun(t, &plc{pieces: 3}, Options{DuplicatesPerStart: 1})
	r.Started()
	r.count("a", 1, 1, 1)
	r.count("a", 2, 2, 1)
	r.deliver("a", 2, 2, 1)
	r.count("b", 3, 3, 1)
	if !r.Settled() {
		t.Error("not settled")
	}
	r.want()
}

// withPrevious is the event as a receiver gets it that had that number before.
func withPrevious(raw []byte, previous int) []byte {
	return []byte(strings.Replace(string(raw), `"data":`, fmt.Sprintf(`"previous":"%020d","data":`, previous), 1))
}

// TestAnEventThatSomebodySendsAgain has no previous, and is the same all the same.
func TestAnEventThatSomebodySendsAgain(t *testing.T) {
	r := newRun(t, &plc{pieces: 3}, Options{DuplicatesPerStart: 2})
	r.Started()
	r.commit("a", 1, 3, 3)
	raw := message("M", "counter", "a", 1, counterData(3, 3))
	r.Arrive("s", withPrevious(raw, 7), false)
	r.Arrive("s", raw, false)
	r.Arrive("s", withPrevious(raw, 7), false)
	r.want()
}

func TestEachCheckCanFail(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(run)
		want string
	}{
		"O1 lost at the end":   {func(r run) { r.count("a", 1, 3, 3); r.commit("a", 2, 3, 0) }, "O1"},
		"O2 altered":           {func(r run) { r.commit("a", 1, 2, 2); r.deliver("a", 1, 3, 3) }, "O2"},
		"O2 more than the PLC": {func(r run) { r.count("a", 1, 4, 4) }, "O2"},
		"O2 epoch not that of id": {func(r run) {
			r.Arrive("s", []byte(strings.Replace(string(message("M", "counter", "a", 1, "{}")), `"epoch":"a"`, `"epoch":"b"`, 1)), false)
		}, "O2"},
		"O2 parameter": {func(r run) {
			r.Arrive("s", message("P", "parameters", "a", 1, `{"parameters":[{"code":"T","value":"lie"}]}`), false)
		}, "O2"},
		"O2 dose": {func(r run) {
			r.Arrive("s", message("D", "dosing", "a", 1, `{"lots":[{"lot":"L1"}],"quantity":2.001,"unit":"kg"}`), false)
		}, "O2"},
		"O3 another previous": {func(r run) {
			r.count("a", 1, 3, 3)
			r.Arrive("s", withPrevious(message("M", "counter", "a", 1, counterData(3, 3)), 7), false)
		}, "O3"},
		"O3 other bytes":         {func(r run) { r.count("a", 1, 3, 3); r.deliver("a", 1, 2, 2) }, "O3"},
		"O4 order":               {func(r run) { r.deliver("a", 2, 3, 3); r.deliver("a", 1, 3, 0) }, "O4"},
		"O5 hole":                {func(r run) { r.deliver("a", 1, 1, 1); r.deliver("a", 3, 3, 2) }, "O5"},
		"O5 absurd gap":          {func(r run) { r.gap("a", 9, `{"first":5,"last":2,"count":1}`) }, "O5"},
		"O5 gap counts too many": {func(r run) { r.gap("a", 9, `{"first":2,"last":3,"count":3}`) }, "O5"},
		"O6 too many duplicates": {func(r run) {
			r.Started()
			r.count("a", 1, 3, 3)
			r.deliver("a", 1, 3, 3)
			r.deliver("a", 1, 3, 3)
			r.deliver("a", 1, 3, 3)
		}, "O6"},
		"O7 id twice":             {func(r run) { r.commit("a", 1, 3, 3); r.commit("a", 1, 3, 3) }, "O7"},
		"O7 number in two epochs": {func(r run) { r.commit("a", 1, 3, 3); r.commit("b", 1, 3, 3) }, "O7"},
		"O8 deltas":               {func(r run) { r.count("a", 1, 1, 1); r.count("a", 2, 3, 1) }, "O8"},
		"O8 falls":                {func(r run) { r.count("a", 1, 3, 3); r.count("a", 2, 2, -1) }, "O8"},
		"O8 less than the PLC":    {func(r run) { r.count("a", 1, 2, 2) }, "O8"},
		"O8 dose twice": {func(r run) {
			for i := 1; i <= 2; i++ {
				r.Arrive("s", message("D", "dosing", "a", i, `{"lots":[{"lot":"L1"}],"quantity":2,"unit":"kg"}`), false)
			}
		}, "O8"},
		"O1 acknowledged dose":      {func(r run) { r.truth.(*plc).acked = []string{"L1"} }, "O1"},
		"dedupe off":                {func(r run) { r.o.CountDuplicates = true; r.count("a", 1, 3, 3); r.deliver("a", 1, 3, 3) }, "O4"},
		"O1 lost though named":      {func(r run) { r.o.NoLoss = true; r.gap("a", 9, `{"first":2,"last":3,"count":2}`) }, "O1"},
		"a gap names another range": {func(r run) { r.commit("a", 1, 1, 1); r.gap("b", 4, `{"first":2,"last":3,"count":2}`) }, "O1"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRun(t, &plc{pieces: 3, doses: map[string]int64{"L1": 2000}}, Options{DuplicatesPerStart: 1})
			c.do(r)
			r.want(c.want)
		})
	}
}

func TestAGapNamesWhatIsLost(t *testing.T) {
	r := newRun(t, &plc{pieces: 5}, Options{})
	r.count("a", 1, 1, 1)
	r.commit("a", 2, 2, 1)
	r.commit("a", 3, 3, 1)
	if r.Drained() {
		t.Error("drained with two events missing")
	}
	r.gap("b", 4, `{"first":2,"last":3,"count":2,"reason":"tail"}`)
	r.count("b", 5, 5, 1) // its delta does not follow from what arrived
	if !r.Settled() {
		t.Error("not settled")
	}
	r.want()
	if s := r.Summary(); s.GapEvents != 1 || s.Told != 1 || s.Lost != 2 {
		t.Errorf("summary %+v", s)
	}
}

// TestAGapMayBeNamedLater: the gap event has a number of its own, behind the
// events that are left.
func TestAGapMayBeNamedLater(t *testing.T) {
	r := newRun(t, &plc{pieces: 5}, Options{})
	r.count("a", 1, 1, 1)
	r.commit("a", 2, 3, 2)
	r.count("a", 3, 5, 2)
	r.want("O1", "O5")
	r.gap("b", 4, `{"first":2,"last":2,"count":1}`)
	r.want()
}

func TestARebaseTakesTheCumulativeCount(t *testing.T) {
	r := newRun(t, &plc{pieces: 5}, Options{})
	r.count("a", 1, 1, 1)
	r.Arrive("s", message("M", "counter", "b", 2, `{"good":5,"good_delta":2,"rebase":true}`), false)
	r.want()
}

func TestARefusedEventIsAccountedFor(t *testing.T) {
	r := newRun(t, &plc{pieces: 3, doses: map[string]int64{"L1": 1}, acked: []string{"L1"}}, Options{})
	r.Accept(Accepted{Key: Key{"D", "a", 1}, Kind: "dosing", Sum: crc32.ChecksumIEEE([]byte(`{}`))})
	r.Arrive("s", message("D", "dosing", "a", 1, `{}`), true)
	r.want()
}

func TestTheStatedLimitIsExcused(t *testing.T) {
	r := newRun(t, &plc{pieces: 3}, Options{})
	r.count("a", 1, 1, 1)
	r.commit("a", 2, 2, 1) // at second 2
	r.Excuse(time.Unix(2, 0), time.Unix(3, 0))
	r.count("b", 2, 3, 2) // its number is given again, in another epoch
	r.want()
}

func TestAnOldCopyMayGiveNumbersAgain(t *testing.T) {
	r := newRun(t, &plc{pieces: 3}, Options{Restored: true})
	r.count("a", 1, 1, 1)
	r.count("a", 2, 2, 1)
	r.count("b", 2, 3, 1)
	r.want()
}

func TestACloneIsItsOwn(t *testing.T) {
	r := newRun(t, &plc{pieces: 2}, Options{})
	r.count("a", 1, 1, 1)
	r.commit("a", 2, 2, 1)
	c := run{r.Clone(), t}
	c.deliver("a", 2, 2, 1)
	c.want()
	if !c.Drained() || r.Drained() {
		t.Error("what arrives at the clone arrives at the original")
	}
	r.want("O1", "O8")
}

func TestParseTap(t *testing.T) {
	at := time.Unix(1, 0)
	got, err := ParseTap("00ab\t7\tcounter\t0000000f\tPRESS 01", at)
	if want := (Accepted{Key{"PRESS 01", "00ab", 7}, "counter", 15, at}); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{"", "a\tb", "a\tx\tk\t0\tM", "a\t1\tk\txyz\tM"} {
		if _, err := ParseTap(bad, at); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}
