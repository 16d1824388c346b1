package modbus

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/sluice-edge/sluice/config"
)

// counting is how the number of an address counts.
type counting uint8

const (
	// onTheWire is as requests have it, from 0: what says itself where it begins.
	onTheWire counting = iota
	// asDeclared begins where the device's base says, at 0 if it says nothing.
	asDeclared
	// undeclared is a bare number, which means nothing without a base.
	undeclared
)

// resolve returns the address as it goes over the wire, given the device's base,
// nil for none.
func (a Address) resolve(base *int) (Address, error) {
	how, number := a.counts, a.Number
	a.counts = onTheWire
	switch {
	case how == onTheWire:
		return a, nil
	case base == nil && how == undeclared:
		return a, config.Field("", fmt.Sprintf("`%d` does not say whether it counts from 0 or from 1", number),
			fmt.Sprintf("write base: 0 or base: 1 at the device, as its manual counts, or holding:%d, which counts from 0", number))
	case base == nil || *base == 0:
		return a, nil
	case number == 0:
		return a, config.Field("", "the address is 0, but base: 1 says that the first is 1", "check the manual: write base: 0 if it begins with 0")
	}
	a.Number--
	return a, nil
}

// The notations of manuals beside ours.
var (
	// prefixed is the classic digit with an x: 4x0101. 0x is hexadecimal.
	prefixed = regexp.MustCompile(`^([134])[xX]0*([0-9]{1,5})$`)
	// modicon are the objects of Schneider's controllers, which Modbus shows under
	// the same numbers: %MW100 is the holding register 100 from 0 (devices.md M7).
	modicon = regexp.MustCompile(`^%(MW|M|IW|I)([0-9]{1,5})(?::[xX]([0-9]{1,2}))?$`)
	plain   = regexp.MustCompile(`^(?:[0-9]{1,5}|0[xX][0-9a-fA-F]{1,4})$`)
)

// parseForeign reads 4x0101, %MW100, and bare numbers; ok is false if s is none.
// bit is that of %MW100:X3, empty for none.
func parseForeign(s string) (a Address, bit string, ok bool) {
	if m := prefixed.FindStringSubmatch(s); m != nil {
		n, _ := strconv.Atoi(m[2]) // five digits at most
		return Address{Table: tableOf(m[1][0]), Number: uint16(n - 1)}, "", n >= 1 && n <= tableSize
	}
	if m := modicon.FindStringSubmatch(s); m != nil {
		table := map[string]Table{"MW": Holding, "M": Coil, "IW": Input, "I": Discrete}[m[1]]
		n, err := strconv.ParseUint(m[2], 10, 16)
		return Address{Table: table, Number: uint16(n)}, m[3], err == nil
	}
	if !plain.MatchString(s) || classicForm(s) && tableOf(s[0]) != 0 {
		return Address{}, "", false
	}
	if hex, is := strings.CutPrefix(strings.ToLower(s), "0x"); is {
		n, err := strconv.ParseUint(hex, 16, 16)
		return Address{Table: Holding, Number: uint16(n), counts: asDeclared}, "", err == nil
	}
	n, err := strconv.ParseUint(s, 10, 16)
	return Address{Table: Holding, Number: uint16(n), counts: undeclared}, "", err == nil
}

// BitRange is some bits of a register, counted from 0, the least significant:
// "4..6". The zero value is none.
type BitRange struct {
	first, count uint8
}

// UnmarshalText reads "4..6", "4-6" or one bit, "4".
func (r *BitRange) UnmarshalText(b []byte) error {
	text := strings.TrimSpace(string(b))
	from, to, ranged := strings.Cut(strings.Replace(text, "-", "..", 1), "..")
	if !ranged {
		to = from
	}
	first, err1 := strconv.ParseUint(from, 10, 8)
	last, err2 := strconv.ParseUint(to, 10, 8)
	if err1 != nil || err2 != nil || last < first || last > 63 {
		return config.Field("", fmt.Sprintf("`%s` are no bits of a number", b), "write the first and the last, 0 is the least significant, for example 4..6")
	}
	*r = BitRange{first: uint8(first), count: uint8(last-first) + 1}
	return nil
}

func (r BitRange) of(u uint64) uint64 {
	if r.count == 0 {
		return u
	}
	return u >> r.first & (1<<r.count - 1)
}

func (r BitRange) end() int { return int(r.first) + int(r.count) }

// Place is a register that says something about another one, or some bits of it:
// "holding:5", "holding:5.7", "holding:5.4..6".
type Place struct {
	address Address
	bits    BitRange
}

// UnmarshalText reads an address, with bits behind a point.
func (p *Place) UnmarshalText(b []byte) (err error) {
	text := strings.TrimSpace(string(b))
	body, bits, ranged := strings.Cut(text, ".")
	if p.address, err = ParseAddress(body); err != nil {
		return err
	}
	if p.address.Table.bits() {
		return config.Field("", fmt.Sprintf("`%s` is no register", text), "write a holding or input register, with its bits behind a point")
	}
	if n, ok := p.address.Bit(); ok {
		p.address.bit, p.bits = 0, BitRange{first: uint8(n), count: 1}
	}
	if !ranged {
		return nil
	}
	if err := p.bits.UnmarshalText([]byte(bits)); err != nil {
		return err
	}
	if p.bits.end() > 16 {
		return config.Field("", fmt.Sprintf("`%s`: a register has the bits 0 to 15", text), "write the first and the last, for example holding:5.4..6")
	}
	return nil
}

// none reports whether the config names no place.
func (p *Place) none() bool { return p == nil || p.address.Table == 0 }
