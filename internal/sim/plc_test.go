package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/plant"
)

// plc is a machine's PLC. Its totalizer goes up with each answer that it gives,
// so that each answer is unique, and it hands over doses by their number.
type plc struct {
	w *world
	m plant.MachineID

	mu    sync.Mutex
	dice  *rand.Rand
	total int64
	// dose is the number that is offered, acked the last that was acknowledged;
	// rest is how many answers it takes until the next is offered.
	dose, acked int64
	rest        int
}

func newPLC(w *world, m plant.MachineID) *plc {
	return &plc{w: w, m: m, dice: dice(w.plan.Seed, "plc "+string(m))}
}

func (c *plc) device() plant.DeviceID { return plant.DeviceID("plc-" + string(c.m)) }

// serve is one answer of the PLC: what it showed at that moment.
func (c *plc) serve() (total, dose, acked int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.w.frozen.Load() {
		c.total += 1 + c.dice.Int64N(9)
		if c.dose == c.acked {
			c.rest--
			if c.rest < 0 {
				c.dose++
				c.rest = c.dice.IntN(6)
			}
		}
	}
	return c.total, c.dose, c.acked
}

func (c *plc) now() (total, dose, acked int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.total, c.dose, c.acked
}

// acknowledge is a write that has reached the PLC.
func (c *plc) acknowledge(n int64) {
	c.mu.Lock()
	dose := c.dose
	c.acked = n
	c.mu.Unlock()
	c.w.note("ack", "%s dose %d", c.m, n)
	if n > dose {
		c.w.violated("%s: dose %d is acknowledged, the PLC offers %d", c.m, n, dose)
	}
	if !c.w.store.hasDose(c.m, n) {
		c.w.violated("%s: dose %d is acknowledged and not on disk", c.m, n)
	}
}

// driver is the gateway's side of one PLC, over a line that fails by plan. It
// keeps the contract of drivers.Driver.
type driver struct {
	plc *plc
	p   *process
	// Of the Poller's goroutine.
	dice  *rand.Rand
	shown int64
	first bool

	mu      sync.Mutex
	session uint64
	writes  *rand.Rand
}

var _ drivers.Driver = (*driver)(nil)

func newDriver(p *process, c *plc) *driver {
	name := fmt.Sprintf("driver %s %d", c.m, p.no)
	return &driver{plc: c, p: p, dice: dice(p.w.plan.Seed, name), writes: dice(p.w.plan.Seed, name+" writes")}
}

var errLine = errors.New("the line is dead")

// trip takes one way over the line, with a fault now and then.
func (d *driver) trip(ctx context.Context, r *rand.Rand, perMille int) error {
	if err := d.p.sleep(ctx, among(r, 20*time.Millisecond)); err != nil {
		return err
	}
	lost, silent := hits(r, perMille), r.IntN(2) == 0
	if !lost || d.p.w.calm.Load() {
		return nil
	}
	d.p.w.note("line", "%s lost, silent %v", d.plc.m, silent)
	if silent {
		<-ctx.Done()
		return ctx.Err()
	}
	return errLine
}

func (d *driver) Connect(ctx context.Context, session uint64) error {
	if err := d.p.at("plc.connect", string(d.plc.m)); err != nil {
		return err
	}
	if err := d.trip(ctx, d.dice, d.p.w.plan.Connect); err != nil {
		// Min and Max of the back-off are 0.5 s and more.
		d.p.failed("the poller of "+string(d.plc.m), 3)
		if hits(d.dice, 100) {
			return drivers.ErrBusy
		}
		return err
	}
	d.mu.Lock()
	d.session = session
	d.mu.Unlock()
	d.first = true
	return nil
}

func (d *driver) Read(ctx context.Context) ([]plant.Scan, error) {
	plan := &d.p.w.plan
	asked := time.Now()
	if err := d.trip(ctx, d.dice, plan.Read/2); err != nil {
		return nil, err
	}
	if err := d.p.at("plc.asked", string(d.plc.m)); err != nil {
		return nil, err
	}
	total, dose, acked := d.plc.serve()
	if err := d.trip(ctx, d.dice, plan.Read/2); err != nil {
		return nil, err
	}
	if err := d.p.at("plc.served", string(d.plc.m)); err != nil {
		return nil, err
	}
	scan := plant.Scan{
		Device: d.plc.device(), Session: d.session, Snapshot: d.first, Asked: asked, Received: time.Now(),
		Readings: []plant.Reading{good("made", total), good("offer", dose), good("ack", acked)},
	}
	scans := []plant.Scan{scan}
	if (d.first || dose != d.shown) && dose != 0 {
		record, err := d.record(ctx, dose)
		if err != nil {
			return nil, err
		}
		if record != nil {
			scans = append(scans, *record)
		}
	}
	d.first, d.shown = false, dose
	return scans, nil
}

// record reads the dose behind its trigger; nil if it is not offered any more.
func (d *driver) record(ctx context.Context, dose int64) (*plant.Scan, error) {
	asked := time.Now()
	if err := d.trip(ctx, d.dice, d.p.w.plan.Read); err != nil {
		return nil, err
	}
	if err := d.p.at("plc.record", string(d.plc.m)); err != nil {
		return nil, err
	}
	_, now, _ := d.plc.now()
	if now != dose {
		return nil, nil
	}
	return &plant.Scan{
		Device: d.plc.device(), Session: d.session, Record: plant.RecordID(d.plc.m) + "/dosing", Asked: asked, Received: time.Now(),
		Readings: []plant.Reading{good("offer", dose), {Tag: "qty", Quality: plant.Good, Value: plant.ExactValue(plant.Decimal{Unscaled: quantity(dose), Scale: 2})}},
	}, nil
}

// quantity is what went in with a dose.
func quantity(dose int64) int64 { return 1000 + 7*dose }

func good(tag plant.TagID, n int64) plant.Reading {
	return plant.Reading{Tag: tag, Quality: plant.Good, Value: plant.IntValue(n)}
}

func (d *driver) Write(ctx context.Context, w plant.Write) error {
	d.mu.Lock()
	session := d.session
	d.mu.Unlock()
	switch {
	case session == 0:
		return drivers.ErrNotConnected
	case w.Session != session:
		return drivers.ErrSessionOver
	}
	if err := d.p.at("ack.before", string(d.plc.m)); err != nil {
		return err
	}
	if err := d.trip(ctx, d.writes, d.p.w.plan.Read/2); err != nil {
		return err
	}
	n, ok := w.Value.Int()
	if w.Tag != "ack" || !ok {
		d.p.w.violated("%s: %s is written to %s", d.plc.m, w.Value, w.Tag)
	}
	d.plc.acknowledge(n)
	if err := d.p.at("ack.written", string(d.plc.m)); err != nil {
		return err
	}
	return d.trip(ctx, d.writes, d.p.w.plan.Read/2)
}

func (d *driver) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.session = 0
	return nil
}
