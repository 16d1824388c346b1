package derive

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/internal/schematest"
	"github.com/sluice-edge/sluice/plant"
)

var update = flag.Bool("update", false, "rewrite the expected events of the scenarios")

// A scenario is one readable file in txtar form:
//
//	what it shows, in words
//	-- config.yaml --    one machine of a config
//	-- site.yaml --      its time zone and shifts, where the machine has a calendar
//	-- check --          what check says against the config, where that is shown
//	-- tags --           device/tag type [scaled] [every=200ms] [@address], one a line
//	-- inputs --         one a line, see parseInput
//	-- events --         what must come out; go test -update rewrites it
//
// Ticks that the rules ask for come by themselves.
type scenario struct {
	path  string
	intro string
	names []string
	files map[string]string
}

// base is when every scenario begins.
var base = time.Date(2026, 3, 2, 6, 0, 0, 0, time.UTC)

func readScenario(t *testing.T, path string) *scenario {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s := &scenario{path: path, files: map[string]string{}}
	name := ""
	for line := range strings.Lines(string(text)) {
		if inner, ok := strings.CutPrefix(strings.TrimSpace(line), "-- "); ok && strings.HasSuffix(inner, " --") {
			name = strings.TrimSuffix(inner, " --")
			s.names = append(s.names, name)
			s.files[name] = ""
			continue
		}
		if name == "" {
			s.intro += line
		} else {
			s.files[name] += line
		}
	}
	return s
}

func (s *scenario) write(t *testing.T) {
	t.Helper()
	var b strings.Builder
	b.WriteString(s.intro)
	if !slices.Contains(s.names, "events") {
		s.names = append(s.names, "events")
	}
	for _, n := range s.names {
		fmt.Fprintf(&b, "-- %s --\n%s", n, s.files[n])
	}
	if err := os.WriteFile(s.path, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

// catalog reads a tags file.
func catalog(t *testing.T, text string) Catalog {
	t.Helper()
	c := Catalog{}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		ref := plant.ParseTagRef(f[0], "")
		typ, ok := plant.ParseTagType(f[1])
		if !ok {
			t.Fatalf("unknown type in %q", line)
		}
		tag := plant.Tag{ID: ref.Tag, Type: typ}
		for _, extra := range f[2:] {
			switch {
			case extra == "scaled":
				tag.Scaled = true
			case extra == "line":
				tag.Line = true
			case extra == "writable":
				tag.Writable = true
			case strings.HasPrefix(extra, "every="):
				every, err := time.ParseDuration(extra[len("every="):])
				if err != nil {
					t.Fatal(err)
				}
				tag.Every = every
			case extra[0] == '@':
				tag.Address = extra[1:]
			default:
				tag.Unit = extra
			}
		}
		c[ref.Device] = append(c[ref.Device], tag)
	}
	return c
}

// model builds the machine of a scenario from files of these names.
func (s *scenario) model(t *testing.T, configFile, tagsFile string) *Model {
	t.Helper()
	m, _ := s.check(t, configFile, tagsFile)
	return m
}

// check builds the machine, and says what is to be warned of, one a line.
func (s *scenario) check(t *testing.T, configFile, tagsFile string) (m *Model, warnings string) {
	t.Helper()
	section, faults := config.ParseSection("PRESS-01", s.path, s.files[configFile])
	var o Options
	faults = append(faults, section.Decode(&o)...)
	if len(faults.Errors()) > 0 {
		t.Fatalf("config: %v", faults)
	}
	o.Zone, o.SiteShifts = s.site(t)
	m, err := NewModel("PRESS-01", o, catalog(t, s.files[tagsFile]))
	if faulty(err) {
		t.Fatal(section.Faults(err))
	}
	for _, fault := range section.Faults(err) {
		fault.File = "config.yaml"
		warnings += fmt.Sprintln(fault)
	}
	return m, warnings
}

// site reads the calendar of the scenario's site.
func (s *scenario) site(t *testing.T) (*time.Location, config.Shifts) {
	t.Helper()
	var site struct {
		Timezone string        `yaml:"timezone"`
		Shifts   config.Shifts `yaml:"shifts"`
	}
	if s.files["site.yaml"] == "" {
		return time.UTC, site.Shifts
	}
	section, faults := config.ParseSection("site", s.path, s.files["site.yaml"])
	if faults = append(faults, section.Decode(&site)...); len(faults.Errors()) > 0 {
		t.Fatalf("site: %v", faults)
	}
	zone, err := time.LoadLocation(site.Timezone)
	if err != nil {
		t.Fatal(err)
	}
	return zone, site.Shifts
}

// action is one line of the inputs.
type action struct {
	in plant.Input
	// restart encodes and decodes the state, with other files where named.
	restart, crash bool
	// stored: the store has recorded a loss, and tells the rules if in is set.
	stored              bool
	configFile, tagFile string
	at                  time.Time
}

// player feeds a scenario to a model.
type player struct {
	t     *testing.T
	s     *scenario
	m     *Model
	state State
	// committed is the state as of the last step that would have been committed
	// with its events.
	committed []byte
	// keyed is what was put and not deleted; kept is as of committed.
	keyed, kept map[string][]byte
	events      []plant.Event
	// lines are the events and writes for people, in their order.
	lines strings.Builder
	wake  time.Time
	// reload says after which steps the state goes through Encode and Decode.
	reload func(step int) bool
	steps  int
}

func newPlayer(t *testing.T, s *scenario) *player {
	m := s.model(t, "config.yaml", "tags")
	return &player{t: t, s: s, m: m, state: decode(t, m, nil), keyed: map[string][]byte{}, kept: map[string][]byte{}}
}

func decode(t *testing.T, m *Model, b []byte, keyed ...plant.KV) State {
	t.Helper()
	state, err := m.Decode(b, keyed)
	if err != nil {
		t.Fatal(err)
	}
	return state
}

func encode(t *testing.T, m *Model, s *State) []byte {
	t.Helper()
	b, err := m.Encode(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// step makes one step and checks that it left the state before it alone.
func (p *player) step(in plant.Input) {
	before := encode(p.t, p.m, &p.state)
	next, out := p.m.Step(p.state, in)
	if after := encode(p.t, p.m, &p.state); !bytes.Equal(before, after) {
		p.t.Fatalf("step changed the state it was given:\n%s\n%s", before, after)
	}
	p.state, p.wake = next, out.Wake
	p.events = append(p.events, out.Events...)
	for _, kv := range out.Put {
		p.keyed[kv.Key] = kv.Value
	}
	for _, key := range out.Delete {
		delete(p.keyed, key)
	}
	if len(out.Events)+len(out.Writes)+len(out.Put)+len(out.Delete) > 0 || out.Urgent {
		p.committed, p.kept = encode(p.t, p.m, &p.state), maps.Clone(p.keyed)
	}
	p.note(in, out)
	if p.reload != nil && p.reload(p.steps) {
		p.state = decode(p.t, p.m, encode(p.t, p.m, &p.state), pairs(p.keyed)...)
	}
	p.steps++
}

func (p *player) note(in plant.Input, out Output) {
	for _, e := range out.Events {
		p.lines.WriteString(line(e))
	}
	for _, w := range out.Writes {
		fmt.Fprintf(&p.lines, "%s write %s/%s=%s session %d\n", in.When().Format("15:04:05.999"), w.Device, w.Tag, w.Value, w.Session)
	}
}

// pairs are keyed values in an order that says nothing.
func pairs(m map[string][]byte) (all []plant.KV) {
	for k, v := range m {
		all = append(all, plant.KV{Key: k, Value: v})
	}
	return all
}

func (p *player) play(actions []action) []plant.Event {
	for _, a := range actions {
		for !p.wake.IsZero() && !p.wake.After(a.at) {
			p.step(plant.Tick{At: p.wake})
		}
		if a.stored {
			p.keyed[plant.StoreGapKey], p.kept[plant.StoreGapKey] = []byte("{}"), []byte("{}")
		}
		switch {
		case a.in == nil && a.stored:
		case a.crash:
			p.keyed = maps.Clone(p.kept)
			p.state = decode(p.t, p.m, p.committed, pairs(p.keyed)...)
			p.rearm(a.at)
		case a.restart:
			b := encode(p.t, p.m, &p.state)
			p.m = p.s.model(p.t, a.configFile, a.tagFile)
			p.state = decode(p.t, p.m, b, pairs(p.keyed)...)
			p.rearm(a.at)
		default:
			p.step(a.in)
			if _, stops := a.in.(plant.Stop); stops {
				p.wake = time.Time{} // no tick comes until the restart
			}
		}
	}
	return p.events
}

// rearm goes on with a state at a time, and finds out when the rules want a tick,
// as a worker does at its start.
func (p *player) rearm(at time.Time) {
	p.state.GoOn()
	r := run{m: p.m, s: &p.state}
	if p.wake = r.wake(); !p.wake.IsZero() && p.wake.Before(at) {
		p.wake = at
	}
}

var dates = regexp.MustCompile(`2026-03-0(\d)T(\d\d:\d\d:\d\d)(?:\.000)?((?:\.\d+)?)Z`)

// line writes an event for people: what every event has is left out, and times
// are without the date.
func line(e plant.Event) string {
	var b strings.Builder
	b.WriteString(string(plant.AppendTime(nil, e.Time)))
	fmt.Fprintf(&b, " %s", e.Kind)
	if e.TimeSource == plant.DeviceTime {
		b.WriteString(" device-time")
	}
	if e.ClockOffset != 0 {
		fmt.Fprintf(&b, " offset=%s", e.ClockOffset)
	}
	if e.ClockStep != 0 {
		fmt.Fprintf(&b, " step=%s", e.ClockStep)
	}
	if e.TimeUncertain {
		b.WriteString(" uncertain")
	}
	data := strings.NewReplacer(`"machine":"PRESS-01",`, "", `"mode":"production",`, "", `"mode":"production"`, "").Replace(string(e.Data))
	return dates.ReplaceAllStringFunc(b.String()+" "+data, func(s string) string {
		m := dates.FindStringSubmatch(s)
		if m[1] == "2" {
			return m[2] + m[3]
		}
		return "day" + m[1] + " " + m[2] + m[3]
	}) + "\n"
}

func scenarios(t *testing.T) (all []string) {
	t.Helper()
	err := filepath.WalkDir("testdata", func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".txtar") {
			all = append(all, path)
		}
		return err
	})
	if err != nil || len(all) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	return all
}

func TestScenarios(t *testing.T) {
	for _, path := range scenarios(t) {
		t.Run(strings.TrimSuffix(filepath.ToSlash(path[len("testdata/"):]), ".txtar"), func(t *testing.T) {
			s := readScenario(t, path)
			actions := parseInputs(t, s.files["inputs"], catalog(t, s.files["tags"]))
			p := newPlayer(t, s)
			events := p.play(actions)
			validate(t, events)
			_, warnings := s.check(t, "config.yaml", "tags")
			checked := slices.Contains(s.names, "check")
			if *update {
				if checked {
					s.files["check"] = warnings
				}
				s.files["events"] = p.lines.String()
				s.write(t)
				return
			}
			if want := s.files["events"]; p.lines.String() != want {
				t.Errorf("%s\ngot:\n%swant:\n%s", strings.TrimSpace(s.intro), &p.lines, want)
			}
			if want := s.files["check"]; checked && warnings != want {
				t.Errorf("%s\ncheck says:\n%swant:\n%s", strings.TrimSpace(s.intro), warnings, want)
			}
		})
	}
}

// TestReplayAfterACrashAnywhere is the promise of this package: a state that
// went to disk and back at any boundary gives the same events, byte for byte.
func TestReplayAfterACrashAnywhere(t *testing.T) {
	for _, path := range scenarios(t) {
		t.Run(strings.TrimSuffix(filepath.ToSlash(path[len("testdata/"):]), ".txtar"), func(t *testing.T) {
			s := readScenario(t, path)
			actions := parseInputs(t, s.files["inputs"], catalog(t, s.files["tags"]))
			plain := newPlayer(t, s)
			want := full(t, plain.play(actions))
			everywhere := newPlayer(t, s)
			everywhere.reload = func(int) bool { return true }
			if got := full(t, everywhere.play(actions)); got != want {
				t.Fatalf("reloaded after every step:\n%swant:\n%s", got, want)
			}
			for at := range plain.steps {
				once := newPlayer(t, s)
				once.reload = func(step int) bool { return step == at }
				if got := full(t, once.play(actions)); got != want {
					t.Fatalf("reloaded after step %d:\n%swant:\n%s", at, got, want)
				}
			}
		})
	}
}

// full is all of the events, byte for byte.
func full(t *testing.T, events []plant.Event) string {
	t.Helper()
	var b strings.Builder
	for _, e := range events {
		data := string(e.Data)
		e.Data = nil
		envelope, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s %s\n", envelope, data)
	}
	return b.String()
}

var schemas = sync.OnceValues(schematest.Load)

// validate holds events against their schemas.
func validate(t *testing.T, events []plant.Event) {
	t.Helper()
	all, err := schemas()
	if err == nil {
		err = all.Events(events)
	}
	if err != nil {
		t.Error(err)
	}
}
