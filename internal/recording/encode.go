package recording

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"time"

	"github.com/sluice-edge/sluice/derive"
	"github.com/sluice-edge/sluice/plant"
)

// encoder writes entries of a file. What it remembers is of one file.
type encoder struct {
	buf   []byte
	now   int64
	event int64
	names map[string]uint64
	// shapes are the lists of tags by what they have in common at a glance.
	shapes map[shapeKey][]*shape
	kept   int
	shaped int
}

// shapeKey tells most lists of tags apart without looking at each.
type shapeKey struct {
	device      plant.DeviceID
	record      plant.RecordID
	count       int
	first, last plant.TagID
}

// shape is one list of tags that a device answered with, and what it said last.
type shape struct {
	number  uint64
	session uint64
	last    []plant.Reading
}

func newEncoder() *encoder {
	return &encoder{names: make(map[string]uint64), shapes: make(map[shapeKey][]*shape)}
}

func (e *encoder) uvarint(n uint64) { e.buf = binary.AppendUvarint(e.buf, n) }
func (e *encoder) varint(n int64)   { e.buf = binary.AppendVarint(e.buf, n) }

// bytes writes a length and what it is the length of.
func (e *encoder) bytes(b string) {
	e.uvarint(uint64(len(b)))
	e.buf = append(e.buf, b...)
}

// name writes a text that is likely to come again: 0 and the text, which gets the
// next number; 1 and the text, which gets none; or its number and 2.
func (e *encoder) name(s string) {
	if n, ok := e.names[s]; ok {
		e.uvarint(n + 2)
		return
	}
	if len(e.names) >= maxNames {
		e.uvarint(1)
		e.bytes(s)
		return
	}
	e.names[s] = uint64(len(e.names))
	e.uvarint(0)
	e.bytes(s)
}

// at writes a time as the distance from the one before.
func (e *encoder) at(t time.Time) int64 {
	n := t.UnixNano()
	e.varint(n - e.now)
	e.now = n
	return n
}

// step writes one input.
func (e *encoder) step(st *derive.Step) error {
	switch in := st.In.(type) {
	case *plant.Scan:
		e.scan(in, st)
	case plant.Scan:
		e.scan(&in, st)
	case plant.Tick:
		e.buf = append(e.buf, opTick)
		e.at(in.At)
	default:
		name, data, err := encodeInput(in)
		if err != nil {
			return fmt.Errorf("recording: encode %T: %w", in, err)
		}
		e.buf = append(e.buf, opOther)
		e.name(name)
		e.bytes(string(data))
	}
	return nil
}

func (e *encoder) scan(in *plant.Scan, st *derive.Step) {
	e.buf = append(e.buf, opScan)
	sh := e.shape(in)
	flags := byte(0)
	if in.Snapshot {
		flags |= scanSnapshot
	}
	if !in.Asked.IsZero() {
		flags |= scanAsked
	}
	if in.Session != sh.session {
		flags |= scanSession
	}
	if in.Final {
		flags |= scanFinal
	}
	if in.More {
		flags |= scanMore
	}
	if in.Overflow {
		flags |= scanOverflow
	}
	if st.LargeBytes > 0 {
		flags |= scanLarge
	}
	e.buf = append(e.buf, flags)
	received := e.at(in.Received)
	if flags&scanAsked != 0 {
		e.varint(received - in.Asked.UnixNano())
	}
	if flags&scanSession != 0 {
		e.uvarint(in.Session)
		sh.session = in.Session
	}
	if flags&scanLarge != 0 {
		e.name(string(st.LargeTag))
		e.uvarint(uint64(st.LargeBytes))
	}
	e.readings(sh.last, in.Readings, received)
}

// shape finds the list of tags of a scan, or writes a new one.
func (e *encoder) shape(in *plant.Scan) *shape {
	key := shapeKey{device: in.Device, record: in.Record, count: len(in.Readings)}
	if key.count > 0 {
		key.first, key.last = in.Readings[0].Tag, in.Readings[key.count-1].Tag
	}
	for _, sh := range e.shapes[key] {
		if sameTags(sh.last, in.Readings) {
			e.uvarint(sh.number + shapeKept)
			return sh
		}
	}
	sh := &shape{last: make([]plant.Reading, key.count)}
	keep := e.kept < maxShapes && e.shaped+key.count <= maxShaped
	if keep {
		sh.number = uint64(e.kept)
		e.kept++
		e.shaped += key.count
		e.shapes[key] = append(e.shapes[key], sh)
		e.uvarint(shapeNew)
	} else {
		e.uvarint(shapeLoose)
	}
	e.name(string(in.Device))
	e.name(string(in.Record))
	e.uvarint(uint64(key.count))
	for i := range in.Readings {
		sh.last[i].Tag = in.Readings[i].Tag
		e.name(string(in.Readings[i].Tag))
	}
	return sh
}

func sameTags(a, b []plant.Reading) bool {
	for i := range a {
		if a[i].Tag != b[i].Tag {
			return false
		}
	}
	return true
}

// readings writes what changed: for each the distance from the one before, and
// what of it is another. 0 ends them.
func (e *encoder) readings(last, now []plant.Reading, source int64) {
	before := -1
	for i := range now {
		mask := changed(&last[i], &now[i])
		if mask == 0 {
			continue
		}
		e.uvarint(uint64(i - before))
		before = i
		source = e.reading(mask, &last[i], &now[i], source)
		last[i] = now[i]
	}
	e.uvarint(0)
}

func changed(last, now *plant.Reading) (mask byte) {
	if last.Value != now.Value {
		mask = readValue
		if a, b := last.Value.Parts(), now.Value.Parts(); a.Type != b.Type || a.Scale != b.Scale {
			mask = readType
		}
	}
	if last.Quality != now.Quality {
		mask |= readQuality
	}
	if last.Cause != now.Cause {
		mask |= readCause
	}
	if !last.Source.Equal(now.Source) {
		mask |= readSource
		if now.Source.IsZero() {
			mask ^= readSource | readTimeless
		}
	}
	return mask
}

// reading writes what mask says of a reading and returns the newest device's
// time, which the next one is measured from.
func (e *encoder) reading(mask byte, last, now *plant.Reading, source int64) int64 {
	e.buf = append(e.buf, mask)
	a, b := last.Value.Parts(), now.Value.Parts()
	if mask&readType != 0 {
		e.buf = append(e.buf, byte(b.Type), b.Scale)
		a = plant.Parts{}
	}
	if mask&(readType|readValue) != 0 {
		switch b.Type {
		case plant.Text:
			e.bytes(b.Text)
		case plant.Float:
			// Floats that are near each other, or short in binary, differ in few bits
			// at the upper end only.
			e.uvarint(bits.ReverseBytes64(a.Bits ^ b.Bits))
		default:
			e.varint(int64(b.Bits - a.Bits))
		}
	}
	if mask&readQuality != 0 {
		e.buf = append(e.buf, byte(now.Quality))
	}
	if mask&readCause != 0 {
		e.name(now.Cause)
	}
	if mask&readSource != 0 {
		n := now.Source.UnixNano()
		e.varint(n - source)
		source = n
	}
	return source
}

// events writes what came of the steps since the last time.
func (e *encoder) events(events []plant.Event, first plant.Sequence) {
	e.buf = append(e.buf, opEvents)
	e.uvarint(uint64(first))
	e.uvarint(uint64(len(events)))
	for i := range events {
		ev := &events[i]
		e.name(string(ev.Kind))
		flags := byte(0)
		switch ev.TimeSource {
		case plant.DeviceTime:
			flags = eventDevice
		case plant.GatewayTime:
			flags = eventGateway
		}
		if ev.TimeUncertain {
			flags |= eventUncertain
		}
		e.buf = append(e.buf, ev.Version, flags)
		n := ev.Time.UnixNano()
		e.varint(n - e.event)
		e.event = n
		e.varint(int64(ev.ClockOffset))
		e.varint(int64(ev.ClockStep))
		e.bytes(string(ev.Data))
	}
}
