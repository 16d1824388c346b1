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
	"github.com/sluice-edge/sluice/internal/card"
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
	Bind card.Bind `yaml:"bind"`
	// Base is where the manual begins to count, 0 or 1: of addresses by name
	// ("holding:100") and of bare numbers. Others say it themselves.
	Base *int `yaml:"base"`
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
	if o.Base != nil && *o.Base != 0 && *o.Base != 1 {
		fault("base", fmt.Sprintf("%d is no base", *o.Base), "write 0 or 1: the number that the device's manual gives to the first register")
		return errors.Join(errs...)
	}
	addressed, err := o.addressed()
	errs = append(errs, err, o.elements())
	for _, row := range addressed.Tags.Rows {
		if n := row.Value.span(); n > o.MaxRegisters && !row.Value.Address.Table.bits() && n <= maxReadRegisters {
			fault("tags."+row.Name, fmt.Sprintf("it is %d registers wide, one request may ask for %d", n, o.MaxRegisters),
				"raise max_registers if the device allows it: a value read in two requests may be torn")
		}
		if e := row.Value.Every; e != 0 && (e < o.Interval || e%max(o.Interval, 1) != 0) {
			fault("tags."+row.Name+".every", fmt.Sprintf("%v is no multiple of the device's interval, %v", e.Std(), o.Interval.Std()), "write a multiple of it, or a shorter interval at the device")
		}
	}
	return errors.Join(append(errs, addressed.overlaps()...)...)
}

// addressed returns the options with every address as it goes over the wire.
func (o *Options) addressed() (Options, error) {
	out := *o
	out.Base, out.Tags.Rows = nil, slices.Clone(o.Tags.Rows)
	var errs []error
	for i := range out.Tags.Rows {
		row := &out.Tags.Rows[i]
		t, err := row.Value.resolved(o.Base)
		if err != nil {
			errs = append(errs, within("tags."+row.Name, err))
		}
		row.Value = t
	}
	return out, errors.Join(errs...)
}

// resolved returns the options with every address as it goes over the wire, and
// with one tag for each element of an array. What is wrong with them Validate has
// said.
func (o *Options) resolved() Options {
	out, _ := o.addressed()
	rows := out.Tags.Rows
	out.Tags.Rows = make([]config.Row[Tag], 0, len(rows))
	for _, row := range rows {
		if row.Value.Count <= 1 {
			out.Tags.Rows = append(out.Tags.Rows, row)
			continue
		}
		for i := range min(row.Value.Count, maxCount) {
			element := row
			element.Name, element.Value = elementName(row.Name, i), row.Value.element(i)
			out.Tags.Rows = append(out.Tags.Rows, element)
		}
	}
	return out
}

func elementName(array string, i int) string { return fmt.Sprintf("%s_%d", array, i) }

// elements refuses arrays of which an element has the name of another tag.
func (o *Options) elements() error {
	names := make(map[string]bool, len(o.Tags.Rows))
	for _, row := range o.Tags.Rows {
		names[row.Name] = true
	}
	var errs []error
	for _, row := range o.Tags.Rows {
		if row.Value.Count < 2 {
			continue
		}
		for i := range min(row.Value.Count, maxCount) {
			name := elementName(row.Name, i)
			if names[name] {
				errs = append(errs, config.Field("tags."+row.Name+".count", fmt.Sprintf("its element %s has the name of another tag", name), "rename one of the two"))
			}
			names[name] = true
		}
	}
	return errors.Join(errs...)
}

// within puts the path of a fault below another.
func within(path string, err error) error {
	var field *config.FieldError
	if !errors.As(err, &field) {
		return err
	}
	moved := *field
	moved.Path = strings.TrimSuffix(path+"."+field.Path, ".")
	return &moved
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
		if t := row.Value.Address.Table; (t == Input || t == Holding) && row.Value.whole() {
			words = append(words, i)
		}
	}
	at := func(i int) Address { return o.Tags.Rows[i].Value.Address }
	end := func(i int) int { return int(at(i).Number) + o.Tags.Rows[i].Value.all() }
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
	problem := fmt.Sprintf("it shares registers with the tag `%s` on line %d: %s and %s", a.Name, a.At.Line, a.Value.where(), b.Value.where())
	if a.Value.Address == b.Value.Address && a.Value.all() == b.Value.all() {
		problem = fmt.Sprintf("it is at the same address as the tag `%s` on line %d: %s", a.Name, a.At.Line, a.Value.where())
	}
	return config.Warn("tags."+b.Name, problem, "check both against the PLC's list: one of the two addresses or types is probably wrong")
}

// where names the registers of a tag.
func (t *Tag) where() string {
	text := fmt.Sprintf("%s:%d", t.Address.Table, t.Address.Number)
	if n := t.all(); n > 1 {
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
		return config.Field("", fmt.Sprintf("`%s` is not supported", scheme), "write host:port for Modbus TCP; serial ports and device servers (RTU over TCP) are written below lines:, and line: here")
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
