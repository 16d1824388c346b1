package recording

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/bits"
	"reflect"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// decoder reads entries of a file. What it remembers is of one file.
type decoder struct {
	b       []byte
	now     int64
	event   int64
	names   []string
	shapes  []*plant.Scan
	shaped  int
	types   map[string]reflect.Type
	machine plant.MachineID
	// events is reused; a scan is valid until the next of its shape.
	events []plant.Event
}

var errShort = errors.New("an entry is longer than its block")

func newDecoder(machine plant.MachineID) *decoder {
	d := &decoder{types: make(map[string]reflect.Type), machine: machine}
	for _, in := range plant.Inputs() {
		d.types[inputName(in)] = reflect.TypeOf(in)
	}
	return d
}

func (d *decoder) uvarint() (uint64, error) {
	n, size := binary.Uvarint(d.b)
	if size <= 0 {
		return 0, errShort
	}
	d.b = d.b[size:]
	return n, nil
}

func (d *decoder) varint() (int64, error) {
	n, size := binary.Varint(d.b)
	if size <= 0 {
		return 0, errShort
	}
	d.b = d.b[size:]
	return n, nil
}

func (d *decoder) byte() (byte, error) {
	if len(d.b) == 0 {
		return 0, errShort
	}
	b := d.b[0]
	d.b = d.b[1:]
	return b, nil
}

// bytes returns a part of the block.
func (d *decoder) bytes() ([]byte, error) {
	n, err := d.uvarint()
	if err != nil || n > uint64(len(d.b)) {
		return nil, errors.Join(err, errShort)
	}
	b := d.b[:n]
	d.b = d.b[n:]
	return b, nil
}

func (d *decoder) name() (string, error) {
	n, err := d.uvarint()
	if err != nil {
		return "", err
	}
	if n > 1 {
		if n-2 >= uint64(len(d.names)) {
			return "", fmt.Errorf("there is no name %d", n-2)
		}
		return d.names[n-2], nil
	}
	b, err := d.bytes()
	if err != nil {
		return "", err
	}
	s := string(b)
	if n == 0 {
		if len(d.names) >= maxNames {
			return "", errors.New("there are too many names")
		}
		d.names = append(d.names, s)
	}
	return s, nil
}

func (d *decoder) at() (time.Time, error) {
	n, err := d.varint()
	d.now += n
	return utc(d.now), err
}

func utc(n int64) time.Time { return time.Unix(0, n).UTC() }

// next reads the next entry of the block into e.
func (d *decoder) next(e *Entry) error {
	op, err := d.byte()
	if err != nil {
		return err
	}
	*e = Entry{}
	switch op {
	case opScan:
		return d.scan(e)
	case opTick:
		at, err := d.at()
		e.Step.In = plant.Tick{At: at}
		return err
	case opOther:
		e.Step.In, err = d.other()
		return err
	case opEvents:
		return d.output(e)
	default:
		return fmt.Errorf("there is an entry of the sort %d, which this version does not know", op)
	}
}

// other reads an input that is written as JSON.
func (d *decoder) other() (plant.Input, error) {
	name, err := d.name()
	if err != nil {
		return nil, err
	}
	data, err := d.bytes()
	if err != nil {
		return nil, err
	}
	t, ok := d.types[name]
	if !ok {
		return nil, fmt.Errorf("there is an input %q, which this version does not know", name)
	}
	into := reflect.New(t)
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into.Interface()); err != nil {
		return nil, fmt.Errorf("input %s: %w", name, err)
	}
	// inputs has nothing else.
	in, _ := into.Elem().Interface().(plant.Input)
	return in, nil
}

func (d *decoder) scan(e *Entry) error {
	s, err := d.shape()
	if err != nil {
		return err
	}
	flags, err := d.byte()
	if err != nil {
		return err
	}
	if s.Received, err = d.at(); err != nil {
		return err
	}
	s.Snapshot, s.Asked = flags&scanSnapshot != 0, time.Time{}
	s.Final, s.More, s.Overflow = flags&scanFinal != 0, flags&scanMore != 0, flags&scanOverflow != 0
	if flags&scanAsked != 0 {
		ago, err := d.varint()
		if err != nil {
			return err
		}
		s.Asked = utc(d.now - ago)
	}
	if flags&scanSession != 0 {
		if s.Session, err = d.uvarint(); err != nil {
			return err
		}
	}
	if flags&scanLarge != 0 {
		tag, err := d.name()
		if err != nil {
			return err
		}
		n, err := d.uvarint()
		if err != nil || n > maxBlock {
			return errors.Join(err, errShort)
		}
		e.Step.LargeTag, e.Step.LargeBytes = plant.TagID(tag), int(n)
	}
	e.Step.In = s
	return d.readings(s.Readings)
}

// shape returns the scan with the tags of the next one and what they said last.
func (d *decoder) shape() (*plant.Scan, error) {
	n, err := d.uvarint()
	if err != nil {
		return nil, err
	}
	if n >= shapeKept {
		if n-shapeKept >= uint64(len(d.shapes)) {
			return nil, fmt.Errorf("there is no list %d of tags", n-shapeKept)
		}
		return d.shapes[n-shapeKept], nil
	}
	device, err := d.name()
	if err != nil {
		return nil, err
	}
	record, err := d.name()
	if err != nil {
		return nil, err
	}
	count, err := d.uvarint()
	if err != nil || count > uint64(len(d.b)) { // each tag takes a byte
		return nil, errors.Join(err, errShort)
	}
	s := &plant.Scan{Device: plant.DeviceID(device), Record: plant.RecordID(record), Readings: make([]plant.Reading, count)}
	for i := range s.Readings {
		tag, err := d.name()
		if err != nil {
			return nil, err
		}
		s.Readings[i].Tag = plant.TagID(tag)
	}
	if n == shapeNew {
		if d.shaped += len(s.Readings); len(d.shapes) >= maxShapes || d.shaped > maxShaped {
			return nil, errors.New("there are too many lists of tags")
		}
		d.shapes = append(d.shapes, s)
	}
	return s, nil
}

// readings brings the readings up to date.
func (d *decoder) readings(readings []plant.Reading) error {
	at, source := -1, d.now
	for {
		n, err := d.uvarint()
		if err != nil || n == 0 {
			return err
		}
		if n > uint64(len(readings)-1-at) {
			return errors.New("there are more readings than tags")
		}
		at += int(n)
		if err := d.reading(&readings[at], &source); err != nil {
			return err
		}
	}
}

func (d *decoder) reading(v *plant.Reading, source *int64) error {
	mask, err := d.byte()
	if err != nil {
		return err
	}
	if mask&(readType|readValue) != 0 {
		if err := d.value(v, mask&readType != 0); err != nil {
			return err
		}
	}
	if mask&readQuality != 0 {
		q, err := d.byte()
		if err != nil || q > byte(plant.Good) {
			return errors.Join(err, errors.New("there is no such quality"))
		}
		v.Quality = plant.Quality(q)
	}
	if mask&readCause != 0 {
		if v.Cause, err = d.name(); err != nil {
			return err
		}
	}
	if mask&readSource != 0 {
		n, err := d.varint()
		if err != nil {
			return err
		}
		*source += n
		v.Source = utc(*source)
	}
	if mask&readTimeless != 0 {
		v.Source = time.Time{}
	}
	return nil
}

func (d *decoder) value(v *plant.Reading, typed bool) error {
	p := v.Value.Parts()
	if typed {
		if len(d.b) < 2 {
			return errShort
		}
		p = plant.Parts{Type: plant.ValueType(d.b[0]), Scale: d.b[1]}
		d.b = d.b[2:]
	}
	switch p.Type {
	case plant.Text:
		b, err := d.bytes()
		if err != nil {
			return err
		}
		p.Text = string(b)
	case plant.Float:
		n, err := d.uvarint()
		if err != nil {
			return err
		}
		p.Bits ^= bits.ReverseBytes64(n)
	default:
		n, err := d.varint()
		if err != nil {
			return err
		}
		p.Bits += uint64(n)
	}
	value, ok := p.Value()
	if !ok {
		return errors.New("there is a value that is none")
	}
	v.Value = value
	return nil
}

// output reads what came of the steps before.
func (d *decoder) output(e *Entry) error {
	first, err := d.uvarint()
	if err != nil {
		return err
	}
	n, err := d.uvarint()
	if err != nil || n == 0 || n > uint64(len(d.b)) {
		return errors.Join(err, errShort)
	}
	d.events = d.events[:0]
	for range n {
		ev, err := d.outcome()
		if err != nil {
			return err
		}
		d.events = append(d.events, ev)
	}
	e.Events, e.First = d.events, plant.Sequence(first)
	return nil
}

func (d *decoder) outcome() (ev plant.Event, err error) {
	kind, err := d.name()
	if err != nil {
		return ev, err
	}
	if len(d.b) < 2 {
		return ev, errShort
	}
	ev = plant.Event{Machine: d.machine, Kind: plant.EventKind(kind), Version: d.b[0], TimeUncertain: d.b[1]&eventUncertain != 0}
	switch {
	case d.b[1]&eventDevice != 0:
		ev.TimeSource = plant.DeviceTime
	case d.b[1]&eventGateway != 0:
		ev.TimeSource = plant.GatewayTime
	}
	d.b = d.b[2:]
	at, err1 := d.varint()
	offset, err2 := d.varint()
	step, err3 := d.varint()
	data, err4 := d.bytes()
	d.event += at
	ev.Time, ev.ClockOffset, ev.ClockStep, ev.Data = utc(d.event), time.Duration(offset), time.Duration(step), data
	return ev, errors.Join(err1, err2, err3, err4)
}
