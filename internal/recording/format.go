// Package recording keeps what the rules of a machine step through, so that it
// can be replayed: the state at the beginning, then every input in its order and
// the events that came of it. A file is a header and blocks, each with its own
// CRC32C; within a block only what changed since the last answer of the same
// request is written. docs/formats.md describes it. Writing survives a kill up
// to the last block, and a Reader never reads more into memory than one block
// and what the values of each request were.
package recording

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"reflect"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

const (
	magic = "SLUICERC"
	// major is the version of the format; a reader refuses a newer one.
	major, minor = 1, 1
	headerLen    = 12
	// blockHeader is the length and the checksum before each block.
	blockHeader = 8
	// maxBlock bounds what a reader takes into memory at once.
	maxBlock = 4 << 20
	// blockSize is when a block is written; it grows beyond by one commit at most.
	blockSize = 64 << 10
	// maxShapes and maxShaped bound how many lists of tags are kept, and how many
	// readings they have together. Further ones are written out each time.
	maxShapes, maxShaped = 4096, 1 << 20
	// maxNames bounds the names that are written once.
	maxNames = 1 << 16
	// maxTags bounds the tags of a head in bytes: it is one block, in which an
	// escape of JSON may make six bytes of one.
	maxTags = maxBlock / 8
)

// The sorts of blocks: the first byte of each.
const (
	blockHead  = 'h'
	blockState = 's'
	blockKeyed = 'k'
	blockData  = 'd'
	blockEnd   = 'e'
)

// The entries of a block of data.
const (
	opScan = 1 + iota
	opTick
	opOther
	opEvents
)

// The flags of a scan.
const (
	scanSnapshot = 1 << iota
	scanAsked
	scanSession
	scanLarge
	scanFinal
	scanMore
	scanOverflow
)

// The shapes of a scan that are no number of a kept one.
const (
	shapeNew = iota
	shapeLoose
	shapeKept
)

// What of a reading changed.
const (
	readType = 1 << iota
	readValue
	readQuality
	readCause
	readSource
	readTimeless
)

// The flags of an event.
const (
	eventDevice = 1 << iota
	eventGateway
	eventUncertain
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrForeign says that a file is no recording.
var ErrForeign = errors.New("the file is no recording of Sluice")

// DamageError says that a recording can be read up to a place only.
type DamageError struct {
	// Offset is where in the file the block begins that cannot be read.
	Offset int64
	// Cut is set if the file ends there, as after a power cut.
	Cut   bool
	Cause error
}

// Error implements error.
func (e *DamageError) Error() string {
	if e.Cut {
		return fmt.Sprintf("the recording is cut off at byte %d", e.Offset)
	}
	return fmt.Sprintf("the recording is damaged at byte %d: %v", e.Offset, e.Cause)
}

// Unwrap returns the cause.
func (e *DamageError) Unwrap() error { return e.Cause }

// Head says what a file holds.
type Head struct {
	Machine plant.MachineID `json:"machine"`
	Gateway string          `json:"gateway"`
	// Program is the version of the program that recorded.
	Program string    `json:"program"`
	Begun   time.Time `json:"begun"`
	// Run is drawn for each run of the rules, Part counts its files from 1: a file
	// goes on where the one before of the same run ended.
	Run  string `json:"run"`
	Part int    `json:"part"`
	// Tags are the tags that the rules used, as "device/tag", each with the words of
	// its drivers.Plan.Reads; empty in files of programs that did not note them, and
	// where they are more than fit.
	Tags map[string]string `json:"tags,omitempty"`
}

// Follows reports whether h goes on exactly where before ended.
func (h Head) Follows(before Head) bool {
	return h.Machine == before.Machine && h.Run == before.Run && h.Part == before.Part+1
}

// inputName names the type of an input in a file.
func inputName(in plant.Input) string { return reflect.TypeOf(in).Name() }

// encodeInput returns an input that is written as JSON.
func encodeInput(in plant.Input) (name string, data []byte, err error) {
	data, err = json.Marshal(in)
	return inputName(in), data, err
}
