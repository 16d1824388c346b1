package uplink

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
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

// Validate refuses rows without a code, and warns of two machines that are one to
// the other side, which happens when a row is copied. Its faults are
// config.FieldErrors.
func (t CodeTables) Validate() error {
	var errs []error
	for _, kind := range plant.CodeKinds() {
		for _, row := range t.Table(kind).Rows {
			if strings.TrimSpace(row.Value.Theirs) == "" {
				errs = append(errs, config.Field(string(kind)+"."+row.Name, "it is empty", "write what the other side calls "+row.Name+", or remove the row: then the code is sent as it is, and named on the page"))
			}
		}
	}
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

// CheckCloudEvents warns of a table that CloudEvents have no use for. Its faults
// are config.FieldErrors.
func (t *CodeTables) CheckCloudEvents() error {
	if len(t.Machine.Rows) == 0 {
		return nil
	}
	return config.Warn("codes.machine", "an event names its machine in its id, source and subject, which are the same for every receiver, so this table has no effect",
		"remove the table; a rest uplink with requests: can send it, as {{code \"machine\" .machine}}")
}

// ForCloudEvents returns the tables that CloudEvents have a use for.
func (t CodeTables) ForCloudEvents() CodeTables {
	t.Machine = config.Table[Code]{}
	return t
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
	// files are those of the tables that are CSV files.
	files map[plant.CodeKind]string
	// downtime is nil where no machine is known.
	downtime Downtimes
	// spots are where the data of events holds codes that have a table, by kinds that
	// have such.
	spots map[plant.EventKind]*spot

	mu       sync.Mutex
	unmapped map[codeKey]*unmapped
	more     uint64
}

// Downtimes are what the machines' own tables of reasons call the downtime types
// of stops for one uplink. Its methods are called from any goroutine.
type Downtimes interface {
	// DowntimeType returns the name for a reason, "" for a machine that nobody knows,
	// and whether the machine's table names this uplink.
	DowntimeType(m plant.MachineID, reason string) (name string, own bool)
	// Own reports whether the table of any machine names this uplink.
	Own() bool
}

type codeKey struct {
	kind plant.CodeKind
	code string
}

// unmapped is a code that a table does not have.
type unmapped struct {
	UnmappedCode
	// counted is the newest event of each machine that was counted.
	counted map[plant.MachineID]plant.Sequence
}

// UnmappedCode is a code that was looked up in a table which does not have it.
type UnmappedCode struct {
	Kind plant.CodeKind `json:"kind"`
	Code string         `json:"code"`
	// Count is how many events it was looked up for; one that is sent again counts
	// once, and so does all that was looked up for none.
	Count       uint64    `json:"count"`
	First, Last time.Time `json:"-"`
}

// maxUnmapped bounds the codes that are remembered: a tag with a wrong address
// makes up codes without end.
const maxUnmapped = 200

// NewCodes returns the translation by t and by the machines' own tables of reasons,
// which may be nil.
func NewCodes(t CodeTables, downtime Downtimes) *Codes {
	c := &Codes{
		tables: make(map[plant.CodeKind]map[string]string), files: make(map[plant.CodeKind]string), downtime: downtime,
		spots: make(map[plant.EventKind]*spot), unmapped: make(map[codeKey]*unmapped),
	}
	for _, kind := range plant.CodeKinds() {
		table := t.Table(kind)
		rows := table.Rows
		if len(rows) == 0 {
			continue
		}
		c.files[kind] = table.File
		names := make(map[string]string, len(rows))
		for _, row := range rows {
			names[row.Name] = row.Value.Theirs
		}
		c.tables[kind] = names
	}
	has := func(kind plant.CodeKind) bool {
		_, mapped := c.tables[kind]
		return mapped || kind == plant.CodeDowntimeType && downtime != nil && downtime.Own()
	}
	for _, kind := range plant.EventKinds() {
		if s := spots(kind, has); len(s.inner) > 0 {
			c.spots[kind] = s
		}
	}
	return c
}

// EventCodes are Codes for what is sent of one event, which counts once among the
// codes that a table does not have, however often it is sent.
type EventCodes struct {
	codes    *Codes
	machine  plant.MachineID
	sequence plant.Sequence
}

// For returns the codes for what is sent of one event. c may be nil.
func (c *Codes) For(m plant.MachineID, s plant.Sequence) EventCodes { return EventCodes{c, m, s} }

// Lookup returns what the system calls a code of ours. ok is false if there is a
// table for that kind of code and it does not have this one: the code is then
// returned as it is, and listed by Unmapped. The empty code is no code.
func (f EventCodes) Lookup(kind plant.CodeKind, ours string) (theirs string, ok bool) {
	if f.codes == nil || ours == "" {
		return ours, true
	}
	names, mapped := f.codes.tables[kind]
	if !mapped {
		return ours, true
	}
	if theirs, ok = names[ours]; ok {
		return theirs, true
	}
	f.codes.miss(codeKey{kind, ours}, f.machine, f.sequence)
	return ours, false
}

// Place says where the table for that kind of code is, for people: its file, or the
// keys of the config.
func (f EventCodes) Place(kind plant.CodeKind) string {
	if f.codes != nil && f.codes.files[kind] != "" {
		return f.codes.files[kind]
	}
	return "codes: " + string(kind) + ":"
}

// DowntimeType returns what the system calls the downtime type of a stop: by the
// column for this uplink in the machine's own table of reasons if it has one, else
// by the table of downtime types. downtimeType and reason are those of the event;
// the tables of now are used, also for events from before they were changed.
func (f EventCodes) DowntimeType(m plant.MachineID, downtimeType, reason string) (theirs string, ok bool) {
	if f.codes == nil {
		return downtimeType, true
	}
	if f.codes.downtime != nil {
		name, own := f.codes.downtime.DowntimeType(m, reason)
		if own {
			return name, true
		}
		downtimeType = cmp.Or(name, downtimeType)
	}
	return f.Lookup(plant.CodeDowntimeType, downtimeType)
}

// Lookup is EventCodes.Lookup for what is sent of no event.
func (c *Codes) Lookup(kind plant.CodeKind, ours string) (theirs string, ok bool) {
	return EventCodes{codes: c}.Lookup(kind, ours)
}

// DowntimeType is EventCodes.DowntimeType for what is sent of no event.
func (c *Codes) DowntimeType(m plant.MachineID, downtimeType, reason string) (theirs string, ok bool) {
	return EventCodes{codes: c}.DowntimeType(m, downtimeType, reason)
}

// miss notes that a table does not have a code. Events of a machine come in order,
// so one that is not newer than the last has been counted; sequence 0 is of none.
func (c *Codes) miss(k codeKey, m plant.MachineID, sequence plant.Sequence) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	seen := c.unmapped[k]
	if seen == nil {
		if len(c.unmapped) == maxUnmapped {
			c.more++
			return
		}
		seen = &unmapped{UnmappedCode: UnmappedCode{Kind: k.kind, Code: k.code, First: now}, counted: make(map[plant.MachineID]plant.Sequence)}
		c.unmapped[k] = seen
	}
	seen.Last = now
	if last, before := seen.counted[m]; !before || sequence > last {
		seen.counted[m] = sequence
		seen.Count++
	}
}

// Unmapped returns the codes that were looked up in vain since the start, in the
// order of kind and code, and how many lookups more there were, events that are
// sent again included, of codes that had no room in the list.
func (c *Codes) Unmapped() (codes []UnmappedCode, more uint64) {
	if c == nil {
		return nil, 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, u := range c.unmapped {
		codes = append(codes, u.UnmappedCode)
	}
	slices.SortFunc(codes, func(a, b UnmappedCode) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Code, b.Code))
	})
	return codes, c.more
}
