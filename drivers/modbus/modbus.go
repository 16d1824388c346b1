// Package modbus is the driver for Modbus TCP devices. Neighbouring tags are
// read in one request; a tag that the device refuses is a bad reading that
// costs its neighbours nothing; an answer that does not match its request to
// the last byte ends the session, so that a late answer never becomes another
// tag's value.
package modbus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	pdu "github.com/goburrow/modbus"

	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/internal/kind"
	"github.com/sluice-edge/sluice/plant"
)

// Kind is "driver: modbus".
var Kind = kind.NewKind("modbus", defaults, plan)

// maxSplits bounds how many refused blocks one Read divides: the search for a
// bad address goes on in the next Read, the good tags are not kept waiting.
const maxSplits = 16

func plan(_ string, o Options) (drivers.Plan, error) {
	points, tags := make([]*point, len(o.Tags.Rows)), make([]plant.Tag, len(o.Tags.Rows))
	for i, row := range o.Tags.Rows {
		points[i] = newPoint(row.Name, row.Value, o.WordOrder)
		address := row.Value.Address
		if n, ok := row.Value.bit(); ok {
			address.bit = uint8(n) + 1
		}
		tags[i] = plant.Tag{
			ID: plant.TagID(row.Name), Type: points[i].kind, Scaled: points[i].scaled,
			Unit: row.Value.Unit, Address: address.String(),
		}
	}
	requests := len(join(points, o.MaxRegisters, o.MaxGap))
	return drivers.Plan{
		Tags:     tags,
		Interval: o.Interval.Std(),
		// Each request has its own time-out in the driver; this one bounds a
		// whole Read of a device that uses up nearly all of each.
		Timeout:  o.Timeout.Std() * time.Duration(requests+2*maxSplits),
		Endpoint: string(o.Endpoint),
		Open:     func(env drivers.Env) drivers.Driver { return open(env.Name, o) },
	}, nil
}

// driver speaks to one device.
type driver struct {
	device    plant.DeviceID
	endpoint  string
	points    map[plant.TagID]*point
	planned   []*block
	transport *transport
	client    pdu.Client

	// Of the goroutine of Connect, Read and Close.
	session uint64
	blocks  []*block // as planned, or divided in this session
	scans   []plant.Scan
}

var _ drivers.Driver = (*driver)(nil)

func open(name plant.DeviceID, o Options) *driver {
	d := &driver{
		device: name, endpoint: string(o.Endpoint),
		points:    make(map[plant.TagID]*point, len(o.Tags.Rows)),
		transport: newTransport(o.Timeout.Std()),
	}
	points := make([]*point, len(o.Tags.Rows))
	for i, row := range o.Tags.Rows {
		points[i] = newPoint(row.Name, row.Value, o.WordOrder)
		d.points[points[i].tag] = points[i]
	}
	d.planned = join(points, o.MaxRegisters, o.MaxGap)
	// Of goburrow only the coding of requests and answers is used. The handler
	// outlives sessions, so that transaction ids go on over a reconnect.
	handler := pdu.NewTCPClientHandler(d.endpoint)
	handler.SlaveId = byte(o.Unit)
	d.client = pdu.NewClient2(handler, d.transport)
	return d
}

// Connect implements drivers.Driver. It dials once and asks nothing.
func (d *driver) Connect(ctx context.Context, session uint64) error {
	_ = d.transport.close(drivers.ErrNotConnected) // a session left open, which the Poller never does
	if err := d.transport.open(ctx, d.endpoint, session); err != nil {
		return fmt.Errorf("modbus: connect %s: %w", d.endpoint, err)
	}
	d.session, d.blocks = session, fresh(d.planned)
	return nil
}

// Close implements drivers.Driver.
func (d *driver) Close() error {
	d.blocks = nil
	if err := d.transport.close(drivers.ErrNotConnected); err != nil {
		return fmt.Errorf("modbus: close %s: %w", d.endpoint, err)
	}
	return nil
}

// Read implements drivers.Driver: it asks for every block once. Exceptions are
// answers and make bad readings; anything else than an answer is an error.
func (d *driver) Read(ctx context.Context) ([]plant.Scan, error) {
	if d.blocks == nil {
		return nil, fmt.Errorf("modbus: read from %s: %w", d.endpoint, drivers.ErrNotConnected)
	}
	d.scans = d.scans[:0]
	splits, asked := 0, false
	for i := 0; i < len(d.blocks); i++ {
		b := d.blocks[i]
		// A Read in which every block rests would not notice a lost device.
		if forced := !asked && i == len(d.blocks)-1; forced || !b.resting(time.Now()) {
			if err := d.readBlock(ctx, b); err != nil {
				return nil, fmt.Errorf("modbus: read %s from %s: %w", b, d.endpoint, err)
			}
			asked = true
		}
		if b.refusal.divisible() && len(b.points) > 1 && splits < maxSplits {
			first, second := b.halves()
			d.blocks = slices.Replace(d.blocks, i, i+1, first, second)
			splits++
			i-- // the halves are asked in this Read
			continue
		}
		d.scans = append(d.scans, plant.Scan{
			Device: d.device, Session: d.session, Received: time.Now(),
			Snapshot: !b.seen, Readings: b.readings,
		})
		b.seen = b.seen || b.refusal == 0
	}
	return d.scans, nil
}

// readBlock fills the block's readings, with values or with what the device's
// exception means. The line is held until the answer is decoded, since the next
// request overwrites it.
func (d *driver) readBlock(ctx context.Context, b *block) error {
	if _, err := d.transport.acquire(ctx); err != nil {
		return err
	}
	defer d.transport.release()
	answer, err := d.ask(b)
	var refused *pdu.ModbusError
	switch {
	case errors.As(err, &refused):
		b.refuse(exception(refused.ExceptionCode), time.Now())
	case err != nil:
		return err
	default:
		b.decode(answer)
	}
	return nil
}

func (d *driver) ask(b *block) ([]byte, error) {
	start, count := uint16(b.start), uint16(b.count)
	switch b.table {
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
	session, err := d.transport.acquire(ctx)
	if err != nil {
		return fmt.Errorf("modbus: write %s: %w", w.Tag, err)
	}
	defer d.transport.release()
	if session != w.Session {
		return fmt.Errorf("modbus: write %s: %w", w.Tag, drivers.ErrSessionOver)
	}
	err = d.put(p, raw)
	var refused *pdu.ModbusError
	if errors.As(err, &refused) {
		err = exception(refused.ExceptionCode)
	}
	if err != nil {
		return fmt.Errorf("modbus: write %s: %w", w.Tag, err)
	}
	return nil
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
