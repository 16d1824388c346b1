package buffer

import (
	"encoding/binary"

	"github.com/sluice-edge/sluice/plant"
)

// Names in keys carry their length in one byte.
const (
	maxName   = 255
	maxSource = 1024
	maxKVKey  = 1024
)

// keyLayout is the first byte of every key but the format key. A layout that
// an older gateway could not walk gets a new number.
const keyLayout = 1

// class is the second byte of a key. docs/formats.md lists them all, with the
// letters reserved for what comes later.
type class byte

const (
	classEpoch  class = 'o'
	classStream class = 's'
	classLow    class = 'l'
	classThin   class = 'c'
	classTaken  class = 't'
	classEvent  class = 'e'
	classState  class = 'm'
	classKV     class = 'v'
	classUplink class = 'u'
	classCursor class = 'q'
	classMemory class = 'k'
	classDead   class = 'd'
	classJob    class = 'j'
	classGap    class = 'g'
	classSums   class = 'n'
	classFiller class = 'x'
)

// formatKey never changes, so that any version can say what it found.
var formatKey = []byte("\x00sluice-format")

func appendClass(dst []byte, c class) []byte { return append(dst, keyLayout, byte(c)) }

func appendName(dst []byte, name string) []byte {
	dst = append(dst, byte(len(name)))
	return append(dst, name...)
}

func appendSequence(dst []byte, s plant.Sequence) []byte {
	return binary.BigEndian.AppendUint64(dst, uint64(s))
}

// machineKey is the key of a class that has one record a machine, and the
// prefix of one that has many.
func machineKey(c class, m plant.MachineID) []byte {
	return appendName(appendClass(nil, c), string(m))
}

func eventKey(m plant.MachineID, s plant.Sequence) []byte {
	return appendSequence(machineKey(classEvent, m), s)
}

// eventKeyOverhead is what an event's key takes besides the machine's name:
// layout, class, the name's length and the sequence.
const eventKeyOverhead = 2 + 1 + 8

func epochKey(ordinal uint64) []byte {
	return binary.BigEndian.AppendUint64(appendClass(nil, classEpoch), ordinal)
}

func uplinkKey(c class, uplink string) []byte { return appendName(appendClass(nil, c), uplink) }

func cursorKey(uplink string, m plant.MachineID) []byte {
	return appendName(uplinkKey(classCursor, uplink), string(m))
}

func deadKey(uplink string, m plant.MachineID, s plant.Sequence) []byte {
	return appendSequence(appendName(uplinkKey(classDead, uplink), string(m)), s)
}

func takenKey(m plant.MachineID, upTo plant.Sequence) []byte {
	return appendSequence(machineKey(classTaken, m), upTo)
}

func jobKey(id uint64) []byte {
	return binary.BigEndian.AppendUint64(appendClass(nil, classJob), id)
}

// cutName takes a name off the front of a key's rest.
func cutName(rest []byte) (name string, tail []byte, ok bool) {
	if len(rest) == 0 || len(rest) < 1+int(rest[0]) {
		return "", nil, false
	}
	n := 1 + int(rest[0])
	return string(rest[1:n]), rest[n:], true
}

// sequenceOf reads the sequence at the end of a key.
func sequenceOf(key []byte) plant.Sequence {
	if len(key) < 8 {
		return 0
	}
	return plant.Sequence(binary.BigEndian.Uint64(key[len(key)-8:]))
}
