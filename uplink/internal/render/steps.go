package render

import (
	"text/template"
	"text/template/parse"
)

// step is a piece of a template between two others: text of its own, one value, or
// whatever else stands at its top level.
//
// text/template finds fields and calls functions by reflection, which is most of
// what a list of events costs. A value that is a field of the event, as it is or
// through one function, is found here without; text/template has the rest, and all
// of a template in which anything goes wrong, since it names the place.
type step struct {
	text []byte
	// path is where the value is in the event, through what it goes on its way.
	path    []string
	through func(any) (any, error)
	// rest is a template of what is neither; its values are marked.
	rest *template.Template
}

// stepsOf returns the steps of a template, nil if it has to be run as a whole: its
// parts share a variable, or call each other.
func stepsOf(parsed *template.Template, functions template.FuncMap) []step {
	if len(parsed.Templates()) > 1 || parsed.Tree == nil {
		return nil
	}
	var steps []step
	for _, node := range parsed.Root.Nodes {
		s, ok := stepOf(node, functions)
		if !ok {
			return nil
		}
		steps = append(steps, s)
	}
	return steps
}

func stepOf(node parse.Node, functions template.FuncMap) (s step, ok bool) {
	switch n := node.(type) {
	case *parse.TextNode:
		return step{text: n.Text}, true
	case *parse.ActionNode:
		if len(n.Pipe.Decl) > 0 {
			return s, false
		}
		if s, ok := valueOf(n.Pipe, functions); ok {
			return s, true
		}
	}
	alone := &parse.Tree{Name: named, ParseName: named, Root: &parse.ListNode{NodeType: parse.NodeList, Nodes: []parse.Node{node}}}
	rest, err := template.New(named).Option("missingkey=zero").Funcs(functions).AddParseTree(named, alone)
	return step{rest: rest}, err == nil
}

// valueOf reads a pipe that takes a field of the event, perhaps through one
// function, and emits it.
func valueOf(pipe *parse.PipeNode, functions template.FuncMap) (s step, ok bool) {
	if len(pipe.Cmds) < 2 || len(pipe.Cmds) > 3 || len(pipe.Cmds[0].Args) != 1 {
		return s, false
	}
	field, ok := pipe.Cmds[0].Args[0].(*parse.FieldNode)
	if !ok {
		return s, false
	}
	s.path = field.Ident
	if len(pipe.Cmds) == 2 {
		return s, true
	}
	args := pipe.Cmds[1].Args
	name, ok := args[0].(*parse.IdentifierNode)
	if !ok {
		return s, false
	}
	s.through = through(functions[name.Ident], args[1:])
	return s, s.through != nil
}

// through returns a function of a template with the texts that stand before the
// value; nil if it takes others.
func through(function any, args []parse.Node) func(any) (any, error) {
	if one, ok := function.(func(any) (ready, error)); ok && len(args) == 0 {
		return func(v any) (any, error) { return one(v) }
	}
	if len(args) != 1 {
		return nil
	}
	text, ok := args[0].(*parse.StringNode)
	if !ok {
		return nil
	}
	switch f := function.(type) {
	case func(string, any) (any, error):
		return func(v any) (any, error) { return f(text.Text, v) }
	case func(string, any) (string, error):
		return func(v any) (any, error) { return f(text.Text, v) }
	case func(any, any) any:
		return func(v any) (any, error) { return f(text.Text, v), nil }
	default:
		return nil
	}
}

// find returns what stands at a path of an event; ok is false where text/template
// would have a word to say.
func find(event map[string]any, path []string) (v any, ok bool) {
	v = event
	for _, name := range path {
		object, ok := v.(map[string]any)
		if !ok { // an object that is not there is a nil map, and all in it is nil
			return nil, false
		}
		v = object[name]
	}
	return v, true
}

// step appends what the steps make of an event; ok is false if the template has to
// be run as a whole.
func (t *Template) step(dst []byte, event map[string]any, most int) (out []byte, ok bool) {
	if t.steps == nil {
		return dst, false
	}
	out = dst
	scan := t.format.scanner()
	for i := range t.steps {
		s := &t.steps[i]
		switch {
		case s.rest != nil:
			var err error
			if out, err = t.escaped(out, scan, s.rest, event, most); err != nil {
				return dst, false
			}
		case s.path == nil:
			scan.own(s.text)
			out = append(out, s.text...)
		default:
			v, ok := find(event, s.path)
			if ok && s.through != nil {
				var err error
				v, err = s.through(v)
				ok = err == nil
			}
			if !ok {
				return dst, false
			}
			kind, text, err := spoken(v)
			if err != nil {
				return dst, false
			}
			var wrong *Error
			if out, wrong = scan.value(out, kind, text); wrong != nil {
				return dst, false
			}
		}
	}
	return out, len(out)-len(dst) <= most
}
