//go:build linux

package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestEveryFailpointHasAScenario holds the names in the source against those
// that the rig knows: a failpoint that nobody is killed at proves nothing, and a
// scenario for one that is gone never ends.
func TestEveryFailpointHasAScenario(t *testing.T) {
	named := map[string]string{} // name → where
	err := fs.WalkDir(os.DirFS("../.."), ".", func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (p == "bin" || p == ".git" || p == "internal/fault" || d.Name() == "testdata"):
			return fs.SkipDir
		case path.Ext(p) != ".go" || strings.HasSuffix(p, "_test.go"):
			return nil
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, "../../"+p, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || !isFault(call.Fun) {
				return true
			}
			at := fset.Position(call.Pos()).String()
			literal, ok := call.Args[0].(*ast.BasicLit)
			if !ok {
				t.Errorf("%s: the name of a failpoint must be written there, not computed", at)
				return true
			}
			name, err := strconv.Unquote(literal.Value)
			if err != nil {
				t.Errorf("%s: %v", at, err)
			}
			named[name] = at
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(named) < 30 {
		t.Fatalf("only %d failpoints found: is the walk at the root?", len(named))
	}
	known := map[string]bool{}
	for _, p := range failpoints {
		known[p.name] = true
	}
	for name, of := range otherNames {
		known[name] = true
		if !slices.ContainsFunc(cases(), func(c testCase) bool { return c.name == of }) {
			t.Errorf("%s belongs to the case %s, which does not exist", name, of)
		}
	}
	for name, at := range named {
		if !known[name] {
			t.Errorf("%s: the failpoint %s has no scenario: add it to failpoints in kill.go", at, name)
		}
	}
	for name := range known {
		if named[name] == "" {
			t.Errorf("the failpoint %s has a scenario and is nowhere in the source", name)
		}
	}
}

// isFault reports whether f is fault.Hit, Pass or Enabled.
func isFault(f ast.Expr) bool {
	sel, ok := f.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	base, ok := sel.X.(*ast.Ident)
	return ok && base.Name == "fault" && slices.Contains([]string{"Hit", "Pass", "Enabled"}, sel.Sel.Name)
}
