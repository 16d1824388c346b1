package config

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Bounds of what is given to the YAML parser, which recurses.
const (
	maxFile   = 16 << 20
	maxIndent = 256
	maxFlow   = 64
)

// parse reads the one YAML document of a file as a mapping. It returns nil if
// a fault left nothing to look into; duplicate keys do not.
func parse(file, path string, text []byte) (*node, Faults) {
	r := &reader{file: file, path: path}
	root := r.read(text)
	if root == nil {
		r.faults[len(r.faults)-1].Unread = true
	}
	return root, r.faults
}

// read returns nil after a fault that left nothing to look into.
func (r *reader) read(text []byte) *node {
	text, ok := r.clean(text)
	if !ok {
		return nil
	}
	text = r.indent(text)
	mended := len(r.faults)
	tokens := lexer.Tokenize(string(text))
	r.refuse(tokens)
	if len(r.faults) > mended {
		return nil
	}
	body, err := r.document(tokens)
	if err != nil {
		if mended == 0 { // else it may be the consequence of the indentation
			r.syntax(err, text)
		}
		return nil
	}
	root := r.convert(body, r.path)
	if root.kind != mappingNode {
		remedy := "write `key: value` lines"
		if spaced, ok := unspaced(root.text); ok {
			remedy = "write `" + shorten(spaced) + "`, with a space after the colon"
		}
		r.fault(root.at, root.describe()+" where keys are expected", remedy)
		return nil
	}
	return root
}

// reader turns the text of one file into nodes.
type reader struct {
	file string
	// path is where in the tree the text stands; empty for a whole config.
	path   string
	faults Faults
	// shift is by how many columns a line was widened to be read.
	shift map[int]int
}

func (r *reader) fault(at Position, problem, remedy string) {
	r.faultAt(at, r.path, problem, remedy)
}

func (r *reader) faultAt(at Position, path, problem, remedy string) {
	r.faults = append(r.faults, Fault{Position: at, Path: path, Problem: problem, Remedy: remedy})
}

func (r *reader) position(t *token.Token) Position {
	if t == nil || t.Position == nil {
		return Position{File: r.file, Line: 1, Column: 1}
	}
	return Position{File: r.file, Line: max(1, t.Position.Line), Column: max(1, t.Position.Column-r.shift[t.Position.Line])}
}

// clean returns plain text with LF line ends and without a byte order mark, so
// that columns count alike everywhere; not ok if it is no plain text.
func (r *reader) clean(text []byte) (plain []byte, ok bool) {
	start := Position{File: r.file, Line: 1, Column: 1}
	switch {
	case len(text) > maxFile:
		r.fault(start, fmt.Sprintf("the file is larger than %s", Size(maxFile)), "split it into a folder of fragments, or move tables into CSV files")
		return nil, false
	case bytes.HasPrefix(text, []byte{0xff, 0xfe}), bytes.HasPrefix(text, []byte{0xfe, 0xff}):
		r.fault(start, "the file is UTF-16", "save it as UTF-8")
		return nil, false
	}
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	for i, line := range bytes.Split(text, []byte("\n")) {
		at := Position{File: r.file, Line: i + 1, Column: 1}
		if bad := strange(line); bad >= 0 {
			at.Column = utf8.RuneCount(line[:bad]) + 1
			r.strange(at, line[bad:])
			return nil, false
		}
		if nest := len(line) - len(bytes.TrimLeft(line, " \t-?:")); nest > maxIndent && len(bytes.TrimLeft(line, " \t")) > 0 {
			r.fault(at, fmt.Sprintf("the line is indented by more than %d columns", maxIndent), "indent each level by two spaces")
			return nil, false
		}
	}
	return text, true
}

// strange returns the index of the first byte of a line that a config cannot
// hold, or -1.
func strange(line []byte) int {
	for i := 0; i < len(line); {
		c, size := utf8.DecodeRune(line[i:])
		if (c == utf8.RuneError && size == 1) || (c < ' ' && c != '\t') || c == 0x7f || c == '\ufeff' {
			return i
		}
		i += size
	}
	return -1
}

func (r *reader) strange(at Position, rest []byte) {
	c, size := utf8.DecodeRune(rest)
	switch {
	case c == utf8.RuneError && size == 1:
		r.fault(at, fmt.Sprintf("the byte 0x%02x is not UTF-8", rest[0]), "save the file as UTF-8")
	case c == 0:
		r.fault(at, "a NUL byte", "the file is damaged or no text; restore it from a copy")
	default:
		r.fault(at, fmt.Sprintf("the control character U+%04X", c), "remove it")
	}
}

// refuse names what this config language leaves out of YAML: what makes one
// place of the file mean another, and what a parser could be killed with.
func (r *reader) refuse(tokens token.Tokens) {
	const second, remedy = "a second YAML document", "keep one document a file; a folder of *.yaml files may hold fragments"
	depth, content, ended := 0, false, false
	for _, t := range tokens {
		at := r.position(t)
		switch t.Type {
		case token.AnchorType:
			r.fault(at, "an anchor (`&`)", "write the value where it is used, or put tables in a CSV file; quote the text if the & belongs to it")
		case token.AliasType:
			r.fault(at, "an alias (`*`)", "write the value out; quote the text if the * belongs to it")
		case token.MergeKeyType:
			r.fault(at, "a merge key (`<<`)", "write the keys out")
		case token.TagType:
			r.fault(at, "a YAML tag (`"+shorten(t.Value)+"`)", "remove it; quote the text if the ! belongs to it")
		case token.DirectiveType:
			r.fault(at, "a YAML directive (`%`)", "remove the line; quote the text if the % belongs to it")
			return
		case token.DocumentHeaderType:
			if content {
				r.fault(at, second, remedy)
				return
			}
		case token.DocumentEndType:
			ended = content
		case token.MappingStartType, token.SequenceStartType:
			if depth++; depth > maxFlow {
				r.fault(at, fmt.Sprintf("brackets are nested more than %d deep", maxFlow), "check that each bracket is closed")
				return
			}
		case token.MappingEndType, token.SequenceEndType:
			depth--
		}
		switch t.Type {
		case token.CommentType, token.DocumentHeaderType, token.DocumentEndType:
		default:
			if ended {
				r.fault(at, second, remedy)
				return
			}
			content = true
		}
	}
	if !content {
		r.fault(Position{File: r.file, Line: 1, Column: 1}, "the file is empty", "start from the example: site, devices, machines, uplinks")
	}
}

// document parses the tokens. The library may panic on input that nobody has
// thought of; to a user that is one more file that is no YAML.
func (r *reader) document(tokens token.Tokens) (body ast.Node, err error) {
	defer func() {
		if p := recover(); p != nil {
			body, err = nil, fmt.Errorf("the YAML parser gave up: %v", p)
		}
	}()
	f, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, err
	}
	for _, d := range f.Docs {
		if d.Body != nil {
			return d.Body, nil // refuse has made sure that it is the only one
		}
	}
	return nil, errors.New("nothing but comments and marks")
}

func (r *reader) syntax(err error, text []byte) {
	at, message := Position{File: r.file, Line: 1, Column: 1}, err.Error()
	var detail yaml.Error
	if errors.As(err, &detail) {
		at, message = r.position(detail.GetToken()), detail.GetMessage()
	}
	remedy := "check the indentation, quotes and brackets here and on the line before"
	if strings.Contains(message, "mapping value is not allowed") {
		remedy = "give keys of one level the same indentation, and quote a value that holds `: `"
	}
	if lines := bytes.Split(text, []byte("\n")); at.Line <= len(lines) {
		if spaced, ok := unspaced(string(bytes.TrimSpace(lines[at.Line-1]))); ok {
			remedy = "write `" + shorten(spaced) + "`, with a space after the colon"
		}
	}
	r.fault(at, "not valid YAML: "+oneLine(message, 200), remedy)
}

func (r *reader) convert(n ast.Node, path string) *node {
	switch n := n.(type) {
	case nil:
		return &node{at: Position{File: r.file, Line: 1, Column: 1}}
	case *ast.MappingNode:
		return r.mapping(n.GetToken(), n.Values, path)
	case *ast.MappingValueNode:
		return r.mapping(n.GetToken(), []*ast.MappingValueNode{n}, path)
	case *ast.SequenceNode:
		out := &node{kind: sequenceNode, at: r.position(n.GetToken()), items: make([]*node, 0, len(n.Values))}
		for i, item := range n.Values {
			out.items = append(out.items, r.convert(item, path+"["+strconv.Itoa(i)+"]"))
		}
		return out
	case *ast.LiteralNode:
		out := &node{kind: scalarNode, quoted: true, at: r.position(n.GetToken())}
		if n.Value != nil {
			out.text = n.Value.Value
		}
		return out
	case *ast.NullNode:
		out := &node{at: r.position(n.GetToken())}
		if n.GetToken().Type != token.ImplicitNullType {
			out.text = n.GetToken().Value
		}
		return out
	case ast.ScalarNode:
		return r.scalar(n.GetToken())
	default:
		at := r.position(n.GetToken())
		r.faultAt(at, path, "YAML that a config does not use", "write a value, a list or a mapping")
		return &node{at: at}
	}
}

func (r *reader) scalar(t *token.Token) *node {
	quoted := t.Type == token.SingleQuoteType || t.Type == token.DoubleQuoteType
	return &node{kind: scalarNode, quoted: quoted, text: t.Value, at: r.position(t)}
}

func (r *reader) mapping(start *token.Token, values []*ast.MappingValueNode, path string) *node {
	out := &node{kind: mappingNode, at: r.position(start), entries: make([]entry, 0, len(values))}
	for _, v := range values {
		key, ok := r.key(v.Key, path)
		if !ok {
			continue
		}
		if r.comma(start, out.entries, key, v, path) {
			continue
		}
		if first := out.find(key.text); first != nil {
			r.faultAt(key.at, path, fmt.Sprintf("the key `%s` is here twice, first on line %d", shorten(key.text), first.keyAt.Line), "remove or rename one of the two")
			continue
		}
		out.entries = append(out.entries, entry{key: key.text, keyAt: key.at, value: r.convert(v.Value, join(path, key.text))})
		if out.index != nil {
			out.index[key.text] = len(out.entries) - 1
		}
	}
	if len(out.entries) > 0 && (start == nil || start.Type != token.MappingStartType) {
		out.at = out.entries[0].keyAt
	}
	return out
}

// key takes the text of a key as it is written.
func (r *reader) key(k ast.MapKeyNode, path string) (*node, bool) {
	var inner ast.Node = k
	if explicit, ok := inner.(*ast.MappingKeyNode); ok {
		inner = explicit.Value
	}
	switch scalar := inner.(type) {
	case *ast.LiteralNode, *ast.MappingKeyNode:
	case ast.ScalarNode:
		if t := scalar.GetToken(); t != nil && strings.TrimSpace(t.Value) != "" && t.Type != token.ImplicitNullType && !strings.ContainsFunc(t.Value, unprintable) {
			return r.scalar(t), true
		}
	}
	at := Position{File: r.file, Line: 1, Column: 1}
	if k != nil {
		at = r.position(k.GetToken())
	}
	r.faultAt(at, path, "a key is missing or is no plain text", "write `name: value`")
	return nil, false
}

// wordColon is a key and its value without the space between them.
var wordColon = regexp.MustCompile(`^([A-Za-z_][A-Za-z0-9_-]*):([^\s/:][^:]*)$`)

// unspaced returns "key: value" for "key:value", which YAML reads as one word.
func unspaced(text string) (spaced string, ok bool) {
	m := wordColon.FindStringSubmatch(text)
	if m == nil {
		return "", false
	}
	return m[1] + ": " + m[2], true
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }
