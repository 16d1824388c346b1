// Package kind is the typed registry of protocols and dialects. A Kind knows
// how its part of a config is decoded strictly, checked, and turned into the
// plan that its contract package describes; everything is typed from the
// Options struct to the plan, and nothing registers itself.
package kind

import (
	"slices"

	"github.com/sluice-edge/sluice/config"
)

// Kind is one protocol or dialect that yields plans of type P, for example
// drivers.Plan. The zero Kind is of no use; make one with NewKind.
type Kind[P any] struct {
	name     string
	defaults func() any
	check    func(*config.Section) (P, config.Faults)
}

// Defaults returns fresh Options as a config without a key has them, for what
// describes the keys to people.
func (k Kind[P]) Defaults() any { return k.defaults() }

// Check decodes and validates a section and returns its plan. With faults that
// are errors the plan is only good for looking at: what could be read is right,
// the rest has its defaults, and nothing of it may be opened. Check does no network I/O; it reads the
// files that the section names (tables, secrets, certificates).
func (k Kind[P]) Check(s *config.Section) (P, config.Faults) { return k.check(s) }

// NewKind makes a Kind: defaults returns fresh Options, which the section is
// decoded over; *O's Validate method, if it has one, is called by the decoder;
// plan turns good Options into what is opened later, and may still report
// faults as config.FieldError.
func NewKind[O, P any](name string, defaults func() O, plan func(name string, o O) (P, error)) Kind[P] {
	return Kind[P]{
		name:     name,
		defaults: func() any { return defaults() },
		check: func(s *config.Section) (P, config.Faults) {
			options := defaults()
			faults := s.Decode(&options)
			p, err := attempt(plan, s.Name, options, len(faults.Errors()) > 0)
			return p, append(faults, s.Faults(err)...)
		},
	}
}

// attempt makes the plan. Of options with faults a plan is made as far as it
// goes, so that what refers to it (tags, for one) can be checked in the same
// run; plan functions are written for good options, so a panic is no plan.
func attempt[O, P any](plan func(string, O) (P, error), name string, o O, faulty bool) (p P, err error) {
	if faulty {
		defer func() {
			if recover() != nil {
				var none P
				p, err = none, nil
			}
		}()
	}
	return plan(name, o)
}

// Registry holds the kinds of one contract under their names.
type Registry[P any] struct{ kinds []Kind[P] }

// NewRegistry returns a Registry of kinds. It panics if two have one name,
// which only a programmer can cause.
func NewRegistry[P any](kinds ...Kind[P]) Registry[P] {
	for i, k := range kinds {
		if slices.ContainsFunc(kinds[:i], func(o Kind[P]) bool { return o.name == k.name }) {
			panic("kind: " + k.name + " is registered twice")
		}
	}
	return Registry[P]{kinds: kinds}
}

// Lookup returns the kind of that name.
func (r Registry[P]) Lookup(name string) (Kind[P], bool) {
	i := slices.IndexFunc(r.kinds, func(k Kind[P]) bool { return k.name == name })
	if i < 0 {
		return Kind[P]{}, false
	}
	return r.kinds[i], true
}

// Names returns the names in the order of registration.
func (r Registry[P]) Names() []string {
	names := make([]string, len(r.kinds))
	for i, k := range r.kinds {
		names[i] = k.name
	}
	return names
}
