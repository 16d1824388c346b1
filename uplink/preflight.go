package uplink

import (
	"context"

	"github.com/sluice-edge/sluice/plant"
)

// Preflighter is optional for a Sender: it compares the codes that the config uses
// with those of the central system, for sluice check --online. It changes nothing
// there.
type Preflighter interface {
	// Preflight blocks until it has asked what can be asked, or ctx ends; what it
	// did not get to is Amber. It is called once, on a Sender that sends nothing.
	Preflight(ctx context.Context, used []UsedCode) []Finding
}

// UsedCode is a code that the config names, in our words, with the machines that
// use it.
type UsedCode struct {
	Kind plant.CodeKind
	Code string
	// Theirs is what the system calls it by the tables. Mapped is false if there is
	// a table that does not have the code; Theirs is then the same as Code.
	Theirs   string
	Mapped   bool
	Machines []plant.MachineID
}

// Level says how much a Finding matters.
type Level string

// The levels of a Finding.
const (
	// OK: it was compared, and it is right.
	OK Level = "ok"
	// Amber: it could not be compared, or somebody should have a look.
	Amber Level = "amber"
	// Red: events will be refused, or booked wrongly, until it is mended.
	Red Level = "red"
)

// Finding is what a comparison with a central system or a device found. It holds
// no secret.
type Finding struct {
	Level Level `json:"level"`
	// What was looked at: a plant.CodeKind, or for example "access" or
	// "certificate".
	What string `json:"what"`
	// Code is ours; empty if it is about no single code.
	Code string `json:"code,omitempty"`
	// Words say what was found, Remedy what a person does about it.
	Words  string `json:"words"`
	Remedy string `json:"remedy,omitempty"`
}
