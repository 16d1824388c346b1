// Package line is the driver for devices that speak in lines of text: barcode
// scanners, scales, printers, over TCP (the gateway calls, or the device does) or
// a serial port. A line is cut by signs, taken apart by a pattern with named
// fields or as MT-SICS, and its fields are tags. What a scanner says cannot be
// asked for again, so lines wait in a bounded queue, each has a number that goes
// up by one (the field sequence), and one that cannot be understood, or had no
// place, is a record with the cause or a number that is missing: nothing goes
// without a word. A rule takes each line as the record of a handshake whose
// trigger is that number. What the protocols cannot tell is to which question an
// answer belongs: what came before a question is thrown away, and a question
// without an answer in time ends the session.
package line

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/internal/kind"
	"github.com/sluice-edge/sluice/plant"
)

// Kind is "driver: line".
var Kind = kind.NewKind("line", defaults, plan)

func plan(_ string, o Options) (drivers.Plan, error) {
	points := newPoints(&o)
	p := drivers.Plan{
		Tags:         make([]plant.Tag, len(points)),
		Timeout:      2*o.Timeout.Std() + time.Second,
		Endpoint:     o.where(),
		Bind:         string(o.Bind),
		Once:         o.Poll == "",
		CheckRecords: func(records []plant.Record) error { return checkRecords(records, &o) },
		Open:         func(env drivers.Env) drivers.Driver { return open(env, &o) },
		Reads:        o.reads,
	}
	for i := range points {
		p.Tags[i] = points[i].tagOf(&o)
	}
	if o.Poll != "" {
		p.Interval = o.Interval.Std()
	}
	return p, nil
}

// where is the device for people.
func (o *Options) where() string {
	switch {
	case o.Listen != "" && o.Bind != "":
		return fmt.Sprintf("listens at %s of %s", o.Listen, o.Bind)
	case o.Listen != "":
		return "listens at " + string(o.Listen)
	case o.Port != "":
		return o.Port
	default:
		return string(o.Endpoint)
	}
}

// driver speaks to one device.
type driver struct {
	device plant.DeviceID
	o      *Options
	points []point
	log    *zap.Logger
	counts counts
	// taken is the newest number that the rules have kept; wrote has a token when
	// it was written.
	taken atomic.Uint32
	wrote chan struct{}

	// mu is held over changes of link, session, from and refused, which Write reads.
	mu      sync.Mutex
	link    *link // nil without a session
	session uint64
	from    wire // who sent the line that was given last
	refused bool // that line is none: who sent it must not think that it arrived

	// Of the goroutine of Connect, Read and Close.
	records []record
	// flow is set if a rule answers each line: the next is given when it has.
	flow bool
	// given is the number of the line that was given last, newest its readings.
	given  uint32
	newest []plant.Reading
	// greeted is set since the first Read of the session; over is why it ended.
	greeted bool
	over    error
	pace    pace
	edge    edge
}

var (
	_ drivers.Driver   = (*driver)(nil)
	_ drivers.Listener = (*driver)(nil)
	_ drivers.Noticer  = (*driver)(nil)
)

func open(env drivers.Env, o *Options) *driver {
	d := &driver{
		device: env.Name, o: o, points: newPoints(o),
		log: env.Log, wrote: make(chan struct{}, 1), pace: newPace(o.MaxRate.PerSecond()),
	}
	d.edge.log = env.Log
	d.records = newRecords(env.Records, d.points)
	for i := range d.records {
		d.flow = d.flow || len(d.records[i].Writes) > 0
	}
	d.newest = make([]plant.Reading, len(d.points))
	for i := range d.points {
		d.newest[i] = plant.Reading{Tag: d.points[i].tag, Cause: "no line has come yet"}
	}
	return d
}

// Connect implements drivers.Driver. Where devices call the gateway it begins to
// listen, and the session lasts while it does: callers come and go.
func (d *driver) Connect(ctx context.Context, session uint64) error {
	_ = d.Close() // a session left open, which the Poller never does
	l := newLink(d.o, &d.counts, d.log)
	if err := l.open(ctx); err != nil {
		return fmt.Errorf("line: open %s: %w", d.o.where(), err)
	}
	d.mu.Lock()
	d.link, d.session, d.from, d.refused = l, session, nil, false
	d.mu.Unlock()
	d.greeted, d.over = false, nil
	for i := range d.records {
		d.records[i].last = plant.Value{}
	}
	if d.o.OnConnect != "" {
		if err := d.send(nil, string(d.o.OnConnect)+d.o.CommandEnd.text); err != nil {
			return errors.Join(fmt.Errorf("line: send on_connect to %s: %w", d.o.where(), err), d.Close())
		}
	}
	return nil
}

// Close implements drivers.Driver. Lines that came behind the last Read are lost,
// and counted.
func (d *driver) Close() error {
	d.mu.Lock()
	l := d.link
	d.link, d.from = nil, nil
	d.mu.Unlock()
	if l == nil {
		return nil
	}
	if left := l.close(); left > 0 && d.o.Poll == "" {
		d.counts.drop(left)
		d.log.Warn("lines were waiting when the session ended: they are lost", zap.Int("lines", left))
	}
	return nil
}

// Heard implements drivers.Listener.
func (d *driver) Heard() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.link == nil {
		return time.Time{}
	}
	return time.Unix(0, d.link.heard.Load())
}

// Read implements drivers.Driver: one answer of a device that is polled, else the
// next line. Where silence is normal the first Read of a session says at once
// what is known without a line. When ctx ends, lines that wait are given all at
// once, since nobody else has them; but where a rule answers each line the one
// that sent it has it still.
func (d *driver) Read(ctx context.Context) ([]plant.Scan, error) {
	switch {
	case d.link == nil:
		return nil, fmt.Errorf("line: read from %s: %w", d.o.where(), drivers.ErrNotConnected)
	case d.over != nil:
		return nil, d.over
	case d.o.Poll == "" && d.o.SilentAfter == 0 && !d.greeted:
		return d.idle(), nil
	}
	var scans []plant.Scan
	var err error
	if d.o.Poll != "" {
		scans, err = d.ask(ctx)
	} else {
		scans, err = d.next(ctx)
	}
	if err != nil && ctx.Err() != nil && d.o.Poll == "" && !d.flow {
		if scans = d.waiting(); len(scans) > 0 {
			return scans, nil
		}
	}
	if err != nil {
		if err = fmt.Errorf("line: read from %s: %w", d.o.where(), err); d.o.Poll != "" || ctx.Err() == nil {
			d.over = err // an answer may still be on its way
		}
	}
	return scans, err
}

// Write implements drivers.Driver: the number of a line that the rules have kept.
func (d *driver) Write(_ context.Context, w plant.Write) error {
	fail := func(err error) error { return fmt.Errorf("line: write %s: %w", w.Tag, err) }
	var p *point
	for i := range d.points {
		if d.points[i].tag == w.Tag && d.points[i].field == fieldTaken {
			p = &d.points[i]
		}
	}
	if p == nil {
		return fail(drivers.ErrNotWritable)
	}
	n, ok := w.Value.Int()
	if !ok || n < 0 || n>>32 != 0 {
		return fail(fmt.Errorf("%s is no number of a line", w.Value))
	}
	d.mu.Lock()
	l, session, from, refused := d.link, d.session, d.from, d.refused
	d.mu.Unlock()
	switch {
	case l == nil:
		return fail(drivers.ErrNotConnected)
	case session != w.Session:
		return fail(drivers.ErrSessionOver)
	}
	before := d.taken.Swap(uint32(n))
	select {
	case d.wrote <- struct{}{}:
	default:
	}
	if d.o.Reply == "" || refused || before == uint32(n) {
		return nil
	}
	if err := d.send(from, string(d.o.Reply)); err != nil {
		return fail(err)
	}
	return nil
}

// send sends to one device, to the only one if to is nil.
func (d *driver) send(to wire, text string) error {
	d.mu.Lock()
	l := d.link
	d.mu.Unlock()
	if l == nil {
		return drivers.ErrNotConnected
	}
	if to == nil && d.o.Listen == "" {
		l.mu.Lock()
		for w := range l.wires {
			to = w
		}
		l.mu.Unlock()
	}
	if to == nil {
		return errors.New("the device that sent the line is gone")
	}
	return to.write([]byte(text), d.o.Timeout.Std())
}
