package modbus

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// point is a tag made ready for reading: all that decoding needs.
type point struct {
	tag      plant.TagID
	table    Table
	start    int // first register or bit
	width    int // registers or bits
	kind     plant.TagType
	order    WordOrder
	bit      int // of a register; -1 for none
	scaled   bool
	scale    plant.Decimal
	offset   plant.Decimal
	writable bool
	// at and own are where the number itself lies in the registers that are read.
	at, own int
	bits    BitRange
	bcd     bool
	// high says that an 8-bit number is the high byte.
	high bool
	// decimals and negative are bits of the register behind so many; nil for none.
	decimals, negative *part
	// every is how often it is read, 0 for each time.
	every time.Duration
	trim  string
	// s7 says that a text begins with its maximum and its actual length.
	s7 bool

	// The last text and the bytes it came from: an order number that stays
	// costs no allocation.
	lastRaw  []byte
	lastText plant.Value
}

// part is some bits of a register beside the number, counted from the first that
// is read.
type part struct {
	at   int
	bits BitRange
}

func newPart(p *Place, from int) *part {
	if p.none() {
		return nil
	}
	return &part{at: int(p.address.Number) - from, bits: p.bits}
}

func (p *part) of(raw []byte) uint64 { return p.bits.of(uint64(binary.BigEndian.Uint16(raw[2*p.at:]))) }

func newPoint(name string, t Tag, fallback WordOrder) *point {
	low, high := t.reach()
	p := &point{
		tag: plant.TagID(name), table: t.Address.Table,
		start: low, width: high - low, at: int(t.Address.Number) - low, own: t.registers(),
		bits: t.Bits, bcd: t.Type&bcd != 0, high: t.Byte == "high", every: t.Every.Std(), trim: t.Trim,
		decimals: newPart(t.Decimals, low), negative: newPart(t.Negative, low), scaled: t.composed(),
		kind: t.kind(), order: t.WordOrder.or(fallback), bit: -1,
		scale: plant.WholeDecimal(1), writable: t.Writable, s7: t.Text == s7Text,
	}
	if n, ok := t.bit(); ok {
		p.bit = n
	}
	if t.Scale != nil {
		p.scaled, p.scale = true, t.Scale.Decimal
	}
	if t.Offset != nil {
		p.scaled, p.offset = true, t.Offset.Decimal
	}
	return p
}

// end is the first address behind the point.
func (p *point) end() int { return p.start + p.width }

// decodeBit takes a bit out of an answer to FC 1 or 2 that starts at base.
func (p *point) decodeBit(answer []byte, base int) plant.Value {
	i := p.start - base
	return plant.BoolValue(answer[i/8]>>(i%8)&1 == 1)
}

// decode turns the point's own registers into a value, or says why it cannot.
func (p *point) decode(all []byte) (v plant.Value, cause string) {
	raw := all[2*p.at : 2*(p.at+p.own)]
	switch p.kind {
	case plant.TypeBool:
		u := p.order.join(raw)
		if p.bit >= 0 {
			u = u >> p.bit & 1
		}
		return plant.BoolValue(u != 0), ""
	case plant.TypeString:
		return p.decodeText(raw)
	case plant.TypeFloat32:
		u := uint32(p.order.join(raw))
		return p.decodeFloat(float64(math.Float32frombits(u)), uint64(u))
	case plant.TypeFloat64:
		u := p.order.join(raw)
		return p.decodeFloat(math.Float64frombits(u), u)
	case plant.TypeInt8, plant.TypeUint8:
		u := p.order.join(raw)
		if p.high {
			u >>= 8
		}
		return p.decodeWhole(u & 0xFF)
	default:
		return p.decodeNumber(p.order.join(raw), all)
	}
}

// decodeNumber is decodeWhole for numbers of which a part stands elsewhere.
func (p *point) decodeNumber(u uint64, all []byte) (plant.Value, string) {
	if p.bcd {
		digits, ok := fromBCD(u, 4*p.own)
		if !ok {
			return plant.Value{}, fmt.Sprintf("the registers hold 0x%0*X, which is no BCD: check the type", 4*p.own, u)
		}
		u = digits
	}
	u = p.bits.of(u)
	if p.decimals == nil && p.negative == nil {
		return p.decodeWhole(u)
	}
	i := int64(u)
	if p.kind.Signed() {
		shift := 64 - p.kind.Bits()
		i = int64(u<<shift) >> shift
	} else if i < 0 {
		return plant.Value{}, fmt.Sprintf("the number %d is too large to be scaled", u)
	}
	if p.negative != nil && p.negative.of(all) != 0 {
		i = -i
	}
	d := plant.WholeDecimal(i)
	if p.decimals != nil {
		n := p.decimals.of(all)
		if n > maxDecimals {
			return plant.Value{}, fmt.Sprintf("the device says that the number has %d decimals: check the address of decimals", n)
		}
		d.Scale = uint8(n)
	}
	return p.scaleDecimal(d, i)
}

// maxDecimals is more than any scale shows.
const maxDecimals = 9

// fromBCD reads decimal digits, four bits each; ok is false if one is none.
func fromBCD(u uint64, digits int) (n uint64, ok bool) {
	for i := digits - 1; i >= 0; i-- {
		digit := u >> (4 * i) & 0xF
		if digit > 9 {
			return 0, false
		}
		n = 10*n + digit
	}
	return n, true
}

// toBCD is the reverse of fromBCD; ok is false if n has more digits.
func toBCD(n uint64, digits int) (u uint64, ok bool) {
	for i := range digits {
		u |= n % 10 << (4 * i)
		n /= 10
	}
	return u, n == 0
}

// join puts registers together to one number, most significant byte first.
func (o WordOrder) join(raw []byte) uint64 {
	var u uint64
	last := len(raw) - 2
	for i := 0; i <= last; i += 2 {
		at := i
		if o.lowWordFirst() {
			at = last - i
		}
		high, low := raw[at], raw[at+1]
		if o.bytesSwapped() {
			high, low = low, high
		}
		u = u<<16 | uint64(high)<<8 | uint64(low)
	}
	return u
}

// split is the reverse of join.
func (o WordOrder) split(u uint64, registers int) []byte {
	raw := make([]byte, 2*registers)
	last := len(raw) - 2
	for i := last; i >= 0; i -= 2 {
		at := i
		if o.lowWordFirst() {
			at = last - i
		}
		high, low := byte(u>>8), byte(u)
		if o.bytesSwapped() {
			high, low = low, high
		}
		raw[at], raw[at+1] = high, low
		u >>= 16
	}
	return raw
}

func (p *point) decodeWhole(u uint64) (plant.Value, string) {
	if p.kind.Signed() {
		shift := 64 - p.kind.Bits()
		i := int64(u<<shift) >> shift
		if !p.scaled {
			return plant.IntValue(i), ""
		}
		return p.scaleWhole(i)
	}
	if !p.scaled {
		return plant.UintValue(u), ""
	}
	if u > math.MaxInt64 {
		return plant.Value{}, fmt.Sprintf("the number %d is too large to be scaled", u)
	}
	return p.scaleWhole(int64(u))
}

func (p *point) scaleWhole(i int64) (plant.Value, string) {
	return p.scaleDecimal(plant.WholeDecimal(i), i)
}

func (p *point) scaleDecimal(d plant.Decimal, i int64) (plant.Value, string) {
	d, err := d.Mul(p.scale)
	if err == nil {
		d, err = d.Add(p.offset)
	}
	if err != nil {
		return plant.Value{}, fmt.Sprintf("the number %d is too large to be scaled", i)
	}
	return plant.ExactValue(d), ""
}

func (p *point) decodeFloat(f float64, raw uint64) (plant.Value, string) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return plant.Value{}, fmt.Sprintf("not a number (registers hold 0x%0*X): the device has no value, or the word order is wrong", 4*p.width, raw)
	}
	if p.scaled {
		f = f*p.scale.Float() + p.offset.Float()
		if math.IsInf(f, 0) {
			return plant.Value{}, "the number is too large to be scaled"
		}
	}
	return plant.FloatValue(f), ""
}

// decodeText reads ASCII or ISO 8859-1 up to the first NUL, without the spaces
// that pad it. The last character of ISO 8859-1, 0xFF, is refused: it is what
// memory holds that was never written, and hardly ever a letter. Only the byte order matters for text, not the word order.
func (p *point) decodeText(raw []byte) (plant.Value, string) {
	if p.lastRaw != nil && bytes.Equal(raw, p.lastRaw) {
		return p.lastText, ""
	}
	text := make([]rune, 0, len(raw))
	first, end := 0, len(raw)
	if p.s7 {
		var cause string
		if first, end, cause = p.s7Bounds(raw); cause != "" {
			return plant.Value{}, cause
		}
	}
	for i := first; i < end; i++ {
		c := p.char(raw, i)
		if c == 0 {
			break
		}
		if c < ' ' || c >= 0x7F && c < 0xA0 || c == 0xFF {
			return plant.Value{}, fmt.Sprintf("byte %d of the text is 0x%02X, which is no character", i+1, c)
		}
		text = append(text, rune(c))
	}
	for p.trim != "none" && len(text) > 0 && text[len(text)-1] == ' ' {
		text = text[:len(text)-1]
	}
	for p.trim == "both" && len(text) > 0 && text[0] == ' ' {
		text = text[1:]
	}
	p.lastRaw = append(p.lastRaw[:0], raw...)
	p.lastText = plant.TextValue(string(text))
	return p.lastText, ""
}

// s7Text is how S7 stores a STRING: a byte with the maximum length, one with the
// actual length, then the characters (Siemens, "Format of the data type STRING").
const s7Text = "s7"

// s7Bounds returns where the characters of an S7 string are, or why it is none.
func (p *point) s7Bounds(raw []byte) (first, end int, cause string) {
	most, length := int(p.char(raw, 0)), int(p.char(raw, 1))
	switch {
	case length > most || most > 254:
		return 0, 0, fmt.Sprintf("it begins with the lengths %d and %d, which no S7 string has", most, length)
	case length > len(raw)-2:
		return 0, 0, fmt.Sprintf("the string has %d characters, the tag room for %d", length, len(raw)-2)
	}
	return 2, 2 + length, ""
}

// char returns a character in the order of the text.
func (p *point) char(raw []byte, i int) byte {
	if p.order.bytesSwapped() {
		i ^= 1
	}
	return raw[i]
}

// encode turns a value into the point's registers, in reverse of decode. It
// refuses what the registers cannot hold exactly, rather than round.
func (p *point) encode(v plant.Value) ([]byte, error) {
	switch p.kind {
	case plant.TypeBool:
		b, ok := v.Bool()
		if !ok {
			return nil, fmt.Errorf("%q is no truth value", v)
		}
		if b {
			return p.order.split(1, 1), nil
		}
		return p.order.split(0, 1), nil
	case plant.TypeString:
		return p.encodeText(v.Text())
	case plant.TypeFloat32, plant.TypeFloat64:
		return p.encodeFloat(v)
	default:
		return p.encodeWhole(v)
	}
}

func (p *point) encodeWhole(v plant.Value) ([]byte, error) {
	if v.Type() == plant.Uint && p.kind == plant.TypeUint64 && !p.scaled {
		u, err := strconv.ParseUint(v.Text(), 10, 64)
		return p.order.split(u, p.width), err
	}
	bits := p.kind.Bits()
	i, ok := v.Int()
	if p.scaled {
		i, ok = p.unscale(v)
	}
	if !ok {
		return nil, fmt.Errorf("%v is no whole number of the device", v)
	}
	if p.bcd {
		u, ok := toBCD(uint64(max(i, 0)), 4*p.width)
		if !ok || i < 0 {
			return nil, fmt.Errorf("%v does not fit %d BCD digits", v, 4*p.width)
		}
		return p.order.split(u, p.width), nil
	}
	fits := i >= 0 && (bits == 64 || i < 1<<bits)
	if p.kind.Signed() {
		limit := int64(1) << (bits - 1) // wraps to the minimum for 64 bits
		fits = bits == 64 || i >= -limit && i < limit
	}
	if !fits {
		return nil, fmt.Errorf("%v does not fit %s", v, p.kind)
	}
	return p.order.split(uint64(i), p.width), nil
}

// unscale finds the raw number that decode would turn into v.
func (p *point) unscale(v plant.Value) (raw int64, ok bool) {
	d, ok := v.Decimal()
	if !ok {
		return 0, false
	}
	d, err := d.Sub(p.offset)
	if err != nil {
		return 0, false
	}
	return d.Quo(p.scale)
}

func (p *point) encodeFloat(v plant.Value) ([]byte, error) {
	f, ok := v.Float()
	if !ok {
		return nil, fmt.Errorf("%q is no number", v)
	}
	if p.scaled {
		f = (f - p.offset.Float()) / p.scale.Float()
	}
	if p.kind == plant.TypeFloat64 {
		return p.order.split(math.Float64bits(f), p.width), nil
	}
	if math.IsInf(float64(float32(f)), 0) {
		return nil, fmt.Errorf("%v does not fit float32", v)
	}
	return p.order.split(uint64(math.Float32bits(float32(f))), p.width), nil
}

func (p *point) encodeText(s string) ([]byte, error) {
	raw := make([]byte, 0, 2*p.width)
	if p.s7 {
		raw = append(raw, byte(min(2*p.width-2, 254)), 0)
	}
	for _, r := range s {
		if r < ' ' || r >= 0x7F && r < 0xA0 || r > 0xFF {
			return nil, fmt.Errorf("the character %q cannot be written", r)
		}
		raw = append(raw, byte(r))
	}
	if len(raw) > 2*p.width {
		return nil, fmt.Errorf("the text has %d characters, the tag room for %d", len([]rune(s)), 2*p.width-(len(raw)-len([]rune(s))))
	}
	if p.s7 {
		raw[1] = byte(len(raw) - 2)
	}
	raw = append(raw, make([]byte, 2*p.width-len(raw))...)
	if p.order.bytesSwapped() {
		for i := 0; i < len(raw); i += 2 {
			raw[i], raw[i+1] = raw[i+1], raw[i]
		}
	}
	return raw, nil
}
