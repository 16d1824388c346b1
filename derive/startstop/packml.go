package startstop

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/plant"
)

// PackML says that a machine runs by its PackML state and unit mode: Execute in
// Manual is no production.
type PackML struct {
	// State is the tag of the state: a number by Numbering, or text with its
	// name.
	State string `yaml:"state,required"`
	// Mode is the tag of the unit mode; without one each mode is as good.
	Mode string `yaml:"mode"`
	// Numbering says what the numbers mean: "tr88" (the default) or "opc30050",
	// which are the same, or "opc30060".
	Numbering string `yaml:"numbering"`
	// Running are the states of a running machine, by name; Execute if there are
	// none.
	Running []string `yaml:"running"`
	// Modes are the modes of production, by name or number; Production if there
	// are none.
	Modes []string `yaml:"modes"`
}

const (
	execute    = "Execute"
	production = "Production"
)

// numbering is what the numbers of a state and a mode mean; empty is none.
type numbering struct{ states, modes []string }

// The numbers of ISA-TR88.00.02, which OPC 30050 (PackML) kept as StateNumber
// and ProductionMaintenanceModeEnum, and those of OPC 30060 (Tobacco Machine
// Communication) 11.9 StateEnumeration and its ControlModeEnumeration. Modes
// beyond the first four of TR88 are the machine builder's own.
var (
	tr88 = numbering{
		states: []string{"Undefined", "Clearing", "Stopped", "Starting", "Idle", "Suspended", execute, "Stopping", "Aborting",
			"Aborted", "Holding", "Held", "Unholding", "Suspending", "Unsuspending", "Resetting", "Completing", "Complete"},
		modes: []string{"Invalid", production, "Maintenance", "Manual"},
	}
	opc30060 = numbering{
		states: []string{"Stopped", "Resetting", "Idle", "Starting", execute, "Completing", "Complete", "Aborting", "Aborted",
			"Stopping", "Clearing", "Suspending", "Suspended", "Unsuspending", "Holding", "Held", "Unholding"},
		modes: []string{"Other", production, "Maintenance", "Manual", "Change Over", "Clean", "Set Up", "Empty Out"},
	}
)

func (p *PackML) numbering() (numbering, bool) {
	switch p.Numbering {
	case "", "tr88", "opc30050":
		return tr88, true
	case "opc30060":
		return opc30060, true
	default:
		return numbering{}, false
	}
}

// Validate checks what can be checked without the tags.
func (p *PackML) Validate() error {
	n, ok := p.numbering()
	if !ok {
		return config.Unknown("numbering", "numbering", p.Numbering, []string{"tr88", "opc30050", "opc30060"})
	}
	var errs []error
	for i, name := range p.Running {
		if !slices.ContainsFunc(n.states, like(name)) {
			errs = append(errs, config.Unknown(fmt.Sprintf("running[%d]", i), "PackML state", name, n.states))
		}
	}
	if p.Mode == "" && len(p.Modes) > 0 {
		errs = append(errs, config.Field("modes", "names modes, but no tag holds the mode", "name it with mode:"))
	}
	return errors.Join(errs...)
}

// like compares names as people write them: SetUp is Set Up, EXECUTE is Execute.
func like(name string) func(string) bool {
	plain := func(s string) string { return strings.NewReplacer(" ", "", "-", "", "_", "").Replace(s) }
	return func(other string) bool { return strings.EqualFold(plain(name), plain(other)) }
}

// packml is a checked PackML. Running are the
// states of a running machine and good the modes of production, as named gives
// them.
type packml struct {
	numbers       numbering
	running, good []string
}

func newPackML(o *PackML) *packml {
	p := &packml{}
	p.numbers, _ = o.numbering()
	p.running = canonical(o.Running, p.numbers.states, execute)
	p.good = canonical(o.Modes, p.numbers.modes, production)
	return p
}

func canonical(wanted, names []string, standard string) []string {
	if len(wanted) == 0 {
		return []string{standard}
	}
	all := make([]string, len(wanted))
	for i, w := range wanted {
		all[i] = w
		if n, err := strconv.Atoi(w); err == nil && n >= 0 && n < len(names) {
			all[i] = names[n]
		} else if known := slices.IndexFunc(names, like(w)); known >= 0 {
			all[i] = names[known]
		}
	}
	return all
}

// runs reports whether a machine in that state and mode produces; hasMode is
// false where nobody says the mode.
func (p *packml) runs(state, mode string, hasMode bool) bool {
	return slices.Contains(p.running, state) && (!hasMode || slices.Contains(p.good, mode))
}

// named returns the name of a state or mode; a number beyond names stays one.
// known is what was there before, so that an unchanged reading costs no memory.
// ok is false for what says nothing.
func named(v plant.Value, names []string, known string) (name string, ok bool) {
	if v.Type() == plant.Text {
		text := strings.Trim(v.Text(), " \t\r\n\x00")
		switch {
		case text == "":
			return "", false
		case strings.EqualFold(text, known):
			return known, true
		case strings.EqualFold(text, "Produce"): // OPC 30050 calls the mode so
			return production, true
		}
		if i := slices.IndexFunc(names, like(text)); i >= 0 {
			return names[i], true
		}
		return strings.Clone(text), true
	}
	n, whole := v.Int()
	switch {
	case !whole:
		return "", false
	case n >= 0 && n < int64(len(names)):
		return names[n], true
	}
	var buffer [24]byte
	if text := v.Append(buffer[:0]); string(text) != known {
		return string(text), true
	}
	return known, true
}

// resolve finds the tags.
func (p *PackML) resolve(resolve rule.Resolver) (state, mode rule.Input, err error) {
	var errs []error
	check := func(path, name string) rule.Input {
		in, err := resolve("running.packml."+path, name)
		if t := in.Tag.Type; err == nil && (t == plant.TypeBool || t == plant.TypeFloat32 || t == plant.TypeFloat64) {
			err = config.Field("running.packml."+path, fmt.Sprintf("tag %s is of type %s, which holds no PackML %s", in.Ref, t, path), "name a tag of a whole-number or string type")
		}
		errs = append(errs, err)
		return in
	}
	state = check("state", p.State)
	if p.Mode == "" {
		return state, mode, errors.Join(errs...)
	}
	mode = check("mode", p.Mode)
	n, _ := p.numbering()
	for i, name := range p.Modes {
		if number, err := strconv.Atoi(name); err == nil && number >= 0 || mode.Tag.Type == plant.TypeString || slices.ContainsFunc(n.modes, like(name)) {
			continue // a number is the machine builder's own mode, as any text is
		}
		errs = append(errs, config.Unknown(fmt.Sprintf("running.packml.modes[%d]", i), "unit mode", name, n.modes))
	}
	return state, mode, errors.Join(errs...)
}
