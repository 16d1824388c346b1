package status

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/plant"
)

// driverErrors returns what the drivers can say, as their sources have it: each
// text of an errors.New or fmt.Errorf, and of what becomes one.
func driverErrors(t *testing.T, driver string) (texts []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "drivers", driver, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		source, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(source, func(n ast.Node) bool {
			if table, ok := n.(*ast.ValueSpec); ok && slices.Contains(tables, table.Names[0].Name) {
				texts = append(texts, literals(t, table)...)
			}
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) == 0 {
				return true
			}
			name := ""
			switch f := call.Fun.(type) {
			case *ast.SelectorExpr:
				if x, ok := f.X.(*ast.Ident); ok {
					name = x.Name + "." + f.Sel.Name
				}
			case *ast.Ident:
				name = f.Name
			}
			if text, ok := call.Args[0].(*ast.BasicLit); ok && text.Kind == token.STRING && slices.Contains([]string{"errors.New", "fmt.Errorf", "protocolError"}, name) {
				text, err := strconv.Unquote(text.Value)
				if err != nil {
					t.Fatal(err)
				}
				if name == "protocolError" {
					text = "the device does not keep to the protocol: " + text
				}
				texts = append(texts, text)
			}
			return true
		})
	}
	slices.Sort(texts)
	return slices.Compact(texts)
}

// tables are the variables and constants of drivers that hold such texts.
var tables = []string{"causes", "remedies", "wrongLogin", "wrongChannel", "untrusted", "missingList"}

func literals(t *testing.T, in ast.Node) (texts []string) {
	t.Helper()
	ast.Inspect(in, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			text, err := strconv.Unquote(lit.Value)
			if err != nil {
				t.Fatal(err)
			}
			texts = append(texts, text)
		}
		return true
	})
	return texts
}

var (
	verbs = regexp.MustCompile(`%[ .0-9]*[a-zA-Z]`)
	// wraps is an error that only says where another one happened.
	wraps = regexp.MustCompile(`^[^%]*(?:%[sqdv][^%]*){0,3}: %w$|^%[ws]: %w$|^%s \(%s\)$|^%w[:;] `)
)

// TestEachErrorOfADriverHasItsRemedy holds the page's words against the sources of
// the drivers: testdata/device-errors.txt lists each error, and what the page tells
// to do about it, for people to read. An error without a remedy fails, and so does
// a remedy that has changed; -update writes the file anew.
func TestEachErrorOfADriverHasItsRemedy(t *testing.T) {
	// silent are those that never reach the page of a device: of a write, which the
	// machine's problem counts, of a driver to itself, and of a stop.
	silent := regexp.MustCompile(`the node holds another type|may not be written|does not take such a write|out of the node.s range|is no truth value|is no whole number|does not fit|is no number|cannot be written|tag room for|^nothing came$|answers to one write|the device that sent the line is gone|` +
		`the session of this write is over|the config does not allow writing|^not connected$|does not answer now|no place for one more client|no certificate$|it is damaged|` +
		// Parts of others: of an answer that is not decoded, of a structure.
		`^it (ends|would|has) |^it cannot be decoded|bytes are left$|^an array of|the union has no field|^encrypt: `)
	golden := filepath.Join("testdata", "device-errors.txt")
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, driver := range []string{"", "modbus", "line", "opcua"} {
		for _, text := range driverErrors(t, driver) {
			if silent.MatchString(text) {
				continue
			}
			cause := verbs.ReplaceAllStringFunc(text, func(verb string) string {
				switch verb[len(verb)-1] {
				case 'd':
					return "7"
				case 'v':
					return "1s"
				case 'x':
					return "01 02"
				case 'T':
					return "*ua.ReadResponse"
				default:
					return "…"
				}
			})
			d := &drivers.Stats{Driver: driver}
			do, ofTag := deviceAdvice(cause), tagAdvice(d, cause)
			known, ofTagKnown := do != strangeAdvice && do != unknownAdvice, ofTag != tagAdvice(d, "something that nobody knows")
			switch {
			case !known && !ofTagKnown && wraps.MatchString(text):
				continue // it says where, another one what
			case !known && !ofTagKnown:
				t.Errorf("%s: the page has no remedy for %q: add one to status/devicewords.go", driver, text)
			case !known || ofTagKnown && do == look(deviceRemedies, "the server says"):
				do = "(of a tag) " + ofTag
			}
			line := fmt.Sprintf("%s\t%s\n\t\t%s\n", "drivers/"+driver, cause, do)
			if said := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta("drivers/"+driver+"\t"+cause+"\n\t\t") + `.*\n`).Find(want); said != nil && string(said) != line && !*update {
				t.Errorf("the page now says:\n%sand %s:\n%s", line, golden, said)
			}
			b.WriteString(line)
		}
	}
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// A device that plainly answers is never said to be switched off.
func TestWhoAnswersIsNotSaidToBeOff(t *testing.T) {
	for _, cause := range []string{
		"opcua: connect x: an answer of the server is longer than 1048576 bytes: read less at once, or raise max_message",
		"opcua: connect x: an answer of the server is not decoded: it ends in the middle of a value",
		"opcua: connect x: the server says (BadTooManyOperations 0x80100000)",
		"opcua: connect x: an answer of the wrong type *ua.ServiceFault",
		"opcua: connect x: the server says (BadIdentityTokenInvalid 0x80200000)",
		"modbus: read from 10.0.0.7:502: no answer within 150ms",
		"modbus: read from 10.0.0.7:502: no answer within 150ms, but one came after 300ms: raise timeout above that",
		"modbus: read from 10.0.0.7:502: the device does not keep to the protocol: an answer to function 4 instead of 3",
		"modbus: read from line hall, unit 7: what came is whole, but no answer to this request (it is to function 4, and 3 was asked for)",
		"line: read from 10.0.0.7:4001: no answer to `S` within 1s",
		"something that nobody ever saw",
	} {
		do := deviceAdvice(cause)
		if strings.Contains(do, "switched on") || strings.Contains(do, "cable, address") || do == "" {
			t.Errorf("deviceAdvice(%q) = %q", cause, do)
		}
	}
	// An OPC UA server has no unit id.
	for _, cause := range []string{"opcua: connect x: the server gives no answer within 2s: context deadline exceeded", "opcua: read from x: the server gives no answer within 2s"} {
		if do := deviceAdvice(cause); strings.Contains(do, "unit id") || !strings.Contains(do, "timeout") {
			t.Errorf("deviceAdvice(%q) = %q", cause, do)
		}
	}
	if do := deviceAdvice("modbus: connect 10.0.0.7:502: no connection within 1s"); !strings.Contains(do, "switched on") {
		t.Errorf("of a device that is not there: %q", do)
	}
}

// Many tags with one fault are one problem, though each cause names its own
// address.
func TestTagsThatFailAlikeAreOneProblem(t *testing.T) {
	snap := wellPlant()
	d := &snap.Devices[0]
	d.Driver, d.BadTags, d.BadSince = "modbus", map[plant.TagID]string{}, map[plant.TagID]time.Time{}
	for i := range 12 {
		d.BadTags[plant.TagID(fmt.Sprintf("a%02d", i))] = fmt.Sprintf("the device answered exception 2 (illegal data address) to holding:%d…%d — the device has nothing there", 10*i, 10*i+3)
		d.BadTags[plant.TagID(fmt.Sprintf("n%02d", i))] = fmt.Sprintf("the server has no such node (BadNodeIdUnknown 0x80340000): ns=2;s=Line.%d", i)
		d.BadTags[plant.TagID(fmt.Sprintf("f%02d", i))] = fmt.Sprintf("not a number (registers hold 0x7FC0000%d): the device has no value, or the word order is wrong", i%10)
	}
	d.BadTags["b"] = "the device answered exception 3 (illegal data value) to holding:7"
	ps := Problems(snap)
	if len(ps) != 4 {
		t.Fatalf("%d problems: %+v", len(ps), ps)
	}
	for _, p := range ps[:3] {
		if !strings.Contains(p.What, "12 tags") || !strings.Contains(p.Cause, "and 7 more") || !strings.HasSuffix(p.Cause, "(the others alike)") {
			t.Errorf("%+v", p)
		}
	}
	if p := ps[3]; !strings.Contains(p.What, "1 tag ") || strings.Contains(p.Cause, "alike") {
		t.Errorf("%+v", p)
	}
}

// A scanner's problems are not those of a PLC.
func TestAdviceOfALineIsNotOfAPLC(t *testing.T) {
	d := &drivers.Stats{Driver: "line"}
	for _, cause := range []string{
		"the scale does not know the command (ES, syntax error): check poll: and on_connect:, which are in capital letters", "the scale is overloaded (status +)",
		"no line has come yet", "the line `x` does not match the pattern", "something new",
		"no device has called :4001 yet: let it connect to this computer's address and port",
		"the line `x` is none: no end of the line came within 2s: let the device send CR or LF behind each line, or say in end: what it sends",
		"the line `x` had no place in the queue (queue, max_rate), like those whose numbers are missing before it",
	} {
		if do := tagAdvice(d, cause); do == "" || strings.Contains(do, "PLC") || strings.Contains(do, "word order") {
			t.Errorf("tagAdvice(%q) = %q", cause, do)
		}
	}
}

// adviceOf is what the page says: of a device if a driver names the cause.
func adviceOf(cause string) string {
	for _, driver := range []string{"modbus: ", "line: ", "line ", "opcua: ", "the device answered"} {
		if strings.HasPrefix(cause, driver) {
			return deviceAdvice(cause)
		}
	}
	return advice(cause)
}
