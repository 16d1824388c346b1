package derive

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/derive/parameters"
	"github.com/sluice-edge/sluice/plant"
)

func checkValues(t *testing.T, text string) (m *Model, faults config.Faults) {
	t.Helper()
	section, faults := config.ParseSection("PRESS-01", "press.yaml", text)
	var o Options
	if faults = append(faults, section.Decode(&o)...); len(faults.Errors()) > 0 {
		return nil, faults
	}
	m, err := NewModel("PRESS-01", o, Catalog{
		"press": {{ID: "made", Type: plant.TypeUint32}, {ID: "purge", Type: plant.TypeUint32}, {ID: "run", Type: plant.TypeBool}, {ID: "name", Type: plant.TypeString}},
		"scale": {{ID: "total", Type: plant.TypeInt64}},
	})
	return m, section.Faults(err)
}

// TestFaultsOfValues: each is named with its line and column in the file and its
// place in the expression, once, and a rule that uses the value has none.
func TestFaultsOfValues(t *testing.T) {
	for text, want := range map[string]string{
		"device: press\nvalues:\n  net: made - purged\ncounter: {good: net}\n":                    "press.yaml:3:8: PRESS-01.values.net.value: in the expression `made - purged`, at character 8: unknown tag of press `purged` — did you mean `purge`?",
		"device: press\nvalues: {net: {value: made + name, unit: pcs}}\ncounter: {good: net}":     "press.yaml:2:23: PRESS-01.values.net.value: in the expression `made + name`, at character 8: this is a text, and + takes a number",
		"device: press\nvalues: {made: purge + 1}\ncounter: {good: made, max_rate: 1/s}":          "press.yaml:2:16: PRESS-01.values.made: the device has a tag of that name — give the value another name",
		"device: press\nvalues: {net: made - purge}\ncounter: {good: made, max_rate: 1/s}":        "press.yaml:2:15: warning: PRESS-01.values.net: no rule uses it",
		"device: press\nvalues: {a: made, b: a + 1}\nparameters: {X: a, Y: b}":                    "at character 1: unknown tag of press `a`",
		"device: press\nvalues: {ok: made > 1}\ncounter: {good: ok}":                              "counter.good",
		"device: press\nvalues: {net: 'sum(map(1..1000000000, # * made))'}\ncounter: {good: net}": "at character 1: there is no function sum here: it could take any time or memory",
	} {
		_, faults := checkValues(t, text)
		if len(faults) != 1 || !strings.Contains(faults[0].String(), want) {
			t.Errorf("%s\ngot  %v\nwant %s", text, faults, want)
		}
	}
}

func TestTagsOfValues(t *testing.T) {
	m, faults := checkValues(t, "device: press\nvalues: {running: made > 0 and run, net: 'made - tag(\"scale/total\")'}\ncounter: {good: net}\nstartstop: {running: running}\n")
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	if got := fmt.Sprint(m.Tags()); got != "[press/made press/run scale/total]" && got != "[press/made scale/total press/run]" {
		t.Errorf("the model reads %s", got)
	}
	// A full mailbox must not merge away what starts or stops the machine.
	for name, edge := range map[plant.TagID]bool{"made": true, "run": true} {
		if u := m.devices["press"][name]; !u.polled || m.edges[u.index] != edge {
			t.Errorf("%s: polled %v, edge %v", name, u.polled, m.edges[u.index])
		}
	}
	if u := m.devices["scale"]["total"]; !u.polled || m.edges[u.index] {
		t.Error("each change of a mere total is kept")
	}
}

// TestADamagedStateOfValuesIsReadAgain: what cannot be is as if never read.
func TestADamagedStateOfValuesIsReadAgain(t *testing.T) {
	m, faults := checkValues(t, "device: press\nvalues: {net: made - purge}\ncounter: {good: net}\n")
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	state := `{"v":1,"values":{"in":[{"b":"press made uint32","seen":true,"q":9,"t":3,"n":5},{"b":"press purge uint32","seen":true,"q":2,"t":77,"n":1}],"dev":[{"d":"press","s":1}]}}`
	s, err := m.Decode([]byte(state), nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, in := range s.values.Inputs {
		if in.Seen {
			t.Errorf("input %d is believed: %+v", i, in)
		}
	}
}

// TestTheStatsNameAValueThatIsNone: a division by zero is seen on the page.
func TestTheStatsNameAValueThatIsNone(t *testing.T) {
	m, faults := checkValues(t, "device: press\nvalues: {net: 'div(made, purge)'}\ncounter: {good: net}\n")
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	var s State
	for i, purge := range []uint64{4, 0, 4} {
		want := []string{"", "the value net cannot be worked out: a division by zero", ""}[i]
		s, _ = m.Step(s, plant.Scan{Device: "press", Received: base, Readings: []plant.Reading{
			{Tag: "made", Value: plant.UintValue(8), Quality: plant.Good}, {Tag: "purge", Value: plant.UintValue(purge), Quality: plant.Good},
		}})
		var st Stats
		m.Describe(&s, &st)
		got := ""
		for _, p := range st.Problems {
			got += p.Text
		}
		if got != want {
			t.Errorf("purge is %d: %q, want %q", purge, got, want)
		}
	}
}

// valuesModel is a machine of 100 values over 200 tags.
func valuesModel(tb testing.TB) (*Model, *plant.Scan) {
	tb.Helper()
	o := Options{Device: "press"}
	scan := &plant.Scan{Device: "press", Received: base}
	var tags []plant.Tag
	for i := range 200 {
		id := plant.TagID(fmt.Sprintf("t%d", i))
		tags = append(tags, plant.Tag{ID: id, Type: plant.TypeInt32})
		scan.Readings = append(scan.Readings, plant.Reading{Tag: id, Value: plant.IntValue(int64(i)), Quality: plant.Good})
	}
	for i := range 100 {
		name := fmt.Sprintf("v%d", i)
		o.Values.Rows = append(o.Values.Rows, config.Row[ValueOptions]{Name: name, Value: ValueOptions{Value: fmt.Sprintf("t%d > 5 ? t%d - t%d * 2 : abs(t%d)", i, i, i+100, i+100)}})
		o.Parameters.Rows = append(o.Parameters.Rows, config.Row[parameters.Parameter]{Name: fmt.Sprintf("P%d", i), Value: parameters.Parameter{Tag: name, Deadband: parameters.Deadband{Amount: 1}}})
	}
	m, err := NewModel("PRESS-01", o, Catalog{"press": tags})
	if err != nil {
		tb.Fatal(err)
	}
	return m, scan
}

func TestUnchangedValuesAllocateNothing(t *testing.T) {
	m, scan := valuesModel(t)
	s, out := m.Step(State{}, scan)
	if len(out.Events) != 1 {
		t.Fatalf("%d events of the first values", len(out.Events))
	}
	r := run{m: m}
	out = Output{}
	r.step(&s, scan, &out)
	if n := testing.AllocsPerRun(100, func() {
		scan.Received = scan.Received.Add(time.Second)
		r.step(&s, scan, &out)
	}); n != 0 {
		t.Errorf("%.0f allocations in a scan with 100 unchanged values", n)
	}
}

// BenchmarkValues is an answer of 200 tags that 100 values are made of.
func BenchmarkValues(b *testing.B) {
	m, scan := valuesModel(b)
	s, _ := m.Step(State{}, scan)
	r, out := run{m: m}, Output{}
	b.ReportAllocs()
	for b.Loop() {
		scan.Received = scan.Received.Add(time.Second)
		r.step(&s, scan, &out)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/100, "ns/value")
}
