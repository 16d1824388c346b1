package sim

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/derive"
	"github.com/sluice-edge/sluice/derive/counter"
	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/internal/schematest"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

// outcome is what a run came to.
type outcome struct {
	plan   plan
	faults []string
	lines  []string
	// sum is of the whole history; two runs of one seed have the same.
	sum   uint64
	tally map[string]int
	// drained is how long it took from the healing until everything had arrived.
	drained time.Duration
	events  int
	twice   int
}

// String says what it takes to see the failure again.
func (o *outcome) String() string {
	end := 1 + slices.IndexFunc(o.lines, func(line string) bool { return strings.Contains(line, " "+violation+" ") })
	return fmt.Sprintf("seed %d: %s\nplan %+v\nhistory of %d lines, up to the first violation:\n%s\nagain: go test ./internal/sim -run TestSimulation -sim.seed=%d -v",
		o.plan.Seed, strings.Join(o.faults, "\n"), o.plan, len(o.lines), strings.Join(o.lines[max(0, end-30):end], "\n"), o.plan.Seed)
}

var schemas = sync.OnceValues(schematest.Load)

// simulate runs a seed in a bubble of its own, with its own clock.
func simulate(t *testing.T, seed uint64, b bug) (o outcome) {
	t.Helper()
	held, err := schemas()
	if err != nil {
		t.Fatal(err)
	}
	if seed%8 != 1 {
		held = nil // to hold an event against its schema costs more than all else about it
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(newPlan(seed, b))
		w.schemas = held
		models := make([]*derive.Model, len(w.machines))
		for i, m := range w.machines {
			models[i] = newModel(t, w.plcs[m])
		}
		drained := w.live(models)
		o = outcome{plan: w.plan, faults: w.faults, lines: w.lines, sum: w.sum, tally: w.tally, drained: drained}
		for _, st := range w.store.streams {
			o.events += len(st.events)
		}
		for _, k := range w.sinks {
			o.twice += k.twice
		}
	})
	return o
}

// newModel makes a machine that counts and doses.
func newModel(t *testing.T, c *plc) *derive.Model {
	section, faults := config.ParseSection(string(c.m), "m.yaml", "device: "+string(c.device())+
		"\ndosing: {trigger: offer, ack: ack, protocol: sequence, component: SUGAR, quantity: qty}")
	var o derive.Options
	if faults = append(faults, section.Decode(&o)...); len(faults) > 0 {
		t.Fatal(faults)
	}
	o.Counter = &counter.Options{Good: "made", Baseline: "zero", Every: config.Duration(3 * time.Second)}
	m, err := derive.NewModel(c.m, o, derive.Catalog{c.device(): {
		{ID: "made", Type: plant.TypeInt64}, {ID: "offer", Type: plant.TypeUint32}, {ID: "ack", Type: plant.TypeUint32}, {ID: "qty", Type: plant.TypeInt32, Scaled: true},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// gateway is the parts of one process, wired as cmd/sluice wires them.
type gateway struct {
	p          *process
	opened     *opened
	pollers    []*drivers.Poller
	workers    []*derive.Worker
	forwarders []*uplink.Forwarder
	// Each group ends by itself.
	polling, deriving, forwarding group
}

// group runs some parts and waits for them.
type group struct {
	wg   sync.WaitGroup
	ctx  context.Context
	stop func()
}

// clock is the bubble's, and always right.
type clock struct{}

func (clock) Now() time.Time                 { return time.Now() }
func (clock) Offset(time.Time) time.Duration { return 0 }
func (clock) Synchronised() bool             { return true }

// boot starts a process on what the disk has.
func (w *world) boot(no int, point string, passes int, models []*derive.Model) *gateway {
	p := newProcess(w, no)
	p.point, p.passes = point, passes
	g := &gateway{p: p, opened: w.store.open(p)}
	w.note("boot", "process %d, to die at %q after %d", no, point, passes)
	for i, m := range w.machines {
		d := newDriver(p, w.plcs[m])
		var poller *drivers.Poller
		writer := writerFunc(func(ctx context.Context, wr plant.Write) error { return poller.Write(ctx, wr) })
		worker := derive.NewWorker(models[i], g.opened, writer, derive.WorkerOptions{Clock: clock{}, Mailbox: 32}, zap.NewNop())
		plan := drivers.Plan{Interval: w.plan.Interval, Timeout: 2 * time.Second}
		o := plan.PollerOptions(w.plcs[m].device())
		o.Rand = dice(w.plan.Seed, fmt.Sprint("poller ", m, no))
		poller = drivers.NewPoller(o, d, []drivers.Sink{worker}, zap.NewNop())
		g.pollers, g.workers = append(g.pollers, poller), append(g.workers, worker)
	}
	for _, k := range w.sinks {
		o := uplink.DefaultOptions()
		o.Concurrent, o.BatchEvents = w.plan.Concurrent, w.plan.BatchEvents
		o.SendTimeout, o.BackoffMin, o.BackoffMax = config.Duration(w.plan.SendTimeout), config.Duration(w.plan.BackoffMin), config.Duration(w.plan.BackoffMax)
		if w.plan.Bug == eager {
			o.BackoffMin, o.BackoffMax = config.Duration(10*time.Millisecond), config.Duration(10*time.Millisecond)
		}
		o.HoldRetry = config.Duration(5 * time.Second)
		plain, q := newSender(p, k), g.opened.queue(k)
		var s uplink.Sender = plain
		if w.plan.Merge {
			s = merging{plain}
		}
		f := uplink.NewForwarder(k.name, q, s, o, zap.NewNop())
		plain.queue, plain.forwarder = q, f
		f.Repeat(w.plan.Seed ^ uint64(no)<<32)
		g.forwarders = append(g.forwarders, f)
	}
	g.start()
	return g
}

// writerFunc routes the acknowledgements of a machine to its PLC.
type writerFunc func(context.Context, plant.Write) error

func (f writerFunc) Write(ctx context.Context, w plant.Write) error { return f(ctx, w) }

func (g *gateway) start() {
	for _, f := range g.forwarders {
		g.run(&g.forwarding, f.Run)
	}
	for _, w := range g.workers {
		g.run(&g.deriving, w.Run)
	}
	for _, p := range g.pollers {
		g.run(&g.polling, p.Run)
	}
}

// run runs one part until its group is stopped or the process dies. A part that
// ends with an error ends the process, and is wrong to do so while it lives.
func (g *gateway) run(in *group, part func(context.Context) error) {
	if in.stop == nil {
		in.ctx, in.stop = context.WithCancel(g.p.ctx)
	}
	in.wg.Go(func() {
		if err := part(in.ctx); err != nil && !g.p.isDead() {
			g.p.w.violated("process %d: %v", g.p.no, err)
			g.p.crash()
		}
	})
}

// end stops what still lives in the order of the gateway, and waits for it.
func (g *gateway) end() {
	for _, in := range []*group{&g.polling, &g.deriving, &g.forwarding} {
		in.stop()
		in.wg.Wait()
	}
	if !g.p.isDead() {
		g.p.w.store.close()
		g.p.w.note("stop", "process %d", g.p.no)
	}
	g.p.crash()
}

// live is the whole run: processes come and go in the storm, then all is healed
// while one lives, the PLCs make no more, and everything has to arrive.
func (w *world) live(models []*derive.Model) (drained time.Duration) {
	r := dice(w.plan.Seed, "lives")
	ended := make(chan struct{})
	w.servers.Go(func() { w.operate(ended) })
	no := 1
	for time.Since(w.began) < w.plan.Storm && !w.broken() {
		life := among(r, w.plan.Life)
		how, point, passes := r.IntN(100), "", 1+r.IntN(20)
		if how < w.plan.Points {
			who := []string{string(w.machines[r.IntN(len(w.machines))]), w.sinks[r.IntN(len(w.sinks))].name}
			point = points[r.IntN(len(points))]
			if of := strings.Split(point, ".")[0]; of == "queue" || of == "settle" || of == "send" || of == "letter" {
				point += " " + who[1]
			} else {
				point += " " + who[0]
			}
			life += w.plan.Life
		}
		g := w.boot(no, point, passes, models)
		_ = g.p.sleep(context.Background(), life) // it ends early if the process dies
		switch {
		case g.p.isDead():
		case how >= 100-w.plan.Stops:
		default:
			w.note("crash", "process %d, at some moment", no)
			g.p.crash()
		}
		g.end()
		no++
		time.Sleep(among(r, 3*time.Second))
	}
	g := w.boot(no, "", 0, models)
	time.Sleep(among(r, 10*time.Second)) // the healing finds a process with its back-offs grown
	healed := time.Now()
	w.calm.Store(true)
	w.note("calm", "")
	time.Sleep(among(r, 5*time.Second))
	w.frozen.Store(true)
	for !w.arrived() && !w.broken() {
		time.Sleep(time.Second)
		if time.Since(healed) > patience {
			w.violated("not everything has arrived %v after the healing: %s", patience, w.missing())
		}
	}
	drained = time.Since(healed)
	g.end()
	close(ended)
	w.servers.Wait()
	w.settled()
	return drained
}

// patience is how long it may take after the healing: the longest waits of all
// that wait for one another (a poller 30 s, a Retry-After 15 s, a back-off 20 s, a
// full disk 5 s, a report 3 s) and some calls.
const patience = 100 * time.Second

// missing says what has not arrived yet, or nothing.
func (w *world) missing() string {
	var b strings.Builder
	for _, m := range w.machines {
		total, dose, acked := w.plcs[m].now()
		w.store.mu.Lock()
		st := w.store.streams[m]
		if st.good != total || dose != acked {
			fmt.Fprintf(&b, "%s made %d, on disk are %d; dose %d is offered, %d acknowledged; ", m, total, st.good, dose, acked)
		}
		for _, k := range w.sinks {
			c := w.store.cursors[k.name]
			if at := c.at[m]; int(at) != len(st.events) && k.takes(m) {
				fmt.Fprintf(&b, "%s has %d of %d events of %s; ", k.name, at, len(st.events), m)
			}
			if n := c.shelved(); n > 0 {
				fmt.Fprintf(&b, "%s has set %d events aside; ", k.name, n)
			}
		}
		w.store.mu.Unlock()
	}
	return b.String()
}

func (w *world) arrived() bool { return w.missing() == "" }

// settled compares the ends after all: PLC, disk and receivers.
func (w *world) settled() {
	if w.broken() {
		return
	}
	for _, m := range w.machines {
		total, dose, _ := w.plcs[m].now()
		st := w.store.streams[m]
		if st.deltas != st.good {
			w.violated("%s: the deltas are %d, the total is %d", m, st.deltas, st.good)
		}
		for n := int64(1); n <= dose; n++ {
			if !st.doses[n] {
				w.violated("%s: dose %d of %d is not on disk", m, n, dose)
			}
		}
		for _, k := range w.sinks {
			if !k.takes(m) {
				continue
			}
			if k.good[m] != total {
				w.violated("%s: %s made %d, the receiver was told %d", k.name, m, total, k.good[m])
			}
			for i := range st.events {
				e := &st.events[i]
				if !k.answered(e, false) && !k.answered(e, true) {
					w.violated("%s: %s never arrived", k.name, e.ID())
				}
			}
		}
	}
}

// elapse lets the bubble's time go by.
func elapse(d time.Duration) { time.Sleep(d) }
