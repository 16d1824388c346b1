// Package st parses and runs function blocks in structured text (IEC 61131-3,
// with the ways of writing of S7 SCL and of CODESYS), so that a simulated PLC
// runs the very text that is given to PLC programmers where no compiler of a PLC
// is at hand. It knows one FUNCTION_BLOCK a file; BOOL, WORD, UINT, UDINT, DINT,
// TIME and one-dimensional arrays of them; TON; constants; assignment, IF, CASE,
// FOR and calls of timers; AND, OR, XOR, NOT, MOD, + - *, comparisons, and
// conversions such as UINT_TO_DINT. Numbers go round at the end of their type.
package st

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Class is where a variable is declared.
type Class uint8

// The classes.
const (
	In Class = iota
	Out
	Static
	Temp
	Constant
)

// base is a type without its array.
type base uint8

const (
	boolean base = iota + 1
	wordType
	uintType
	udint
	dint
	timeType
	timer
	// literal is a number that fits each number type.
	literal
)

var bases = map[string]base{"bool": boolean, "word": wordType, "uint": uintType, "udint": udint, "dint": dint, "time": timeType, "ton": timer, "ton_time": timer}

func (b base) String() string {
	for name, v := range bases {
		if v == b && name != "ton_time" {
			return strings.ToUpper(name)
		}
	}
	return "number"
}

// wrap brings v into the range of b, as a PLC does.
func (b base) wrap(v int64) int64 {
	switch b {
	case wordType, uintType:
		return v & 0xFFFF
	case udint:
		return v & 0xFFFFFFFF
	case dint, timeType:
		return int64(int32(v))
	case boolean:
		return v & 1
	default:
		return v
	}
}

func (b base) numeric() bool {
	return b == wordType || b == uintType || b == udint || b == dint || b == timeType || b == literal
}

// variable is one declaration.
type variable struct {
	name   string
	class  Class
	retain bool
	base   base
	// low and size are of an array; size is 0 for none.
	low, size int64
	initial   int64
	at        int
}

// Block is a parsed function block. It is immutable.
type Block struct {
	// Name is as the source writes it, in lower case.
	Name      string
	variables []*variable
	byName    map[string]*variable
	body      []statement
	cells     int
}

// Variable describes a variable of a Block.
type Variable struct {
	Class  Class
	Retain bool
	// Size is the length of an array, 0 for a single value.
	Size int
}

// Variable returns what is declared under a name.
func (b *Block) Variable(name string) (Variable, bool) {
	v := b.byName[strings.ToLower(name)]
	if v == nil {
		return Variable{}, false
	}
	return Variable{Class: v.class, Retain: v.retain, Size: int(v.size)}, true
}

// Variables returns the names of all variables, sorted.
func (b *Block) Variables() []string { return slices.Sorted(maps.Keys(b.byName)) }

// Instance is a Block with its memory. It belongs to one goroutine.
type Instance struct {
	block  *Block
	memory []int64
	timers map[int]*ton
	// now is the PLC's time in milliseconds.
	now int64
}

// ton is a timer with on-delay.
type ton struct {
	in, q   bool
	started int64
}

// New returns an Instance as it is after the download: every variable has its
// initial value.
func (b *Block) New() *Instance {
	i := &Instance{block: b, memory: make([]int64, b.cells), timers: map[int]*ton{}}
	i.reset(func(*variable) bool { return true })
	return i
}

func (i *Instance) reset(which func(*variable) bool) {
	for _, v := range i.block.variables {
		if !which(v) {
			continue
		}
		if v.base == timer {
			i.timers[v.at] = &ton{}
			continue
		}
		for at := range max(v.size, 1) {
			i.memory[v.at+int(at)] = v.initial
		}
	}
}

// Restart is a power cut: what is not RETAIN has its initial value again.
func (i *Instance) Restart() { i.reset(func(v *variable) bool { return !v.retain }) }

// cell returns where an element of a variable is; it panics for one that is not
// declared, since only tests name them.
func (i *Instance) cell(name string, element int) *int64 {
	v := i.block.byName[strings.ToLower(name)]
	if v == nil || element < 0 || element >= int(max(v.size, 1)) || v.base == timer {
		panic(fmt.Sprintf("st: %s has no %s[%d]", i.block.Name, name, element))
	}
	return &i.memory[v.at+element]
}

// Set sets a variable, or an element of an array counted from its first.
func (i *Instance) Set(name string, element int, value int64) {
	v := i.block.byName[strings.ToLower(name)]
	cell := i.cell(name, element)
	*cell = v.base.wrap(value)
}

// Get returns a variable, or an element of an array counted from its first.
func (i *Instance) Get(name string, element int) int64 { return *i.cell(name, element) }

// Cycle runs the body once, with the PLC's time in milliseconds. An error is one
// that stops a PLC: an index outside of its array, a division by zero.
func (i *Instance) Cycle(now int64) (err error) {
	defer func() {
		if r := recover(); r != nil {
			fault, ok := r.(fault)
			if !ok {
				panic(r)
			}
			err = fault
		}
	}()
	i.now = now
	for _, v := range i.block.variables {
		if v.class == Temp { // a PLC leaves there what was there
			for at := range max(v.size, 1) {
				i.memory[v.at+int(at)] = v.base.wrap(leftover)
			}
		}
	}
	for _, s := range i.block.body {
		s(i)
	}
	return nil
}

// leftover is what a temporary variable holds before a block has written it.
const leftover = 0x5A5A5A5A

// fault is what stops a PLC.
type fault struct {
	line int
	what string
}

func (f fault) Error() string { return fmt.Sprintf("line %d: %s", f.line, f.what) }

// statement and expression are compiled to functions.
type (
	statement  func(*Instance)
	expression struct {
		base base
		eval func(*Instance) int64
		// name is set if it is a single variable as it stands.
		name string
	}
)
