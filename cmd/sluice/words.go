package main

import (
	"encoding/binary"
	"math"
	"slices"
	"strconv"
	"strings"
)

// meaning is what some registers would be, read in one way.
type meaning struct {
	// Order is the word order by our name, Letters by its letters.
	Order   string `json:"order"`
	Letters string `json:"letters"`
	Type    string `json:"type"`
	Value   string `json:"value"`
	// Plausible says that it looks like a number of a plant: neither tiny nor huge.
	Plausible bool `json:"plausible"`
}

// orders are the ways in which wide numbers are stored, as a config names them.
var orders = []struct {
	name, letters string
	words, bytes  bool // the words are turned round, the bytes of each word are
}{
	{"big", "ABCD", false, false}, {"word_swapped", "CDAB", true, false},
	{"byte_swapped", "BADC", false, true}, {"little", "DCBA", true, true},
}

// meanings reads raw, the bytes of one, two or four registers as they came, in
// every type and order.
func meanings(raw []byte) (all []meaning) {
	for _, o := range orders {
		if len(raw) == 2 && o.words {
			continue // a single register has no order of words
		}
		b := slices.Clone(raw)
		if o.words {
			for i, j := 0, len(b)-2; i < j; i, j = i+2, j-2 {
				b[i], b[i+1], b[j], b[j+1] = b[j], b[j+1], b[i], b[i+1]
			}
		}
		if o.bytes {
			for i := 0; i+1 < len(b); i += 2 {
				b[i], b[i+1] = b[i+1], b[i]
			}
		}
		add := func(kind, value string, plausible bool) {
			all = append(all, meaning{Order: o.name, Letters: o.letters, Type: kind, Value: value, Plausible: plausible})
		}
		var u uint64
		var i int64
		bits := strconv.Itoa(8 * len(b))
		switch len(b) {
		case 2:
			u = uint64(binary.BigEndian.Uint16(b))
			i = int64(int16(u))
		case 4:
			u = uint64(binary.BigEndian.Uint32(b))
			i = int64(int32(u))
		case 8:
			u = binary.BigEndian.Uint64(b)
			i = int64(u)
		default:
			return nil
		}
		add("uint"+bits, strconv.FormatUint(u, 10), u <= mostLikely)
		if i < 0 { // else it is the same number
			add("int"+bits, strconv.FormatInt(i, 10), -i > 0 && -i <= mostLikely)
		}
		switch len(b) {
		case 4:
			f := math.Float32frombits(uint32(u))
			add("float32", strconv.FormatFloat(float64(f), 'g', -1, 32), likely(float64(f)))
		case 8:
			f := math.Float64frombits(u)
			add("float64", strconv.FormatFloat(f, 'g', -1, 64), likely(f))
		}
		if text, ok := printable(b); ok && !o.words {
			add("string", strconv.Quote(text), true)
		}
	}
	return all
}

// mostLikely is above nearly all that a machine counts or weighs, leastLikely
// below what a measurement is worth.
const mostLikely, leastLikely = 10_000_000, 0.0001

func likely(f float64) bool {
	a := math.Abs(f)
	return f == 0 || a >= leastLikely && a <= mostLikely
}

// printable returns bytes as text if they are some: letters, digits, signs, up to
// the padding.
func printable(b []byte) (text string, ok bool) {
	text = strings.TrimRight(string(b), "\x00 ")
	if len(text) < 2 {
		return "", false
	}
	for _, c := range []byte(text) {
		if c < ' ' || c > '~' {
			return "", false
		}
	}
	return text, true
}
