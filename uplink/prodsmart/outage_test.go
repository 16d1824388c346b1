package prodsmart

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/internal/central"
	fake "github.com/sluice-edge/sluice/internal/central/prodsmart"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

// line is a Queue of machines that make a piece a second each, since before the
// test began. Events are made when they are read.
type line struct {
	machines []plant.MachineID
	begun    time.Time
	backlog  int
	// more are the events that stand in the place of a count.
	more map[plant.MachineID]map[plant.Sequence]plant.Event

	mu     sync.Mutex
	cursor map[plant.MachineID]plant.Sequence
	leased map[plant.MachineID]bool
	memory map[string][]byte
	turn   int
	reads  int
}

func newLine(machines, backlog int) *line {
	l := &line{
		begun: time.Now(), backlog: backlog, more: map[plant.MachineID]map[plant.Sequence]plant.Event{},
		cursor: map[plant.MachineID]plant.Sequence{}, leased: map[plant.MachineID]bool{}, memory: map[string][]byte{},
	}
	for i := range machines {
		l.machines = append(l.machines, plant.MachineID(fmt.Sprintf("M-%d", i)))
	}
	return l
}

// last is the newest event that there is of each machine.
func (l *line) last() plant.Sequence {
	return plant.Sequence(l.backlog + int(time.Since(l.begun)/time.Second))
}

func (l *line) event(m plant.MachineID, s plant.Sequence) plant.Event {
	if e, ok := l.more[m][s]; ok {
		e.Sequence, e.Machine = s, m
		return e
	}
	order := "A"
	if int(s) > l.backlog/2 {
		order = "B"
	}
	return plant.Event{
		Gateway: "gw", Machine: m, Epoch: 1, Sequence: s, Kind: plant.KindCounter, Version: 1, Time: l.begun,
		Data: fmt.Appendf(nil, `{"machine":%q,"mode":"production","order":{"number":%q},"good":%d,"good_delta":1,"from":"2026-11-22T06:00:00.000Z","to":"2026-11-22T06:00:01.000Z","raw":%d}`, m, order, s, s),
	}
}

// Next implements uplink.Queue.
func (l *line) Next(ctx context.Context) (plant.MachineID, error) {
	for {
		l.mu.Lock()
		for i := range l.machines {
			m := l.machines[(l.turn+i)%len(l.machines)]
			if !l.leased[m] && l.cursor[m] < l.last() {
				l.turn += i + 1
				l.leased[m] = true
				l.mu.Unlock()
				return m, nil
			}
		}
		l.mu.Unlock()
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// Peek implements uplink.Queue.
func (l *line) Peek(_ context.Context, m plant.MachineID, after plant.Sequence, maxEvents, _ int) ([]plant.Event, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	first := max(after, l.cursor[m]) + 1
	var page []plant.Event
	for s := first; s <= l.last() && len(page) < maxEvents; s++ {
		e := l.event(m, s)
		e.Previous = s - 1
		if after == 0 && len(page) == 0 {
			e.Previous = l.cursor[m]
		}
		page = append(page, e)
	}
	l.reads += len(page)
	return page, nil
}

// Settle implements uplink.Queue.
func (l *line) Settle(_ context.Context, m plant.MachineID, upTo plant.Sequence, results []plant.Result) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range results {
		for _, kv := range r.Put {
			l.memory[kv.Key] = kv.Value
		}
	}
	l.cursor[m] = max(l.cursor[m], upTo)
	l.leased[m] = false
	return nil
}

// Memory implements uplink.Queue.
func (l *line) Memory(key string) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.memory[key], nil
}

// behind is how many events the machine that is furthest behind has before it.
func (l *line) behind() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	most := 0
	for _, m := range l.machines {
		most = max(most, int(l.last()-l.cursor[m]))
	}
	return most
}

// run forwards a line to a Prodsmart for as long as body takes.
func (l *line) run(t *testing.T, f *fake.Fake, o Options, body func(*uplink.Forwarder)) {
	r := &rig{t: t, fake: f, options: o, memory: l.memory}
	r.open()
	r.sender.env.Memory = l.Memory
	forwarder := uplink.NewForwarder("prodsmart", l, r.sender, o.Options, zap.NewNop())
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- forwarder.Run(ctx) }()
	body(forwarder)
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func lineOptions() Options {
	o := defaults()
	o.APIKey, o.APISecret = config.NewSecret(apiKey), config.NewSecret(apiSecret)
	o.DefaultType = "Run"
	o.OpenProduction = 0
	return o
}

func lineCompany(machines int) fake.Company {
	c := fake.Company{Key: apiKey, Secret: apiSecret, WasteCodes: []string{"BURR"}}
	for i := range machines {
		c.Machines = append(c.Machines, fake.Machine{Code: fmt.Sprintf("M-%d", i), DowntimeTypes: []string{"Jam", "Run"}})
	}
	return c
}

// TestCaughtUpAfterAnOutage is P10 in small, in a time of its own: 50 machines at a
// count a second, an outage, and nothing but the newest cumulative count of each
// machine and order, within two minutes, without a request too many. Then it is a
// normal day: each machine's count every half minute.
func TestCaughtUpAfterAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const machines, backlog = 50, 400
		f := fake.New(lineCompany(machines))
		l := newLine(machines, backlog)
		l.run(t, f, lineOptions(), func(*uplink.Forwarder) {
			begun := time.Now()
			for l.behind() > 60 && time.Since(begun) < 5*time.Minute {
				elapse(time.Second)
			}
			took := time.Since(begun)
			calls := len(f.Calls())
			t.Logf("caught up after %v with %d calls", took, calls)
			if took > 2*time.Minute || calls > 3*machines {
				t.Errorf("caught up after %v with %d calls, want at most 2m and %d", took, calls, 3*machines)
			}
			for _, m := range l.machines {
				// The last count of the order that has ended, and the newest.
				counts := f.Machine(string(m)).Counts
				if len(counts) < 2 || counts[0].Value != backlog/2 || counts[1].Value < backlog {
					t.Fatalf("%s: counts %+v", m, counts)
				}
			}
			elapse(90 * time.Second)
			if behind := l.behind(); behind > 60 {
				t.Errorf("a machine is %d s behind", behind)
			}
		})
		if n := f.Busiest(time.Minute); n > 109 {
			t.Errorf("%d requests in a minute", n)
		}
		if v := f.Violations(); len(v) > 0 {
			t.Error(central.Words(v))
		}
	})
}

// TestStopsAreToldAtOnce also while the counts of 50 machines use the share up.
func TestStopsAreToldAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := fake.New(lineCompany(50))
		l := newLine(50, 30)
		l.more["M-7"] = map[plant.Sequence]plant.Event{}
		state := func(after time.Duration, running, stop int) {
			s := plant.Sequence(30 + int(after/time.Second))
			l.more["M-7"][s] = plant.Event{
				Gateway: "gw", Epoch: 1, Kind: plant.KindStartStop, Version: 1, Time: l.begun.Add(after),
				Data: fmt.Appendf(nil, `{"machine":"M-7","mode":"production","running":%d,"stop_id":%d,"type":"Jam"}`, running, stop),
			}
		}
		var stops []time.Duration
		for i := range 3 {
			at := 40*time.Second + time.Duration(i)*37*time.Second
			stops = append(stops, at)
			state(at, 0, i+1)
			state(at+15*time.Second, 1, i+1)
		}
		l.run(t, f, lineOptions(), func(*uplink.Forwarder) { elapse(150 * time.Second) })
		downtimes := f.Machine("M-7").Downtimes
		if len(downtimes) != len(stops) {
			t.Fatalf("%d downtimes of %d: %+v", len(downtimes), len(stops), downtimes)
		}
		for i, d := range downtimes {
			late := d.Start.Sub(l.begun.Add(stops[i]))
			length := d.End.Sub(d.Start)
			if late > 2*time.Second || length < 13*time.Second || length > 17*time.Second {
				t.Errorf("stop %d came %v late and lasted %v", i+1, late, length)
			}
		}
		if v := f.Violations(); len(v) > 0 {
			t.Error(central.Words(v))
		}
	})
}

// TestRetryAfterIsHonoured for the whole uplink, over a restart of the gateway too.
func TestRetryAfterIsHonoured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := fake.New(lineCompany(10))
		l := newLine(10, 10)
		f.Burn(119)
		l.run(t, f, lineOptions(), func(*uplink.Forwarder) { elapse(20 * time.Second) })
		before := len(f.Calls())
		l.run(t, f, lineOptions(), func(*uplink.Forwarder) { elapse(20 * time.Second) })
		if n := len(f.Calls()); n != before {
			t.Errorf("%d requests after a restart within the wait", n-before)
		}
		l.run(t, f, lineOptions(), func(*uplink.Forwarder) { elapse(2 * time.Minute) })
		if behind := l.behind(); behind > 20 {
			t.Errorf("%d behind", behind)
		}
		if v := f.Violations(); len(v) > 0 {
			t.Error(central.Words(v))
		}
	})
}

// TestRestartsMakeNoBurst: a gateway that starts again and again keeps to its
// share.
func TestRestartsMakeNoBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := fake.New(lineCompany(50))
		l := newLine(50, 30)
		for range 12 {
			l.run(t, f, lineOptions(), func(*uplink.Forwarder) { elapse(7 * time.Second) })
		}
		if n := f.Busiest(time.Minute); n > 109 {
			t.Errorf("%d requests in a minute", n)
		}
		if v := f.Violations(); len(v) > 0 {
			t.Error(central.Words(v))
		}
	})
}
