package recording

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/derive"
	"github.com/sluice-edge/sluice/plant"
)

// TestAReplayGivesWhatWasStored records a machine over many lives of its
// gateway, and replays each recording: the events are those that were recorded
// and those that the store has, byte for byte, each time.
func TestAReplayGivesWhatWasStored(t *testing.T) {
	for seed := range uint64(6) {
		synctest.Test(t, func(t *testing.T) {
			w := &world{t: t, r: rand.New(rand.NewPCG(seed, 3)), log: &store{}, dir: filepath.Join(t.TempDir(), "recordings")}
			for life := range uint64(8) {
				w.life(life+1, life%4 != 3)
			}
			first := w.replay()
			if second := w.replay(); !reflect.DeepEqual(first, second) {
				t.Fatal("a second replay gave something else")
			}
			if parts, events := first.files, len(first.seen); parts < 20 || events < 200 || events < len(w.log.Events)*8/10 {
				t.Errorf("seed %d: %d files, %d of %d events seen: this tests nothing", seed, parts, events, len(w.log.Events))
			}
		})
	}
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
