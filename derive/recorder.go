package derive

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/plant"
)

// Step is one input as the rules of a machine took it.
type Step struct {
	// In is what Model.Step takes; a Scan is a *plant.Scan.
	In plant.Input
	// LargeTag and LargeBytes say which text of the scan was the longest of those
	// that were left out, and how long it was, since no event can hold them; 0
	// bytes where none was.
	LargeTag   plant.TagID
	LargeBytes int
}

// Recorder keeps what a machine's rules stepped through, so that it can be
// replayed. Its methods are called from the Worker's goroutine, so whatever
// blocks in them delays the machine's commits. What they are given is valid
// during the call only.
type Recorder interface {
	// Due reports whether the Recorder wants to know where the rules stand. It is
	// asked after each Record; Begin follows, or if the state cannot be read now,
	// another Record.
	Due() bool
	// Begin takes the encoded state and the kept values that the next steps begin
	// with.
	Begin(state []byte, keyed []plant.KV)
	// Record takes the steps of one commit, after it, or of none where all may
	// wait; events came of them, and first is the number of the first.
	Record(steps []Step, events []plant.Event, first plant.Sequence)
}

// Record makes r the Recorder of the machine, nil none. It takes effect with the
// next input, and may be called from any goroutine, also before Run. A machine
// without a Recorder spends nothing on it.
func (w *Worker) Record(r Recorder) {
	if r == nil {
		w.tap.recorder.Store(nil)
		return
	}
	w.tap.recorder.Store(&r)
}

// tap collects what a Recorder is given. But for recorder it belongs to Run.
type tap struct {
	recorder atomic.Pointer[Recorder]
	// now is the Recorder of the inputs in work, nil for none, begun the one that
	// knows the state before them.
	now, begun *Recorder
	steps      []Step
	failing    bool
}

// look begins the work on inputs.
func (t *tap) look() {
	t.now = t.recorder.Load()
	if t.now != t.begun {
		t.now = nil // it hears of the state when these are done
	}
	t.steps = t.steps[:0]
}

// note takes an input that was stepped through.
func (t *tap) note(in plant.Input, large largeInput) {
	if t.now != nil {
		t.steps = append(t.steps, Step{In: in, LargeTag: large.Tag, LargeBytes: large.Bytes})
	}
}

// kept hands over what was stepped through and is kept.
func (t *tap) kept(events []plant.Event, first plant.Sequence) {
	if t.now != nil && len(t.steps) > 0 {
		(*t.now).Record(t.steps, events, first)
	}
	clear(t.steps)
	t.steps = t.steps[:0]
}

// begin tells the Recorder of the state, where it wants to know. A state that
// cannot be read now ends nothing: it is asked for again after the next input.
func (w *Worker) begin(ctx context.Context) {
	r := w.tap.recorder.Load()
	if r == nil {
		w.tap.begun = nil
		return
	}
	if r == w.tap.begun && !(*r).Due() {
		return
	}
	if r != w.tap.begun {
		w.tap.begun = nil
	}
	state, keyed, err := w.standing(ctx)
	if err != nil {
		if !w.tap.failing {
			w.zl.Warn("a recording of this machine cannot begin yet", zap.Error(err))
		}
		w.tap.failing = true
		return
	}
	w.tap.failing = false
	(*r).Begin(state, keyed)
	w.tap.begun = r
}

// standing returns the state and the kept values as of the last step. Whatever
// was kept is committed, since steps that keep something are committed at once.
func (w *Worker) standing(ctx context.Context) (state []byte, keyed []plant.KV, err error) {
	_, err = w.log.Load(ctx, w.m.machine, func(kv plant.KV) error {
		// A loss that the store tells is an input of its own.
		if kv.Key != plant.StoreGapKey {
			keyed = append(keyed, plant.KV{Key: kv.Key, Value: slices.Clone(kv.Value)})
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	state, err = w.m.Encode(w.current)
	return state, keyed, err
}

// Replay steps through recorded inputs. It is used from one goroutine.
type Replay struct {
	m   *Model
	s   State
	run run
	out Output
	// ticked is when Play has ticked last.
	ticked time.Time
}

// NewReplay returns a Replay of m that begins with a state and the kept values
// that go with it, as a Recorder was given them. Its error is that of Decode.
func (m *Model) NewReplay(state []byte, keyed []plant.KV) (*Replay, error) {
	s, err := m.Decode(state, keyed)
	if err != nil {
		return nil, fmt.Errorf("derive: replay: %w", err)
	}
	return &Replay{m: m, s: s, run: run{m: m}}, nil
}

// Step makes one step as it was recorded, its deadlines included, and returns its
// events, which are valid until the next.
func (p *Replay) Step(st Step) []plant.Event {
	p.begin()
	p.step(st)
	return p.out.Events
}

// Play makes one step as the gateway would have with these rules: what was recorded
// of deadlines is left out, and the rules are woken when they want to be. It returns
// the events of all that, which are valid until the next.
func (p *Replay) Play(st Step) []plant.Event {
	p.begin()
	switch in := st.In.(type) {
	case plant.Tick:
		p.wake(in.At)
		return p.out.Events
	case plant.Clock:
		if in.Step != 0 {
			p.ticked = time.Time{} // the time up to it is by the clock of before
			break
		}
		p.wake(in.At)
	default:
		p.wake(in.When())
	}
	p.step(st)
	return p.out.Events
}

// wake makes the ticks that the rules want up to a time. One that wants another at
// once waits for what comes next, as nothing would end it.
func (p *Replay) wake(now time.Time) {
	p.run.s = &p.s
	for next := p.run.wake(); !next.IsZero() && !next.After(now) && next.After(p.ticked); next = p.out.Wake {
		p.ticked = next
		p.run.step(&p.s, plant.Tick{At: next}, &p.out)
	}
}

func (p *Replay) begin() {
	p.run.reset()
	p.out = Output{Events: p.out.Events[:0], Writes: p.out.Writes[:0], Put: p.out.Put[:0], Delete: p.out.Delete[:0]}
}

func (p *Replay) step(st Step) {
	p.run.step(&p.s, st.In, &p.out)
	if st.LargeBytes == 0 && p.s.gateway.Large == nil {
		return
	}
	it := item{in: st.In}
	if scan, ok := st.In.(*plant.Scan); ok {
		it = item{scan: *scan}
		if st.LargeBytes > 0 {
			it.large = largeInput{Device: scan.Device, Tag: st.LargeTag, Bytes: st.LargeBytes}
		}
	}
	p.run.large(&it)
}

// State returns the encoded state after the last step.
func (p *Replay) State() ([]byte, error) { return p.m.Encode(&p.s) }
