package sluice_test

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/token"
	"path"
	"slices"
	"strconv"
	"strings"
)

// check returns every violation in the files and the folders at the top.
func check(files []source, folders []string) []violation {
	var found []violation
	for _, f := range files {
		for _, r := range fileRules {
			r.check(f, func(pos token.Pos, what string) {
				found = append(found, violation{r.name, f.path + ":" + strconv.Itoa(f.fset.Position(pos).Line), what})
			})
		}
	}
	found = append(found, checkComments(files)...)
	for _, d := range folders {
		if !slices.Contains(topLevel, d) {
			found = append(found, violation{"folder", d, "is no folder of the layout; a new one needs an ADR"})
		}
	}
	return found
}

// under reports whether dir is folder or below it.
func under(dir, folder string) bool { return dir == folder || strings.HasPrefix(dir, folder+"/") }

// matches reports whether dir is one of the patterns of a table.
func matches(dir string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		if folder, ok := strings.CutSuffix(p, "/..."); ok {
			return under(dir, folder)
		}
		return p == "*" || p == dir
	})
}

// layerOf returns the layer that decides for dir: an exact folder before the
// family ("drivers/*") before the folder above.
func layerOf(dir string) (layer, bool) {
	best, found := layer{}, false
	for _, l := range layers {
		folder, family := strings.CutSuffix(l.folder, "/*")
		if !under(dir, folder) || family && dir == folder {
			continue
		}
		if !found || len(l.folder) > len(best.folder) {
			best, found = l, true
		}
	}
	return best, found
}

// ours returns the folder of an import of this module.
func ours(imported string) (string, bool) {
	return strings.CutPrefix(imported, module+"/")
}

func eachImport(s source, visit func(spec *ast.ImportSpec, imported string)) {
	for _, spec := range s.file.Imports {
		// The parser has checked that it is a string.
		imported, _ := strconv.Unquote(spec.Path.Value)
		visit(spec, imported)
	}
}

func checkImports(s source, report func(token.Pos, string)) {
	l, known := layerOf(s.dir())
	if !known && s.dir() != "." {
		report(s.file.Package, "the package "+s.dir()+" has no layer; add it to the table")
		return
	}
	eachImport(s, func(spec *ast.ImportSpec, imported string) {
		target, ok := ours(imported)
		if !ok || target == s.dir() || matches(target, l.may) {
			return
		}
		if s.test() && (matches(target, inTests[""]) || matches(target, inTests[s.family()])) {
			return
		}
		report(spec.Pos(), s.dir()+" may not import "+target)
	})
}

// checkKinds keeps protocols and dialects out of everything but the one file
// that registers them.
func checkKinds(s source, report func(token.Pos, string)) {
	if s.path == "cmd/sluice/kinds.go" || s.bench() {
		return
	}
	eachImport(s, func(spec *ast.ImportSpec, imported string) {
		target, ok := ours(imported)
		if !ok || matches(target, []string{"drivers/driverstest", "uplink/uplinktest", "uplink/internal/..."}) {
			return
		}
		for _, family := range []string{"drivers", "uplink"} {
			if target != family && under(target, family) && !under(s.dir(), target) {
				report(spec.Pos(), "only cmd/sluice/kinds.go names "+target)
			}
		}
	})
}

// checkFakes keeps the stand-ins of central systems out of the gateway: cmd may
// import everything, but only its tests these.
func checkFakes(s source, report func(token.Pos, string)) {
	if s.test() || s.bench() || under(s.dir(), "internal/central") || under(s.dir(), "internal/torture") ||
		under(s.dir(), "internal/plantsim") || s.dir() == "uplink/uplinktest" {
		return
	}
	eachImport(s, func(spec *ast.ImportSpec, imported string) {
		if target, ok := ours(imported); ok && under(target, "internal/central") {
			report(spec.Pos(), "only tests, the bench, internal/torture and internal/plantsim import "+target)
		}
	})
}

func checkLibraries(s source, report func(token.Pos, string)) {
	eachImport(s, func(spec *ast.ImportSpec, imported string) {
		if _, ok := ours(imported); ok || !strings.Contains(strings.SplitN(imported, "/", 2)[0], ".") {
			return
		}
		i := slices.IndexFunc(libraries, func(l library) bool { return under(imported, l.module) })
		switch {
		case i < 0:
			report(spec.Pos(), imported+" is in no row of the table of libraries")
		case s.bench(), s.test() && libraries[i].tests, matches(s.dir(), libraries[i].where):
		default:
			report(spec.Pos(), s.dir()+" may not use "+imported)
		}
	})
}

// checkStd keeps out what starts programs, loads code, breaks types or serves
// debugging data behind our back.
func checkStd(s source, report func(token.Pos, string)) {
	eachImport(s, func(spec *ast.ImportSpec, imported string) {
		switch imported {
		case "os/exec":
			if !s.test() && !s.bench() && !under(s.dir(), "internal/torture") && !under(s.dir(), "internal/mutants") {
				report(spec.Pos(), "the gateway starts no programs")
			}
		case "plugin", "unsafe", "net/http/pprof", "expvar":
			report(spec.Pos(), imported+" is not used here")
		}
	})
}

func checkBlank(s source, report func(token.Pos, string)) {
	eachImport(s, func(spec *ast.ImportSpec, imported string) {
		if spec.Name == nil {
			return
		}
		switch {
		case spec.Name.Name == ".":
			report(spec.Pos(), "a dot import hides where names are from")
		case spec.Name.Name == "_" && imported != "embed" && imported != "time/tzdata":
			report(spec.Pos(), "an import for its side effect is a registration")
		}
	})
}

func checkForbidden(s source, report func(token.Pos, string)) {
	local := map[string]string{} // the name in this file → import path
	eachImport(s, func(spec *ast.ImportSpec, imported string) {
		name := path.Base(imported)
		if spec.Name != nil {
			name = spec.Name.Name
		}
		local[name] = imported
	})
	ast.Inspect(s.file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Ident:
			if why, bad := forbiddenWords[n.Name]; bad {
				report(n.Pos(), n.Name+": "+why)
			}
		case *ast.SelectorExpr:
			base, ok := n.X.(*ast.Ident)
			if !ok {
				return true
			}
			for _, f := range forbidden {
				if local[base.Name] == f.pkg && slices.Contains(f.names, n.Sel.Name) && !(f.tests && (s.test() || s.bench())) {
					report(n.Pos(), base.Name+"."+n.Sel.Name+": "+f.why)
				}
			}
		}
		return true
	})
}

func checkInit(s source, report func(token.Pos, string)) {
	for _, d := range s.file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
			report(f.Pos(), "nothing runs before main; main wires")
		}
	}
}

// checkSleep lets code sleep only where time is the test's own (in a bubble of
// testing/synctest), in a test's polling loop that looks at the clock, in a test
// that says why, and where time is what the code is about: simulators, negative
// controls and bench.
func checkSleep(s source, report func(token.Pos, string)) {
	simulated := s.bench() || under(s.dir(), "internal/plantsim") || under(s.dir(), "internal/faultnet")
	if simulated || strings.HasSuffix(s.path, "_chaos.go") {
		return
	}
	testing, bubble := s.test(), false
	eachImport(s, func(_ *ast.ImportSpec, imported string) {
		testing = testing || imported == "testing"
		bubble = bubble || imported == "testing/synctest"
	})
	if testing && bubble {
		return
	}
	explained := map[int]bool{} // lines with a comment on them or just above
	if testing {
		for _, c := range s.file.Comments {
			end := s.fset.Position(c.End()).Line
			explained[end], explained[end+1] = true, true
		}
	}
	bounded := map[ast.Node]bool{}
	ast.Inspect(s.file, func(n ast.Node) bool {
		if loop, ok := n.(*ast.ForStmt); ok && testing && uses(loop, "Now", "After", "Before", "Since", "Until") {
			ast.Inspect(loop, func(n ast.Node) bool { bounded[n] = true; return true })
		}
		if sel, ok := n.(*ast.SelectorExpr); ok && sel.Sel.Name == "Sleep" && !bounded[n] && !explained[s.fset.Position(n.Pos()).Line] {
			if base, ok := sel.X.(*ast.Ident); ok && base.Name == "time" {
				report(n.Pos(), "wait for what is awaited: a channel, testing/synctest, or polling with a deadline; else say why")
			}
		}
		return true
	})
}

// uses reports whether one of names is selected somewhere in n.
func uses(n ast.Node, names ...string) (found bool) {
	ast.Inspect(n, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		found = found || ok && slices.Contains(names, sel.Sel.Name)
		return !found
	})
	return found
}

func checkInterfaces(s source, report func(token.Pos, string)) {
	const most = 4
	if s.test() {
		return
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		i, ok := n.(*ast.InterfaceType)
		if ok && i.Methods.NumFields() > most {
			report(i.Pos(), fmt.Sprintf("an interface of %d methods; %d are enough", i.Methods.NumFields(), most))
		}
		return true
	})
}

// checkSize keeps a file to what a reader can hold, tests too: one idea a file.
func checkSize(s source, report func(token.Pos, string)) {
	const most = 500
	if lines := s.fset.File(s.file.Package).LineCount(); lines > most {
		report(s.file.Package, fmt.Sprintf("%d lines, and %d are enough: give its second idea a file of its own", lines, most))
	}
}

// checkComments wants exactly one package comment, of one paragraph, in each
// package. Tests carry none, except where a package has nothing else.
func checkComments(files []source) []violation {
	var found []violation
	packages := map[string][]source{}
	for _, f := range files {
		packages[f.dir()] = append(packages[f.dir()], f)
	}
	for dir, files := range packages {
		onlyTests := !slices.ContainsFunc(files, func(f source) bool { return !f.test() })
		var docs []source
		for _, f := range files {
			if f.file.Doc != nil && strings.TrimSpace(f.file.Doc.Text()) != "" && (onlyTests || !f.test()) {
				docs = append(docs, f)
			}
		}
		slices.SortFunc(docs, func(a, b source) int { return cmp.Compare(a.path, b.path) })
		switch {
		case len(docs) == 0:
			found = append(found, violation{"comment", dir, "has no package comment"})
		case len(docs) > 1:
			found = append(found, violation{"comment", docs[1].path, "a second package comment; the first is in " + docs[0].path})
		case strings.Contains(strings.TrimSpace(docs[0].file.Doc.Text()), "\n\n"):
			found = append(found, violation{"comment", docs[0].path, "the package comment is more than one paragraph"})
		}
	}
	return found
}
