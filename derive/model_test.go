package derive

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/derive/startstop"
	"github.com/sluice-edge/sluice/plant"
)

const modelTags = `press/made uint16
press/big uint64
press/ratio float32
press/word int32 scaled
press/run bool
press/state int16
press/text string
`

// TestFaultsOfAMachine: each fault of a machine's rules is named with its line,
// its path and a remedy.
func TestFaultsOfAMachine(t *testing.T) {
	for _, c := range []struct{ config, want string }{
		{"device: prass\ncounter: {good: made, max_rate: 1/s}", "m.yaml:1:9: M.device: unknown device `prass` — did you mean `press`?"},
		{"device: press\ncounter: {good: mode, max_rate: 1/s}", "m.yaml:2:17: M.counter.good: unknown tag of press `mode` — did you mean `made`?"},
		{"counter: {good: made, max_rate: 1/s}", "m.yaml:1:17: M.counter.good: tag `made` does not say of which device — write device/tag, or give the machine a device:"},
		{"device: press\ncounter: {good: made}", "m.yaml:2:10: M.counter.max_rate: is missing, but good (tag press/made, uint16) starts again after 65536 values — write the most the machine can make, for example max_rate: 20/s: only that tells a rollover from a reset"},
		{"device: press\ncounter: {good: big, modulus: 1000}", "M.counter.max_rate: is missing, but good (tag press/big, uint64) starts again after 1000 values"},
		{"device: press\ncounter: {good: run, max_rate: 1/s}", "M.counter.good: tag press/run is of type bool, which is no total — name the tag of a total; if the device has none, write pulses: instead of good:"},
		{"device: press\ncounter: {good: text, max_rate: 1/s}", "M.counter.good: tag press/text is of type string, which does not count — name a tag of a whole-number type"},
		{"device: press\ncounter: {pulses: run}", "M.counter.max_rate: is missing, and only it says whether the pulses of tag press/run can be seen"},
		{"device: press\ncounter: {pulses: run, good: made, max_rate: 1/s}", "M.counter.pulses: pulses and a total are both given"},
		{"device: press\ncounter: {rework: made, per_cycle: 4, max_rate: 1/s}", "M.counter.per_cycle: there is no counter of cycles"},
		{"device: press\ncounter: {good: made, per_cycle: 0, max_rate: 1/s}", "M.counter.per_cycle: 0 is no number of pieces — write 1 to 10000, or the tag that has it"},
		{"device: press\ncounter: {good: made, per_cycle: text, max_rate: 1/s}", "M.counter.per_cycle: tag press/text is of type string, which does not count"},
		{"device: press\ncounter: {good: made, reload: 100, max_rate: 1/s}", "M.counter.reload: is for a counter that counts down"},
		{"device: press\ncounter: {pulses: run, direction: down, max_rate: 1/s}", "M.counter.direction: no total counts down"},
		{"device: press\ncounter: {good: made, direction: down}", "M.counter.max_rate: is missing, and only it tells a batch that is complete from one that was given up"},
		{"device: press\ncounter: {good: made, direction: down, modulus: 100, max_rate: 1/s}", "M.counter.modulus: is for a counter that counts up — write reload: with the number that the counter begins again with"},
		{"device: press\ncounter: {good: made, direction: down, at_max: saturate, max_rate: 1/s}", "M.counter.at_max: is for a counter that counts up"},
		{"device: press\ncounter: {good: made, direction: down, baseline: zero, max_rate: 1/s}", "M.counter.baseline: nobody knows what a counter that counts down had before"},
		{"device: press\ncounter: {good: made, direction: down, reload: -3, max_rate: 1/s}", "M.counter.reload: -3 is no size of a batch"},
		{"device: press\ncounter: {good: made, direction: left, max_rate: 1/s}", "M.counter.direction: unknown setting \"left\" — write up (the default) or down"},
		{"device: press\ncounter: {good: big, at_max: saturate, max_rate: 1/s}", "M.counter.at_max: nobody knows the highest number of tag press/big — write modulus: with that number plus 1, or remove at_max"},
		{"device: press\ncounter: {good: made, at_max: stop, max_rate: 1/s}", "M.counter.at_max: unknown setting \"stop\" — write wrap (the default) or saturate"},
		{"device: press\ncounter: {good: made, gap_to: nobody, max_rate: 1/s}", "M.counter.gap_to: unknown setting \"nobody\" — write none (the default), previous or next"},
		{"device: press\ncounter: {good: made, start_total: -1, max_rate: 1/s}", "M.counter.start_total: is negative"},
		{"device: press\ncounter: {good: made, hand_corrections: 5, max_rate: 1/s}", "M.counter.hand_corrections: is for a counter of good with scrap or rework"},
		{"device: press\ncounter: {good: made, rework: big, hand_corrections: -5, max_rate: 1/s}", "M.counter.hand_corrections: is negative"},
		{"device: press\ncounter: {good: made, rework: big, hand_corrections: 5, per_cycle: 2, max_rate: 1/s}", "M.counter.hand_corrections: is for a counter of good pieces that counts up"},
		{"device: press\ncounter: {good: made, total: made, max_rate: 1/s}", "M.counter.total: good and total are both given"},
		{"device: press\ncounter: {max_rate: 1/s}", "M.counter: no tag counts anything"},
		{"device: press\ncounter: {good: made, modulus: 70000, max_rate: 1/s}", "M.counter.modulus: 70000 is more than press/made (uint16) can hold — write at most 65536, or leave it out"},
		{"device: press\ncounter: {good: made, modulus: -5, max_rate: 1/s}", "M.counter.modulus: -5 is no range of a counter"},
		{"device: press\ncounter: {good: made, jump: maybe, max_rate: 1/s}", "M.counter.jump: unknown setting \"maybe\" — write count (the default) or drop"},
		{"device: press\ncounter: {good: made, baseline: last, max_rate: 1/s}", "M.counter.baseline: unknown setting \"last\""},
		{"device: press\ncounter: {good: made, reset_confirm: 5000, max_rate: 1/s}", "M.counter.reset_confirm: 5000 is no number of readings"},
		{"device: press\ncounter: {good: made, pieces: -1, max_rate: 1/s}", "M.counter.pieces: is negative"},
		{"device: press\ncounter: {total: made, scrap: {A: nothing}, max_rate: 1/s}", "m.yaml:2:35: M.counter.scrap.A: unknown tag of press `nothing`"},
		{"device: press\nstartstop: {running: text}", "M.startstop.running: tag press/text is text, which is neither true nor false"},
		{"device: press\nstartstop: {running: {tag: state, values: [EXECUTE]}}", "M.startstop.running.values[0]: \"EXECUTE\" is no value of tag press/state, which is of type int16"},
		{"device: press\nstartstop: {running: run, reason: ratio}", "M.startstop.reason: tag press/ratio is of type float32, which holds no code"},
		{"device: press\nstartstop: {running: run, reasons: {1: JAM}}", "M.startstop.reasons: gives codes a meaning, but no tag holds a code"},
		{"device: press\nstartstop: {running: run, reason: state, reasons: {0: JAM}}", "M.startstop.reasons.0: this code means that there is no reason"},
		{"device: press\nstartstop: {running: run, reason_take: last}", "M.startstop.reason_take: chooses among codes, but no tag holds a code"},
		{"device: press\nstartstop: {running: run, reason: state, reason_take: best}", "M.startstop.reason_take: unknown setting \"best\""},
		{"device: press\nparameters: {A: {tag: text, deadband: 2}}", "M.parameters.A.deadband: tag press/text is of type string, which has no distance"},
		{"device: press\nparameters: {A: {tag: ratio, deadband: wide}}", "M.parameters.A.deadband: `wide` is no deadband — write an amount such as 0.5, or a part such as 2%"},
		{"device: press\nparameters: {A: {tag: ratio, min_interval: 5s, max_interval: 1s}}", "M.parameters.A.max_interval: is shorter than min_interval — write at least 5s"},
		{"device: press\norder: {tag: text, pattern: '('}", "M.order.pattern: is no regular expression"},
		{"device: press\norder: ratio", "m.yaml:2:8: M.order.tag: tag press/ratio is of type float32, which holds no order number"},
		{"device: press\norder: scale/number", "M.order.tag: unknown device `scale`"},
		{"device: press\ncounter: {good: made, max_rate: 1/s}\nmode: productoin", "M.mode: unknown mode `productoin` — did you mean `production`?"},
		{"device: press", "M: the machine has no rule — add counter:, startstop:, parameters:, order:, dosing:, serial:, item_attach: or operation:"},
	} {
		section, faults := config.ParseSection("M", "m.yaml", c.config)
		var o Options
		faults = append(faults, section.Decode(&o)...)
		if len(faults.Errors()) == 0 {
			_, err := NewModel("M", o, catalog(t, modelTags))
			faults = append(faults, section.Faults(err)...)
		}
		var all []string
		for _, f := range faults {
			all = append(all, f.String())
		}
		if len(faults) != 1 || !strings.Contains(all[0], c.want) {
			t.Errorf("%s\ngot  %s\nwant %s", c.config, strings.Join(all, "\n     "), c.want)
		}
	}
}

func TestAModelNamesItsTagsAndKinds(t *testing.T) {
	s := &scenario{path: "m.yaml", files: map[string]string{"tags": modelTags, "config": `
device: press
order: text
counter: {total: made, scrap: {A: big}, max_rate: 1/s}
startstop: {running: run, reason: state}
parameters: {R: ratio, N: made}
`}}
	m := s.model(t, "config", "tags")
	var edges []string
	for i, ref := range m.Tags() {
		if m.edges[i] {
			edges = append(edges, ref.String())
		}
	}
	if got := fmt.Sprint(m.Tags()); got != "[press/ratio press/made press/big press/text press/run press/state]" {
		t.Errorf("tags %s", got)
	}
	if !slices.Equal(edges, []string{"press/run", "press/state"}) {
		t.Errorf("edges %v", edges)
	}
	if got := fmt.Sprint(m.Kinds()); got != "[alarm correction counter gap mode observed order parameters reason startstop]" {
		t.Errorf("kinds %s", got)
	}
}

// TestEachChangeOfASignalCounts: the mailbox must not merge one away.
func TestEachChangeOfASignalCounts(t *testing.T) {
	s := &scenario{path: "m.yaml", files: map[string]string{"tags": modelTags, "config": "device: press\ncounter: {pulses: run, scrap: {A: made}, max_rate: 1/s}\n"}}
	m := s.model(t, "config", "tags")
	if got := fmt.Sprint(m.Tags(), m.edges); got != "[press/run press/made] [true false]" {
		t.Errorf("tags and whether each change counts: %s", got)
	}
}

// TestProblemsAreInPlainWords: what a person must look at is on the page.
func TestProblemsAreInPlainWords(t *testing.T) {
	s := &scenario{path: "m.yaml", files: map[string]string{"tags": modelTags, "config": `
device: press
counter: {good: made, max_rate: 1/s}
startstop: {running: run, reason: state, reasons: {7: {type: JAM, name: jam at infeed}}}
unobserved_after: 5s
`}}
	m := s.model(t, "config", "tags")
	state := decode(t, m, nil)
	var st Stats
	m.Describe(&state, &st)
	if got := problemTexts(t, st); !slices.Equal(got, []string{"the counter press/made was never read"}) || st.Problems[0].Device != "press" || st.Problems[0].Tag != "made" {
		t.Errorf("before the first reading: %+v", st.Problems)
	}
	for _, in := range parseInputs(t, "+0s scan press made=5 run=true state=0\n+1s scan press made=6 run=false state=9\n+1s scan press made=6 run=true state=0\n+1s scan press made=6 run=false state=7\n+1s lost press\n+5s tick", catalog(t, modelTags)) {
		state, _ = m.Step(state, in.in)
	}
	st = Stats{}
	m.Describe(&state, &st)
	want := []string{
		"stop code 9 is not in the table of reasons: it is sent with the default type",
		"not observed: press has not answered since 2026-03-02T06:00:04Z",
	}
	if !slices.Equal(problemTexts(t, st), want) || st.Good != 1 || st.Running == nil || *st.Running || st.Reason != "jam at infeed (7)" || st.Mode != plant.Production {
		t.Errorf("stats %+v", st)
	}
}

// problemTexts returns what the problems say; each has a remedy.
func problemTexts(t *testing.T, st Stats) (texts []string) {
	t.Helper()
	for _, p := range st.Problems {
		if p.Remedy == "" {
			t.Errorf("%q has no remedy", p.Text)
		}
		texts = append(texts, p.Text)
	}
	return texts
}

// TestWhatCountsEachTime: a state and a code are not merged away while commits
// wait; what changes with every reading may be.
func TestWhatCountsEachTime(t *testing.T) {
	limit := 1.0
	tags := Catalog{"press": {
		{ID: "a", Type: plant.TypeInt32}, {ID: "b", Type: plant.TypeInt32}, {ID: "c", Type: plant.TypeInt32}, {ID: "d", Type: plant.TypeInt32},
	}}
	for name, c := range map[string]struct {
		o    startstop.Options
		want []bool
	}{
		"state and code":     {startstop.Options{Running: startstop.Running{Tag: "a"}, Reason: "b"}, []bool{true, true}},
		"state and counters": {startstop.Options{Running: startstop.Running{Tag: "a"}, Stops: &startstop.Stops{Count: "b", Seconds: "c"}}, []bool{true, false, false}},
		"state and mode":     {startstop.Options{Running: startstop.Running{PackML: &startstop.PackML{State: "a", Mode: "b"}}}, []bool{true, true}},
		"measurement":        {startstop.Options{Running: startstop.Running{Tag: "a", Above: &limit}}, []bool{false}},
		"pieces":             {startstop.Options{Running: startstop.Running{Tag: "a", IdleAfter: 1e9}}, []bool{false}},
	} {
		m, err := NewModel("PRESS-01", Options{Device: "press", StartStop: &c.o}, tags)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(m.edges, c.want) {
			t.Errorf("%s: %v, want %v", name, m.edges, c.want)
		}
	}
}
