package counter

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/plant"
)

// device is a simulated PLC with the truth of what its machine made.
type device struct {
	raw         map[string]int64
	good, scrap int64
	cycles      int64
	cavities    int64
	// made makes n counts of the device, of which bad pieces are scrap.
	made func(d *device, n, bad int64)
	// unseen is set when more was made than the device can show.
	unseen bool
}

// sort is a sort of counter that the properties hold for.
type sort struct {
	options Options
	types   map[string]plant.TagType
	begin   map[string]int64
	made    func(d *device, n, bad int64)
	// signal makes each step one level of a signal; scrap says that pieces may be
	// bad, reset that the counter may begin at 0 again; away is the longest loss.
	signal, scrap, reset bool
	away                 int
	cavity, hand         bool
}

const modelRate = 20

func sorts() map[string]sort {
	limit := config.Rate{Count: modelRate, Per: time.Second}
	scrapped := config.Table[string]{Rows: []config.Row[string]{{Name: "BURR", Value: "bad"}}}
	up := func(tag string, size int64) func(*device, int64, int64) {
		return func(d *device, n, bad int64) {
			d.raw[tag] = (d.raw[tag] + n) % size
			d.raw["bad"] = (d.raw["bad"] + bad) % 65536
			d.cycles, d.good, d.scrap = d.cycles+n, d.good+n-bad, d.scrap+bad
		}
	}
	u16 := map[string]plant.TagType{"n": plant.TypeUint16, "bad": plant.TypeUint16, "cav": plant.TypeUint8}
	mould := func(d *device, n, bad int64) {
		bad = min(bad, n*d.cavities)
		d.raw["n"], d.raw["bad"] = (d.raw["n"]+n)%65536, (d.raw["bad"]+bad)%65536
		d.cycles, d.good, d.scrap = d.cycles+n, d.good+n*d.cavities-bad, d.scrap+bad
	}
	return map[string]sort{
		"total": {options: Options{Total: "n", Scrap: scrapped, MaxRate: limit}, types: u16, begin: map[string]int64{"n": 65000}, made: up("n", 65536), scrap: true, reset: true, away: 600},
		"good of 10000": {options: Options{Good: "n", Modulus: 10000, MaxRate: limit, Every: config.Duration(7 * time.Second)}, types: u16, begin: map[string]int64{"n": 9900},
			made: func(d *device, n, _ int64) { up("n", 10000)(d, n, 0) }, reset: true, away: 200},
		"signed": {options: Options{Good: "n", MaxRate: limit}, types: map[string]plant.TagType{"n": plant.TypeInt16}, begin: map[string]int64{"n": 32000},
			made: func(d *device, n, _ int64) {
				d.raw["n"] = int64(int16(uint16(d.raw["n"] + n)))
				d.cycles, d.good = d.cycles+n, d.good+n
			}, away: 600},
		"cavities":          {options: Options{Total: "n", Scrap: scrapped, PerCycle: Amount{number: 4, constant: true}, MaxRate: limit}, types: u16, begin: map[string]int64{"n": 65500, "cav": 4}, made: mould, scrap: true, reset: true, away: 600},
		"cavities of a tag": {options: Options{Total: "n", Scrap: scrapped, PerCycle: Amount{tag: "cav"}, MaxRate: limit, Pieces: 1}, types: u16, begin: map[string]int64{"n": 65500, "cav": 4}, made: mould, scrap: true, away: 600, cavity: true},
		"down": {options: Options{Good: "n", Direction: "down", Reload: Amount{number: 700, constant: true}, MaxRate: limit, Pieces: 5}, types: u16, begin: map[string]int64{"n": 650},
			made: func(d *device, n, _ int64) {
				if d.raw["n"] -= n; d.raw["n"] <= 0 {
					d.raw["n"] += 700
				}
				d.cycles, d.good = d.cycles+n, d.good+n
			}, away: 25},
		"saturates": {options: Options{Good: "n", AtMax: "saturate", MaxRate: limit}, types: map[string]plant.TagType{"n": plant.TypeUint8}, begin: map[string]int64{"n": 100},
			made: func(d *device, n, _ int64) {
				d.good, d.cycles = d.good+n, d.cycles+n
				if d.raw["n"] += n; d.raw["n"] >= 255 {
					d.raw["n"], d.unseen = 255, true
				}
			}, away: 20},
		"pulses": {options: Options{Pulses: "s", Scrap: scrapped, MaxRate: config.Rate{Count: 1, Per: time.Second}}, types: map[string]plant.TagType{"s": plant.TypeBool, "bad": plant.TypeUint16},
			made: func(d *device, n, bad int64) {
				if d.raw["s"] == 0 && n > 0 {
					d.good, d.cycles = d.good+1-bad, d.cycles+1
					d.raw["bad"], d.scrap = d.raw["bad"]+bad, d.scrap+bad
				}
				d.raw["s"] = min(n, 1)
			}, signal: true, scrap: true, away: 20},
		"hand": {options: Options{Good: "n", Scrap: scrapped, HandCorrections: 15, MaxRate: limit, Pieces: 1}, types: u16, begin: map[string]int64{"n": 5000}, made: func(d *device, n, bad int64) {
			d.raw["n"], d.raw["bad"] = d.raw["n"]+n, d.raw["bad"]+bad
			d.good, d.scrap = d.good+n, d.scrap+bad
		}, scrap: true, hand: true, away: 600},
	}
}

// play runs a rule over a device; a second one, whose state goes to JSON and back
// after each step, must say the same.
type play struct {
	t      *rapid.T
	r      *Rule
	d      *device
	sort   *sort
	s, two State
	now    int64
	last   Totals
	// told are the pieces that events have, with what corrections made of them.
	good, scrap, cycles int64
	flags               Flags
}

// notes writes down what a rule says.
type notes struct {
	lines string
	p     *play
}

func (n *notes) Alarm(a rule.Alarm) { n.lines += fmt.Sprintf("alarm %s %t\n", a.Name, a.Raised) }

func (n *notes) Correct(c Correction) {
	n.lines += fmt.Sprintf("correct %+v\n", c)
	if n.p == nil {
		return
	}
	if c.Good+c.Scrap+c.Rework != 0 {
		n.p.t.Fatalf("a correction that makes pieces: %+v", c)
	}
	n.p.good, n.p.scrap = n.p.good+c.Good, n.p.scrap+c.Scrap
}

func (n *notes) Count(c Report) {
	n.lines += fmt.Sprintf("count %+v %+v %v %v %v\n", *c.Totals, *c.Reported, c.Flags, c.Gap, c.Raw)
	if n.p == nil {
		return
	}
	p := n.p
	if !c.Reported.equal(&p.last) {
		p.t.Fatalf("deltas from %+v, told was %+v", *c.Reported, p.last)
	}
	if c.Totals.Good < p.last.Good || c.Totals.Cycles < p.last.Cycles || len(c.Totals.Scrap) > 0 && c.Totals.Scrap[0] < p.last.Scrap[0] {
		p.t.Fatalf("counts went down from %+v to %+v", p.last, *c.Totals)
	}
	p.good += c.Totals.Good - p.last.Good
	p.cycles += c.Totals.Cycles - p.last.Cycles
	if len(c.Totals.Scrap) > 0 {
		p.scrap += c.Totals.Scrap[0] - p.last.Scrap[0]
	}
	p.flags |= c.Flags
	p.last.copyFrom(c.Totals)
}

func (p *play) both(do func(s *State, out Sink)) {
	one, two := &notes{p: p}, &notes{}
	do(&p.s, one)
	b, err := json.Marshal(&p.two)
	if err != nil {
		p.t.Fatal(err)
	}
	p.two = State{}
	if err := json.Unmarshal(b, &p.two); err != nil {
		p.t.Fatal(err)
	}
	p.r.Fit(&p.two)
	do(&p.two, two)
	if one.lines != two.lines {
		p.t.Fatalf("with a reload before the step:\n%swithout:\n%s", two.lines, one.lines)
	}
}

func (p *play) wait(d time.Duration) {
	p.now += int64(d)
	for at := p.r.Wake(&p.s); at != 0 && at <= p.now; at = p.r.Wake(&p.s) {
		p.both(func(s *State, out Sink) { p.r.Due(s, at, out) })
	}
}

// read gives the rule all tags, good as they are or otherwise.
func (p *play) read(snapshot, good bool, change func(name string, raw int64) int64) {
	var all []Reading
	for i, ref := range p.r.Tags() {
		raw := p.d.raw[string(ref.Tag)]
		if change != nil {
			raw = change(string(ref.Tag), raw)
		}
		all = append(all, Reading{Input: i, At: rule.Stamp{At: p.now}, Raw: raw, Good: good})
	}
	before := *p.s.Counted()
	p.both(func(s *State, out Sink) { p.r.Observe(s, append([]Reading(nil), all...), snapshot, p.now, out) })
	if after := p.s.Counted(); !good && (after.Good != before.Good || after.Cycles != before.Cycles) {
		p.t.Fatalf("bad readings counted: %+v, then %+v", before, *after)
	}
}

func (p *play) rest(n int) {
	for range n {
		p.wait(time.Second)
		p.read(false, true, nil)
	}
}

// TestWhatWasMadeIsCounted: every sort of counter, through rollovers, resets,
// noise, bad readings, losses and crashes, counts what was made, once; where that
// cannot be known it says so. No cumulative count ever goes down, deltas chain, a
// bad reading counts nothing, and a state that was reloaded says the same.
func TestWhatWasMadeIsCounted(t *testing.T) {
	for name, so := range sorts() {
		t.Run(name, func(t *testing.T) {
			r, err := New(so.options, func(_, name string) (rule.Input, error) {
				return rule.Input{Ref: plant.TagRef{Device: "d", Tag: plant.TagID(name)}, Tag: plant.Tag{ID: plant.TagID(name), Type: so.types[name]}}, nil
			})
			if err != nil {
				t.Fatal(err)
			}
			rapid.Check(t, func(t *rapid.T) {
				p := &play{t: t, r: r, sort: &so, now: int64(time.Hour), d: &device{raw: map[string]int64{}, cavities: 4, made: so.made}}
				for k, v := range so.begin {
					p.d.raw[k] = v
				}
				r.Fit(&p.s)
				r.Fit(&p.two)
				p.last.copyFrom(&p.s.Reported)
				p.read(true, true, nil)
				for range rapid.IntRange(1, 80).Draw(t, "steps") {
					p.act()
				}
				p.rest(5)
				p.both(func(s *State, out Sink) { r.Flush(s, p.now, out) })
				p.judge()
			})
		})
	}
}

// act does one thing of many.
func (p *play) act() {
	t, d, so := p.t, p.d, p.sort
	most := int64(modelRate)
	if so.signal {
		most = 1
	}
	pieces := func(seconds int64) (n, bad int64) {
		n = rapid.Int64Range(0, most*seconds).Draw(t, "pieces")
		if so.scrap && !so.hand && n > 0 {
			bad = rapid.Int64Range(0, min(n, 3)).Draw(t, "bad")
		}
		return n, bad
	}
	what := rapid.IntRange(0, 12).Draw(t, "what")
	switch {
	case what == 6: // bad readings hold anything
		p.wait(time.Second)
		garbage := rapid.Int64Range(0, 200).Draw(t, "garbage")
		p.read(false, false, func(string, int64) int64 { return garbage })
		if so.signal {
			d.unseen = true
		}
	case what == 7 && !so.signal: // noise for one or two readings, and then the truth for as long
		if d.raw["n"] == 255 && so.options.AtMax != "" {
			return
		}
		for range rapid.IntRange(1, 2).Draw(t, "readings") {
			p.wait(time.Second)
			off := rapid.Int64Range(200, 600).Draw(t, "noise")
			p.read(false, true, func(name string, raw int64) int64 {
				if name != "n" || so.options.AtMax != "" {
					return raw
				}
				if so.types["n"] == plant.TypeInt16 {
					return int64(int16(uint16(raw + off)))
				}
				return (raw + off) % 10000
			})
		}
		p.rest(1)
	case what == 8: // the device is away, and the machine goes on
		p.rest(4)
		p.both(func(s *State, _ Sink) { p.r.Lost(s, func(rule.Input) bool { return true }) })
		away := rapid.Int64Range(1, int64(so.away)).Draw(t, "away")
		p.wait(time.Duration(away) * time.Second)
		n := first(pieces(away))
		d.made(d, n, 0)
		d.unseen = d.unseen || so.signal
		doubt := false
		if so.cavity && rapid.Bool().Draw(t, "another mould") {
			before := d.cavities
			d.cavities = rapid.Int64Range(0, 8).Draw(t, "cavities")
			d.raw["cav"], doubt, p.flags = d.cavities, n > 0 && d.cavities != before, 0
		}
		p.read(true, true, nil)
		p.rest(4)
		if doubt && p.flags&Ambiguous == 0 {
			t.Fatalf("%d cycles in a gap with another number of pieces are in no doubt: %v", n, p.flags)
		}
	case what == 9 && so.reset: // a reset while the machine stands
		p.rest(4)
		// Where a rollover could explain it, a reset cannot be told.
		if size := max(so.options.Modulus, 0); d.raw["n"] > 400 && (size == 0 && d.raw["n"] < 65000 || d.raw["n"] < size-400) {
			d.raw["n"] = 0
			p.rest(4)
		}
	case what == 10 && so.cavity: // a cavity is closed when all cycles before are believed
		p.rest(4)
		d.cavities = rapid.Int64Range(0, 8).Draw(t, "cavities")
		d.raw["cav"] = d.cavities
		p.rest(1)
	case what == 11 && so.hand: // somebody moves pieces from good to scrap
		p.rest(4)
		k := rapid.Int64Range(1, 15).Draw(t, "moved")
		d.raw["n"], d.raw["bad"] = d.raw["n"]-k, d.raw["bad"]+k
		d.good, d.scrap = d.good-k, d.scrap+k
		p.rest(5)
	case what == 12: // a subscription is made anew: the same values again, marked or not
		for range rapid.IntRange(1, 3).Draw(t, "times") {
			snapshot := rapid.Bool().Draw(t, "snapshot")
			d.unseen = d.unseen || so.signal && snapshot
			p.read(snapshot, true, nil)
		}
	default:
		p.wait(time.Second)
		n, bad := pieces(1)
		d.made(d, n, bad)
		p.read(false, true, nil)
	}
}

func first(n, _ int64) int64 { return n }

// judge compares what was told with the truth.
func (p *play) judge() {
	d := p.d
	if d.unseen && p.sort.options.AtMax != "" {
		if p.good > d.good || p.flags&Saturated == 0 && p.good != d.good {
			p.t.Fatalf("%d made, %d counted, marked %v", d.good, p.good, p.flags)
		}
		return
	}
	if d.unseen { // signals
		if p.scrap != d.scrap || p.good > d.good || p.good < d.good && p.flags&LowerBound == 0 {
			p.t.Fatalf("%d made, %d counted, marked %v", d.good, p.good, p.flags)
		}
		return
	}
	if p.good != d.good || p.scrap != d.scrap || p.r.cycles() && p.cycles != d.cycles {
		p.t.Fatalf("made %d good, %d scrap in %d cycles; counted %d, %d, %d", d.good, d.scrap, d.cycles, p.good, p.scrap, p.cycles)
	}
}
