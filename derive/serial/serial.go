// Package serial is the rule for units with a serial number that come through a
// station: a new one is added, a known one makes another pass, one with a new
// label is updated, one that is taken out is removed.
package serial

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/derive/handshake"
	"github.com/sluice-edge/sluice/derive/memory"
	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/plant"
)

// Options say where serial numbers come from.
type Options struct {
	handshake.Options `yaml:",inline"`

	// Serial is the tag of the serial number. Without a handshake each other
	// number that it shows is a unit.
	Serial string `yaml:"serial"`
	// Scanner names the scanner whose lines are serial numbers, instead of a tag.
	Scanner string         `yaml:"scanner"`
	SKU     handshake.Text `yaml:"sku"`
	// Action is add where it is not given.
	Action handshake.Text `yaml:"action"`
	// OldSerial is the tag of the number that an update replaces.
	OldSerial string `yaml:"old_serial"`
	Number    string `yaml:"number"`
	Order     string `yaml:"order"`
	// Pattern is a regular expression that the whole serial number must match.
	Pattern string         `yaml:"pattern"`
	Station handshake.Text `yaml:"station"`
	// NoRead is what the reader says for a label that it cannot read; NOREAD if
	// it is not set. An empty serial number is none, too.
	NoRead string `yaml:"no_read"`
	// Memory is how many units are remembered; 0 means 10 000.
	Memory int `yaml:"memory"`
}

// validateSource checks that it is known where the numbers come from.
func (o *Options) validateSource() error {
	var errs []error
	fault := func(path, problem, remedy string) { errs = append(errs, config.Field(path, problem, remedy)) }
	if o.Given() {
		errs = append(errs, o.Options.Validate())
	}
	switch {
	case o.Serial == "" && o.Scanner == "":
		fault("serial", "is missing", "name the tag of the serial number, or with scanner: the scanner that reads it")
	case o.Scanner != "" && (o.Serial != "" || o.Given()):
		fault("scanner", "reads the serial number itself", "remove it, or remove serial: and the handshake")
	}
	if o.Number != "" && !o.Given() {
		fault("number", "numbers the records of a handshake", "remove it, or write trigger: and ack:")
	}
	if o.Scanner != "" {
		for _, f := range [][2]string{{"sku", o.SKU.Tag}, {"action", o.Action.Tag}, {"station", o.Station.Tag}, {"order", o.Order}, {"old_serial", o.OldSerial}} {
			if f[1] != "" {
				fault(f[0], "is a tag, but a scanner's line is no record of a device", "write the text itself, or leave it out")
			}
		}
	}
	return errors.Join(errs...)
}

const (
	// mostListed is how many labels that could not be read are listed.
	mostListed    = 20
	defaultMemory = 10_000
	mostMemory    = 1_000_000
)

// Validate checks what can be checked without the tags.
func (o *Options) Validate() error {
	errs := []error{o.validateSource(), o.Action.Allowed("action", plant.ActionAdd, plant.ActionUpdate, plant.ActionRemove)}
	if _, err := regexp.Compile(o.Pattern); err != nil {
		errs = append(errs, config.Field("pattern", "is no regular expression: "+err.Error(), `write one for the whole serial number, for example '[A-Z]{2}\d{8}'`))
	}
	if o.Memory < 0 || o.Memory > mostMemory {
		errs = append(errs, config.Field("memory", fmt.Sprintf("%d units cannot be remembered", o.Memory), fmt.Sprintf("write 1 to %d; %d is the default", mostMemory, defaultMemory)))
	}
	return errors.Join(errs...)
}

// Rule makes serial events. It is immutable.
type Rule struct {
	name string
	// shake brings the records; where there is none fields are looked at, or the
	// scanner's lines come.
	shake   *handshake.Rule
	fields  *handshake.Rule
	scanner string
	serial  handshake.TextSource
	old     handshake.TextSource
	sku     handshake.TextSource
	action  handshake.TextSource
	order   handshake.TextSource
	station handshake.TextSource
	pattern *regexp.Regexp
	noRead  string
	bound   int
}

// New makes the Rule called name of a machine. Its errors are
// config.FieldErrors, joined.
func New(machine plant.MachineID, name string, o Options, resolve rule.Resolver) (*Rule, error) {
	b := handshake.NewFields(machine, name, resolve)
	if o.Given() {
		b = handshake.NewBuilder(machine, name, o.Options, resolve)
	}
	r := &Rule{name: name, noRead: o.NoRead, bound: o.Memory, scanner: o.Scanner}
	if r.noRead == "" {
		r.noRead = "NOREAD"
	}
	if r.bound == 0 {
		r.bound = defaultMemory
	}
	b.Number("number", o.Number)
	if o.Scanner != "" {
		r.serial = handshake.FirstField()
	} else {
		r.serial = b.Tag("serial", o.Serial)
	}
	r.old = b.Tag("old_serial", o.OldSerial)
	r.sku, r.action = b.Text("sku", o.SKU), b.Text("action", o.Action)
	r.order, r.station = b.Tag("order", o.Order), b.Text("station", o.Station)
	if o.Pattern != "" {
		var err error
		if r.pattern, err = regexp.Compile(`^(?:` + o.Pattern + `)$`); err != nil {
			b.Fault(config.Field("pattern", "is no regular expression: "+err.Error(), `write one for the whole serial number, for example '[A-Z]{2}\d{8}'`))
		}
	}
	made, err := b.Rule()
	if err != nil {
		return nil, err
	}
	switch {
	case o.Given():
		r.shake = made
	case o.Scanner == "":
		r.fields = made
		return r, config.Warn("serial", "without a handshake two units with the same number one after the other are one", "let the PLC hand the numbers over with trigger: and ack:, or empty the tag between two units")
	}
	return r, nil
}

// Handshake returns the handshake that brings the records, nil for none.
func (r *Rule) Handshake() *handshake.Rule { return r.shake }

// unit is what is remembered of a serial number.
type unit struct {
	Order string `json:"o,omitempty"`
	Pass  int    `json:"p"`
}

// AppendJSON implements memory.Appender.
func (u *unit) AppendJSON(dst []byte) []byte {
	dst = append(dst, '{')
	if u.Order != "" {
		dst = append(plant.AppendJSONString(append(dst, `"o":`...), u.Order), ',')
	}
	return append(strconv.AppendInt(append(dst, `"p":`...), int64(u.Pass), 10), '}')
}

// State is what the rule remembers.
type State struct {
	handshake.State
	// NoReads counts labels that could not be read; Unread is set since the last
	// one was such.
	NoReads    uint64     `json:"nr,omitempty"`
	LastNoRead rule.Stamp `json:"nrt,omitzero"`
	// Recent are the times of the newest ones since a label was read.
	Recent []rule.Stamp `json:"nrr,omitempty"`
	Unread bool         `json:"ur,omitempty"`

	// Last is the number that the tag shows, where no handshake brings records,
	// Shown what the other fields said last, and Watching the tags of both.
	Last     string   `json:"ls,omitempty"`
	Shown    []string `json:"sh,omitempty"`
	Watching string   `json:"wb,omitempty"`

	units memory.Memory[unit]
}

// Prefix begins the keys of the units in the machine's keyed state.
const Prefix = "serial/"

// Load takes the units that were put and returns the keys of no use.
func (r *Rule) Load(s *State, keyed []plant.KV) (stray []string) {
	return s.units.Load(keyed, Prefix, r.bound)
}

// Sink takes what the rule makes.
type Sink interface {
	memory.Changes
	// Serial takes an event; own is the order that the record names.
	Serial(at rule.Stamp, e plant.Serial, own string)
	Alarm(a rule.Alarm)
	Refusals
}

// Refusals takes numbers that came without a handshake and make no sense, and
// that the next one does.
type Refusals interface {
	Refused(name, problem string, fields []plant.Field)
	Readable(name string)
}

// Problem says why a record is no unit.
func (r *Rule) Problem(rec *handshake.Record) string {
	serial, ok := r.serial.Read(rec)
	if !ok {
		return "its serial number cannot be read"
	}
	if action, ok := r.read(rec); !ok {
		return fmt.Sprintf("its action %q is none of add, update and remove", action)
	}
	if !r.none(serial) && r.pattern != nil && !r.pattern.MatchString(serial) {
		return fmt.Sprintf("its serial number %q does not match the pattern", serial)
	}
	return ""
}

func (r *Rule) none(serial string) bool { return serial == "" || strings.EqualFold(serial, r.noRead) }

func (r *Rule) read(rec *handshake.Record) (action string, ok bool) {
	return r.action.Action(rec, plant.ActionAdd, plant.ActionUpdate, plant.ActionRemove)
}

// Take makes an event of a record that Problem has nothing against. order is
// what the machine works on.
func (r *Rule) Take(s *State, rec *handshake.Record, order string, out Sink) {
	number, _ := r.serial.Read(rec)
	if r.none(number) {
		r.unread(s, rec, out)
		return
	}
	if s.Unread {
		s.Unread, s.Recent = false, nil
		out.Alarm(rule.Alarm{Name: "no_read:" + r.name, Text: "labels are read again"})
	}
	e := plant.Serial{Serial: number}
	flag := func(what string) { e.Flagged = append(e.Flagged, what) }
	text := func(what string, source *handshake.TextSource) string {
		v, ok := source.Read(rec)
		if !ok {
			flag(what)
		}
		return v
	}
	e.Action, _ = r.read(rec)
	e.SKU, e.Station = text("sku", &r.sku), text("station", &r.station)
	own := text("order", &r.order)
	if own != "" {
		order = own
	}
	known, seen := s.units.Get(key(e.SKU, number), r.bound)
	if rec.Told != "" {
		told := e
		if e.Action == plant.ActionUpdate {
			told.OldSerial, _ = r.old.Read(rec)
		}
		if rec.Told == Told(&told) {
			if !seen && e.Action != plant.ActionRemove {
				s.units.Set(key(e.SKU, number), unit{Order: order, Pass: 1}, r.bound, Prefix, out)
			}
			return // its event is there; only the state had lost it
		}
	}
	switch e.Action {
	case plant.ActionAdd:
		r.add(s, &e, known, seen, order, out)
	case plant.ActionUpdate:
		e.OldSerial = text("old_serial", &r.old)
		if !r.update(s, &e, known, seen, order, out) {
			return
		}
	case plant.ActionRemove:
		if !seen {
			flag("serial")
		}
		s.units.Remove(key(e.SKU, number), r.bound, Prefix, out)
	}
	out.Serial(rec.At, e, own)
}

// Told is what an event says of its record, for one whose record may be offered
// still: handshake.State.Told.
func Told(e *plant.Serial) string {
	what, old := "in", e.OldSerial
	if old == e.Serial {
		old = ""
	}
	if e.Action == plant.ActionRemove {
		what = "out"
	}
	return strings.Join([]string{what, e.Serial, old, e.SKU, e.Station}, "\x00")
}

// Recall notes the newest event where the state is gone that it came from.
func (r *Rule) Recall(s *State, e *plant.Serial) {
	switch {
	case r.shake != nil:
		s.Told = Told(e)
	case r.fields != nil && s.Last == "" && e.Action != plant.ActionRemove:
		s.Last = e.Serial
	}
}

// key joins sku and serial; neither holds a NUL.
func key(sku, serial string) string { return sku + "\x00" + serial }

// add counts the passes of a unit.
func (r *Rule) add(s *State, e *plant.Serial, known unit, seen bool, order string, out Sink) {
	if seen {
		e.Action = plant.ActionUpdate
		if known.Order != order {
			e.Flagged = append(e.Flagged, "order")
		}
	} else {
		known = unit{Order: order}
	}
	known.Pass++
	e.Pass = known.Pass
	s.units.Set(key(e.SKU, e.Serial), known, r.bound, Prefix, out)
}

// update gives a unit another number; it reports whether anything changed: a
// label that is printed again changes nothing.
func (r *Rule) update(s *State, e *plant.Serial, known unit, seen bool, order string, out Sink) bool {
	if e.OldSerial == "" || e.OldSerial == e.Serial {
		if seen {
			return false
		}
		known = unit{Order: order, Pass: 1}
		e.OldSerial = ""
	} else {
		before, had := s.units.Get(key(e.SKU, e.OldSerial), r.bound)
		if seen {
			e.Flagged = append(e.Flagged, "serial") // two units with one number
		}
		if known = before; !had {
			e.Flagged = append(e.Flagged, "old_serial")
			known = unit{Order: order, Pass: 1}
		}
		s.units.Remove(key(e.SKU, e.OldSerial), r.bound, Prefix, out)
	}
	s.units.Set(key(e.SKU, e.Serial), known, r.bound, Prefix, out)
	return true
}

// unread counts a label that could not be read. The record is acknowledged.
func (r *Rule) unread(s *State, rec *handshake.Record, out Sink) {
	s.NoReads++
	s.LastNoRead = rec.At
	// The array may be shared with a copy.
	s.Recent = append(slices.Clone(s.Recent[max(0, len(s.Recent)-mostListed+1):]), rec.At)
	if s.Unread {
		return
	}
	s.Unread = true
	out.Alarm(rule.Alarm{
		Name: "no_read:" + r.name, Raised: true,
		Text:   "a label could not be read: the unit passed without a serial number",
		Remedy: "find the unit behind the reader and enter it by hand; look at the reader and at the printer",
	})
}
