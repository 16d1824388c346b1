package recording

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sluice-edge/sluice/derive"
	"github.com/sluice-edge/sluice/plant"
)

var base = time.Date(2026, 3, 2, 6, 0, 0, 0, time.UTC)

// drawTime draws times that come, go back, and are nothing.
func drawTime(t *rapid.T) time.Time {
	return base.Add(time.Duration(rapid.Int64Range(-1e12, 1e15).Draw(t, "time")))
}

func drawValue(t *rapid.T) plant.Value {
	switch rapid.IntRange(0, 6).Draw(t, "type") {
	case 0:
		return plant.Value{}
	case 1:
		return plant.BoolValue(rapid.Bool().Draw(t, "bool"))
	case 2:
		return plant.IntValue(rapid.Int64().Draw(t, "int"))
	case 3:
		return plant.UintValue(rapid.Uint64().Draw(t, "uint"))
	case 4:
		return plant.FloatValue(rapid.Float64().Draw(t, "float"))
	case 5:
		return plant.ExactValue(plant.Decimal{Unscaled: rapid.Int64().Draw(t, "unscaled"), Scale: uint8(rapid.IntRange(0, plant.MaxScale).Draw(t, "scale"))})
	default:
		return plant.TextValue(string(rapid.SliceOfN(rapid.Byte(), 0, 12).Draw(t, "text")))
	}
}

// drawScan draws answers of few devices and tags, so that many are alike.
func drawScan(t *rapid.T) *plant.Scan {
	s := &plant.Scan{
		Device:  plant.DeviceID(rapid.SampledFrom([]string{"press", "scale"}).Draw(t, "device")),
		Session: rapid.Uint64Range(0, 3).Draw(t, "session"), Snapshot: rapid.Bool().Draw(t, "snapshot"), Final: rapid.Bool().Draw(t, "final"), More: rapid.Bool().Draw(t, "more"), Overflow: rapid.Bool().Draw(t, "overflow"), Received: drawTime(t),
	}
	if rapid.Bool().Draw(t, "asked") {
		s.Asked = drawTime(t)
	}
	if rapid.Bool().Draw(t, "record") {
		s.Record = "dose"
	}
	for i := range rapid.IntRange(0, 5).Draw(t, "readings") {
		v := plant.Reading{Tag: plant.TagID(rapid.SampledFrom([]string{"made", "run", "code"}).Draw(t, "tag")), Value: drawValue(t), Quality: plant.Quality(rapid.IntRange(0, 2).Draw(t, "quality"))}
		if v.Quality != plant.Good {
			v.Cause = rapid.SampledFrom([]string{"", "time-out", "no such node"}).Draw(t, "cause")
		}
		if i%2 == 0 {
			v.Source = drawTime(t)
		}
		s.Readings = append(s.Readings, v)
	}
	return s
}

// drawInput draws an input of any type, each field of the others filled by its
// own type.
func drawInput(t *rapid.T) plant.Input {
	zero := rapid.SampledFrom(plant.Inputs()).Draw(t, "input")
	if _, ok := zero.(plant.Scan); ok {
		return drawScan(t)
	}
	v := reflect.New(reflect.TypeOf(zero)).Elem()
	fill(t, v)
	return v.Interface().(plant.Input)
}

func fill(t *rapid.T, v reflect.Value) {
	if v.Type() == reflect.TypeFor[time.Time]() {
		v.Set(reflect.ValueOf(drawTime(t)))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if !v.Type().Field(i).IsExported() {
				t.Fatalf("%s.%s cannot be written as JSON", v.Type(), v.Type().Field(i).Name)
			}
			fill(t, v.Field(i))
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(t, v.Index(0))
		fill(t, v.Index(1))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem())
	case reflect.String:
		v.SetString(rapid.SampledFrom([]string{"", "4711", "Größe <&>\u2028"}).Draw(t, "text"))
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, "bool"))
	case reflect.Uint8, reflect.Uint64:
		v.SetUint(rapid.Uint64Range(0, plant.MaxScale).Draw(t, "number"))
	case reflect.Int64, reflect.Int:
		v.SetInt(rapid.Int64().Draw(t, "number"))
	case reflect.Float64:
		v.SetFloat(rapid.Float64().Draw(t, "number"))
	default:
		t.Fatalf("no test fills a %s: the codec may lose it", v.Type())
	}
}

func drawCommits(t *rapid.T) (all []commit) {
	for range rapid.IntRange(0, 8).Draw(t, "commits") {
		var c commit
		for range rapid.IntRange(1, 4).Draw(t, "steps") {
			st := derive.Step{In: drawInput(t)}
			if _, ok := st.In.(*plant.Scan); ok && rapid.Bool().Draw(t, "large") {
				st.LargeTag, st.LargeBytes = "made", rapid.IntRange(1, maxBlock).Draw(t, "bytes")
			}
			c.steps = append(c.steps, st)
		}
		for range rapid.IntRange(0, 2).Draw(t, "events") {
			c.events = append(c.events, plant.Event{
				Machine: "PRESS-01", Kind: plant.KindCounter, Version: 1, Time: drawTime(t), TimeSource: rapid.SampledFrom([]plant.TimeSource{"", plant.DeviceTime, plant.GatewayTime}).Draw(t, "source"),
				ClockOffset: time.Duration(rapid.Int64().Draw(t, "offset")), ClockStep: time.Duration(rapid.Int64().Draw(t, "step")),
				TimeUncertain: rapid.Bool().Draw(t, "uncertain"), Data: []byte(`{"good":1}`),
			})
			c.first = 7
		}
		all = append(all, c)
	}
	return all
}

// commit is what a Recorder is given at once.
type commit struct {
	steps  []derive.Step
	events []plant.Event
	first  plant.Sequence
}

// fataler is a test or a property.
type fataler interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// write returns a whole file.
func write(t fataler, commits []commit, flush int) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := NewWriter(&b, Head{Machine: "PRESS-01", Gateway: "gw-1", Begun: base, Run: "00c0ffee", Part: 1}, []byte(`{"v":1}`), []plant.KV{{Key: "serial/1", Value: []byte("x")}})
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range commits {
		if err := w.Add(c.steps, c.events, c.first); err != nil {
			t.Fatal(err)
		}
		if flush > 0 && i%flush == 0 {
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.End("it was ended by hand", false); err != nil {
		t.Fatal(err)
	}
	if int64(b.Len()) != w.Size() {
		t.Fatalf("size %d of %d bytes", w.Size(), b.Len())
	}
	return b.Bytes()
}

// flat is what a file must give: scans by value, events copied.
func flat(commits []commit) (all []Entry) {
	for _, c := range commits {
		for _, st := range c.steps {
			all = append(all, Entry{Step: clone(st)})
		}
		if len(c.events) > 0 {
			all = append(all, Entry{Events: c.events, First: c.first})
		}
	}
	return all
}

func clone(st derive.Step) derive.Step {
	if s, ok := st.In.(*plant.Scan); ok {
		c := *s
		c.Readings = append([]plant.Reading{}, s.Readings...)
		st.In = c
	}
	return st
}

// read reads a file to its end.
func read(data []byte) (r *Reader, all []Entry, err error) {
	r, err = NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, nil, err
	}
	for {
		var e Entry
		if err := r.Next(&e); err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return r, all, err
		}
		e.Step = clone(e.Step)
		var events []plant.Event
		for _, ev := range e.Events {
			ev.Data = bytes.Clone(ev.Data)
			events = append(events, ev)
		}
		e.Events = events
		all = append(all, e)
	}
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		commits := drawCommits(t)
		data := write(t, commits, rapid.IntRange(0, 3).Draw(t, "flush"))
		r, got, err := read(data)
		if err != nil {
			t.Fatal(err)
		}
		if want := flat(commits); !reflect.DeepEqual(got, want) {
			t.Fatalf("got\n%+v, want\n%+v", got, want)
		}
		state, keyed := r.State()
		if string(state) != `{"v":1}` || len(keyed) != 1 || keyed[0].Key != "serial/1" || string(keyed[0].Value) != "x" {
			t.Fatalf("state %s, %v", state, keyed)
		}
		if reason, ok := r.Ended(); !ok || reason != "it was ended by hand" || r.Head().Machine != "PRESS-01" {
			t.Fatalf("ended %q %v, head %+v", reason, ok, r.Head())
		}
	})
}

// TestEveryInputCanBeRecorded finds the inputs in the source of plant, so that a
// new one is not forgotten here.
func TestEveryInputCanBeRecorded(t *testing.T) {
	files, err := filepath.Glob("../../plant/*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	method := regexp.MustCompile(`(?m)^func \((?:\w+ )?(\w+)\) input\(\)`)
	var declared, known []string
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range method.FindAllStringSubmatch(string(text), -1) {
			declared = append(declared, m[1])
		}
	}
	for _, in := range plant.Inputs() {
		known = append(known, inputName(in))
	}
	slices.Sort(declared)
	slices.Sort(known)
	if len(declared) < 7 || !slices.Equal(declared, known) {
		t.Errorf("plant has the inputs %v, Inputs returns %v: add what is missing", declared, known)
	}
}

func few() []commit {
	var all []commit
	for i := range 6 {
		at := base.Add(time.Duration(i) * time.Second)
		all = append(all, commit{
			steps: []derive.Step{{In: &plant.Scan{Device: "press", Received: at, Readings: []plant.Reading{
				{Tag: "made", Value: plant.UintValue(uint64(40 + i)), Quality: plant.Good, Source: at}, {Tag: "order", Value: plant.TextValue("4711"), Quality: plant.Good},
			}}}, {In: plant.Stop{At: at}}},
			events: []plant.Event{{Machine: "PRESS-01", Kind: plant.KindCounter, Version: 1, Time: at, TimeSource: plant.GatewayTime, Data: []byte(`{"good":1}`)}},
			first:  plant.Sequence(i + 1),
		})
	}
	return all
}

// TestEveryByteDamaged turns each byte of a file over: what is read before the
// damage is right, and nothing wrong is ever read.
func TestEveryByteDamaged(t *testing.T) {
	data := write(t, few(), 2)
	_, want, err := read(data)
	if err != nil || len(want) != 18 {
		t.Fatal(err, len(want))
	}
	for i := range data {
		bad := bytes.Clone(data)
		bad[i] ^= 0x55
		_, got, err := read(bad)
		if 10 <= i && i < 12 {
			if err != nil { // a newer minor version is read
				t.Errorf("byte %d: %v", i, err)
			}
			continue
		}
		if err == nil {
			t.Fatalf("byte %d: the damage was not seen", i)
		}
		if i < 8 && !errors.Is(err, ErrForeign) {
			t.Errorf("byte %d: %v", i, err)
		}
		var d *DamageError
		if i >= 12 && (!errors.As(err, &d) || d.Offset > int64(i)) {
			t.Errorf("byte %d: %v", i, err)
		}
		if len(got) > len(want) || len(got) > 0 && !reflect.DeepEqual(got, want[:len(got)]) {
			t.Fatalf("byte %d: read what was not written: %+v", i, got)
		}
	}
}

// TestEveryLength cuts a file off: at the end of a block it was killed there,
// within one it is cut off, and what is before is read.
func TestEveryLength(t *testing.T) {
	data := write(t, few(), 2)
	_, want, err := read(data)
	if err != nil {
		t.Fatal(err)
	}
	whole, cut := 0, 0
	for n := range data {
		r, got, err := read(data[:n])
		var d *DamageError
		switch {
		case err == nil:
			if _, ended := r.Ended(); ended {
				t.Fatalf("%d bytes: ended", n)
			}
			whole++
		case n == 0 && errors.Is(err, ErrForeign):
		case !errors.As(err, &d) || !d.Cut || !strings.Contains(err.Error(), "cut off at byte"):
			t.Fatalf("%d bytes: %v", n, err)
		default:
			cut++
		}
		if len(got) > 0 && !reflect.DeepEqual(got, want[:len(got)]) {
			t.Fatalf("%d bytes: read what was not written", n)
		}
	}
	// Three blocks of data, and the end of the state and of the kept value before.
	if whole < 4 || cut < 100 {
		t.Errorf("%d lengths are whole, %d cut off", whole, cut)
	}
}

func TestForeignAndNewerFiles(t *testing.T) {
	newer := write(t, few(), 0)
	newer[9] = 2
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"empty": {nil, "no recording"}, "text": {[]byte("machine;good\nPRESS-01;12\n"), "no recording"}, "newer": {newer, "has format 2, and this program reads 1"},
	} {
		if _, _, err := read(c.data); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzReader: no file makes the reader panic, take much memory or go on for ever.
func FuzzReader(f *testing.F) {
	f.Add(write(f, few(), 0))
	f.Add(write(f, few(), 1)[:200])
	f.Fuzz(func(t *testing.T, data []byte) {
		_, entries, err := read(data)
		if err == nil && len(entries) > len(data) {
			t.Errorf("%d entries of %d bytes", len(entries), len(data))
		}
	})
}

// FuzzBlock fuzzes what is behind the checksums.
func FuzzBlock(f *testing.F) {
	e := newEncoder()
	for _, c := range few() {
		for i := range c.steps {
			if err := e.step(&c.steps[i]); err != nil {
				f.Fatal(err)
			}
		}
		e.events(c.events, c.first)
	}
	f.Add(e.buf)
	f.Fuzz(func(t *testing.T, block []byte) {
		d := newDecoder("PRESS-01")
		d.b = block
		var e Entry
		for len(d.b) > 0 {
			left := len(d.b)
			if d.next(&e) != nil {
				return
			}
			if len(d.b) >= left {
				t.Fatal("an entry without a byte")
			}
		}
	})
}
