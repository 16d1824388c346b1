// Package modbus is the driver for Modbus devices: over TCP, and over lines that
// several of them share, a serial port, a device server (RTU over TCP) or a
// gateway box. Neighbouring tags are read in one request; a tag that the device refuses is a bad reading that
// costs its neighbours nothing. Each answer must match its request in
// transaction id, unit, function and length; anything else, a request without
// an answer, and a second answer that differs from the first end the session,
// so that a late answer never becomes another tag's value. What the protocol
// cannot tell: an answer does not say which address it is of, so a device that
// puts wrong registers under the right transaction id is believed, until its
// second answer is seen. That is before the Read hands anything over, unless
// the second answer to a Read's last request arrives after that Read.
package modbus

import (
	"context"
	"errors"
	"fmt"
	"time"

	pdu "github.com/goburrow/modbus"

	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/internal/kind"
	"github.com/sluice-edge/sluice/plant"
)

// Kind is "driver: modbus".
var Kind = kind.NewKind("modbus", defaults, plan)

func plan(_ string, o Options) (drivers.Plan, error) {
	o = o.resolved()
	points, tags := make([]*point, len(o.Tags.Rows)), make([]plant.Tag, len(o.Tags.Rows))
	for i, row := range o.Tags.Rows {
		points[i] = newPoint(row.Name, row.Value, o.WordOrder)
		address := row.Value.Address
		if n, ok := row.Value.bit(); ok {
			address.bit = uint8(n) + 1
		}
		tags[i] = plant.Tag{
			Writable: row.Value.Writable,
			ID:       plant.TagID(row.Name), Type: points[i].kind, Scaled: points[i].scaled,
			Unit: row.Value.Unit, Address: address.String(), Every: max(o.Interval, row.Value.Every).Std(),
		}
	}
	requests := len(join(points, o.MaxRegisters, o.MaxGap))
	return drivers.Plan{
		Tags:     tags,
		Interval: o.Interval.Std(),
		// Each request has its own time-out in the driver; this one bounds a
		// whole Read of a device that uses up nearly all of each.
		Timeout:  (o.Timeout.Std() + o.Pause.Std()) * time.Duration(requests+maxExtra+o.others()),
		Endpoint: o.place(), Bind: string(o.Bind), Line: o.Line, Unit: o.Unit,
		MaxConnections: o.MaxConnections, Once: o.MaxConnections == 1,
		CheckRecords: func(records []plant.Record) error { return checkRecords(records, o) },
		Open:         func(env drivers.Env) drivers.Driver { return open(env, o) },
		Reads:        o.reads,
		Registers:    func(tag plant.TagID, least int) (drivers.Plan, bool) { return registersOf(o, tag, least) },
	}, nil
}

// driver speaks to one device.
type driver struct {
	device   plant.DeviceID
	endpoint string
	points   map[plant.TagID]*point
	planned  []*block
	interval time.Duration
	carrier  carrier
	client   pdu.Client
	// own is the carrier of a device with a connection of its own, unit that of one
	// on a line; the other one is nil.
	own  *transport
	unit *station

	// Of the goroutine of Connect, Read and Close.
	session uint64
	roots   []*block // as planned, with what they are divided into; nil without a session
	blocks  []*block // those whose readings the last Read gave
	known   []*block // roots of the newest session in which a Read gave good values
	records []*record
	scans   []plant.Scan
	// The good answers of this Read and of the one before.
	well, wellBefore int
	// absent is set since a Read in which the box said that the unit is not there;
	// first is the root that is then asked first.
	absent bool
	first  int
}

var (
	_ drivers.Driver           = (*driver)(nil)
	_ drivers.DuplicateCounter = (*driver)(nil)
	_ drivers.Noticer          = (*driver)(nil)
)

func open(env drivers.Env, o Options) *driver {
	d := &driver{device: env.Name, endpoint: o.place(), interval: o.Interval.Std(), points: make(map[plant.TagID]*point, len(o.Tags.Rows))}
	points := make([]*point, len(o.Tags.Rows))
	for i, row := range o.Tags.Rows {
		points[i] = newPoint(row.Name, row.Value, o.WordOrder)
		d.points[points[i].tag] = points[i]
	}
	d.planned = join(points, o.MaxRegisters, o.MaxGap)
	d.planRecords(env, o)
	d.attach(env, o)
	return d
}

// attach gives the driver its carrier. Of goburrow only the coding of requests
// and answers is used. The handler outlives sessions, so that transaction ids go
// on over a reconnect.
func (d *driver) attach(env drivers.Env, o Options) {
	line, shared := env.Line.(*line)
	if !shared {
		d.own = newTransport(o.Timeout.Std(), o.Pause.Std(), dialer(o), env.Log)
		d.carrier = d.own
	} else {
		d.unit = line.station(byte(o.Unit), o.Timeout.Std(), o.Pause.Std())
		d.carrier = d.unit
	}
	if shared && line.rtu {
		handler := pdu.NewRTUClientHandler(d.endpoint)
		handler.SlaveId = byte(o.Unit)
		d.client = pdu.NewClient2(handler, d.carrier)
		return
	}
	handler := pdu.NewTCPClientHandler(d.endpoint)
	handler.SlaveId = byte(o.Unit)
	d.client = pdu.NewClient2(handler, d.carrier)
}

// Used implements drivers.Sharer; without a line it is 0.
func (d *driver) Used() time.Duration {
	if d.unit == nil {
		return 0
	}
	return time.Duration(d.unit.busy.Load())
}

// Connect implements drivers.Driver. It dials once and asks nothing.
func (d *driver) Connect(ctx context.Context, session uint64) error {
	_ = d.carrier.close(drivers.ErrNotConnected) // a session left open, which the Poller never does
	if err := d.carrier.open(ctx, session); err != nil {
		return fmt.Errorf("modbus: connect %s: %w", d.endpoint, err)
	}
	d.session, d.roots, d.blocks = session, fresh(d.planned), nil
	if d.known != nil {
		d.roots = renewed(d.known)
	}
	d.well, d.wellBefore = 0, 0
	for _, r := range d.records {
		r.newSession()
	}
	return nil
}

// Close implements drivers.Driver.
func (d *driver) Close() error {
	d.roots, d.blocks = nil, nil
	if err := d.carrier.close(drivers.ErrNotConnected); err != nil {
		return fmt.Errorf("modbus: close %s: %w", d.endpoint, err)
	}
	return nil
}

// Read implements drivers.Driver: it asks for every block once. Exceptions are
// answers and make bad readings; anything else than an answer is an error.
func (d *driver) Read(ctx context.Context) ([]plant.Scan, error) {
	if d.roots == nil {
		return nil, fmt.Errorf("modbus: read from %s: %w", d.endpoint, drivers.ErrNotConnected)
	}
	d.scans, d.blocks = d.scans[:0], d.blocks[:0]
	d.well, d.wellBefore = 0, d.well
	if err := d.readAll(ctx); err != nil {
		return nil, err
	}
	if d.well > 0 {
		d.known = d.roots
	}
	if err := d.readRecords(ctx); err != nil {
		return nil, err
	}
	return d.scans, nil
}

// Duplicates implements drivers.DuplicateCounter.
func (d *driver) Duplicates() uint64 {
	if d.own == nil {
		return 0
	}
	return d.own.duplicates.Load()
}

// readBlock fills the block's readings, with values or with what the device's
// exception means. On a line what noise has spoilt is asked for once more.
func (d *driver) readBlock(ctx context.Context, b *block) error {
	for try := 0; ; try++ {
		again, err := d.readOnce(ctx, b)
		if !again || try == maxTries || ctx.Err() != nil {
			return err
		}
	}
}

// maxTries is how often a request is repeated: for a lost answer, and for a unit
// that had to be left alone first.
const maxTries = 2

// readOnce does one turn on the wire, which is held until the answer is decoded,
// since the next request overwrites it.
func (d *driver) readOnce(ctx context.Context, b *block) (again bool, err error) {
	if _, err := d.carrier.acquire(ctx, false); err != nil {
		return false, err
	}
	defer d.carrier.release()
	if again, err := d.settle(b); again || err != nil {
		return again, err
	}
	b.askedAt = time.Now()
	answer, err := d.ask(b.table, b.start, b.count)
	var refused *pdu.ModbusError
	var forgiven *forgiven
	switch {
	case errors.As(err, &refused):
		e := exception(refused.ExceptionCode)
		b.refuse(e)
		b.refused(e, time.Now(), d.well+d.wellBefore > 0)
	case errors.As(err, &forgiven):
		return true, err
	case err != nil:
		return false, err
	default:
		b.decode(answer)
		b.answered(time.Now())
		d.well++
	}
	return false, nil
}

// settle makes sure, on a wire without transaction ids, that the next answer is
// to the next request. After a request without an answer the same place is asked
// for another count first: an answer of that length nobody else has asked for,
// and units answer in order. again says that the turn is over.
func (d *driver) settle(b *block) (again bool, err error) {
	if d.unit == nil || !d.unit.unsure() {
		return false, nil
	}
	count := d.unit.unlike(b)
	_, err = d.ask(b.table, b.start, count)
	var refused *pdu.ModbusError
	var forgiven *forgiven
	switch {
	case errors.As(err, &refused):
		d.unit.sure(true)
		return true, nil
	case errors.As(err, &forgiven):
		return true, err
	case err != nil:
		return false, err
	}
	d.unit.sure(false)
	return false, nil
}

func (d *driver) ask(table Table, from, n int) ([]byte, error) {
	start, count := uint16(from), uint16(n)
	switch table {
	case Coil:
		return d.client.ReadCoils(start, count)
	case Discrete:
		return d.client.ReadDiscreteInputs(start, count)
	case Input:
		return d.client.ReadInputRegisters(start, count)
	default:
		return d.client.ReadHoldingRegisters(start, count)
	}
}

// Write implements drivers.Driver. It waits for the request under way. If ctx
// ends before the answer the session ends too, since the answer is still due.
func (d *driver) Write(ctx context.Context, w plant.Write) error {
	p := d.points[w.Tag]
	if p == nil || !p.writable {
		return fmt.Errorf("modbus: write %s: %w", w.Tag, drivers.ErrNotWritable)
	}
	raw, err := p.encode(w.Value)
	if err != nil {
		return fmt.Errorf("modbus: write %s: %w", w.Tag, err)
	}
	session, err := d.carrier.acquire(ctx, true)
	if err != nil {
		return fmt.Errorf("modbus: write %s: %w", w.Tag, err)
	}
	defer d.carrier.release()
	if session != w.Session {
		return fmt.Errorf("modbus: write %s: %w", w.Tag, drivers.ErrSessionOver)
	}
	err = d.put(p, raw)
	var refused *pdu.ModbusError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refused):
		return fmt.Errorf("modbus: write %s (%s:%d): %w", w.Tag, p.table, p.start, exception(refused.ExceptionCode))
	default:
		lost := &drivers.LostWrite{Tag: w.Tag, At: fmt.Sprintf("%s:%d", p.table, p.start), Cause: err}
		d.carrier.because(err, lost)
		return fmt.Errorf("modbus: %w", lost)
	}
}

// unread is the error of a Read that could not read what. A session that a write
// has ended is no matter of what was to be read next.
func (d *driver) unread(what string, err error) error {
	var lost *drivers.LostWrite
	if errors.As(err, &lost) {
		return fmt.Errorf("modbus: %s: %w", d.endpoint, lost)
	}
	return fmt.Errorf("modbus: read %s from %s: %w", what, d.endpoint, err)
}

func (d *driver) put(p *point, raw []byte) (err error) {
	start := uint16(p.start)
	switch {
	case p.table == Coil:
		on := uint16(0)
		if raw[0]|raw[1] != 0 {
			on = 0xFF00
		}
		_, err = d.client.WriteSingleCoil(start, on)
	case p.width == 1:
		_, err = d.client.WriteSingleRegister(start, uint16(raw[0])<<8|uint16(raw[1]))
	default:
		_, err = d.client.WriteMultipleRegisters(start, uint16(p.width), raw)
	}
	return err
}
