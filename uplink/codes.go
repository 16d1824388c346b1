package uplink

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
)

// Code is one row of a code table: what a central system calls a code of ours,
// which is the row's name.
type Code struct {
	Theirs string `yaml:"theirs,required"`
	// Text says, for people, what the code stands for.
	Text string `yaml:"text"`
}

// UnmarshalText reads the short form, their code alone.
func (c *Code) UnmarshalText(b []byte) error {
	c.Theirs = string(b)
	return nil
}

// CodeTables are what one central system calls our codes, a table for each kind
// of code. A kind without a table has the same codes on both sides. A kind of
// uplink that translates has it as the option codes, and its Plan as Codes.
type CodeTables struct {
	Machine      config.Table[Code] `yaml:"machine"`
	DowntimeType config.Table[Code] `yaml:"downtime_type"`
	Waste        config.Table[Code] `yaml:"waste"`
	Parameter    config.Table[Code] `yaml:"parameter"`
	Component    config.Table[Code] `yaml:"component"`
	Article      config.Table[Code] `yaml:"article"`
	WorkCenter   config.Table[Code] `yaml:"work_center"`
	Operation    config.Table[Code] `yaml:"operation"`
}

// Validate warns of two machines that are one to the other side, which happens
// when a row is copied. Its faults are config.FieldErrors.
func (t CodeTables) Validate() error {
	var errs []error
	first := make(map[string]string)
	for _, row := range t.Machine.Rows {
		if other, twice := first[row.Value.Theirs]; twice {
			errs = append(errs, config.Warn("machine."+row.Name, fmt.Sprintf("it has the code %q, as %s has: the other side cannot tell the two machines apart", row.Value.Theirs, other), "give each machine the code of its own"))
			continue
		}
		first[row.Value.Theirs] = row.Name
	}
	return errors.Join(errs...)
}

// Only warns of tables of other kinds than those, which a dialect has no use for.
// Its faults are config.FieldErrors below codes.
func (t *CodeTables) Only(kinds ...plant.CodeKind) error {
	var errs []error
	for _, kind := range plant.CodeKinds() {
		if !slices.Contains(kinds, kind) && len(t.Table(kind).Rows) > 0 {
			errs = append(errs, config.Warn("codes."+string(kind), "this uplink sends no codes of that kind", "remove the table"))
		}
	}
	return errors.Join(errs...)
}

// Table returns the table of a kind of code; it has no rows if none is set.
func (t *CodeTables) Table(kind plant.CodeKind) config.Table[Code] {
	switch kind {
	case plant.CodeMachine:
		return t.Machine
	case plant.CodeDowntimeType:
		return t.DowntimeType
	case plant.CodeWaste:
		return t.Waste
	case plant.CodeParameter:
		return t.Parameter
	case plant.CodeComponent:
		return t.Component
	case plant.CodeArticle:
		return t.Article
	case plant.CodeWorkCenter:
		return t.WorkCenter
	case plant.CodeOperation:
		return t.Operation
	default:
		return config.Table[Code]{}
	}
}

// Codes translates our codes for one central system and remembers those that its
// tables do not have. A nil *Codes leaves every code as it is. Its methods may be
// called from any goroutine and do not block.
type Codes struct {
	tables map[plant.CodeKind]map[string]string
	// downtime is nil where no machine is known.
	downtime func(m plant.MachineID, reason string) (name string, own bool)

	mu       sync.Mutex
	unmapped map[codeKey]*UnmappedCode
	more     uint64
}

type codeKey struct {
	kind plant.CodeKind
	code string
}

// UnmappedCode is a code that was looked up in a table which does not have it.
type UnmappedCode struct {
	Kind plant.CodeKind `json:"kind"`
	Code string         `json:"code"`
	// Count is how often it was looked up, an event that is sent again included.
	Count       uint64    `json:"count"`
	First, Last time.Time `json:"-"`
}

// maxUnmapped bounds the codes that are remembered: a tag with a wrong address
// makes up codes without end.
const maxUnmapped = 200

// NewCodes returns the translation by t. downtime says what the machine's own
// table of reasons calls, for this uplink, the downtime type of a reason ("" for
// a machine that nobody knows), and whether it names this uplink; it may be nil.
func NewCodes(t CodeTables, downtime func(m plant.MachineID, reason string) (name string, own bool)) *Codes {
	c := &Codes{tables: make(map[plant.CodeKind]map[string]string), downtime: downtime, unmapped: make(map[codeKey]*UnmappedCode)}
	for _, kind := range plant.CodeKinds() {
		rows := t.Table(kind).Rows
		if len(rows) == 0 {
			continue
		}
		names := make(map[string]string, len(rows))
		for _, row := range rows {
			names[row.Name] = row.Value.Theirs
		}
		c.tables[kind] = names
	}
	return c
}

// Lookup returns what the system calls a code of ours. ok is false if there is a
// table for that kind of code and it does not have this one: the code is then
// returned as it is, and listed by Unmapped. The empty code is no code.
func (c *Codes) Lookup(kind plant.CodeKind, ours string) (theirs string, ok bool) {
	if c == nil || ours == "" {
		return ours, true
	}
	names, mapped := c.tables[kind]
	if !mapped {
		return ours, true
	}
	if theirs, ok = names[ours]; ok {
		return theirs, true
	}
	c.miss(codeKey{kind, ours})
	return ours, false
}

// DowntimeType returns what the system calls the downtime type of a stop: by the
// column for this uplink in the machine's own table of reasons if it has one, else
// by the table of downtime types. downtimeType and reason are those of the event;
// the tables of now are used, also for events from before they were changed.
func (c *Codes) DowntimeType(m plant.MachineID, downtimeType, reason string) (theirs string, ok bool) {
	if c == nil {
		return downtimeType, true
	}
	if c.downtime != nil {
		name, own := c.downtime(m, reason)
		if own {
			return name, true
		}
		downtimeType = cmp.Or(name, downtimeType)
	}
	return c.Lookup(plant.CodeDowntimeType, downtimeType)
}

func (c *Codes) miss(k codeKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	seen := c.unmapped[k]
	if seen == nil {
		if len(c.unmapped) == maxUnmapped {
			c.more++
			return
		}
		seen = &UnmappedCode{Kind: k.kind, Code: k.code, First: now}
		c.unmapped[k] = seen
	}
	seen.Count++
	seen.Last = now
}

// Unmapped returns the codes that were looked up in vain since the start, in the
// order of kind and code, and how many lookups more there were of codes that had
// no room in the list.
func (c *Codes) Unmapped() (codes []UnmappedCode, more uint64) {
	if c == nil {
		return nil, 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, u := range c.unmapped {
		codes = append(codes, *u)
	}
	slices.SortFunc(codes, func(a, b UnmappedCode) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Code, b.Code))
	})
	return codes, c.more
}
