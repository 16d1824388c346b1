// Package sluice_test keeps the house rules of docs/ARCHITECTURE.md: who may
// import whom, which library is used where, and what no file may hold. It parses
// the files itself, so the test cache sees each of them, and no tool is needed.
package sluice_test

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
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
	{"docs", nil},
	{"config", []string{"plant"}},
	{"buffer", []string{"plant", "config", "internal/durable", "internal/fault"}},
	{"derive", []string{"plant", "config", "derive/..."}},
	{"internal/card", []string{"config"}},
	{"drivers", []string{"plant", "config", "internal/backoff", "internal/pki"}},
	{"drivers/*", []string{"drivers", "plant", "config", "internal/card", "internal/kind", "internal/backoff", "internal/pki", "internal/durable"}},
	{"drivers/driverstest", []string{"drivers", "plant", "config", "internal/faultnet"}},
	{"uplink", []string{"plant", "config", "internal/backoff", "internal/fault"}},
	{"uplink/*", []string{"uplink", "uplink/internal/...", "plant", "config", "internal/card", "internal/kind", "internal/backoff", "internal/fault"}},
	{"uplink/uplinktest", []string{"uplink", "plant", "config", "internal/faultnet", "internal/central"}},
	{"status", []string{"plant", "config", "drivers", "derive", "buffer", "uplink", "internal/journal", "internal/balance"}},
	{"internal/kind", []string{"config"}},
	{"internal/schematest", []string{"plant"}},
	{"internal/memlog", []string{"plant"}},
	{"internal/backoff", nil},
	{"internal/audit", []string{"internal/durable", "internal/fault"}},
	{"internal/balance", []string{"plant"}},
	{"internal/durable", nil},
	{"internal/pki", []string{"internal/durable"}},
	{"internal/journal", []string{"plant", "uplink"}},
	{"internal/admin", []string{"plant", "config", "buffer", "derive/ledger", "uplink", "internal/audit", "internal/journal", "internal/pki", "internal/recording"}},
	// A recording holds what rules take, so it knows them; no rule knows it.
	{"internal/recording", []string{"plant", "config", "derive/...", "internal/durable"}},
	{"internal/faultnet", nil},
	{"internal/nobody", nil},
	{"internal/fault", nil},
	{"internal/central", []string{"internal/central/..."}},
	{"internal/plantsim", []string{"plant", "internal/plantsim/...", "internal/central/...", "internal/faultnet", "firmware-notes/blocks"}},
	{"firmware-notes/blocks", nil},
	// The simulation joins the rooms as cmd does, over a store and lines of its own.
	{"internal/sim", []string{"plant", "config", "derive/...", "drivers", "uplink"}},
	{"internal/mutants", nil},
	{"internal/torture", []string{"*"}},
	{"internal/torture/*", nil},
	{"cmd", []string{"*"}},
	{"bench", []string{"*"}},
}

// inTests is what a _test.go file may import besides what its package may. The
// conformance suites are for their own family only; each runs on the example of
// its page in docs/, too, which exports a Kind.
var inTests = map[string][]string{
	"":        {"internal/faultnet", "internal/memlog", "internal/nobody", "internal/plantsim/...", "internal/schematest", "internal/central/..."},
	"drivers": {"drivers/driverstest", "internal/kind"},
	"uplink":  {"uplink/uplinktest", "internal/kind"},
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
	{"github.com/dgraph-io/ristretto/v2/z", []string{"buffer"}, false}, // how Badger maps its files
	{"github.com/goburrow/modbus", []string{"drivers/modbus"}, false},
	{"github.com/goburrow/serial", []string{"drivers/modbus", "drivers/line"}, false},
	{"github.com/gopcua/opcua", []string{"drivers/opcua", "internal/plantsim/..."}, true},
	{"github.com/eclipse/paho.mqtt.golang", []string{"uplink/internal/mqttsession"}, true},
	{"github.com/sony/gobreaker", []string{"drivers", "uplink"}, false},
	{"github.com/simonvetter/modbus", []string{"internal/plantsim/..."}, true},
	{"github.com/mochi-mqtt/server", []string{"internal/plantsim/..."}, true},
	{"github.com/goccy/go-yaml", []string{"config"}, true},
	{"github.com/expr-lang/expr", []string{"derive/formula"}, false},
	{"github.com/alecthomas/kong", []string{"cmd/..."}, false},
	{"github.com/coreos/go-systemd", []string{"cmd/..."}, false},
	{"github.com/prometheus", []string{"status"}, false},
	{"github.com/santhosh-tekuri/jsonschema", []string{"internal/schematest"}, true},
	{"pgregory.net/rapid", nil, true},
	{"go.uber.org/zap", []string{"buffer", "derive", "derive/ledger", "drivers/...", "uplink/...", "status", "internal/admin", "internal/journal", "internal/recording", "internal/plantsim/...", "cmd/..."}, true},
	{"golang.org/x/sys", []string{"buffer", "derive", "internal/admin", "cmd/...", "internal/torture/disk"}, true},
	{"github.com/Microsoft/go-winio", []string{"internal/admin"}, false},
	{"github.com/hanwen/go-fuse", []string{"internal/torture/disk"}, false},
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
	{"fakes", checkFakes},
	{"library", checkLibraries},
	{"std", checkStd},
	{"blank", checkBlank},
	{"forbidden", checkForbidden},
	{"init", checkInit},
	{"sleep", checkSleep},
	{"interface", checkInterfaces},
	{"size", checkSize},
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

// TestInvariantsNameTheirGuards holds the table of docs/ARCHITECTURE.md against
// the tests that there are: a guard that was renamed or removed is missed.
func TestInvariantsNameTheirGuards(t *testing.T) {
	const invariants = 15
	text, err := os.ReadFile("docs/ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	files, _, err := load(os.DirFS("."))
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]bool{}
	for _, f := range files {
		for _, d := range f.file.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && f.test() && fn.Recv == nil {
				tests[fn.Name.Name] = true
			}
		}
	}
	row := regexp.MustCompile(`(?m)^\| (\d+) \| .* \| (.*) \|$`)
	name := regexp.MustCompile("`((?:Test|Fuzz)\\w+)`")
	rows := row.FindAllStringSubmatch(string(text), -1)
	if len(rows) != invariants {
		t.Errorf("the table has %d invariants, want %d", len(rows), invariants)
	}
	for i, r := range rows {
		if r[1] != strconv.Itoa(i+1) {
			t.Errorf("invariant %s is in the place of %d", r[1], i+1)
		}
		guards := name.FindAllStringSubmatch(r[2], -1)
		if len(guards) == 0 {
			t.Errorf("invariant %s names no test", r[1])
		}
		for _, g := range guards {
			if !tests[g[1]] {
				t.Errorf("invariant %s is guarded by %s, which does not exist", r[1], g[1])
			}
		}
	}
}

// TestEachPackageIsOnTheMap holds the code map of docs/ARCHITECTURE.md against the
// packages that there are. In a row a name without a slash is beside the one before.
func TestEachPackageIsOnTheMap(t *testing.T) {
	text, err := os.ReadFile("docs/ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := bytes.Cut(text, []byte("## Code map"))
	text, _, ends := bytes.Cut(text, []byte("\n## "))
	if !found || !ends {
		t.Fatal("there is no code map, or nothing behind it")
	}
	files, _, err := load(os.DirFS("."))
	if err != nil {
		t.Fatal(err)
	}
	packages := map[string]bool{} // folder → it is on the map
	for _, f := range files {
		if f.dir() != "." {
			packages[f.dir()] = false
		}
	}
	row, name := regexp.MustCompile(`(?m)^\| (`+"`"+`[^|]*) \|`), regexp.MustCompile("`([^`]+)`")
	for _, r := range row.FindAllSubmatch(text, -1) {
		last := ""
		for _, m := range name.FindAllSubmatch(r[1], -1) {
			dir := string(m[1])
			if last != "" && !strings.Contains(dir, "/") {
				dir = path.Join(path.Dir(last), dir)
			}
			if _, known := packages[dir]; !known && dir != "arch_test.go" {
				t.Errorf("the code map has %s, which is no package", dir)
			}
			packages[dir], last = true, dir
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(packages)) {
		if !packages[dir] {
			t.Errorf("the package %s is not on the code map of docs/ARCHITECTURE.md", dir)
		}
	}
}

// TestDocumentsLinkToWhatThereIs follows every relative link of every page, to the
// file and to the heading in it.
func TestDocumentsLinkToWhatThereIs(t *testing.T) {
	pages := map[string]string{}
	tree := os.DirFS(".")
	err := fs.WalkDir(tree, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (p == "bin" || p == ".git") {
			return fs.SkipDir
		}
		if path.Ext(p) != ".md" {
			return nil
		}
		text, err := fs.ReadFile(tree, p)
		pages[p] = string(text)
		return err
	})
	if err != nil || len(pages) < 5 {
		t.Errorf("%d pages were read: %v", len(pages), err)
	}
	link := regexp.MustCompile(`\]\(([^)#\s]*)(?:#([^)\s]*))?\)`)
	for p, text := range pages {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			target, heading := path.Join(path.Dir(p), m[1]), m[2]
			if m[1] == "" {
				target = p
			}
			if strings.Contains(m[1], "://") {
				continue
			}
			if _, err := fs.Stat(tree, target); err != nil {
				t.Errorf("%s links to %s, which does not exist", p, m[1])
			}
			if to, page := pages[target]; page && heading != "" && !anchors(to)[heading] {
				t.Errorf("%s links to #%s of %s, which has no such heading", p, heading, target)
			}
		}
	}
}

// anchors returns how the headings of a page are linked to: in lower case, with
// hyphens for blanks and without any other sign, as the hosts of git show pages.
func anchors(page string) map[string]bool {
	all, code := map[string]bool{}, false
	for line := range strings.Lines(page) {
		code = code != strings.HasPrefix(line, "```")
		title := strings.TrimLeft(line, "#")
		if code || title == line {
			continue
		}
		all[strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-', r == '_', unicode.IsLetter(r), unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, strings.TrimSpace(title))] = true
	}
	return all
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
