package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/sluice-edge/sluice/docs"
	"github.com/sluice-edge/sluice/plant"
)

// printed runs a command and returns what it prints.
func printed(t *testing.T, args ...string) []byte {
	t.Helper()
	var out, talk bytes.Buffer
	if code := run(t.Context(), args, &out, &talk); code != 0 || talk.Len() > 0 {
		t.Fatalf("sluice %s: exit code %d, %q", strings.Join(args, " "), code, talk.String())
	}
	return out.Bytes()
}

// compile compiles a schema as it was printed, by the rules of its own draft.
func compile(t *testing.T, text []byte) *jsonschema.Schema {
	t.Helper()
	return definition(t, text, "")
}

// definition compiles what the fragment of a URL names in a schema.
func definition(t *testing.T, text []byte, fragment string) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("printed.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("printed.json" + fragment)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// byEditor validates a config as an editor does, which knows YAML but not our
// decoder.
func byEditor(t *testing.T, s *jsonschema.Schema, text string) error {
	t.Helper()
	var doc any
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	return s.Validate(doc)
}

// What the gateway takes, no editor underlines.
func TestSchemaTakesGoodConfigs(t *testing.T) {
	s, fragment := compile(t, printed(t, "schema", "config")), compile(t, printed(t, "schema", "config", "--fragment"))
	files, err := filepath.Glob(filepath.Join("..", "..", "config", "testdata", "*.good.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	examples := 0
	err = filepath.WalkDir(filepath.Join("..", "..", "deploy", "examples"), func(file string, _ fs.DirEntry, err error) error {
		if filepath.Ext(file) == ".yaml" {
			examples++
			files = append(files, file)
		}
		return err
	})
	if err != nil || examples == 0 || len(files) < examples+3 {
		t.Fatalf("%d files, of them %d examples: %v", len(files), examples, err)
	}
	for _, file := range files {
		if err := byEditor(t, s, readPage(t, file)); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	for _, page := range []string{filepath.Join("..", "..", "README.md"), configPage} {
		for _, block := range fences(readPage(t, page)) {
			if block.language != "yaml" {
				continue
			}
			if err := byEditor(t, fragment, block.text); err != nil {
				t.Errorf("%s, the block of line %d: %v", page, block.line, err)
			}
			if err := byEditor(t, s, block.text); (err == nil) != block.whole() {
				t.Errorf("%s, the block of line %d, whole is %v: %v", page, block.line, block.whole(), err)
			}
		}
	}
}

const edited = `
site: {enterprise: acme, site: lisbon, area: packing}
buffer: {quota: 2 GiB, keep: 7d}
devices:
  press-plc: {driver: modbus, endpoint: 10.0.0.7:502, unit: 1, interval: 250ms, tags: {made: {address: "holding:0", type: uint32, writable: false, scale: 0.1}, bad: holding:2}}
  filler-plc: {driver: opcua, endpoint: "opc.tcp://127.0.0.1:4840", tags: {made: ns=2;s=Line.Made}}
machines:
  PRESS-01: {device: press-plc, mode: setup, counter: {total: made, scrap: {BURR: bad}, max_rate: 20/s}, parameters: {made: {tag: made, deadband: 2%}}, order: {tag: made, pattern: '\d+'}}
uplinks:
  broker: {driver: mqtt, url: "tls://mes.example:8883", user: sluice, password: env:BROKER_PASSWORD, kinds: [counter]}
`

// What an editor should underline, it does, and where.
func TestSchemaRefusesBadConfigs(t *testing.T) {
	s := compile(t, printed(t, "schema", "config"))
	if err := byEditor(t, s, edited); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, old, text, where string }{
		{"unknown section", "site: {", "sight: {}\nsite: {", ""},
		{"unknown key of site", "area: packing", "area: packing, hall: 3", "/site"},
		{"missing area", ", area: packing", "", "/site"},
		{"no uplinks", "uplinks:\n", "buffer2:\n", ""},
		{"empty uplinks", edited[strings.Index(edited, "uplinks:"):], "uplinks: {}", "/uplinks"},
		{"unknown driver", "driver: modbus", "driver: modbuss", "/devices/press-plc"},
		{"driver of the other side", "driver: mqtt", "driver: opcua", "/uplinks/broker"},
		{"missing driver", "driver: modbus, ", "", "/devices/press-plc"},
		{"missing tags", "tags: {made: ns=2;s=Line.Made}", "", "/devices/filler-plc"},
		{"unknown key of a device", "interval:", "intervall:", "/devices/press-plc"},
		{"key of another driver", "interval:", "publishing:", "/devices/press-plc"},
		{"text for a number", "unit: 1,", `unit: "1",`, "/devices/press-plc/unit"},
		{"fraction", "unit: 1,", "unit: 1.5,", "/devices/press-plc/unit"},
		{"no unit of time", "interval: 250ms", "interval: 250", "/devices/press-plc/interval"},
		{"unknown unit of time", "keep: 7d", "keep: 7 days", "/buffer/keep"},
		{"unknown unit of size", "2 GiB", "2G", "/buffer/quota"},
		{"no rate", "20/s", "20", "/machines/PRESS-01/counter/max_rate"},
		{"yes for true", "writable: false", "writable: no", "/devices/press-plc/tags"},
		{"unknown key of a tag", "type: uint32", "typ: uint32", "/devices/press-plc/tags"},
		{"scale of words", "scale: 0.1", "scale: tenth", "/devices/press-plc/tags"},
		{"list of tags", "tags: {made: ns=2;s=Line.Made}", "tags: [made]", "/devices/filler-plc/tags"},
		{"unknown rule", "counter: {", "count: {", "/machines/PRESS-01"},
		{"unknown mode", "mode: setup", "mode: holiday", "/machines/PRESS-01/mode"},
		{"misspelt key of an order", "tag: made, pattern", "tags: made, pattern", "/machines/PRESS-01/order"},
		{"no value", "device: press-plc", "device:", "/machines/PRESS-01/device"},
		{"name with a slash", "PRESS-01:", "PRESS/01:", "': invalid propertyName 'PRESS/01'"},
		{"clear text", "env:BROKER_PASSWORD", "hunter2", "/uplinks/broker/password"},
		{"missing url", `url: "tls://mes.example:8883", `, "", "/uplinks/broker"},
		{"unknown kind of event", "[counter]", "[counters]", "/uplinks/broker/kinds"},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := strings.Replace(edited, c.old, c.text, 1)
			if text == edited {
				t.Fatalf("%q is not there", c.old)
			}
			err := byEditor(t, s, text)
			if err == nil {
				t.Fatal("no fault")
			}
			if !strings.Contains(err.Error(), "at '"+c.where) {
				t.Errorf("the fault is elsewhere: %v", err)
			}
			if _, faults := loadPlan(writeConfig(t, text), driverKinds, uplinkKinds); len(faults.Errors()) == 0 {
				t.Error("the gateway takes what the schema refuses")
			}
		})
	}
}

const worded = `
site: {enterprise: acme, site: lisbon, area: packing}
devices:
  plc: {driver: modbus, endpoint: 10.0.0.7:502, tags: {made: {address: "holding:0", type: uint32}, state: holding:2, code: holding:3, kilos: {address: "holding:4", unit: kg}, lot: holding:5, offer: holding:10, ack: {address: "holding:11", writable: true}}}
machines:
  PRESS-01:
    device: plc
    counter: {total: made, max_rate: 20/s, jump: count, baseline: first}
    startstop: {running: {tag: state, values: [3]}, reason: code, reason_take: last}
    dosing: {method: handshake, trigger: offer, ack: ack, protocol: level, component: SUGAR, quantity: kilos}
uplinks:
  hook: {driver: rest, url: "https://mes.example/", method: POST, results: read, conflict: refused}
`

// scales are the keys that each method of dosing needs.
var scales = map[string]string{
	"totalizer":      "total: kilos, component: SUGAR, min_dose: 1 kg, max_rate: 1 kg/s",
	"continuous":     "weight: kilos, component: SUGAR, min_dose: 1 kg",
	"gain_in_weight": "weight: kilos, while: offer, component: SUGAR, min_dose: 1 kg",
	"batch_out":      "weight: kilos, while: offer, component: SUGAR, min_dose: 1 kg",
}

// The words that the schema offers for plain text are those that the gateway
// takes: each of them, and no other. They come from a page that people write.
func TestSchemaOffersTheWordsOfTheGateway(t *testing.T) {
	s := compile(t, printed(t, "schema", "config"))
	keys := docs.ConfigKeys()
	for _, c := range []struct{ heading, key, now string }{
		{"counter", "jump", "count"},
		{"counter", "baseline", "first"},
		{"startstop", "reason_take", "last"},
		{"A handshake", "protocol", "level"},
		{"dosing", "method", "handshake"},
		{"`driver: rest`", "method", "POST"},
		{"`driver: rest`", "results", "read"},
		{"`driver: rest`", "conflict", "refused"},
	} {
		words := keys[c.heading][c.key].Words()
		if !slices.Contains(words, c.now) {
			t.Fatalf("the page has the words %q for %s, and no %s", words, c.key, c.now)
		}
		for _, word := range append(words, "nonsense") {
			text := strings.Replace(worded, c.key+": "+c.now, c.key+": "+word, 1)
			if word == "ring" { // which needs more than a word
				text = strings.NewReplacer("quantity: kilos", "slots: 2, quantity: kilos#", "kilos: {", `kilos0: "holding:6", kilos1: "holding:7", kilos: {`).Replace(text)
			}
			if keys, ok := scales[word]; ok {
				text = strings.Replace(text, "trigger: offer, ack: ack, protocol: level, component: SUGAR, quantity: kilos", keys, 1)
			}
			_, faults := loadPlan(writeConfig(t, text), driverKinds, uplinkKinds)
			schema, gateway := byEditor(t, s, text) == nil, len(faults.Errors()) == 0
			if want := word != "nonsense"; schema != want || gateway != want {
				t.Errorf("%s: %s: the schema takes it: %v, the gateway: %v, want %v; %v", c.key, word, schema, gateway, want, faults.Errors())
			}
		}
	}
}

// An editor says of every key what docs/config.md says of it.
func TestSchemaDescribesEveryKey(t *testing.T) {
	var doc any
	if err := json.Unmarshal(printed(t, "schema", "config"), &doc); err != nil {
		t.Fatal(err)
	}
	described := 0
	var walk func(at string, node any, root bool)
	walk = func(at string, node any, root bool) {
		switch node := node.(type) {
		case []any:
			for i, child := range node {
				walk(fmt.Sprintf("%s/%d", at, i), child, false)
			}
		case map[string]any:
			properties, _ := node["properties"].(map[string]any)
			for key, property := range properties {
				if text, _ := property.(map[string]any)["description"].(string); text != "" {
					described++
				} else if !root && key != "driver" {
					t.Errorf("%s: nothing is said of %s", at, key)
				}
			}
			for key, child := range node {
				walk(at+"/"+key, child, false)
			}
		}
	}
	walk("", doc, true)
	if described < 150 {
		t.Errorf("%d keys are described", described)
	}
}

// Of the faults of the corpus an editor shows those that one value or one key
// has; what compares keys, addresses and files only the gateway knows.
func TestSchemaRefusesItsPartOfTheCorpus(t *testing.T) {
	s := compile(t, printed(t, "schema", "config"))
	files, err := filepath.Glob(filepath.Join("..", "..", "config", "testdata", "*.bad.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for _, file := range files {
		var doc any
		if yaml.Unmarshal([]byte(readPage(t, file)), &doc) == nil && s.Validate(doc) != nil {
			refused++
		}
	}
	if refused < 40 {
		t.Errorf("of %d bad configs an editor underlines %d only", len(files), refused)
	}
}

func TestSchemaOfEvents(t *testing.T) {
	all := printed(t, "schema", "events")
	for _, k := range plant.EventKinds() {
		one := compile(t, printed(t, "schema", "events", string(k)))
		if one.ID != plant.SchemaURI(k, 1) {
			t.Errorf("%s is %s", k, one.ID)
		}
		if bundled := definition(t, all, "#/$defs/"+string(k)+".v1"); bundled.ID != one.ID {
			t.Errorf("%s is bundled as %s", k, bundled.ID)
		}
	}
	alarm := definition(t, all, "#/$defs/alarm.v1")
	for text, valid := range map[string]bool{
		`{"machine":"PRESS-01","mode":"production","alarm":"held","raised":true,"text":"was refused"}`:  true,
		`{"machine":"PRESS-01","mode":"production","alarm":"held","raised":"yes","text":"was refused"}`: false,
		`{"machine":"PRESS-01","mode":"production"}`:                                                    false,
	} {
		doc, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := alarm.Validate(doc); (err == nil) != valid {
			t.Errorf("%s: valid is %v, want %v", text, err == nil, valid)
		}
	}
	var out, talk bytes.Buffer
	if code := run(t.Context(), []string{"schema", "events", "count"}, &out, &talk); code != exitUsage || out.Len() > 0 || !strings.Contains(talk.String(), `no kind of event "count"`) || !strings.Contains(talk.String(), "item_attach") {
		t.Errorf("got %d, %q, %q", code, out.String(), talk.String())
	}
}
