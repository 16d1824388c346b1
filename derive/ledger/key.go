package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"

	"github.com/sluice-edge/sluice/plant"
)

// The rows of the books. A key is a letter and fields of a length byte and that
// many bytes; numbers have 8 bytes, big-endian, so that rows sort by them.
const (
	rowHead    = 'h' // machine: head
	rowDay     = 'd' // machine, day: when and with which event it began
	rowStock   = 's' // machine, component, lot, location, unit: stock
	rowOpening = 'o' // machine, day, component, lot, location, unit: the stock before it changed first that day
	rowUse     = 'u' // machine, day, hour, component, unit, order, lot, purpose: use
)

// maxField bounds a field of a key; a longer text keeps its beginning and is
// told from others by a hash.
const maxField = 120

func appendText(dst []byte, s string) []byte {
	if len(s) > maxField {
		sum := sha256.Sum256([]byte(s))
		s = s[:maxField-20] + "…" + hex.EncodeToString(sum[:8])
	}
	return append(append(dst, byte(len(s))), s...)
}

func appendNumber(dst []byte, n uint64) []byte { return binary.BigEndian.AppendUint64(dst, n) }

// prefix is what all rows of a sort begin with, of one machine if it is named.
func prefix(row byte, m plant.MachineID) []byte {
	key := []byte{row}
	if m != "" {
		key = appendText(key, string(m))
	}
	return key
}

// place is where a stock lies.
type place struct{ component, lot, location, unit string }

func (p place) append(dst []byte) []byte {
	for _, s := range []string{p.component, p.lot, p.location, p.unit} {
		dst = appendText(dst, s)
	}
	return dst
}

func stockKey(m plant.MachineID, p place) string { return string(p.append(prefix(rowStock, m))) }

func dayKey(row byte, m plant.MachineID, day uint64) []byte { return appendNumber(prefix(row, m), day) }

func openingKey(m plant.MachineID, day uint64, p place) string {
	return string(p.append(dayKey(rowOpening, m, day)))
}

// useOf is what was consumed together: one row of use.
type useOf struct {
	hour                                 int64
	component, unit, order, lot, purpose string
}

func useKey(m plant.MachineID, day uint64, u useOf) string {
	key := appendNumber(dayKey(rowUse, m, day), uint64(u.hour))
	for _, s := range []string{u.component, u.unit, u.order, u.lot, u.purpose} {
		key = appendText(key, s)
	}
	return string(key)
}

var errKey = errors.New("the key is none of the ledger's")

// parser takes a key apart.
type parser struct {
	rest []byte
	bad  bool
}

func (p *parser) text() string {
	if p.bad || len(p.rest) == 0 || int(p.rest[0]) > len(p.rest)-1 {
		p.bad = true
		return ""
	}
	n := int(p.rest[0])
	s := string(p.rest[1 : 1+n])
	p.rest = p.rest[1+n:]
	return s
}

func (p *parser) number() uint64 {
	if p.bad || len(p.rest) < 8 {
		p.bad = true
		return 0
	}
	n := binary.BigEndian.Uint64(p.rest)
	p.rest = p.rest[8:]
	return n
}

func (p *parser) place() place {
	return place{component: p.text(), lot: p.text(), location: p.text(), unit: p.text()}
}

// end reports a key that has too little or too much.
func (p *parser) end() error {
	if p.bad || len(p.rest) > 0 {
		return errKey
	}
	return nil
}
