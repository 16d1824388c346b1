// Package config reads the description of a plant: the envelope of site,
// buffer, http, devices, machines and uplinks, strictly and with positions, so
// that every fault of a file is named in one run as file:line:column. What is
// inside a device, a machine or an uplink is decoded by the package that owns
// it, through Section.Decode.
package config

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// Position is a place in a file; Line and Column count from 1.
type Position struct {
	File   string `json:"file"`
	Line   int    `json:"line"`
	Column int    `json:"column"`
}

// String returns "file:line:column".
func (p Position) String() string {
	return p.File + ":" + strconv.Itoa(p.Line) + ":" + strconv.Itoa(p.Column)
}

// Fault is one thing that is wrong (or, as a Warning, doubtful) in a config.
type Fault struct {
	Position
	// Path is where in the tree, for example "devices.press.tags.made".
	Path    string `json:"path,omitempty"`
	Problem string `json:"problem"`
	Remedy  string `json:"remedy,omitempty"`
	Warning bool   `json:"warning,omitempty"`
	// Runtime marks a Warning about what the gateway finds only where it is
	// started, such as a secret that systemd provides: see Faults.Starting.
	Runtime bool `json:"runtime,omitempty"`
	// Unread is set if nothing after this fault could be read in its file, so
	// that there may be more.
	Unread bool `json:"unread,omitempty"`
}

// String returns "file:line:column: path: problem — remedy".
func (f Fault) String() string {
	var b strings.Builder
	b.WriteString(f.Position.String())
	b.WriteString(": ")
	if f.Warning {
		b.WriteString("warning: ")
	}
	if f.Path != "" {
		b.WriteString(f.Path)
		b.WriteString(": ")
	}
	b.WriteString(f.Problem)
	if f.Remedy != "" {
		b.WriteString(" — ")
		b.WriteString(f.Remedy)
	}
	return b.String()
}

// Faults is everything that was found in one run, in the order of the file.
type Faults []Fault

// Sort returns the faults in the order of file, line and column, each once.
func (f Faults) Sort() Faults {
	sorted := slices.Clone(f)
	slices.SortStableFunc(sorted, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	out := sorted[:0]
	for _, fault := range sorted {
		if !slices.Contains(out[max(0, len(out)-sameplace(out, fault.Position)):], fault) {
			out = append(out, fault)
		}
	}
	return out
}

// sameplace returns how many faults at the end of f are at p, so that a long
// list of faults is compared with its neighbours only.
func sameplace(f Faults, p Position) int {
	n := 0
	for i := len(f) - 1; i >= 0 && f[i].Position == p; i-- {
		n++
	}
	return n
}

// Errors returns the faults that are not warnings.
func (f Faults) Errors() Faults {
	var out Faults
	for _, fault := range f {
		if !fault.Warning {
			out = append(out, fault)
		}
	}
	return out
}

// Starting returns the faults as they are for who starts the gateway now: what
// should be there at run time and is not is a fault, no warning any more.
func (f Faults) Starting() Faults {
	out := slices.Clone(f)
	for i := range out {
		out[i].Warning = out[i].Warning && !out[i].Runtime
	}
	return out
}

// FieldError is what a Validate method returns (several by errors.Join) for a
// field of its own: Path is relative to the validated struct, written with the
// YAML names, for example "tags.made.address". Section.Faults finds the line.
type FieldError struct {
	Path    string
	Problem string
	Remedy  string
	// Warning makes it doubtful rather than wrong.
	Warning bool
}

// Error implements error.
func (e *FieldError) Error() string {
	text := e.Problem
	if e.Path != "" {
		text = e.Path + ": " + text
	}
	if e.Remedy != "" {
		text += " — " + e.Remedy
	}
	return text
}

// Field returns a FieldError.
func Field(path, problem, remedy string) error {
	return &FieldError{Path: path, Problem: problem, Remedy: remedy}
}

// Warn returns a FieldError that is a warning.
func Warn(path, problem, remedy string) error {
	return &FieldError{Path: path, Problem: problem, Remedy: remedy, Warning: true}
}
