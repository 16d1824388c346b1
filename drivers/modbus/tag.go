package modbus

import (
	"errors"
	"fmt"
	"strings"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
)

// Tag is one value of a device as a config describes it: the address alone, or
// a mapping, or a row of a CSV file.
type Tag struct {
	Address Address `yaml:"address,required"`
	// Type is uint16 if not given, bool for a bit.
	Type      Type      `yaml:"type"`
	WordOrder WordOrder `yaml:"word_order"`
	// Bit is the bit of a register, 0 the least significant.
	Bit *int `yaml:"bit"`
	// Bits are some bits of a number, 0 the least significant.
	Bits BitRange `yaml:"bits"`
	// Byte is which half of a register an int8 or uint8 is: "low" (the default) or
	// "high".
	Byte string `yaml:"byte"`
	// Length is the length of a string, in registers of two characters.
	Length int `yaml:"length"`
	// Text is how a string is stored: "plain" (the default: it ends at the first
	// NUL) or "s7" (its first two bytes are the maximum and the actual length).
	Text string `yaml:"text"`
	// Trim says where spaces are cut off a string: "end" (the default), "both" or
	// "none".
	Trim string `yaml:"trim"`
	// Count makes an array: Count tags behind each other, named name_0, name_1, …
	Count int `yaml:"count"`
	// Decimals is where the device says how many decimals the number has, Negative
	// the bit that says that it is negative.
	Decimals *Place `yaml:"decimals"`
	Negative *Place `yaml:"negative"`
	// A number is read as raw × Scale + Offset, exactly for whole raw numbers.
	Scale  *config.Number `yaml:"scale"`
	Offset *config.Number `yaml:"offset"`
	// Unit is the unit of the scaled value, for people.
	Unit string `yaml:"unit"`
	// Every is how often the tag is read, a multiple of the device's interval.
	Every config.Duration `yaml:"every"`
	// Writable allows the gateway to write the tag.
	Writable bool `yaml:"writable"`
}

// UnmarshalText reads a tag that is written as its address alone.
func (t *Tag) UnmarshalText(b []byte) error { return t.Address.UnmarshalText(b) }

// bit returns the bit of a register that the tag is; ok is false for none.
func (t *Tag) bit() (n int, ok bool) {
	if t.Bit != nil {
		return *t.Bit, true
	}
	return t.Address.Bit()
}

// kind returns the tag's type at the device.
func (t *Tag) kind() plant.TagType {
	if t.Type != 0 {
		return plant.TagType(t.Type &^ bcd)
	}
	if _, ok := t.bit(); ok || t.Address.Table.bits() {
		return plant.TypeBool
	}
	return plant.TypeUint16
}

// registers returns the tag's width in registers, or 1 for a bit.
func (t *Tag) registers() int {
	switch t.kind() {
	case plant.TypeString:
		return t.Length
	case plant.TypeFloat32:
		return 2
	case plant.TypeFloat64:
		return 4
	default:
		return max(1, t.kind().Bits()/16)
	}
}

// all returns the width of the tag with all its elements, in registers or bits.
func (t *Tag) all() int { return t.registers() * max(1, t.Count) }

// span returns how many registers are read for the tag: its own, and those that
// say something of it.
func (t *Tag) span() int {
	low, high := t.reach()
	return high - low
}

// reach returns the first register that is read for the tag, and the one behind
// the last.
func (t *Tag) reach() (low, high int) {
	low = int(t.Address.Number)
	high = low + t.registers()
	for _, p := range []*Place{t.Decimals, t.Negative} {
		if !p.none() {
			low, high = min(low, int(p.address.Number)), max(high, int(p.address.Number)+1)
		}
	}
	return low, high
}

// whole reports whether the tag has its registers for itself.
func (t *Tag) whole() bool {
	k := t.kind()
	return k != plant.TypeBool && k != plant.TypeInt8 && k != plant.TypeUint8 && t.Bits.count == 0
}

// composed reports whether the number is put together from more than its own
// bits, so that its type's width says nothing of where it begins again.
func (t *Tag) composed() bool {
	return t.Type&bcd != 0 || t.Bits.count > 0 || !t.Decimals.none() || !t.Negative.none()
}

// resolved returns the tag with addresses as they go over the wire.
func (t Tag) resolved(base *int) (Tag, error) {
	var errs []error
	resolve := func(path string, a Address) Address {
		found, err := a.resolve(base)
		if err != nil {
			errs = append(errs, within(path, err))
		}
		return found
	}
	t.Address = resolve("address", t.Address)
	for path, p := range map[string]**Place{"decimals": &t.Decimals, "negative": &t.Negative} {
		if !(*p).none() {
			moved := **p
			moved.address = resolve(path, moved.address)
			*p = &moved
		}
	}
	if len(errs) > 0 {
		return t, errs[0] // one remedy mends them all
	}
	return t, nil
}

// element returns one element of an array. What says something of the array says
// it of each element.
func (t Tag) element(i int) Tag {
	width := t.registers()
	t.Address.Number += uint16(i * width)
	t.Count = 0
	return t
}

// Validate reports everything that is wrong with the tag by itself.
func (t *Tag) Validate() error {
	var errs []error
	fault := func(path, problem, remedy string) { errs = append(errs, config.Field(path, problem, remedy)) }
	kind, table := t.kind(), t.Address.Table
	bit, hasBit := t.bit()
	if n, ok := t.Address.Bit(); ok && t.Bit != nil && *t.Bit != n {
		fault("bit", fmt.Sprintf("the address says bit %d, this says %d", n, *t.Bit), "remove one of the two")
	}
	switch {
	case table.bits() && t.Bit != nil:
		fault("bit", "a "+table.String()+" is one bit already", "remove it")
	case bit < 0 && hasBit || bit > 15:
		fault("bit", fmt.Sprintf("%d is no bit of a register", bit), "write 0 (least significant) to 15")
	case hasBit && kind != plant.TypeBool:
		fault("type", "one bit is no "+kind.String(), "write bool or remove the type")
	case table.bits() && kind != plant.TypeBool:
		fault("type", fmt.Sprintf("a %s is one bit, no %s", table, kind), "write bool or remove the type; numbers live in holding or input registers")
	}
	if table.bits() && t.WordOrder != 0 {
		fault("word_order", "a "+table.String()+" has no word order", "remove it")
	}
	errs = append(errs, t.validateLength(kind), t.validateScale(kind), t.validateWritable(kind, hasBit), t.validateParts(kind, hasBit))
	if end := int(t.Address.Number) + t.all(); end > tableSize {
		fault("address", fmt.Sprintf("the tag ends %d beyond address 65535", end-tableSize), "check the address and the type's width")
	}
	return errors.Join(errs...)
}

func (t *Tag) validateLength(kind plant.TagType) error {
	switch {
	case kind != plant.TypeString && t.Length != 0:
		return config.Field("length", "only a string has a length", "remove it, or write type: string")
	case kind == plant.TypeString && t.Length == 0:
		return config.Field("length", "a string needs a length", "write the number of registers, two characters each")
	case kind != plant.TypeString && t.Text != "":
		return config.Field("text", "only a string is stored as text", "remove it, or write type: string")
	case t.Text != "" && t.Text != "plain" && t.Text != s7Text:
		return config.Unknown("text", "way to store a string", t.Text, []string{"plain", s7Text})
	case t.Text == s7Text && t.Length == 1:
		return config.Field("length", "one register holds only the two lengths of an S7 string", "write the number of registers with them: (maximum length + 2) / 2, rounded up")
	case kind != plant.TypeString && t.Trim != "":
		return config.Field("trim", "only a string is trimmed", "remove it, or write type: string")
	case t.Trim != "" && t.Trim != "end" && t.Trim != "both" && t.Trim != "none":
		return config.Unknown("trim", "way to trim", t.Trim, []string{"end", "both", "none"})
	case kind == plant.TypeString && (t.Length < 0 || t.Length > maxReadRegisters):
		return config.Field("length", fmt.Sprintf("%d registers are not possible", t.Length), "write 1 to 125 registers, two characters each")
	default:
		return nil
	}
}

func (t *Tag) validateScale(kind plant.TagType) error {
	var errs []error
	if !kind.Numeric() {
		for _, f := range []struct {
			name  string
			value *config.Number
		}{{"scale", t.Scale}, {"offset", t.Offset}} {
			if f.value != nil {
				errs = append(errs, config.Field(f.name, "only a number can be scaled, not a "+kind.String(), "remove it"))
			}
		}
	}
	if t.Scale != nil && t.Scale.IsZero() {
		errs = append(errs, config.Field("scale", "times 0 every value is the same", "write the factor from the raw number to the value, for example 0.1"))
	}
	return errors.Join(errs...)
}

// maxCount bounds an array.
const maxCount = 1000

// validateParts checks what makes a number of more, or of less, than registers.
func (t *Tag) validateParts(kind plant.TagType, hasBit bool) error {
	var errs []error
	fault := func(path, problem, remedy string) { errs = append(errs, config.Field(path, problem, remedy)) }
	whole := kind.Bits() > 0
	switch {
	case t.Bits.count > 0 && (!whole || hasBit || kind.Bits() == 8):
		fault("bits", "only a whole number has bits to choose", "write type: uint16, or bit: for one bit")
	case t.Bits.end() > kind.Bits() && t.Bits.count > 0:
		fault("bits", fmt.Sprintf("%s has the bits 0 to %d", kind, kind.Bits()-1), "write a wider type, or other bits")
	case t.Bits.count > 0 && (kind.Signed() || t.Type&bcd != 0):
		fault("bits", "some bits of a number have no sign and are no BCD", "write type: uint16 or uint32")
	}
	switch {
	case t.Byte != "" && kind.Bits() != 8:
		fault("byte", "only an int8 or uint8 is half of a register", "remove it, or write type: uint8")
	case t.Byte != "" && t.Byte != "low" && t.Byte != "high":
		errs = append(errs, config.Unknown("byte", "half of a register", t.Byte, []string{"low", "high"}))
	}
	if t.Count < 0 || t.Count > maxCount {
		fault("count", fmt.Sprintf("an array of %d elements is not possible", t.Count), fmt.Sprintf("write 1 to %d", maxCount))
	}
	if t.Count > 1 && hasBit {
		fault("count", "one bit of a register is no array", "write type: uint16, or a coil")
	}
	for _, p := range []struct {
		path  string
		place *Place
		fits  bool
	}{{"decimals", t.Decimals, true}, {"negative", t.Negative, t.Negative.none() || t.Negative.bits.count == 1}} {
		switch {
		case p.place.none():
		case !whole:
			fault(p.path, "only a whole number has "+p.path+" elsewhere", "remove it, or write a whole number as type")
		case p.path == "negative" && kind.Signed():
			fault(p.path, "the type has a sign of its own", "write uint16, uint32 or uint64")
		case !p.fits:
			fault(p.path, "the sign is one bit", "write the register and the bit, for example holding:1.7")
		case p.place.address.Table != t.Address.Table:
			fault(p.path, fmt.Sprintf("it is in the %s table, the number in the %s table: they cannot be read in one request", p.place.address.Table, t.Address.Table), "use the register of the same table")
		case t.span() > maxReadRegisters:
			fault(p.path, fmt.Sprintf("it is %d registers away: they cannot be read in one request", t.span()), "use a register nearby")
		}
	}
	return errors.Join(errs...)
}

func (t *Tag) validateWritable(kind plant.TagType, hasBit bool) error {
	switch {
	case !t.Writable:
		return nil
	case t.Address.Table == Input || t.Address.Table == Discrete:
		return config.Field("writable", fmt.Sprintf("nothing can be written to the %s table", t.Address.Table), "use a holding register or a coil, or remove it")
	case t.Bits.count > 0 || !t.Decimals.none() || !t.Negative.none() || kind.Bits() == 8:
		return config.Field("writable", "only a part of the register is the tag's: writing it would overwrite the rest", "let the PLC offer a register of its own")
	case hasBit:
		return config.Field("writable", "one bit of a register cannot be written without overwriting its neighbours", "let the PLC offer a coil or a register of its own")
	case kind == plant.TypeString && t.Length > maxWriteRegisters:
		return config.Field("writable", fmt.Sprintf("one request writes %d registers at most", maxWriteRegisters), "shorten the string or remove it")
	default:
		return nil
	}
}

// Type is the type of a tag at the device; 0 if the config names none.
type Type plant.TagType

// bcd marks a type whose nibbles are decimal digits.
const bcd Type = 0x80

// The names of IEC 61131-3 beside our own, as PLC programmers write them.
var typeNames = map[string]plant.TagType{
	"bit": plant.TypeBool, "int": plant.TypeInt16, "uint": plant.TypeUint16, "word": plant.TypeUint16,
	"dint": plant.TypeInt32, "udint": plant.TypeUint32, "dword": plant.TypeUint32,
	"lint": plant.TypeInt64, "ulint": plant.TypeUint64, "lword": plant.TypeUint64,
	"real": plant.TypeFloat32, "lreal": plant.TypeFloat64,
	"sint": plant.TypeInt8, "usint": plant.TypeUint8, "byte": plant.TypeUint8,
}

// bcdTypes are numbers of four decimal digits a register.
var bcdTypes = map[string]plant.TagType{"bcd": plant.TypeUint16, "bcd16": plant.TypeUint16, "bcd32": plant.TypeUint32, "bcd64": plant.TypeUint64}

// UnmarshalText reads "bool", "int16", …, "float64", "string", or a name of
// IEC 61131-3 such as "DINT".
func (t *Type) UnmarshalText(b []byte) error {
	name := strings.ToLower(strings.TrimSpace(string(b)))
	kind, ok := plant.ParseTagType(name)
	if !ok {
		kind, ok = typeNames[name]
	}
	if !ok && bcdTypes[name] != 0 {
		*t = Type(bcdTypes[name]) | bcd
		return nil
	}
	if !ok {
		return config.Field("", fmt.Sprintf("`%s` is no type of a Modbus tag", b), "write bool, int8, uint8, int16, uint16, int32, uint32, int64, uint64, float32, float64, bcd16, bcd32, bcd64 or string")
	}
	*t = Type(kind)
	return nil
}
