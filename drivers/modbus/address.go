package modbus

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	pdu "github.com/goburrow/modbus"

	"github.com/sluice-edge/sluice/config"
)

// Table is one of the four address spaces of a Modbus device, each with
// protocol addresses 0…65535.
type Table uint8

// The tables, in the order of their classic leading digits 0, 1, 3, 4.
const (
	Coil     Table = iota + 1 // bits, read and write: FC 1, 5
	Discrete                  // bits, read only: FC 2
	Input                     // registers, read only: FC 4
	Holding                   // registers, read and write: FC 3, 6, 16
)

var tables = [...]struct {
	name  string
	digit byte
}{Coil: {"coil", '0'}, Discrete: {"discrete", '1'}, Input: {"input", '3'}, Holding: {"holding", '4'}}

// String returns the table's name in a config, for example "holding".
func (t Table) String() string {
	if t < Coil || t > Holding {
		return "no table"
	}
	return tables[t].name
}

func (t Table) bits() bool { return t == Coil || t == Discrete }

// function returns the function code that reads the table.
func (t Table) function() byte {
	return [...]byte{Coil: pdu.FuncCodeReadCoils, Discrete: pdu.FuncCodeReadDiscreteInputs, Input: pdu.FuncCodeReadInputRegisters, Holding: pdu.FuncCodeReadHoldingRegisters}[t]
}

const addressRemedy = "write table:number counted from 0, for example holding:100, the classic number counted from 1, for example 40101, or Schneider's %MW100"

// Address is where a tag lives: a table, the zero-based address as it goes over
// the wire, and maybe one bit of a register.
type Address struct {
	Table  Table
	Number uint16
	// bit is the bit number plus 1; 0 for none.
	bit uint8
	// counts is how Number counts until the device's base is known.
	counts counting
}

// ParseAddress reads "holding:100", "input:0x64", "coil:3", "discrete:7",
// "holding:100.3" (bit 3, 0 is the least significant), all counted from 0, and
// the classic numbers counted from 1, of five or six digits: 40101, 400101 and
// 4x0101 are holding:100. %MW100, %M3, %IW5 and %I7 are those of Schneider's
// controllers, %MW100:X3 a bit of one. 100 and 0x64 are holding registers, counted
// from where the device's base says.
func ParseAddress(s string) (Address, error) {
	s = strings.TrimSpace(s)
	body, bitText, hasBit := strings.Cut(s, ".")
	var a Address
	var err error
	if name, number, ok := strings.Cut(body, ":"); ok {
		a, err = parseNamed(s, strings.TrimSpace(name), strings.TrimSpace(number))
	} else if a, ok = parseClassic(body); !ok {
		err = notClassic(s)
	}
	if foreign, bit, ok := parseForeign(body); rounded.MatchString(s) {
		err = notClassic(s)
	} else if ok && !hasBit {
		a, err, bitText, hasBit = foreign, nil, bit, bit != ""
	} else if ok && bit == "" {
		a, err = foreign, nil
	}
	if err != nil {
		return Address{}, err
	}
	if !hasBit {
		return a, nil
	}
	n, perr := strconv.ParseUint(bitText, 10, 8)
	switch {
	case a.Table.bits():
		return Address{}, config.Field("", fmt.Sprintf("`%s` asks for a bit of a bit", s), "remove the part after the point: a "+a.Table.String()+" is one bit already")
	case perr != nil || n > 15:
		return Address{}, config.Field("", fmt.Sprintf("`%s`: `%s` is no bit of a register", s, bitText), "write a number from 0 (least significant) to 15 after the point")
	}
	a.bit = uint8(n) + 1
	return a, nil
}

func parseNamed(whole, name, number string) (Address, error) {
	var a Address
	for t := Coil; t <= Holding; t++ {
		if strings.EqualFold(name, tables[t].name) {
			a.Table = t
		}
	}
	if a.Table == 0 {
		return Address{}, config.Field("", fmt.Sprintf("`%s`: `%s` is no table", whole, name), "write holding, input, coil or discrete before the colon")
	}
	base, digits := 10, number
	if hex, ok := strings.CutPrefix(strings.ToLower(number), "0x"); ok {
		base, digits = 16, hex
	}
	n, err := strconv.ParseUint(digits, base, 16)
	if err != nil {
		return Address{}, config.Field("", fmt.Sprintf("`%s` is no address of a table", whole), "write a number from 0 to 65535, or 0x0 to 0xFFFF")
	}
	a.Number, a.counts = uint16(n), asDeclared
	return a, nil
}

func parseClassic(s string) (a Address, ok bool) {
	if !classicForm(s) {
		return Address{}, false
	}
	n, _ := strconv.Atoi(s[1:]) // five digits at most
	a = Address{Table: tableOf(s[0]), Number: uint16(n - 1)}
	return a, a.Table != 0 && n >= 1 && n <= tableSize
}

func classicForm(s string) bool {
	return (len(s) == 5 || len(s) == 6) && strings.Trim(s, "0123456789") == ""
}

// What people write for an address that is none: a number that a spreadsheet
// has rounded, and the PLC's own names (IEC 61131-3, and Siemens').
var (
	rounded  = regexp.MustCompile(`^\d(?:[.,]\d+)?[eE]\+?\d+$`)
	internal = regexp.MustCompile(`^(?:%|(?i:DB\d+\.|[MIQEA][BWD]?\d))`)
)

// notClassic is the fault of an address without a table, whole as it is written.
func notClassic(s string) error {
	problem, remedy := fmt.Sprintf("`%s` is no Modbus address", s), addressRemedy
	body, _, _ := strings.Cut(s, ".")
	switch {
	case rounded.MatchString(s):
		problem, remedy = fmt.Sprintf("`%s` is a number that a spreadsheet has rounded", s), "format the column as text, and write the address again"
	case internal.MatchString(s):
		problem, remedy = fmt.Sprintf("`%s` is the PLC's own name, no Modbus address", s), "look up in the PLC's project where it is in Modbus, and write that, for example holding:100"
	case classicForm(body) && strings.Trim(body[1:], "0") == "" && tableOf(body[0]) != 0:
		remedy = fmt.Sprintf("such numbers count from 1: the first is %s1, the same as %s:0", body[:len(body)-1], tableOf(body[0]))
	}
	return config.Field("", problem, remedy)
}

// tableOf returns the table of a classic number's leading digit, 0 if none.
func tableOf(digit byte) Table {
	for t := Coil; t <= Holding; t++ {
		if tables[t].digit == digit {
			return t
		}
	}
	return 0
}

// Bit returns the bit of the register that a names; ok is false for none.
func (a Address) Bit() (n int, ok bool) { return int(a.bit) - 1, a.bit > 0 }

// String returns the canonical form, in both ways of counting:
// "holding:100 (40101)".
func (a Address) String() string {
	if a.Table == 0 {
		return ""
	}
	point := ""
	if n, ok := a.Bit(); ok {
		point = "." + strconv.Itoa(n)
	}
	format := "%s:%d%s (%c%04d%s)"
	if a.Number >= 9999 {
		format = "%s:%d%s (%c%05d%s)"
	}
	return fmt.Sprintf(format, a.Table, a.Number, point, tables[a.Table].digit, int(a.Number)+1, point)
}

// UnmarshalText implements encoding.TextUnmarshaler by ParseAddress.
func (a *Address) UnmarshalText(b []byte) (err error) {
	*a, err = ParseAddress(string(b))
	return err
}
