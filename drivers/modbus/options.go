package modbus

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/plant"
)

// Limits of the protocol (Modbus Application Protocol Specification V1.1b3,
// chapter 6).
const (
	maxReadRegisters  = 125
	maxReadBits       = 2000
	maxWriteRegisters = 123
	tableSize         = 1 << 16
)

// Options are a Modbus device as a config describes it: with a connection of its
// own, or on a line.
type Options struct {
	Endpoint Endpoint `yaml:"endpoint"`
	// Line is the name of an entry of "lines:", instead of Endpoint.
	Line string `yaml:"line"`
	// Unit is the unit id (slave address). Many devices ignore it on TCP; on a line
	// and at a gateway it chooses the device.
	Unit int `yaml:"unit"`
	// Interval is the time from poll to poll, Timeout what one request may take.
	Interval config.Duration `yaml:"interval"`
	Timeout  config.Duration `yaml:"timeout"`
	// Pause comes before each request, for devices that need a rest.
	Pause config.Duration `yaml:"pause"`
	// MaxConnections is how many connections the device takes, 0 if not known.
	MaxConnections int `yaml:"max_connections"`
	// Bind is the network card that the device is reached over.
	Bind drivers.Bind `yaml:"bind"`
	// WordOrder is the order of the registers of numbers wider than one.
	WordOrder WordOrder `yaml:"word_order"`
	// MaxRegisters is how many registers one request may ask for.
	MaxRegisters int `yaml:"max_registers"`
	// MaxGap is how many registers nobody asked for may be read over to save a
	// request.
	MaxGap int               `yaml:"max_gap"`
	Tags   config.Table[Tag] `yaml:"tags,required"`
}

func defaults() Options {
	return Options{
		Unit: 1, Interval: config.Duration(time.Second), Timeout: config.Duration(time.Second),
		WordOrder: ABCD, MaxRegisters: maxReadRegisters, MaxGap: 8,
	}
}

// Validate reports everything that is wrong with the device as a whole; each
// Tag reports for itself.
func (o *Options) Validate() error {
	var errs []error
	fault := func(path, problem, remedy string) { errs = append(errs, config.Field(path, problem, remedy)) }
	errs = append(errs, o.validateWay())
	if o.Unit < 0 || o.Unit > 247 && o.Unit != 255 {
		fault("unit", fmt.Sprintf("%d is no unit id", o.Unit), "write 0 to 247, or 255 for a device that wants it")
	}
	if o.Interval <= 0 {
		fault("interval", "it is 0", "write the time between two polls, for example 1s")
	}
	if o.Timeout <= 0 {
		fault("timeout", "it is 0", "write how long the device may take for one answer, for example 1s")
	}
	if o.MaxRegisters < 1 || o.MaxRegisters > maxReadRegisters {
		fault("max_registers", fmt.Sprintf("%d registers in one request are not possible", o.MaxRegisters), "write 1 to 125, as the device's manual says")
	}
	if o.MaxGap < 0 || o.MaxGap > maxReadRegisters {
		fault("max_gap", fmt.Sprintf("%d is out of range", o.MaxGap), "write 0 to 125; 0 where a register without a meaning must not be read")
	}
	if len(o.Tags.Rows) == 0 {
		fault("tags", "the device has no tags", "name at least one, for example made: holding:100")
	}
	for _, row := range o.Tags.Rows {
		if n := row.Value.registers(); n > o.MaxRegisters && !row.Value.Address.Table.bits() && n <= maxReadRegisters {
			fault("tags."+row.Name, fmt.Sprintf("it is %d registers wide, one request may ask for %d", n, o.MaxRegisters),
				"raise max_registers if the device allows it: a value read in two requests may be torn")
		}
	}
	return errors.Join(append(errs, o.overlaps()...)...)
}

// validateWay reports what is wrong with the way to the device.
func (o *Options) validateWay() error {
	var errs []error
	fault := func(path, problem, remedy string) { errs = append(errs, config.Field(path, problem, remedy)) }
	switch {
	case o.Endpoint == "" && o.Line == "":
		fault("", "the device has neither an endpoint nor a line", "write endpoint: 10.0.0.7:502, or line: with the name of an entry of lines")
	case o.Endpoint != "" && o.Line != "":
		fault("line", "the device has an endpoint and a line", "remove one of the two")
	case o.Line != "" && o.Bind != "":
		fault("bind", "the line says which network card is used", "write bind at the line")
	case o.Line != "" && o.MaxConnections != 0:
		fault("max_connections", "the devices of a line share one connection", "remove it")
	}
	if o.MaxConnections < 0 {
		fault("max_connections", fmt.Sprintf("%d connections are not possible", o.MaxConnections), "write how many the device takes, or remove it")
	}
	if o.Pause > longestRest {
		fault("pause", fmt.Sprintf("%v before each request is too long", o.Pause.Std()), "write at most 10s; 20ms is usual where one is needed at all")
	}
	return errors.Join(errs...)
}

// place is where the device is, for people.
func (o *Options) place() string {
	if o.Line != "" {
		return fmt.Sprintf("line %s, unit %d", o.Line, o.Unit)
	}
	return string(o.Endpoint)
}

// others is how many requests of other units a Read on a line may have to wait
// for, roughly: it only bounds what never ends.
func (o *Options) others() int {
	if o.Line == "" {
		return 0
	}
	return maxUnits
}

// maxUnits is how many units a line can have (MODBUS over Serial Line V1.02, 2.2).
const maxUnits = 247

// overlaps warns of tags that share registers, since that is how a table looks
// of which a row was copied and only half of it changed. Bits are left out:
// they share their register with each other, and with the word they are in, on
// purpose.
func (o *Options) overlaps() (warnings []error) {
	var words []int
	for i, row := range o.Tags.Rows {
		if t := row.Value.Address.Table; (t == Input || t == Holding) && row.Value.kind() != plant.TypeBool {
			words = append(words, i)
		}
	}
	at := func(i int) Address { return o.Tags.Rows[i].Value.Address }
	end := func(i int) int { return int(at(i).Number) + o.Tags.Rows[i].Value.registers() }
	slices.SortStableFunc(words, func(a, b int) int {
		return cmp.Or(cmp.Compare(at(a).Table, at(b).Table), cmp.Compare(at(a).Number, at(b).Number))
	})
	reach := 0 // the one of those before that reaches furthest
	for i, this := range words {
		before := words[reach]
		if i > 0 && at(before).Table == at(this).Table && end(before) > int(at(this).Number) {
			warnings = append(warnings, o.shared(min(before, this), max(before, this)))
		}
		if at(before).Table != at(this).Table || end(this) > end(before) {
			reach = i
		}
	}
	return warnings
}

// shared is the warning of two rows with registers in common.
func (o *Options) shared(first, second int) error {
	a, b := &o.Tags.Rows[first], &o.Tags.Rows[second]
	problem := fmt.Sprintf("it shares registers with the tag `%s` on line %d: %s and %s", a.Name, a.At.Line, a.Value.span(), b.Value.span())
	if a.Value.Address == b.Value.Address && a.Value.registers() == b.Value.registers() {
		problem = fmt.Sprintf("it is at the same address as the tag `%s` on line %d: %s", a.Name, a.At.Line, a.Value.span())
	}
	return config.Warn("tags."+b.Name, problem, "check both against the PLC's list: one of the two addresses or types is probably wrong")
}

// span names the registers of a tag.
func (t *Tag) span() string {
	text := fmt.Sprintf("%s:%d", t.Address.Table, t.Address.Number)
	if n := t.registers(); n > 1 {
		text += fmt.Sprintf(" to %d", int(t.Address.Number)+n-1)
	}
	return text
}

// Endpoint is host:port of a device.
type Endpoint string

// UnmarshalText accepts "10.0.0.7", "10.0.0.7:502", "tcp://10.0.0.7:502".
func (e *Endpoint) UnmarshalText(b []byte) error {
	if at := bytes.LastIndexByte(b, '@'); at >= 0 {
		// What is before it may be a password: it is not repeated.
		return config.Field("", fmt.Sprintf("`…%s` has a user before the @, but Modbus knows none", b[at:]), "write host:port alone, for example 10.0.0.7:502")
	}
	s := strings.TrimPrefix(strings.TrimSpace(string(b)), "tcp://")
	bad := func(problem string) error {
		return config.Field("", fmt.Sprintf("`%s` %s", b, problem), "write host:port, for example 10.0.0.7:502")
	}
	if scheme, _, ok := strings.Cut(s, "://"); ok {
		return config.Field("", fmt.Sprintf("`%s` is not supported", scheme), "this driver speaks Modbus TCP only: write host:port")
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		// Without a port, or an IPv6 address without brackets.
		if host, port, err = net.SplitHostPort(net.JoinHostPort(strings.Trim(s, "[]"), "502")); err != nil || strings.Contains(host, ":") && net.ParseIP(host) == nil {
			return bad("is no host and port")
		}
	}
	if problem := config.HostProblem(host); problem != "" {
		return bad(problem)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return bad("has no port from 1 to 65535")
	}
	*e = Endpoint(net.JoinHostPort(host, port))
	return nil
}

// Tag is one value of a device as a config describes it: the address alone, or
// a mapping, or a row of a CSV file.
type Tag struct {
	Address Address `yaml:"address,required"`
	// Type is uint16 if not given, bool for a bit.
	Type      Type      `yaml:"type"`
	WordOrder WordOrder `yaml:"word_order"`
	// Bit is the bit of a register, 0 the least significant.
	Bit *int `yaml:"bit"`
	// Length is the length of a string, in registers of two characters.
	Length int `yaml:"length"`
	// Text is how a string is stored: "plain" (the default: it ends at the first
	// NUL) or "s7" (its first two bytes are the maximum and the actual length).
	Text string `yaml:"text"`
	// A number is read as raw × Scale + Offset, exactly for whole raw numbers.
	Scale  *config.Number `yaml:"scale"`
	Offset *config.Number `yaml:"offset"`
	// Unit is the unit of the scaled value, for people.
	Unit string `yaml:"unit"`
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
		return plant.TagType(t.Type)
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
	errs = append(errs, t.validateLength(kind), t.validateScale(kind), t.validateWritable(kind, hasBit))
	if end := int(t.Address.Number) + t.registers(); end > tableSize {
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

func (t *Tag) validateWritable(kind plant.TagType, hasBit bool) error {
	switch {
	case !t.Writable:
		return nil
	case t.Address.Table == Input || t.Address.Table == Discrete:
		return config.Field("writable", fmt.Sprintf("nothing can be written to the %s table", t.Address.Table), "use a holding register or a coil, or remove it")
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

// The names of IEC 61131-3 beside our own, as PLC programmers write them.
var typeNames = map[string]plant.TagType{
	"bit": plant.TypeBool, "int": plant.TypeInt16, "uint": plant.TypeUint16, "word": plant.TypeUint16,
	"dint": plant.TypeInt32, "udint": plant.TypeUint32, "dword": plant.TypeUint32,
	"lint": plant.TypeInt64, "ulint": plant.TypeUint64, "lword": plant.TypeUint64,
	"real": plant.TypeFloat32, "lreal": plant.TypeFloat64,
}

// UnmarshalText reads "bool", "int16", …, "float64", "string", or a name of
// IEC 61131-3 such as "DINT".
func (t *Type) UnmarshalText(b []byte) error {
	name := strings.ToLower(strings.TrimSpace(string(b)))
	kind, ok := plant.ParseTagType(name)
	if !ok {
		kind, ok = typeNames[name]
	}
	if !ok || kind == plant.TypeInt8 || kind == plant.TypeUint8 {
		return config.Field("", fmt.Sprintf("`%s` is no type of a Modbus tag", b), "write bool, int16, uint16, int32, uint32, int64, uint64, float32, float64 or string")
	}
	*t = Type(kind)
	return nil
}

// WordOrder says how the registers of a wide number, and the bytes in a
// register, are ordered. A is the most significant byte.
type WordOrder uint8

// The word orders. 0 stands for the device's.
const (
	ABCD WordOrder = iota + 1 // big: the high word at the lower address
	CDAB                      // the low word at the lower address
	BADC                      // as ABCD, the bytes of each register swapped
	DCBA                      // little: as CDAB, the bytes of each register swapped
)

var wordOrders = map[string]WordOrder{
	"ABCD": ABCD, "BIG": ABCD, "CDAB": CDAB, "BADC": BADC, "DCBA": DCBA, "LITTLE": DCBA,
	"WORD_SWAPPED": CDAB, "BYTE_SWAPPED": BADC,
}

// UnmarshalText reads "ABCD" or "big", "CDAB" or "word_swapped", "BADC" or
// "byte_swapped", "DCBA" or "little".
func (o *WordOrder) UnmarshalText(b []byte) error {
	order, ok := wordOrders[strings.ToUpper(string(b))]
	if !ok {
		return config.Field("", fmt.Sprintf("`%s` is no word order", b), "write big (ABCD), word_swapped (CDAB), byte_swapped (BADC) or little (DCBA)")
	}
	*o = order
	return nil
}

// String returns the order's letters.
func (o WordOrder) String() string {
	return [...]string{"", "ABCD", "CDAB", "BADC", "DCBA"}[min(o, DCBA)]
}

func (o WordOrder) or(fallback WordOrder) WordOrder { return cmp.Or(o, fallback, ABCD) }

func (o WordOrder) lowWordFirst() bool { return o == CDAB || o == DCBA }

func (o WordOrder) bytesSwapped() bool { return o == BADC || o == DCBA }
