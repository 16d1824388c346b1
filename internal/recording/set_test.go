package recording

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/derive"
	"github.com/sluice-edge/sluice/plant"
)

// station is a machine whose rules keep state, kept values and time.
const station = `
device: press
order: order
counter: {total: made, max_rate: 100/s, every: 2s}
startstop: {running: run, min_stop: 3s}
parameters: {TEMP: {tag: temp, deadband: 1}}
serial: {trigger: offer, ack: ack, serial: serial, memory: 5}
`

func stationModel(t testing.TB, text string) *derive.Model {
	t.Helper()
	section, faults := config.ParseSection("PRESS-01", "station.yaml", text)
	var o derive.Options
	if faults = append(faults, section.Decode(&o)...); len(faults.Errors()) > 0 {
		t.Fatal(faults)
	}
	m, err := derive.NewModel("PRESS-01", o, derive.Catalog{"press": {
		{ID: "made", Type: plant.TypeUint16}, {ID: "run", Type: plant.TypeBool}, {ID: "temp", Type: plant.TypeFloat64}, {ID: "order", Type: plant.TypeString},
		{ID: "offer", Type: plant.TypeBool}, {ID: "ack", Type: plant.TypeBool}, {ID: "serial", Type: plant.TypeString},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// store is a derive.Log in memory whose commits may kill the process.
type store struct {
	mu     sync.Mutex
	state  []byte
	keyed  map[string][]byte
	events []plant.Event
	// left is how many commits are good before the one that kills; below 0 none
	// does. late makes that one durable all the same.
	left int
	late bool
}

var errKilled = errors.New("killed")

func (s *store) Load(_ context.Context, _ plant.MachineID, each func(plant.KV) error) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, v := range s.keyed {
		if err := each(plant.KV{Key: k, Value: v}); err != nil {
			return nil, err
		}
	}
	return slices.Clone(s.state), nil
}

func (s *store) Newest(_ context.Context, _ plant.MachineID, kind plant.EventKind, most int) (data [][]byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.events) - 1; i >= 0 && len(data) < most; i-- {
		if s.events[i].Kind == kind {
			data = append(data, s.events[i].Data)
		}
	}
	return data, nil
}

func (s *store) Commit(_ context.Context, _ plant.MachineID, b plant.Batch) (plant.Sequence, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kill := s.left == 0
	s.left--
	if kill && !s.late {
		return 0, errKilled
	}
	first := plant.Sequence(len(s.events) + 1)
	if b.State != nil {
		s.state = slices.Clone(b.State)
	}
	for _, e := range b.Events {
		e.Data = slices.Clone(e.Data)
		s.events = append(s.events, e)
	}
	for _, kv := range b.Put {
		s.keyed[kv.Key] = slices.Clone(kv.Value)
	}
	for _, k := range b.Delete {
		delete(s.keyed, k)
	}
	if kill {
		return 0, errKilled
	}
	return first, nil
}

// world feeds a machine with what a PLC could say, over many lives.
type world struct {
	t    *testing.T
	r    *rand.Rand
	log  *store
	dir  string
	made uint16
	unit int
	temp float64
	up   bool
}

func (w *world) set(worker *derive.Worker) *Set {
	return NewSet(Options{
		Folder: w.dir, Gateway: "gw-1", Program: "test", Machines: []plant.MachineID{"PRESS-01"},
		Attach: func(_ plant.MachineID, r derive.Recorder) { worker.Record(r) },
	}, zap.NewNop())
}

// say offers the next things that happen.
func (w *world) say(worker *derive.Worker, session uint64) {
	now := time.Now()
	w.made += uint16(w.r.IntN(4))
	w.temp += float64(w.r.IntN(5)-2) / 2
	if w.r.IntN(8) == 0 {
		w.up = !w.up
	}
	quality := plant.Good
	if w.r.IntN(20) == 0 {
		quality = plant.Bad
	}
	worker.Offer(&plant.Scan{Device: "press", Session: session, Asked: now.Add(-time.Millisecond), Received: now, Readings: []plant.Reading{
		{Tag: "made", Value: plant.UintValue(uint64(w.made)), Quality: quality},
		{Tag: "run", Value: plant.BoolValue(w.up), Quality: plant.Good, Source: now.Add(-2 * time.Second)},
		{Tag: "temp", Value: plant.FloatValue(w.temp), Quality: plant.Good},
		{Tag: "order", Value: plant.TextValue(fmt.Sprint(4711 + int(w.made)/40)), Quality: plant.Good},
		{Tag: "offer", Value: plant.BoolValue(w.unit%3 == 0), Quality: plant.Good},
		{Tag: "ack", Value: plant.BoolValue(false), Quality: plant.Good},
	}})
	w.unit++
	if w.unit%3 == 1 {
		worker.Offer(&plant.Scan{Device: "press", Session: session, Record: "serial", Received: now, Readings: []plant.Reading{
			{Tag: "offer", Value: plant.BoolValue(true), Quality: plant.Good}, {Tag: "ack", Value: plant.BoolValue(false), Quality: plant.Good},
			{Tag: "serial", Value: plant.TextValue(fmt.Sprint("S", w.unit/3%9)), Quality: plant.Good},
		}})
	}
	switch w.r.IntN(25) {
	case 0:
		worker.Offer(plant.DeviceState{At: now, Device: "press", Session: session, Cause: "no answer"})
	case 1:
		worker.Offer(plant.Gap{At: now, Device: "press", Count: 3, Cause: plant.GapMailbox, Reason: "full"})
	}
}

// life runs the gateway until a commit kills it, or for so long.
func (w *world) life(session uint64, kill bool) {
	ctx, cancel := context.WithCancel(w.t.Context())
	defer cancel()
	w.log.mu.Lock()
	w.log.left, w.log.late = -1, w.r.IntN(2) == 0
	if kill {
		w.log.left = 5 + w.r.IntN(60)
	}
	w.log.mu.Unlock()
	worker := derive.NewWorker(stationModel(w.t, station), w.log, nil, derive.WorkerOptions{}, zap.NewNop())
	set := w.set(worker)
	if session == 1 {
		if err := set.Start(nil, MaxFor, MinSize); err != nil {
			w.t.Fatal(err)
		}
	} else if err := set.Resume(); err != nil {
		w.t.Fatal(err)
	}
	// Much smaller files than anybody would make, so that many follow each other.
	set.share.Store(2 << 10)
	done, closed := make(chan error, 1), make(chan error, 1)
	flushing, stop := context.WithCancel(w.t.Context())
	go func() { done <- worker.Run(ctx) }()
	go func() { closed <- set.Run(flushing) }()
	for range 400 {
		w.say(worker, session)
		time.Sleep(time.Duration(w.r.IntN(15)) * 100 * time.Millisecond)
		select {
		case err := <-done:
			if !kill || !errors.Is(err, errKilled) {
				w.t.Fatal(err)
			}
			// What a killed process had not written stays unwritten.
			for _, r := range set.recorders {
				r.mu.Lock()
				r.over = true
				r.mu.Unlock()
			}
			stop()
			<-closed
			return
		default:
		}
	}
	cancel()
	if err := <-done; err != nil {
		w.t.Fatal(err)
	}
	stop()
	<-closed
}

// TestAReplayGivesWhatWasStored records a machine over many lives of its
// gateway, and replays each recording: the events are those that were recorded
// and those that the store has, byte for byte, each time.
func TestAReplayGivesWhatWasStored(t *testing.T) {
	for seed := range uint64(6) {
		synctest.Test(t, func(t *testing.T) {
			w := &world{t: t, r: rand.New(rand.NewPCG(seed, 3)), log: &store{keyed: map[string][]byte{}}, dir: filepath.Join(t.TempDir(), "recordings")}
			for life := range uint64(8) {
				w.life(life+1, life%4 != 3)
			}
			first := w.replay()
			if second := w.replay(); !reflect.DeepEqual(first, second) {
				t.Fatal("a second replay gave something else")
			}
			if parts, events := first.files, len(first.seen); parts < 20 || events < 200 || events < len(w.log.events)*8/10 {
				t.Errorf("seed %d: %d files, %d of %d events seen: this tests nothing", seed, parts, events, len(w.log.events))
			}
		})
	}
}

// replays is what all recordings gave.
type replays struct {
	files int
	seen  map[plant.Sequence]string
}

func (w *world) replay() replays {
	w.t.Helper()
	files, err := filepath.Glob(filepath.Join(w.dir, "*"+Suffix))
	if err != nil {
		w.t.Fatal(err)
	}
	all := replays{files: len(files), seen: map[plant.Sequence]string{}}
	var heads []Head
	paths := map[Head]string{}
	for _, f := range files {
		r, closing := w.open(f)
		heads = append(heads, r.Head())
		paths[r.Head()] = f
		closing()
	}
	slices.SortFunc(heads, func(a, b Head) int {
		if c := a.Begun.Compare(b.Begun); c != 0 {
			return c
		}
		return a.Part - b.Part
	})
	var before Head
	var rules *derive.Replay
	for _, h := range heads {
		rules = w.file(paths[h], h.Follows(before), rules, &all)
		before = h
	}
	return all
}

func (w *world) open(path string) (*Reader, func()) {
	w.t.Helper()
	f, err := os.Open(path)
	if err != nil {
		w.t.Fatal(err)
	}
	r, err := NewReader(f)
	if err != nil {
		w.t.Fatal(path, err)
	}
	return r, func() {
		if err := f.Close(); err != nil {
			w.t.Error(err)
		}
	}
}

// file replays one file and compares.
func (w *world) file(path string, follows bool, rules *derive.Replay, all *replays) *derive.Replay {
	w.t.Helper()
	r, closing := w.open(path)
	defer closing()
	model := stationModel(w.t, station)
	own, err := model.NewReplay(r.State())
	if err != nil {
		w.t.Fatal(err)
	}
	if follows {
		// The state at the beginning is what the file before ends with.
		a, err1 := own.State()
		b, err2 := rules.State()
		if string(a) != string(b) || err1 != nil || err2 != nil {
			w.t.Fatalf("%s does not go on where the file before ends:\n%s\n%s", path, a, b)
		}
		own = rules
	}
	var made []string
	var e Entry
	for {
		err := r.Next(&e)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			w.t.Fatal(path, err)
		}
		if e.Step.In != nil {
			for _, ev := range own.Step(e.Step) {
				made = append(made, text(ev))
			}
			continue
		}
		for i, ev := range e.Events {
			if i >= len(made) || made[i] != text(ev) {
				w.t.Fatalf("%s: recorded\n%s\nreplayed\n%s", path, text(ev), strings.Join(made, "\n"))
			}
			n := e.First + plant.Sequence(i)
			if stored := text(w.log.events[n-1]); stored != made[i] {
				w.t.Fatalf("%s: event %d is stored as\n%s\nreplayed\n%s", path, n, stored, made[i])
			}
			all.seen[n] = made[i]
		}
		if len(made) != len(e.Events) {
			w.t.Fatalf("%s: %d events recorded, %d replayed", path, len(e.Events), len(made))
		}
		made = made[:0]
	}
	if len(made) > 0 {
		w.t.Fatalf("%s: %d events were replayed and not recorded", path, len(made))
	}
	return own
}

// text is all of an event, byte for byte.
func text(e plant.Event) string {
	return fmt.Sprintf("%s v%d %s %s %s %s %v %s", e.Kind, e.Version, e.Time.Format(time.RFC3339Nano), e.TimeSource, e.ClockOffset, e.ClockStep, e.TimeUncertain, e.Data)
}

func TestRecordingsStayWithinTheirRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "recordings")
		set := NewSet(Options{Folder: dir, Machines: []plant.MachineID{"PRESS-01"}, Attach: func(plant.MachineID, derive.Recorder) {}}, zap.NewNop())
		if err := set.Start(nil, time.Hour, MinSize); err != nil {
			t.Fatal(err)
		}
		r := set.recorders[0]
		most := int64(0)
		for i := range 4000 {
			if r.Due() {
				r.Begin([]byte(`{"v":1}`), nil)
			}
			noise := make([]byte, 4<<10)
			for k := range noise {
				noise[k] = byte(i * k)
			}
			r.Record([]derive.Step{{In: &plant.Scan{Device: "press", Received: time.Now(), Readings: []plant.Reading{{Tag: "text", Value: plant.TextValue(string(noise)), Quality: plant.Good}}}}}, nil, 0)
			time.Sleep(time.Second)
			if i%100 == 0 {
				most = max(most, sum(t, dir))
			}
		}
		if most > MinSize || most < MinSize/2 {
			t.Errorf("the files took %d bytes, the room is %d", most, int64(MinSize))
		}
		files, _ := filepath.Glob(filepath.Join(dir, "*"+Suffix))
		if st := set.Stats()[0]; st.Over || st.Files != len(files) || st.Bytes != sum(t, dir)-activeSize(t, dir) || st.Inputs > 1200 || st.Inputs < 500 {
			t.Errorf("%+v", st)
		}
	})
}

func activeSize(t *testing.T, dir string) int64 {
	t.Helper()
	info, err := os.Stat(filepath.Join(dir, activeName))
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// TestTheListKnowsWhatWasRecordedBeforeARestart: over orderly stops and kills, of
// machines whose names are alike, and not what an earlier recording has left.
func TestTheListKnowsWhatWasRecordedBeforeARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		recorders := map[plant.MachineID]derive.Recorder{}
		o := Options{
			Folder: filepath.Join(t.TempDir(), "recordings"), Machines: []plant.MachineID{"A", "A-1", "Ä/2"},
			Attach: func(m plant.MachineID, r derive.Recorder) { recorders[m] = r },
		}
		say := func(n int) {
			for i := range n {
				for m, r := range recorders {
					if r == nil {
						continue
					}
					if r.Due() {
						r.Begin([]byte(`{"v":1}`), nil)
					}
					if i%2 == 0 || m != "A-1" {
						r.Record([]derive.Step{{In: plant.Tick{At: time.Now()}}}, nil, 0)
					}
				}
				time.Sleep(100 * time.Millisecond)
			}
			time.Sleep(2 * time.Second)
		}
		life := func(kill bool, do func(s *Set)) {
			set := NewSet(o, zap.NewNop())
			if err := set.Resume(); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- set.Run(ctx) }()
			do(set)
			if kill { // what a killed process had not written stays unwritten
				for _, r := range set.recorders {
					r.mu.Lock()
					r.over = true
					r.mu.Unlock()
				}
			}
			cancel()
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		want := func(s *Set, files int, inputs ...uint64) {
			t.Helper()
			for range 2 { // counted and remembered
				for i, st := range s.Stats() {
					if st.Files != files || st.Inputs != inputs[i] || st.Bytes < 100 || st.Over {
						t.Errorf("want %d files with %d inputs: %+v", files, inputs[i], st)
					}
				}
			}
		}
		life(false, func(s *Set) {
			if err := s.Start(nil, time.Hour, 3*MinSize); err != nil {
				t.Fatal(err)
			}
			say(7)
			if err := s.Stop(nil); err != nil {
				t.Fatal(err)
			}
		})
		var begun time.Time
		life(false, func(s *Set) {
			if err := s.Start(nil, time.Hour, 3*MinSize); err != nil {
				t.Fatal(err)
			}
			begun = s.Stats()[0].Begun
			say(10)
			want(s, 1, 10, 5, 10)
		})
		life(true, func(s *Set) {
			say(20)
			want(s, 2, 30, 15, 30)
		})
		life(false, func(s *Set) {
			want(s, 2, 30, 15, 30)
			say(4)
			want(s, 3, 34, 17, 34)
			if got := s.Stats()[0].Begun; !got.Equal(begun) {
				t.Errorf("begun %s, want %s", got, begun)
			}
		})
	})
}

func sum(t *testing.T, dir string) (n int64) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		n += info.Size()
	}
	return n
}

func TestARecordingEndsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "recordings")
		var attached derive.Recorder
		o := Options{Folder: dir, Machines: []plant.MachineID{"A", "B"}, Attach: func(m plant.MachineID, r derive.Recorder) {
			if m == "A" {
				attached = r
			}
		}}
		set := NewSet(o, zap.NewNop())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- set.Run(ctx) }()
		for want, err := range map[string]error{
			"no machine \"C\"":        set.Start([]plant.MachineID{"C"}, time.Hour, MinSize),
			"from 1 second to 31 day": set.Start(nil, MaxFor+1, 2*MinSize),
			"8 MiB or more":           set.Start(nil, time.Hour, MinSize),
			"is not being recorded":   set.Stop([]plant.MachineID{"A"}),
		} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %q", err, want)
			}
		}
		if err := set.Start([]plant.MachineID{"A"}, time.Minute, MinSize); err != nil || attached == nil {
			t.Fatal(err, attached)
		}
		attached.Begin([]byte(`{"v":1}`), nil)
		attached.Record([]derive.Step{{In: plant.Tick{At: time.Now()}}}, nil, 0)
		time.Sleep(2 * time.Second)
		// A process that dies now has lost nothing that is a second old.
		files, _ := filepath.Glob(filepath.Join(dir, "*"+Suffix))
		data, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		if r, all, err := read(data); err != nil || len(all) != 1 || r.ended != nil {
			t.Fatalf("after two seconds %d entries, %v", len(all), err)
		}
		// The next start goes on with it, for as long as it was to last.
		again := NewSet(o, zap.NewNop())
		if err := again.Resume(); err != nil || len(again.Stats()) != 1 || again.Stats()[0].Machine != "A" || !again.Stats()[0].Until.Equal(set.Stats()[0].Until) {
			t.Fatalf("%v, %+v", err, again.Stats())
		}
		time.Sleep(time.Minute)
		if st := set.Stats()[0]; !st.Over || st.Problem != "" || attached != nil {
			t.Errorf("after its time: %+v", st)
		}
		if data, err = os.ReadFile(files[0]); err != nil {
			t.Fatal(err)
		}
		if r, _, err := read(data); err != nil || r.ended == nil || r.ended.Reason != "its time was over" {
			t.Errorf("%v, ended %+v", err, r.ended)
		}
		if left := NewSet(o, zap.NewNop()); left.Resume() != nil || len(left.Stats()) != 0 {
			t.Errorf("a recording that is over goes on: %+v", left.Stats())
		}
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}

// TestAFullDiskEndsTheRecordingOnly: the machine goes on, and somebody is told.
func TestAFullDiskEndsTheRecordingOnly(t *testing.T) {
	room := error(nil)
	var attached derive.Recorder
	set := NewSet(Options{Folder: filepath.Join(t.TempDir(), "recordings"), Machines: []plant.MachineID{"A"},
		Attach: func(_ plant.MachineID, r derive.Recorder) { attached = r }, Room: func() error { return room }}, zap.NewNop())
	if err := set.Start(nil, time.Hour, MinSize); err != nil {
		t.Fatal(err)
	}
	room = errors.New("the disk is full")
	attached.Begin([]byte(`{"v":1}`), nil)
	if f := set.Failures(); attached != nil || len(f) != 1 || f[0].Machine != "A" || f[0].Cause != "the disk is full" {
		t.Fatalf("%+v, %+v", attached, f)
	}
	if err := set.Start(nil, time.Hour, MinSize); err == nil || !strings.Contains(err.Error(), "full") {
		t.Errorf("begun on a full disk: %v", err)
	}
	room = nil
	if err := set.Start(nil, time.Hour, MinSize); err != nil || len(set.Failures()) != 0 || attached == nil {
		t.Errorf("%v, %+v", err, set.Failures())
	}
}

// TestOpenFilesDoNotGrowIntoTheReserve: a file that is open grows on, so room is
// asked for while it does, and not only when one is made.
func TestOpenFilesDoNotGrowIntoTheReserve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "recordings")
		room := error(nil)
		var mu sync.Mutex
		attached := map[plant.MachineID]derive.Recorder{}
		o := Options{Folder: dir, Machines: []plant.MachineID{"A", "B"}, Room: func() error { mu.Lock(); defer mu.Unlock(); return room },
			Attach: func(m plant.MachineID, r derive.Recorder) { mu.Lock(); defer mu.Unlock(); attached[m] = r }}
		set := NewSet(o, zap.NewNop())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- set.Run(ctx) }()
		if err := set.Start(nil, time.Hour, 2*MinSize); err != nil {
			t.Fatal(err)
		}
		a := attached["A"]
		a.Begin([]byte(`{"v":1}`), nil)
		a.Record([]derive.Step{{In: plant.Tick{At: time.Now()}}}, nil, 0)
		time.Sleep(5 * time.Second)
		if f := set.Failures(); len(f) != 0 {
			t.Fatalf("with room enough: %+v", f)
		}
		mu.Lock()
		room = errors.New("the disk has 5 bytes free")
		mu.Unlock()
		time.Sleep(2 * time.Second)
		if f := set.Failures(); len(f) != 2 || f[0].Cause != "the disk has 5 bytes free" {
			t.Fatalf("without room: %+v", f)
		}
		if attached["A"] != nil || attached["B"] != nil || a.Due() {
			t.Error("recorders stay")
		}
		files, _ := filepath.Glob(filepath.Join(dir, "*"+Suffix))
		data, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		if r, all, err := read(data); err != nil || len(all) != 1 || r.ended == nil {
			t.Errorf("the file has %d entries, ended %+v, %v", len(all), r.ended, err)
		}
		if left := NewSet(o, zap.NewNop()); left.Resume() != nil || len(left.Stats()) != 0 {
			t.Errorf("what was ended goes on at the next start: %+v", left.Stats())
		}
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}

// TestADamagedListOfRecordingsIsTold: whatever stands in active.json, the start says
// that recordings do not go on, until somebody begins or ends them.
func TestADamagedListOfRecordingsIsTold(t *testing.T) {
	dir := t.TempDir()
	o := Options{Folder: dir, Machines: []plant.MachineID{"A"}, Attach: func(plant.MachineID, derive.Recorder) {}}
	path := filepath.Join(dir, activeName)
	for _, text := range []string{"", "\x00\x00\x00", `{"size_bytes":1,"machines":{`, `{"size_bytes":1,"machinds":{"A":"2030-01-01T00:00:00Z"}}`, `{}`} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		set := NewSet(o, zap.NewNop())
		if err := set.Resume(); err == nil || !strings.Contains(err.Error(), activeName) {
			t.Errorf("%q: %v", text, err)
		}
		if f := set.Failures(); len(f) != 1 || f[0].Machine != "" || !strings.Contains(f[0].Cause, activeName) {
			t.Errorf("%q: %+v", text, f)
		}
		if err := set.Stop(nil); err != nil || len(set.Failures()) != 0 {
			t.Errorf("%q: stopped: %v, %+v", text, err, set.Failures())
		}
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%q stays: %v", text, err)
		}
	}
}
