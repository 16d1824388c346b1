package recording

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/derive"
	"github.com/sluice-edge/sluice/internal/memlog"
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
	mu sync.Mutex
	memlog.Store
	// left is how many commits are good before the one that kills; below 0 none
	// does. late makes that one durable all the same.
	left int
	late bool
}

var errKilled = errors.New("killed")

func (s *store) Load(_ context.Context, _ plant.MachineID, each func(plant.KV) error) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Store.Load(each)
}

func (s *store) Newest(_ context.Context, _ plant.MachineID, kind plant.EventKind, most int) ([][]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Store.Newest(kind, most), nil
}

func (s *store) Commit(_ context.Context, _ plant.MachineID, b plant.Batch) (plant.Sequence, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kill := s.left == 0
	s.left--
	if kill && !s.late {
		return 0, errKilled
	}
	first := s.Apply(b)
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
		Tags: func(m plant.MachineID) map[string]string {
			return map[string]string{"press/made": string(m) + " uint16"}
		},
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
		// Time is the test's own: a world lives in a bubble of testing/synctest.
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
	type part struct {
		run string
		n   int
	}
	paths := map[part]string{}
	for _, f := range files {
		r, closing := w.open(f)
		heads = append(heads, r.Head())
		if got := r.Head().Tags["press/made"]; got != "PRESS-01 uint16" {
			w.t.Errorf("%s: its head says of the tag %q", f, got)
		}
		paths[part{r.Head().Run, r.Head().Part}] = f
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
		rules = w.file(paths[part{h.Run, h.Part}], h.Follows(before), rules, &all)
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
			if stored := text(w.log.Events[n-1]); stored != made[i] {
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
