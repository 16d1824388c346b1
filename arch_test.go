// Package sluice_test keeps the house rules of docs/ARCHITECTURE.md: who may
// import whom, which library is used where, and what no file may hold. It parses
// the files itself, so the test cache sees each of them, and no tool is needed.
package sluice_test

import (
	"cmp"
	"errors"
	"fmt"
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

const module = "github.com/sluice-edge/sluice"

// topLevel names the folders at the top. A new one needs an ADR.
var topLevel = []string{
	"cmd", "drivers", "buffer", "uplink", "config", "deploy", "firmware-notes",
	"plant", "derive", "status", "internal", "docs", "bench", "tools", ".ci",
}

// layer says what the packages under a folder may import of this module. The
// longest folder that holds a package decides. A name ending in "/..." stands
// for everything below it; "*" for everything.
type layer struct {
	folder string
	may    []string
}

var layers = []layer{
	{"plant", nil},
	{"config", []string{"plant"}},
	{"buffer", []string{"plant", "config"}},
	{"derive", []string{"plant", "config", "derive/..."}},
	{"drivers", []string{"plant", "config", "internal/backoff"}},
	{"drivers/*", []string{"drivers", "plant", "config", "internal/kind", "internal/backoff"}},
	{"drivers/driverstest", []string{"drivers", "plant", "config", "internal/faultnet"}},
	{"uplink", []string{"plant", "config", "internal/backoff"}},
	{"uplink/*", []string{"uplink", "uplink/internal/...", "plant", "config", "internal/kind", "internal/backoff"}},
	{"uplink/uplinktest", []string{"uplink", "plant", "config", "internal/faultnet"}},
	{"status", []string{"plant", "config", "drivers", "derive", "buffer", "uplink"}},
	{"internal/kind", []string{"config"}},
	{"internal/backoff", nil},
	{"internal/faultnet", nil},
	{"internal/plantsim", []string{"plant", "internal/plantsim/...", "internal/faultnet"}},
	{"cmd", []string{"*"}},
	{"bench", []string{"*"}},
}

// inTests is what a _test.go file may import besides what its package may. The
// conformance suites are for their own family only.
var inTests = map[string][]string{
	"":        {"internal/faultnet", "internal/plantsim/..."},
	"drivers": {"drivers/driverstest"},
	"uplink":  {"uplink/uplinktest"},
}

// library says where a module that is not ours may be imported: exactly those
// packages ("/..." for what is below, too), all tests if tests is set, and bench
// always, since it measures the bare libraries.
type library struct {
	module string
	where  []string
	tests  bool
}

var libraries = []library{
	{"github.com/dgraph-io/badger", []string{"buffer"}, false},
	{"github.com/goburrow/modbus", []string{"drivers/modbus"}, false},
	{"github.com/gopcua/opcua", []string{"drivers/opcua", "internal/plantsim/..."}, true},
	{"github.com/eclipse/paho.mqtt.golang", []string{"uplink/internal/mqttsession"}, true},
	{"github.com/sony/gobreaker", []string{"drivers", "uplink"}, false},
	{"github.com/simonvetter/modbus", []string{"internal/plantsim/..."}, true},
	{"github.com/mochi-mqtt/server", []string{"internal/plantsim/..."}, true},
	{"github.com/goccy/go-yaml", []string{"config"}, true},
	{"github.com/alecthomas/kong", []string{"cmd/..."}, false},
	{"github.com/coreos/go-systemd", []string{"cmd/..."}, false},
	{"github.com/prometheus", []string{"status"}, false},
	{"github.com/santhosh-tekuri/jsonschema", nil, true},
	{"pgregory.net/rapid", nil, true},
	{"go.uber.org/zap", []string{"buffer", "derive", "drivers/...", "uplink/...", "status", "internal/plantsim/...", "cmd/..."}, true},
	{"golang.org/x/sys", []string{"buffer", "cmd/..."}, true},
	{"golang.org/x/time", []string{"drivers", "uplink"}, true},
}

// forbidden are names of packages that no file may use, except tests and bench
// where that is said.
var forbidden = []struct {
	pkg   string
	names []string
	tests bool
	why   string
}{
	{"net/http", []string{"DefaultServeMux", "DefaultClient", "DefaultTransport", "Handle", "HandleFunc", "Get", "Head", "Post", "PostForm", "ListenAndServe", "ListenAndServeTLS"}, true,
		"the process-wide mux and client have no limits and are open to every library"},
	{"go.uber.org/zap", []string{"L", "S", "ReplaceGlobals"}, false, "the logger is injected"},
	{"github.com/prometheus/client_golang/prometheus", []string{"DefaultRegisterer", "DefaultGatherer", "Register", "MustRegister"}, false, "the registry is our own"},
}

// forbiddenWords may be no identifier anywhere, whatever it belongs to.
var forbiddenWords = map[string]string{
	"InsecureSkipVerify": "a server whose certificate is not checked is anybody",
	"RunValueLogGC":      "Badger's value log GC brings deleted events back (ADR 0006)",
}

// source is one parsed file; Path is relative to the root, with slashes.
type source struct {
	path string
	file *ast.File
	fset *token.FileSet
}

func (s source) dir() string    { return path.Dir(s.path) }
func (s source) test() bool     { return strings.HasSuffix(s.path, "_test.go") }
func (s source) bench() bool    { return under(s.dir(), "bench") }
func (s source) family() string { return strings.SplitN(s.path, "/", 2)[0] }

// violation is a broken rule at a place.
type violation struct{ rule, at, what string }

func (v violation) String() string { return v.at + ": " + v.rule + ": " + v.what }

// fileRules look at one file each.
var fileRules = []struct {
	name  string
	check func(source, func(token.Pos, string))
}{
	{"import", checkImports},
	{"kinds", checkKinds},
	{"library", checkLibraries},
	{"std", checkStd},
	{"blank", checkBlank},
	{"forbidden", checkForbidden},
	{"init", checkInit},
	{"sleep", checkSleep},
	{"interface", checkInterfaces},
}

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
			if !s.test() && !s.bench() {
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
// testing/synctest) or is what the code is about: simulators and bench.
func checkSleep(s source, report func(token.Pos, string)) {
	if s.bench() || under(s.dir(), "internal/plantsim") || under(s.dir(), "internal/faultnet") {
		return
	}
	bubble := false
	eachImport(s, func(_ *ast.ImportSpec, imported string) { bubble = bubble || imported == "testing/synctest" })
	if s.test() && bubble {
		return
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok && sel.Sel.Name == "Sleep" {
			if base, ok := sel.X.(*ast.Ident); ok && base.Name == "time" {
				report(n.Pos(), "wait for what is awaited: a channel, testing/synctest, or bounded polling by a ticker")
			}
		}
		return true
	})
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

// load parses every Go file of the tree and names the folders at its top.
func load(tree fs.FS) (files []source, folders []string, err error) {
	err = fs.WalkDir(tree, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			// bin is where make builds; .git is git's.
			if p == "bin" || p == ".git" || d.Name() == "testdata" {
				return fs.SkipDir
			}
			if p != "." && !strings.Contains(p, "/") {
				folders = append(folders, p)
			}
			return nil
		}
		if path.Ext(p) != ".go" {
			return nil
		}
		text, err := fs.ReadFile(tree, p)
		if err != nil {
			return err
		}
		f, err := parse(p, string(text))
		files = append(files, f)
		return err
	})
	return files, folders, err
}

func parse(name, text string) (source, error) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
	return source{path: name, file: file, fset: fset}, err
}

// TestArchitecture holds the tree against the rules.
func TestArchitecture(t *testing.T) {
	files, folders, err := load(os.DirFS("."))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 10 || len(folders) < 5 {
		t.Fatalf("only %d files in %d folders found; is the test run at the root?", len(files), len(folders))
	}
	for _, v := range check(files, folders) {
		t.Error(v)
	}
}

// TestEachRuleCanFail breaks each rule on purpose, and does the same thing right
// where a rule could be too eager.
func TestEachRuleCanFail(t *testing.T) {
	ran := map[string]bool{"folder": false, "comment": false}
	for _, r := range fileRules {
		ran[r.name] = false
	}
	for _, b := range breaches {
		t.Run(b.rule+"/"+b.name, func(t *testing.T) {
			var files []source
			for i, text := range append([]string{b.text}, b.more...) {
				f, err := parse(b.path, text)
				if err != nil {
					t.Fatal(err)
				}
				if i > 0 {
					f.path = path.Join(path.Dir(b.path), fmt.Sprintf("more%d.go", i))
				}
				files = append(files, f)
			}
			var got []violation
			for _, v := range check(files, b.folders) {
				if v.rule == "comment" && b.rule != "comment" {
					continue // the snippets are too short for comments
				}
				got = append(got, v)
			}
			hit := slices.ContainsFunc(got, func(v violation) bool {
				return v.rule == b.rule && strings.Contains(v.String(), b.want)
			})
			if b.fine && len(got) > 0 {
				t.Errorf("is right, but was found: %v", got)
			}
			if !b.fine && !hit {
				t.Errorf("got %v, want one of rule %s with %q", got, b.rule, b.want)
			}
		})
		ran[b.rule] = ran[b.rule] || !b.fine
	}
	for rule, seen := range ran {
		if !seen {
			t.Errorf("no snippet breaks the rule %s", rule)
		}
	}
}

// TestLoadReportsABrokenFile keeps a file that does not parse from being passed
// over in silence.
func TestLoadReportsABrokenFile(t *testing.T) {
	if _, err := parse("plant/x.go", "package plant\nfunc {"); err == nil {
		t.Error("no error for a file that does not parse")
	}
	if _, _, err := load(os.DirFS("no such folder")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing tree gives %v", err)
	}
}
