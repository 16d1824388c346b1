package buffer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// The record format; docs/formats.md gives the offsets. A reader refuses a
// newer major and skips what a newer minor has added.
const (
	recordMajor = 1
	recordMinor = 0

	envelopeSize    = 8
	eventHeaderSize = 60

	flagTimeUncertain = 1 << 0
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errDamaged says that a record is not what was written.
var errDamaged = errors.New("damaged record")

// errNewer says that a newer version of the gateway wrote the record.
var errNewer = errors.New("record of a newer format")

// seal fills the envelope of the record that starts at dst[at]: version, length
// of the fixed part, checksum over the key and the body.
func seal(dst []byte, at int, key []byte, fixed int) {
	r := dst[at:]
	r[0], r[1] = recordMajor, recordMinor
	binary.BigEndian.PutUint16(r[2:], uint16(fixed))
	binary.BigEndian.PutUint32(r[4:], checksum(key, r))
}

// checksum covers the key, so that a record found under another key is damage
// too, and everything of the record but the checksum itself.
func checksum(key, record []byte) uint32 {
	sum := crc32.Update(0, castagnoli, key)
	sum = crc32.Update(sum, castagnoli, record[:4])
	return crc32.Update(sum, castagnoli, record[envelopeSize:])
}

// unseal checks the envelope and returns the length of the fixed part.
func unseal(key, record []byte) (fixed int, err error) {
	if len(record) < envelopeSize {
		return 0, fmt.Errorf("%w: %d bytes", errDamaged, len(record))
	}
	if checksum(key, record) != binary.BigEndian.Uint32(record[4:]) {
		return 0, fmt.Errorf("%w: wrong checksum", errDamaged)
	}
	if record[0] != recordMajor {
		return 0, fmt.Errorf("%w: version %d.%d, this gateway reads %d", errNewer, record[0], record[1], recordMajor)
	}
	fixed = int(binary.BigEndian.Uint16(record[2:]))
	if fixed < envelopeSize || fixed > len(record) {
		return 0, fmt.Errorf("%w: fixed part of %d bytes in %d", errDamaged, fixed, len(record))
	}
	return fixed, nil
}

// appendEnvelope makes room for the envelope; seal fills it.
func appendEnvelope(dst []byte) []byte { return append(dst, 0, 0, 0, 0, 0, 0, 0, 0) }

// appendOpaque appends a record whose body is bytes of somebody else.
func appendOpaque(dst, key, body []byte) []byte {
	at := len(dst)
	dst = append(appendEnvelope(dst), body...)
	seal(dst, at, key, envelopeSize)
	return dst
}

// opaque returns the body of such a record; it points into record.
func opaque(key, record []byte) ([]byte, error) {
	fixed, err := unseal(key, record)
	if err != nil {
		return nil, err
	}
	return record[fixed:], nil
}

// stored is an event record, decoded; kind and data point into record.
type stored struct {
	sequence plant.Sequence
	epoch    plant.Epoch
	time     int64
	recorded int64
	offset   int64
	step     int64
	version  uint8
	source   uint8
	flags    uint16
	kind     []byte
	data     []byte
	record   []byte
	// size is what the event takes in the store: key and record.
	size int
}

func appendEvent(dst, key []byte, e *plant.Event, epoch plant.Epoch, sequence plant.Sequence, recorded int64) []byte {
	at := len(dst)
	dst = appendEnvelope(dst)
	dst = binary.BigEndian.AppendUint64(dst, uint64(epoch))
	dst = binary.BigEndian.AppendUint64(dst, uint64(sequence))
	dst = binary.BigEndian.AppendUint64(dst, uint64(nanos(e.Time)))
	dst = binary.BigEndian.AppendUint64(dst, uint64(recorded))
	dst = binary.BigEndian.AppendUint64(dst, uint64(e.ClockOffset))
	dst = binary.BigEndian.AppendUint64(dst, uint64(e.ClockStep))
	var flags uint16
	if e.TimeUncertain {
		flags |= flagTimeUncertain
	}
	dst = append(dst, e.Version, timeSourceCode(e.TimeSource))
	dst = binary.BigEndian.AppendUint16(dst, flags)
	dst = appendName(dst, string(e.Kind))
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(e.Data)))
	dst = append(dst, e.Data...)
	seal(dst, at, key, eventHeaderSize)
	return dst
}

func decodeEvent(key, record []byte, into *stored) error {
	fixed, err := unseal(key, record)
	if err != nil {
		return err
	}
	if fixed < eventHeaderSize {
		return fmt.Errorf("%w: event header of %d bytes", errDamaged, fixed)
	}
	return parseEvent(fixed, len(key), record, into)
}

// parseEvent is decodeEvent for a record whose envelope is known to be good.
func parseEvent(fixed, key int, record []byte, into *stored) error {
	u64 := func(at int) uint64 { return binary.BigEndian.Uint64(record[at:]) }
	into.epoch, into.sequence = plant.Epoch(u64(8)), plant.Sequence(u64(16))
	into.time, into.recorded = int64(u64(24)), int64(u64(32))
	into.offset, into.step = int64(u64(40)), int64(u64(48))
	into.version, into.source = record[56], record[57]
	into.flags = binary.BigEndian.Uint16(record[58:])
	into.record = record
	into.size = key + len(record)
	rest := record[fixed:]
	if len(rest) < 1 || len(rest) < 1+int(rest[0])+4 {
		return fmt.Errorf("%w: kind cut short", errDamaged)
	}
	n := 1 + int(rest[0])
	into.kind = rest[1:n]
	length := uint64(binary.BigEndian.Uint32(rest[n:]))
	rest = rest[n+4:]
	if uint64(len(rest)) < length {
		return fmt.Errorf("%w: data cut short", errDamaged)
	}
	into.data = rest[:length:length]
	return nil
}

// Times are nanoseconds since 1970, UTC; noTime is the zero time.Time.
const noTime = math.MinInt64

var (
	firstTime = time.Unix(0, math.MinInt64+1)
	lastTime  = time.Unix(0, math.MaxInt64)
)

func nanos(t time.Time) int64 {
	switch {
	case t.IsZero():
		return noTime
	case t.Before(firstTime):
		return math.MinInt64 + 1
	case t.After(lastTime):
		return math.MaxInt64
	default:
		return t.UnixNano()
	}
}

func timeOf(ns int64) time.Time {
	if ns == noTime {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}

func timeSourceCode(s plant.TimeSource) uint8 {
	switch s {
	case plant.DeviceTime:
		return 1
	case plant.GatewayTime:
		return 2
	default:
		return 0
	}
}

func timeSourceOf(code uint8) plant.TimeSource {
	switch code {
	case 1:
		return plant.DeviceTime
	case 2:
		return plant.GatewayTime
	default:
		return ""
	}
}
