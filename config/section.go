package config

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
)

// Section is one device, machine or uplink of the config, still undecoded. It
// belongs to one goroutine.
type Section struct {
	// Name is the section's name in the config.
	Name string
	// Driver is the value of its "driver:" key; empty for a machine.
	Driver string

	// path is the section's place in the tree, for example "devices.press".
	path string
	at   Position
	root *node
	// taken are the keys that the envelope has read already.
	taken []string
	// unread are the paths that Decode could not read.
	unread []string
}

// ParseSection makes a section from the YAML text of its keys, as it would
// stand below its name; file is only named in positions and gives the folder of
// relative paths. It is for the tests of packages that decode sections.
func ParseSection(name, file, text string) (*Section, Faults) {
	root, faults := parse(file, name, []byte(text))
	s := &Section{Name: name, path: name, root: root, at: Position{File: file, Line: 1, Column: 1}}
	if root == nil {
		return s, faults
	}
	if e := root.find("driver"); e != nil {
		s.Driver, s.taken = e.value.text, []string{"driver"}
	}
	return s, faults
}

// Decode decodes the section over the struct that into points to, strictly:
// every unknown key, wrong type, bad unit and missing required field is a
// Fault. Fields are named by their yaml tag ("name" or "name,required"; a
// field with ",inline" gives its own fields to the struct around it; without a
// tag it is not part of the config). Text is taken exactly as written; any type
// with UnmarshalText reads it itself; a list may be written as its single
// value. Slices, maps and tables replace what into held. The Validate()
// error methods of into and of what it holds are called, after faults too, and
// their FieldErrors get positions; what they say of a field that could not be
// read is only a consequence and is left out. Decode reads the files that the section
// names (secrets, tables). It panics if into has a field of a type that no
// config can hold, which only a programmer can cause.
//
// After faults, into holds what could be read, its defaults elsewhere.
func (s *Section) Decode(into any) Faults {
	return s.decode(into).Sort()
}

// At returns the position of path, which is relative to the section and
// written with the YAML names ("tags.made.address", "running[1]"), or of the
// longest prefix of it that exists.
func (s *Section) At(path string) Position {
	if s.root == nil {
		return s.at
	}
	return s.root.position(path, s.at)
}

// Text returns the scalar at path as it is written; ok is false if there is
// none. It works after a Decode with faults, too.
func (s *Section) Text(path string) (text string, ok bool) {
	n := s.lookup(path)
	if n == nil || n.kind != scalarNode {
		return "", false
	}
	return n.text, true
}

// Keys returns the keys of the mapping at path, in the order of the file; of a
// CSV table, its names, once Decode has read it.
func (s *Section) Keys(path string) []string {
	n := s.lookup(path)
	if n == nil {
		return nil
	}
	if n.table != nil {
		n = n.table
	}
	keys := make([]string, len(n.entries))
	for i := range n.entries {
		keys[i] = n.entries[i].key
	}
	return keys
}

func (s *Section) lookup(path string) *node {
	if s.root == nil {
		return nil
	}
	return s.root.lookup(path)
}

// Faults gives the FieldErrors in err (joined or wrapped) their positions in
// this section; an error of another type is a fault of the whole section. A nil
// err gives none, and so does what is said of a field that Decode could not
// read.
func (s *Section) Faults(err error) Faults {
	return s.locate("", err, nil).Sort()
}

// locate appends the faults of err, whose paths are relative to base.
func (s *Section) locate(base string, err error, faults Faults) Faults {
	switch e := err.(type) {
	case nil:
		return faults
	case *FieldError:
		path := join(base, e.Path)
		if s.follows(path) {
			return faults
		}
		return append(faults, Fault{
			Position: s.At(path), Path: join(s.path, path),
			Problem: e.Problem, Remedy: e.Remedy, Warning: e.Warning,
		})
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			faults = s.locate(base, inner, faults)
		}
		return faults
	}
	var field *FieldError
	if errors.As(err, &field) {
		return s.locate(base, errors.Unwrap(err), faults)
	}
	return append(faults, Fault{Position: s.At(base), Path: join(s.path, base), Problem: err.Error()})
}

// follows reports whether a fault at path may only be the consequence of
// something that could not be read: there, below, or around it.
func (s *Section) follows(path string) bool {
	path = s.written(path)
	return slices.ContainsFunc(s.unread, func(unread string) bool {
		unread = s.written(unread)
		return within(path, unread) || within(unread, path)
	})
}

// written is path as the config has it: a list of one may be written as its value,
// and then nothing has a number.
func (s *Section) written(path string) string {
	const first = "[0]"
	for from := 0; ; {
		i := strings.Index(path[from:], first)
		if i < 0 {
			return path
		}
		from += i
		if n := s.lookup(path[:from]); n != nil && n.kind == sequenceNode {
			from += len(first)
		} else {
			path = path[:from] + path[from+len(first):]
		}
	}
}

// within reports whether path is at or below top.
func within(path, top string) bool {
	rest, ok := strings.CutPrefix(path, top)
	return ok && (top == "" || rest == "" || rest[0] == '.' || rest[0] == '[')
}

// folder is where relative paths of the section start.
func (s *Section) folder() string { return filepath.Dir(s.at.File) }

// join puts a path below another; items of a list follow without a dot.
func join(base, path string) string {
	switch {
	case base == "":
		return path
	case path == "" || path[0] == '[':
		return base + path
	default:
		return base + "." + path
	}
}
