package main

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"maps"
	"math/big"
	"net/url"
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
	"github.com/sluice-edge/sluice/docs"
	"github.com/sluice-edge/sluice/internal/schematest"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

var configPage = filepath.Join("..", "..", "docs", "config.md")

// TestEachKeyIsDocumented holds the tables of docs/config.md against the types
// that a config is decoded into: no key is missing, none is invented, and each
// default is the one that the code has.
func TestEachKeyIsDocumented(t *testing.T) {
	empty, _ := config.Load(filepath.Join(t.TempDir(), "none.yaml"))
	empty.Site.Gateway = "" // the computer's name, which no page can know
	k := &keys{t: t, documented: docs.ConfigKeys(), want: make(map[string][]string), seen: make(map[string]bool)}
	for _, options := range []any{empty.Site, empty.Buffer, empty.HTTP, empty.Log, lineKind.Defaults(), derive.Options{}} {
		k.collect(reflect.ValueOf(options))
	}
	for _, name := range driverKinds.Names() {
		found, _ := driverKinds.Lookup(name)
		k.collect(reflect.ValueOf(found.Defaults()))
	}
	for _, name := range uplinkKinds.Names() {
		found, _ := uplinkKinds.Lookup(name)
		k.collect(reflect.ValueOf(found.Defaults()))
	}
	for heading, want := range k.want {
		for key := range k.documented[heading] {
			if !slices.Contains(want, key) {
				t.Errorf("docs/config.md describes `%s` under %q, which no config has", key, heading)
			}
		}
	}
	for of := range documentedIn {
		if !k.seen[of] {
			t.Errorf("%s is part of no config any more", of)
		}
	}
}

// keys walks through the types of a config.
type keys struct {
	t *testing.T
	// documented has each key under its heading; want has the keys that there are.
	documented map[string]map[string]docs.Key
	want       map[string][]string
	seen       map[string]bool
}

// collect checks the keys of a struct, which holds the defaults, and of those
// below it.
func (k *keys) collect(v reflect.Value) {
	k.t.Helper()
	of := v.Type()
	if k.seen[of.String()] {
		return
	}
	k.seen[of.String()] = true
	heading := headingOf(of)
	if len(k.documented[heading]) == 0 {
		k.t.Errorf("docs/config.md has no section for the keys of %s", of)
		return
	}
	for i := range of.NumField() {
		tag, tagged := of.Field(i).Tag.Lookup("yaml")
		name, flags, _ := strings.Cut(tag, ",")
		switch {
		case !tagged || name == "-":
			continue
		case flags == "inline":
			k.collect(v.Field(i))
			continue
		}
		k.want[heading] = append(k.want[heading], name)
		doc, ok := k.documented[heading][name]
		if !ok {
			k.t.Errorf("docs/config.md has no row for `%s` under %q", name, heading)
			continue
		}
		k.compare(heading+" "+name, doc.Default, v.Field(i))
		if inner := keyed(of.Field(i).Type); inner != nil {
			k.collect(reflect.Zero(inner))
		}
	}
}

// compare checks the default that the page gives: the first `value` of the
// column, as a config would have it.
func (k *keys) compare(what, text string, v reflect.Value) {
	k.t.Helper()
	if v.IsZero() {
		return // its type has no other default, or zero stands for one
	}
	_, text, _ = strings.Cut(text, "`")
	text, _, _ = strings.Cut(text, "`")
	got := reflect.New(reflect.StructOf([]reflect.StructField{{Name: "Value", Type: v.Type(), Tag: reflect.StructTag(`yaml:"value"`)}}))
	section, _ := config.ParseSection("page", "page.yaml", "value: "+quoteText(v, text))
	if faults := section.Decode(got.Interface()); len(faults) > 0 {
		k.t.Errorf("%s: the default on the page is no value: %v", what, faults)
		return
	}
	if !reflect.DeepEqual(got.Elem().Field(0).Interface(), v.Interface()) {
		k.t.Errorf("%s: the page gives the default `%s`, the code has %v", what, text, v.Interface())
	}
}

// quoteText quotes what a config must quote.
func quoteText(v reflect.Value, text string) string {
	if v.Kind() == reflect.String {
		return "'" + text + "'"
	}
	return text
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
// itself, a part beside the first whole one of its page, or else of docs/config.md,
// as fragments of one folder. Neither has a fault nor a warning.
func TestConfigsOfThePagesLoad(t *testing.T) {
	for _, c := range []struct {
		page         string
		whole, parts int
	}{
		{filepath.Join("..", "..", "README.md"), 1, 0},
		{configPage, 1, 7},
		{filepath.Join("..", "..", "docs", "rest.md"), 0, 3},
	} {
		blocks := fences(readPage(t, c.page))
		base, whole, parts := "", 0, 0
		if c.whole == 0 {
			all := fences(readPage(t, configPage))
			base = all[slices.IndexFunc(all, fence.whole)].text
		}
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
			if !block.whole() { // a device alone is used by nobody, which is only doubtful
				faults = faults.Errors()
			}
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
	t.Setenv("BROKER_PASSWORD", "for-the-test")
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

// TestExamplesOnThePagesAreReal wants each piece of Go on a page word for word
// in the tested file that it names.
func TestExamplesOnThePagesAreReal(t *testing.T) {
	root := filepath.Join("..", "..")
	for _, name := range []string{"adding-a-driver.md", "adding-an-uplink.md"} {
		shown := 0
		for _, block := range fences(readPage(t, filepath.Join(root, "docs", name))) {
			if block.language != "go" {
				continue
			}
			shown++
			if !strings.Contains(readPage(t, filepath.Join(root, filepath.FromSlash(block.file))), block.text) {
				t.Errorf("docs/%s, the block of line %d is not in %s", name, block.line, block.file)
			}
		}
		if shown < 3 {
			t.Errorf("docs/%s shows %d pieces of code", name, shown)
		}
	}
}

// TestEnvelopeIsDocumented holds docs/events.md against the attributes that an
// event can have.
func TestEnvelopeIsDocumented(t *testing.T) {
	sent := uplink.AppendCloudEvent(nil, &plant.Event{
		Gateway: "gw-1", Source: "/acme/lisbon/packing/FILLER-01", Machine: "FILLER-01", Epoch: 0x9f3a0000000000c1,
		Sequence: 1234567, Previous: 1234560, Kind: plant.KindCounter, Version: 1, Time: time.Unix(1774745999, 0),
		TimeSource: plant.DeviceTime, ClockOffset: -2 * time.Millisecond, ClockStep: time.Second, TimeUncertain: true,
		Data: []byte(`{"machine":"FILLER-01","good":12}`),
	})
	var attributes map[string]json.RawMessage
	if err := json.Unmarshal(sent, &attributes); err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(readPage(t, filepath.Join("..", "..", "docs", "events.md")), "| attribute | content |\n")
	table, _, _ = strings.Cut(table, "\n\n")
	rows := regexp.MustCompile("(?m)^\\| `(\\w+)` \\|").FindAllStringSubmatch(table, -1)
	for _, row := range rows {
		if _, ok := attributes[row[1]]; !ok {
			t.Errorf("docs/events.md describes %s, which no event has", row[1])
		}
		delete(attributes, row[1])
	}
	for name := range attributes {
		t.Errorf("docs/events.md does not describe %s", name)
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
		t.Setenv(m[1], "for-the-test")
	}
	for _, m := range fileSecret.FindAllStringSubmatch(text, -1) {
		write(t, folder, m[1], []byte("for-the-test\n"))
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

// certificate returns a certificate that signs itself, and its key, in PEM. It is
// of RSA and names a URI, as OPC UA asks for.
func certificate(t *testing.T) []byte {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	about := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().AddDate(1, 0, 0), IsCA: true, BasicConstraintsValid: true,
		URIs: []*url.URL{{Scheme: "urn", Opaque: "sluice:test"}},
	}
	cert, err := x509.CreateCertificate(rand.Reader, about, about, &private.PublicKey, private)
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

// The page for receivers has an example of each kind, and each is one that its
// schema takes.
func TestEachKindHasAnExample(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "events.md"))
	if err != nil {
		t.Fatal(err)
	}
	schemas, err := schematest.Load()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^`([a-z_]+)`:\n\n```json\n(.*)\n```$").FindAllStringSubmatch(string(page), -1) {
		found[m[1]] = m[2]
	}
	for _, kind := range plant.EventKinds() {
		example, ok := found[string(kind)]
		if !ok {
			t.Errorf("%s has no example", kind)
			continue
		}
		if err := schemas.Check(kind, 1, []byte(example)); err != nil {
			t.Error(err)
		}
	}
}
