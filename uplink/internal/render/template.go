// Package render makes texts for receivers out of events by templates of
// text/template, in which each value is escaped for the place where it stands:
// an event can never end a string, a parameter or an element that the template
// has begun. What stands between the values is the template's alone.
package render

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"text/template/parse"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
)

// Format is the language that a template is written in.
type Format string

// The formats.
const (
	JSON Format = "json"
	XML  Format = "xml"
	Form Format = "form"
	Text Format = "text"
	// Path is the part of a URL from the path to the end of the query.
	Path Format = "path"
	// Header is the value of a header.
	Header Format = "header"
)

// Error is what is wrong with a template, or with what it made of an event.
type Error struct {
	// Line and Column are the place in the template, from 1; 0 if it is not known.
	Line, Column int
	// Problem and Remedy are plain words.
	Problem, Remedy string
	// Result is what was made, as far as it went; empty if nothing was.
	Result string
}

// Error returns all that is known.
func (e *Error) Error() string {
	text := e.Where() + e.Problem
	if e.Result != "" {
		text += ": the result is `" + e.Result + "`"
	}
	return text
}

// Where names the place in the template, with what leads on to the problem.
func (e *Error) Where() string {
	switch {
	case e.Line == 0:
		return ""
	case e.Column == 0:
		return fmt.Sprintf("line %d of the template: ", e.Line)
	default:
		return fmt.Sprintf("line %d, column %d of the template: ", e.Line, e.Column)
	}
}

// Template makes one text of one event. It may be used from any goroutine.
type Template struct {
	format Format
	kinds  *Kinds
	parsed *template.Template
	strict *template.Template
	// steps are parsed in pieces that cost less; nil if it has to be run as a whole.
	steps []step
	// fixed is the text of a template without a value, which needs no event.
	fixed *string
	// steady is set if it makes the same of all events of one kind and machine.
	steady bool
}

// Steady reports whether the template makes the same of all events of one kind
// of one machine.
func (t *Template) Steady() bool { return t.steady }

// named is what a template is called in the library's errors.
const named = "t"

// Longest is how long a template may be, in bytes.
const Longest = 64 << 10

// Parse reads a template over events of those kinds. Its error is an *Error.
func Parse(format Format, text string, kinds *Kinds) (*Template, error) {
	if len(text) > Longest {
		return nil, &Error{Problem: fmt.Sprintf("it is longer than %d bytes", Longest), Remedy: "a template holds the form of one event, no data"}
	}
	if i := strings.IndexFunc(text, func(r rune) bool { return r < ' ' && r != '\n' && r != '\t' && r != '\r' }); i >= 0 {
		return nil, &Error{Line: 1 + strings.Count(text[:i], "\n"), Problem: "it holds a control character", Remedy: "write it with an editor for plain text"}
	}
	parsed, err := template.New(named).Option("missingkey=zero").Funcs(functions(untranslated{})).Parse(text)
	if err != nil {
		return nil, parseError(err)
	}
	t := &Template{format: format, kinds: kinds, parsed: parsed}
	w := &walker{kinds: kinds, steady: true}
	for _, one := range parsed.Templates() {
		if one.Tree != nil {
			w.walk(one.Tree, one.Root)
		}
	}
	if w.err != nil {
		return nil, w.err
	}
	if t.strict, err = parsed.Clone(); err != nil {
		return nil, &Error{Problem: err.Error(), Remedy: "write it anew"} // only an escaped html/template cannot be cloned
	}
	t.strict.Option("missingkey=error")
	t.steady = w.steady
	t.steps = stepsOf(parsed, functions(untranslated{}))
	if !w.dynamic {
		t.fixed = &text
		if len(parsed.Templates()) > 1 || strings.Contains(text, "{{") {
			t.fixed = nil
		}
	}
	return t, nil
}

// With returns a copy that looks codes up there.
func (t *Template) With(codes Codes) *Template {
	parsed, err := t.parsed.Clone()
	if err != nil {
		panic(err) // it was cloned before
	}
	with := functions(codes)
	parsed.Funcs(with)
	return &Template{
		format: t.format, kinds: t.kinds, parsed: parsed, strict: t.strict, steps: stepsOf(parsed, with), fixed: t.fixed, steady: t.steady,
	}
}

// Append appends to dst what the template makes of an event, as Kinds.Value
// returns it, at most so many bytes, and returns the longer slice. Its error is
// an *Error; dst is then as it was.
func (t *Template) Append(dst []byte, value map[string]any, most int) ([]byte, error) {
	if t.fixed != nil {
		return append(dst, *t.fixed...), nil
	}
	if out, ok := t.step(dst, value, most); ok {
		return out, nil
	}
	return t.run(t.parsed, dst, value, most)
}

// run makes the text as a whole.
func (t *Template) run(parsed *template.Template, dst []byte, value map[string]any, most int) ([]byte, error) {
	out, err := t.escaped(dst, t.format.scanner(), parsed, value, most)
	if err == nil && len(out)-len(dst) > most {
		err = &Error{Problem: fmt.Sprintf("it makes more than %d bytes of the event", most), Remedy: "raise max_body, or send less"}
	}
	if err != nil {
		return dst, err
	}
	return out, nil
}

// escaped appends what one template makes, with its values escaped for the place
// that scan has come to.
func (t *Template) escaped(dst []byte, scan scanner, parsed *template.Template, value map[string]any, most int) ([]byte, error) {
	raw, ok := t.kinds.raws.Get().(*bounded)
	if !ok {
		raw = new(bounded)
	}
	defer t.kinds.raws.Put(raw)
	raw.Reset()
	raw.most = 2*most + Longest
	if err := parsed.Execute(raw, value); err != nil {
		return dst, runError(err)
	}
	return escape(dst, scan, raw.Bytes())
}

// bounded takes no more than so many bytes.
type bounded struct {
	bytes.Buffer
	most int
}

var errTooLong = errors.New("it makes more than the receiver may be sent")

// Write implements io.Writer.
func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > b.most {
		return 0, errTooLong
	}
	return b.Buffer.Write(p)
}

// walker makes each action of a template emit its value, and looks at the names
// of fields.
type walker struct {
	kinds   *Kinds
	dynamic bool
	// steady is set while all that is named is the same for a kind and machine.
	steady bool
	err    error
}

// steadyNames are the fields that are the same for all events of a kind and
// machine.
var steadyNames = []string{"machine", "kind", "gateway", "source"}

func (w *walker) walk(tree *parse.Tree, node parse.Node) {
	switch n := node.(type) {
	case *parse.ListNode:
		if n == nil {
			return
		}
		for _, inner := range n.Nodes {
			w.walk(tree, inner)
		}
	case *parse.ActionNode:
		w.pipe(tree, n.Pipe)
		if len(n.Pipe.Decl) == 0 {
			w.dynamic = true
			name := parse.NewIdentifier(emitName).SetTree(tree).SetPos(n.Pos)
			n.Pipe.Cmds = append(n.Pipe.Cmds, &parse.CommandNode{NodeType: parse.NodeCommand, Pos: n.Pos, Args: []parse.Node{name}})
		}
	case *parse.IfNode:
		w.branch(tree, &n.BranchNode)
	case *parse.RangeNode:
		w.branch(tree, &n.BranchNode)
	case *parse.WithNode:
		w.branch(tree, &n.BranchNode)
	case *parse.TemplateNode:
		if n.Pipe != nil {
			w.pipe(tree, n.Pipe)
		}
	}
}

func (w *walker) branch(tree *parse.Tree, n *parse.BranchNode) {
	w.dynamic = true
	w.pipe(tree, n.Pipe)
	w.walk(tree, n.List)
	w.walk(tree, n.ElseList)
}

func (w *walker) pipe(tree *parse.Tree, n *parse.PipeNode) {
	for _, command := range n.Cmds {
		w.asks(command)
		for _, arg := range command.Args {
			switch a := arg.(type) {
			case *parse.FieldNode:
				w.names(tree, a, a.Ident)
			case *parse.VariableNode:
				w.steady = false // whatever it stands for
				w.kinds.all = w.kinds.all || len(a.Ident) == 1 && a.Ident[0] == "$"
				w.names(tree, a, a.Ident[1:])
			case *parse.DotNode:
				w.steady = false
				w.kinds.all = true
			case *parse.ChainNode:
				w.names(tree, a, a.Field)
				if inner, ok := a.Node.(*parse.PipeNode); ok {
					w.pipe(tree, inner)
				}
			case *parse.PipeNode:
				w.pipe(tree, a)
			}
		}
	}
}

// asks notes which codes a command looks up.
func (w *walker) asks(n *parse.CommandNode) {
	if len(n.Args) == 0 {
		return
	}
	name, ok := n.Args[0].(*parse.IdentifierNode)
	switch {
	case !ok:
	case name.Ident == downtimeName:
		w.kinds.ask(plant.CodeDowntimeType, false)
	case name.Ident == codeName || name.Ident == mappedName:
		var kind *parse.StringNode
		if len(n.Args) > 1 {
			kind, _ = n.Args[1].(*parse.StringNode)
		}
		if kind == nil {
			w.kinds.anyCode = true
			return
		}
		w.kinds.ask(plant.CodeKind(kind.Text), name.Ident == mappedName)
	}
}

// names refuses a field that no event of the kinds has anywhere.
func (w *walker) names(tree *parse.Tree, node parse.Node, fields []string) {
	if len(fields) != 1 || !slices.Contains(steadyNames, fields[0]) {
		w.steady = false
	}
	for _, name := range fields {
		w.kinds.need(name)
		if w.kinds.names[name] || w.err != nil {
			continue
		}
		where, _ := tree.ErrorContext(node)
		e := &Error{Problem: fmt.Sprintf("no event of these kinds has a field `%s`", name), Remedy: "the fields of a kind are in docs/events.md and in `sluice schema events`"}
		e.place(where)
		if near, ok := config.Nearest(name, slices.Sorted(maps.Keys(w.kinds.names))); ok {
			e.Remedy = "did you mean `" + near + "`? " + e.Remedy
		}
		w.err = e
	}
}

// place reads "t:line" or "t:line:column"; the library counts columns from 0.
func (e *Error) place(where string) {
	parts := strings.Split(where, ":")
	if len(parts) > 1 {
		e.Line, _ = strconv.Atoi(parts[1]) // 0 if it is none
	}
	if len(parts) > 2 {
		if column, err := strconv.Atoi(parts[2]); err == nil {
			e.Column = column + 1
		}
	}
}

var (
	parsePlace = regexp.MustCompile(`^template: (t:\d+(?::\d+)?): `)
	noFunction = regexp.MustCompile(`function "(\w+)" not defined`)
	runPlace   = regexp.MustCompile(`(?s)^template: (t:\d+:\d+): executing "[^"]*" at <(.*?)>: (?:error calling \w+: )?(.*)$`)
)

func parseError(err error) *Error {
	text := err.Error()
	e := &Error{Problem: text, Remedy: "values are written {{.data.good}}, and each {{if}}, {{with}} and {{range}} needs its {{end}}"}
	if m := parsePlace.FindStringSubmatch(text); m != nil {
		e.Problem = text[len(m[0]):]
		e.place(m[1])
	}
	if m := noFunction.FindStringSubmatch(text); m != nil {
		names := slices.DeleteFunc(slices.Sorted(maps.Keys(functions(untranslated{}))), func(name string) bool { return name == emitName })
		e.Problem = "there is no function `" + m[1] + "`"
		e.Remedy = "the functions are `" + strings.Join(names, "`, `") + "`, and those of Go's templates"
		if near, ok := config.Nearest(m[1], names); ok {
			e.Remedy = "did you mean `" + near + "`? " + e.Remedy
		}
	}
	return e
}

func runError(err error) *Error {
	if errors.Is(err, errTooLong) {
		return &Error{Problem: errTooLong.Error(), Remedy: "raise max_body, or send less"}
	}
	text := err.Error()
	e := &Error{Problem: text, Remedy: "look at the fields of the event in `sluice schema events`"}
	if m := runPlace.FindStringSubmatch(text); m != nil {
		e.Problem = "{{" + m[2] + "}}: " + m[3]
		e.place(m[1])
	}
	var said *Error
	switch {
	case errors.As(err, &said) && said.Remedy != "":
		e.Remedy = said.Remedy
	case strings.Contains(e.Problem, "map has no entry"):
		e.Remedy = "this kind has no such field there: give it a request of its own"
	case strings.Contains(e.Problem, "nil pointer evaluating"):
		e.Remedy = "an event need not have it: write {{with …}}…{{else}}…{{end}} around it"
	}
	return e
}
