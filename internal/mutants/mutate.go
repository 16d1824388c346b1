package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"strconv"
)

// theSwitch is the package that the changed sources ask which mutant is on.
const theSwitch = `// Package mutant says which mutant is on.
package mutant

import (
	"os"
	"strconv"
)

var on, _ = strconv.Atoi(os.Getenv("` + switchVar + `"))

// reached notes which mutants a run comes by, if somebody wants to know.
var (
	reached    = map[int]bool{}
	noted, err = os.OpenFile(os.Getenv("` + reachedVar + `"), os.O_APPEND|os.O_WRONLY, 0)
)

func pass(id int) {
	if err == nil && !reached[id] {
		reached[id] = true
		noted.WriteString(strconv.Itoa(id) + "\n")
	}
}

// Is reports whether a mutant is on.
func Is(id int) bool {
	pass(id)
	return on == id
}

// And is a && b, or a || b while the mutant is on; Or is the other way round.
func And(id int, a bool, b func() bool) bool {
	pass(id)
	if on == id {
		return a || b()
	}
	return a && b()
}

func Or(id int, a bool, b func() bool) bool {
	pass(id)
	if on == id {
		return a && b()
	}
	return a || b()
}
`

const (
	alias       = "mutant__"
	aliasImport = "github.com/sluice-edge/sluice/derive/mutant"
)

// mutant is one small change of the rules.
type mutant struct {
	id             int
	file, function string
	line           int
	what           string
}

// String names the place and the change.
func (m mutant) String() string {
	return fmt.Sprintf("%s:%d: %s: %s", m.file, m.line, m.function, m.what)
}

// mutator rewrites one file.
type mutator struct {
	files    *token.FileSet
	path     string
	function string
	last     int
	found    []mutant
}

// mutate returns a file with all of its mutants behind the switch, numbered from
// last+1 on.
func mutate(path string, last int) ([]byte, []mutant, error) {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
	if err != nil {
		return nil, nil, err
	}
	m := &mutator{files: files, path: path, last: last}
	for _, d := range file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Body != nil {
			m.function = f.Name.Name
			m.block(f.Body)
		}
	}
	if len(m.found) == 0 {
		return nil, nil, nil
	}
	file.Decls = append([]ast.Decl{&ast.GenDecl{Tok: token.IMPORT, Specs: []ast.Spec{&ast.ImportSpec{
		Name: ast.NewIdent(alias), Path: &ast.BasicLit{Kind: token.STRING, Value: strconv.Quote(aliasImport)},
	}}}}, file.Decls...)
	var out bytes.Buffer
	err = format.Node(&out, files, file)
	return out.Bytes(), m.found, err
}

// note gives a change its number.
func (m *mutator) note(at token.Pos, format string, args ...any) int {
	m.last++
	m.found = append(m.found, mutant{
		id: m.last, file: m.path, function: m.function, line: m.files.Position(at).Line, what: fmt.Sprintf(format, args...),
	})
	return m.last
}

func number(id int) ast.Expr { return &ast.BasicLit{Kind: token.INT, Value: strconv.Itoa(id)} }

func call(name string, args ...ast.Expr) ast.Expr {
	return &ast.CallExpr{Fun: &ast.SelectorExpr{X: ast.NewIdent(alias), Sel: ast.NewIdent(name)}, Args: args}
}

func lazy(e ast.Expr) ast.Expr {
	return &ast.FuncLit{
		Type: &ast.FuncType{Params: &ast.FieldList{}, Results: &ast.FieldList{List: []*ast.Field{{Type: ast.NewIdent("bool")}}}},
		Body: &ast.BlockStmt{List: []ast.Stmt{&ast.ReturnStmt{Results: []ast.Expr{e}}}},
	}
}

// block rewrites the statements of a block, each of which may also be left out.
func (m *mutator) block(b *ast.BlockStmt) {
	if b != nil {
		m.list(b.List)
	}
}

func (m *mutator) list(all []ast.Stmt) {
	for i, s := range all {
		what := ""
		switch s := s.(type) {
		case *ast.ExprStmt:
			if _, ok := s.X.(*ast.CallExpr); ok {
				what = "call left out: " + m.text(s)
			}
		case *ast.AssignStmt:
			if s.Tok != token.DEFINE {
				what = "left out: " + m.text(s)
			}
		case *ast.IncDecStmt:
			what = "left out: " + m.text(s)
		}
		m.statement(s)
		if what != "" {
			all[i] = &ast.IfStmt{
				Cond: &ast.UnaryExpr{Op: token.NOT, X: call("Is", number(m.note(s.Pos(), "%s", what)))},
				Body: &ast.BlockStmt{List: []ast.Stmt{s}},
			}
		}
	}
}

// text is a statement as it is written, on one line.
func (m *mutator) text(n ast.Node) string {
	var b bytes.Buffer
	if err := format.Node(&b, m.files, n); err != nil {
		return "?"
	}
	line, _, more := bytes.Cut(b.Bytes(), []byte("\n"))
	if more {
		line = append(line[:len(line):len(line)], " …"...)
	}
	return string(line)
}

func (m *mutator) statement(s ast.Stmt) {
	switch s := s.(type) {
	case *ast.BlockStmt:
		m.block(s)
	case *ast.IfStmt:
		m.simple(s.Init)
		m.condition(&s.Cond)
		m.block(s.Body)
		if s.Else != nil {
			m.statement(s.Else)
		}
	case *ast.ForStmt:
		// Its condition is left alone, but for what is in it: it would only loop for ever.
		m.block(s.Body)
	case *ast.RangeStmt:
		m.block(s.Body)
	case *ast.SwitchStmt:
		m.simple(s.Init)
		for _, c := range s.Body.List {
			clause := c.(*ast.CaseClause)
			for i := range clause.List {
				if s.Tag == nil {
					m.condition(&clause.List[i])
				}
			}
			m.list(clause.Body)
		}
	case *ast.TypeSwitchStmt:
		for _, c := range s.Body.List {
			m.list(c.(*ast.CaseClause).Body)
		}
	case *ast.ReturnStmt:
		for i := range s.Results {
			m.expression(&s.Results[i])
		}
	case *ast.LabeledStmt:
		m.statement(s.Stmt)
	default:
		m.simple(s)
	}
}

func (m *mutator) simple(s ast.Stmt) {
	switch s := s.(type) {
	case *ast.AssignStmt:
		for i := range s.Rhs {
			m.expression(&s.Rhs[i])
		}
	case *ast.ExprStmt:
		m.expression(&s.X)
	}
}

// condition is an expression that may be the other way round as a whole.
func (m *mutator) condition(e *ast.Expr) {
	if b, ok := (*e).(*ast.BinaryExpr); ok && b.Op != token.LAND && b.Op != token.LOR {
		m.expression(e) // to swap a comparison is as good
		return
	}
	text := m.text(*e)
	at := (*e).Pos()
	m.expression(e)
	*e = &ast.BinaryExpr{X: &ast.ParenExpr{X: *e}, Op: token.NEQ, Y: call("Is", number(m.note(at, "not (%s)", text)))}
}

var others = map[token.Token]token.Token{
	token.LSS: token.LEQ, token.LEQ: token.LSS, token.GTR: token.GEQ, token.GEQ: token.GTR, token.EQL: token.NEQ, token.NEQ: token.EQL,
	token.SUB: token.ADD,
}

// expression rewrites an expression and what is in it.
func (m *mutator) expression(e *ast.Expr) {
	switch x := (*e).(type) {
	case *ast.ParenExpr:
		m.expression(&x.X)
	case *ast.UnaryExpr:
		m.expression(&x.X)
	case *ast.CallExpr:
		for i := range x.Args {
			m.expression(&x.Args[i])
		}
	case *ast.FuncLit:
		m.block(x.Body)
	case *ast.Ident:
		if x.Name == "true" || x.Name == "false" {
			op := map[string]token.Token{"true": token.NEQ, "false": token.EQL}[x.Name]
			*e = &ast.BinaryExpr{X: call("Is", number(m.note(x.Pos(), "not %s", x.Name))), Op: op, Y: ast.NewIdent("true")}
		}
	case *ast.BinaryExpr:
		m.binary(e, x)
	}
}

func (m *mutator) binary(e *ast.Expr, x *ast.BinaryExpr) {
	text := m.text(x)
	switch other, ok := others[x.Op]; {
	case x.Op == token.LAND || x.Op == token.LOR:
		m.expression(&x.X)
		m.expression(&x.Y)
		name, word := "And", "or"
		if x.Op == token.LOR {
			name, word = "Or", "and"
		}
		*e = call(name, number(m.note(x.OpPos, "%s with %s", text, word)), x.X, lazy(x.Y))
	case x.Op == token.SUB:
		// Only with the same operands: a difference has no type of its own to name.
		m.expression(&x.X)
		m.expression(&x.Y)
	case ok:
		id := m.note(x.OpPos, "%s with %s", text, other)
		swapped := &ast.BinaryExpr{X: x.X, Op: other, Y: x.Y}
		is := call("Is", number(id))
		*e = &ast.ParenExpr{X: &ast.BinaryExpr{
			X:  &ast.BinaryExpr{X: is, Op: token.LAND, Y: &ast.ParenExpr{X: swapped}},
			Op: token.LOR,
			Y:  &ast.BinaryExpr{X: &ast.UnaryExpr{Op: token.NOT, X: is}, Op: token.LAND, Y: &ast.ParenExpr{X: x}},
		}}
	}
}
