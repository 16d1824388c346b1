package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/derive"
	"github.com/sluice-edge/sluice/derive/counter"
	"github.com/sluice-edge/sluice/derive/parameters"
	"github.com/sluice-edge/sluice/derive/startstop"
	"github.com/sluice-edge/sluice/drivers/modbus"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/mqtt"
)

var configPage = filepath.Join("..", "..", "docs", "config.md")

// documentedIn says under which heading of docs/config.md the keys of a type
// are.
var documentedIn = map[reflect.Type]string{
	reflect.TypeFor[config.Site]():          "`site`",
	reflect.TypeFor[config.Buffer]():        "`buffer`",
	reflect.TypeFor[config.HTTP]():          "`http`",
	reflect.TypeFor[modbus.Options]():       "`driver: modbus`",
	reflect.TypeFor[modbus.Tag]():           "A tag",
	reflect.TypeFor[derive.Options]():       "`machines`",
	reflect.TypeFor[derive.OrderOptions]():  "order",
	reflect.TypeFor[counter.Options]():      "counter",
	reflect.TypeFor[startstop.Options]():    "startstop",
	reflect.TypeFor[startstop.Running]():    "startstop",
	reflect.TypeFor[startstop.ReasonCode](): "startstop",
	reflect.TypeFor[parameters.Parameter](): "parameters",
	reflect.TypeFor[mqtt.Options]():         "`driver: mqtt`",
	reflect.TypeFor[uplink.Options]():       "Every uplink",
}

// TestEachKeyIsDocumented holds the tables of docs/config.md against the types
// that a config is decoded into: no key is missing, and none is invented.
func TestEachKeyIsDocumented(t *testing.T) {
	page := readPage(t, configPage)
	documented := keyTables(page)
	want := make(map[string][]string)
	seen := make(map[reflect.Type]bool)
	for _, root := range []reflect.Type{
		reflect.TypeFor[config.Site](), reflect.TypeFor[config.Buffer](), reflect.TypeFor[config.HTTP](),
		reflect.TypeFor[modbus.Options](), reflect.TypeFor[derive.Options](), reflect.TypeFor[mqtt.Options](),
	} {
		collectKeys(t, root, want, seen)
	}
	for heading, keys := range want {
		for _, key := range keys {
			if !slices.Contains(documented[heading], key) {
				t.Errorf("docs/config.md has no row for `%s` under %q", key, heading)
			}
		}
		for _, key := range documented[heading] {
			if !slices.Contains(keys, key) {
				t.Errorf("docs/config.md describes `%s` under %q, which no config has", key, heading)
			}
		}
	}
	for of := range documentedIn {
		if !seen[of] {
			t.Errorf("%s is part of no config any more", of)
		}
	}
	for _, name := range append(driverKinds.Names(), uplinkKinds.Names()...) {
		if _, ok := want["`driver: "+name+"`"]; !ok {
			t.Errorf("docs/config.md has no section for driver: %s", name)
		}
	}
}

// collectKeys adds the YAML names of a struct type, and of those below it, to
// the headings under which they must be described.
func collectKeys(t *testing.T, of reflect.Type, want map[string][]string, seen map[reflect.Type]bool) {
	t.Helper()
	if seen[of] {
		return
	}
	seen[of] = true
	heading, ok := documentedIn[of]
	if !ok {
		t.Errorf("%s has no section in docs/config.md", of)
		return
	}
	for i := range of.NumField() {
		f := of.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if _, tagged := f.Tag.Lookup("yaml"); !tagged || name == "-" {
			continue
		}
		if name != "" {
			want[heading] = append(want[heading], name)
		}
		if inner := keyed(f.Type); inner != nil {
			collectKeys(t, inner, want, seen)
		}
	}
}

// keyed returns the struct with YAML names that a field of type of leads to:
// itself, through a pointer, a list, a map, or the rows of a config.Table.
func keyed(of reflect.Type) reflect.Type {
	switch of.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		return keyed(of.Elem())
	case reflect.Struct:
		if rows, ok := of.FieldByName("Rows"); ok && rows.Type.Kind() == reflect.Slice {
			value, _ := rows.Type.Elem().FieldByName("Value")
			return keyed(value.Type)
		}
		for i := range of.NumField() {
			if _, tagged := of.Field(i).Tag.Lookup("yaml"); tagged {
				return of
			}
		}
	}
	return nil
}

// keyTables returns what the tables with the heading "key" have in their first
// column, under the heading of their section.
func keyTables(page string) map[string][]string {
	row := regexp.MustCompile("^\\| `([^`]+)` \\|")
	found := make(map[string][]string)
	heading, inTable := "", false
	for line := range strings.Lines(page) {
		switch {
		case strings.HasPrefix(line, "#"):
			heading, inTable = strings.TrimSpace(strings.TrimLeft(line, "#")), false
		case strings.HasPrefix(line, "| key |"):
			inTable = true
		case !strings.HasPrefix(line, "|"):
			inTable = false
		case inTable:
			if m := row.FindStringSubmatch(line); m != nil {
				found[heading] = append(found[heading], m[1])
			}
		}
	}
	return found
}

// fence is one block of code on a page.
type fence struct {
	language, file, text string
	line                 int
}

// fences returns the blocks of code. What follows the language is the name of
// the file that the block stands for.
func fences(page string) []fence {
	var all []fence
	open, at := false, 0
	for line := range strings.Lines(page) {
		at++
		info, mark := strings.CutPrefix(line, "```")
		switch {
		case mark && !open:
			language, file, _ := strings.Cut(strings.TrimSpace(info), " ")
			all = append(all, fence{language: language, file: file, line: at})
			open = true
		case mark:
			open = false
		case open:
			all[len(all)-1].text += line
		}
	}
	return all
}

// whole reports whether a block is a config by itself.
func (f fence) whole() bool {
	for _, section := range []string{"site", "devices", "machines", "uplinks"} {
		if !regexp.MustCompile(`(?m)^` + section + `:`).MatchString(f.text) {
			return false
		}
	}
	return true
}

// TestConfigsOfThePagesLoad loads each YAML block of the pages: a whole config by
// itself, a part beside the first whole one of its page, as fragments of one
// folder. Neither has a fault nor a warning.
func TestConfigsOfThePagesLoad(t *testing.T) {
	for _, c := range []struct {
		page         string
		whole, parts int
	}{
		{filepath.Join("..", "..", "README.md"), 1, 0},
		{configPage, 1, 6},
	} {
		blocks := fences(readPage(t, c.page))
		base, whole, parts := "", 0, 0
		for _, block := range blocks {
			if block.language != "yaml" {
				continue
			}
			folder := t.TempDir()
			if block.whole() {
				whole++
				if base == "" {
					base = block.text
				}
			} else {
				parts++
				write(t, folder, "base.yaml", []byte(base))
			}
			write(t, folder, "block.yaml", []byte(block.text))
			for _, table := range blocks {
				if table.language == "csv" {
					write(t, folder, table.file, []byte(table.text))
				}
			}
			provide(t, folder, base+block.text)
			_, faults := loadPlan(folder, driverKinds, uplinkKinds)
			for _, f := range faults {
				t.Errorf("%s, the block of line %d: %s", c.page, block.line, strings.ReplaceAll(f.String(), folder, ""))
			}
		}
		if whole < c.whole || parts < c.parts {
			t.Errorf("%s has %d whole configs and %d parts, want at least %d and %d", c.page, whole, parts, c.whole, c.parts)
		}
	}
}

// TestFaultOnThePageIsReal breaks the config of docs/config.md as the page says,
// and wants the line that the page shows.
func TestFaultOnThePageIsReal(t *testing.T) {
	t.Setenv("BROKER_PASSWORD", "for the test")
	page := readPage(t, configPage)
	blocks := fences(page)
	base := blocks[slices.IndexFunc(blocks, fence.whole)].text
	broken := strings.Replace(base, "type: uint32", "typ: uint32", 1)
	if broken == base {
		t.Fatal("the config has no type: uint32 to break")
	}
	folder := t.TempDir()
	write(t, folder, "sluice.yaml", []byte(broken))
	_, faults := loadPlan(filepath.Join(folder, "sluice.yaml"), driverKinds, uplinkKinds)
	if len(faults) != 1 {
		t.Fatalf("%d faults: %v", len(faults), faults)
	}
	line := strings.ReplaceAll(faults[0].String(), folder+string(filepath.Separator), "")
	if !strings.Contains(page, "\n"+line+"\n") {
		t.Errorf("the page does not show %q", line)
	}
}

func readPage(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func write(t *testing.T, folder, name string, content []byte) {
	t.Helper()
	file := filepath.Join(folder, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

var (
	envSecret  = regexp.MustCompile(`\benv:(\w+)`)
	fileSecret = regexp.MustCompile(`\bfile:([\w./-]+)`)
	pemFile    = regexp.MustCompile(`(?m)^\s+(?:ca|cert|key): (\S+)$`)
)

// provide makes the secrets and certificates that a config names.
func provide(t *testing.T, folder, text string) {
	t.Helper()
	for _, m := range envSecret.FindAllStringSubmatch(text, -1) {
		t.Setenv(m[1], "for the test")
	}
	for _, m := range fileSecret.FindAllStringSubmatch(text, -1) {
		write(t, folder, m[1], []byte("for the test\n"))
	}
	files := make(map[string]bool)
	for _, m := range pemFile.FindAllStringSubmatch(text, -1) {
		files[m[1]] = true
	}
	if len(files) == 0 {
		return
	}
	// One file may hold both, and is then good for each of the three keys.
	pair := certificate(t)
	for file := range maps.Keys(files) {
		write(t, folder, file, pair)
	}
}

// certificate returns a certificate that signs itself, and its key, in PEM.
func certificate(t *testing.T) []byte {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	about := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	cert, err := x509.CreateCertificate(rand.Reader, about, about, public, private)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...)
}
