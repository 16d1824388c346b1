package config

import (
	"encoding/json"
	"reflect"
	"regexp"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// What the patterns say of a text is what the types say of it.
func TestPatternsAreWhatTheTypesRead(t *testing.T) {
	for _, c := range []struct {
		into  any
		texts []string
	}{
		{new(Duration), []string{"250ms", "5s", "5 s", "1h30m", "1h 30m", "7d", "1.5w", ".5s", "0", "+5s", " 2h ", "10us", "5", "", "1 5s", "5 sec", "-5s", "7D", "5s,", "1d12h", "0,1s", "ms", "5min"}},
		{new(Size), []string{"512 MiB", "2GiB", "2 GB", "1.5 kB", "100 KB", "7 B", " 1 TiB ", "2G", "64", "", "MiB", "-1 MiB", "1,5 GiB", "1 mib"}},
		{new(Rate), []string{"20/s", "40/min", "1200/h", "20 / s", "0.5/d", "20", "20/m", "/s", "-1/s", "20/s/s", "1,5/s", ""}},
	} {
		typ := reflect.TypeOf(c.into).Elem()
		name, schema := ownSchema(typ)
		pattern := regexp.MustCompile(schema["pattern"].(string))
		for _, text := range c.texts {
			if read := unmarshal(typ, text) == nil; read != pattern.MatchString(text) {
				t.Errorf("%s %q: the type reads it: %v, the pattern says otherwise", name, text, read)
			}
		}
	}
	pattern := regexp.MustCompile(nameSchema()["pattern"].(string))
	for _, name := range []string{"a", "PRESS 01", "Acme GmbH & Co", "äöü", "", " a", "a ", "_a", "$a", "a/b", "a+b", "a#b", `a\b`, "a_b$"} {
		if usable := unusable(name) == ""; usable != pattern.MatchString(name) {
			t.Errorf("the name %q: usable is %v, the pattern says otherwise", name, usable)
		}
	}
}

type sized struct {
	Keep  Duration `yaml:"keep"`
	Quota Size     `yaml:"quota"`
}

type inner struct {
	Tag   string        `yaml:"tag,required"`
	Scale plant.Decimal `yaml:"scale"`
}

// UnmarshalText reads the short form.
func (i *inner) UnmarshalText(b []byte) error { i.Tag = string(b); return nil }

type everything struct {
	sized    `yaml:",inline"`
	Count    int16             `yaml:"count,required"`
	Large    uint64            `yaml:"large"`
	Factor   *float32          `yaml:"factor"`
	On       bool              `yaml:"on"`
	Mode     plant.Mode        `yaml:"mode"`
	Password Secret            `yaml:"password"`
	Word     string            `yaml:"word"`
	Words    []string          `yaml:"words"`
	Codes    map[string]string `yaml:"codes"`
	Inner    inner             `yaml:"inner"`
	Rows     Table[inner]      `yaml:"rows"`
	Max      Rate              `yaml:"max"`
	Hidden   chan int
}

func TestSchemaFollowsTheTags(t *testing.T) {
	factor := float32(0.5)
	machine := everything{
		sized: sized{Keep: Duration(90 * time.Minute), Quota: 64 << 20},
		Count: 3, Factor: &factor, Word: "as is", Password: NewSecret("hunter2"), Max: Rate{Count: 20, Per: time.Second},
	}
	describe := func(of reflect.Type, key string) Described {
		switch of.String() + " " + key {
		case "config.sized keep":
			return Described{Text: "how long"}
		case "config.everything word":
			return Described{Text: "which", Words: []string{"as is", "other"}}
		case "config.everything on", "config.everything mode": // they say it themselves
			return Described{Words: []string{"true", "false"}}
		case "config.everything inner":
			return Described{Text: "what is in it"}
		case "config.Site timezone":
			return Described{Text: "where the clock hangs"}
		}
		return Described{}
	}
	b, err := json.Marshal(Schema([]Part{{"bus", struct{}{}}}, []Part{{"post", sized{}}}, Part{Options: machine}, Part{Options: struct{}{}}, describe, false))
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Required   []string
		Properties struct {
			Site     struct{ Properties map[string]json.RawMessage }
			Machines struct {
				AdditionalProperties struct {
					AdditionalProperties bool
					Required             []string
					Properties           map[string]json.RawMessage
				}
			}
		}
		Defs map[string]json.RawMessage `json:"$defs"`
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	got := doc.Properties.Machines.AdditionalProperties
	if !reflect.DeepEqual(got.Required, []string{"count"}) || got.AdditionalProperties || len(doc.Required) != 4 {
		t.Errorf("required %v of %v, additional %v", got.Required, doc.Required, got.AdditionalProperties)
	}
	want := map[string]string{
		"keep":     `{"$ref":"#/$defs/duration","default":"90m","description":"how long"}`,
		"quota":    `{"$ref":"#/$defs/size","default":"64 MiB"}`,
		"count":    `{"default":3,"maximum":32767,"minimum":-32768,"type":"integer"}`,
		"large":    `{"minimum":0,"type":"integer"}`,
		"factor":   `{"default":0.5,"type":"number"}`,
		"on":       `{"type":"boolean"}`,
		"mode":     `{"enum":["production","setup","maintenance","commissioning","out_of_service"]}`,
		"password": `{"$ref":"#/$defs/secret"}`,
		"word":     `{"default":"as is","description":"which","enum":["as is","other"]}`,
		"words":    `{"anyOf":[{"type":["string","number","boolean"]},{"items":{"type":["string","number","boolean"]},"type":"array"}]}`,
		"codes":    `{"additionalProperties":{"type":["string","number","boolean"]},"type":"object"}`,
		"inner":    `{"$ref":"#/$defs/config.inner","description":"what is in it"}`,
		"max":      `{"$ref":"#/$defs/rate","default":"20/s"}`,
	}
	for name, text := range want {
		if string(got.Properties[name]) != text {
			t.Errorf("%s is\n%s, want\n%s", name, got.Properties[name], text)
		}
	}
	if len(got.Properties) != len(want)+1 { // and rows
		t.Errorf("%d properties", len(got.Properties))
	}
	if tz := string(doc.Properties.Site.Properties["timezone"]); tz != `{"description":"where the clock hangs; an IANA name, for example Europe/Lisbon; UTC if it is not set","type":"string"}` {
		t.Errorf("timezone is %s", tz)
	}
	const long = `{"anyOf":[{"type":["string","number","boolean"]},{"additionalProperties":false,"properties":{"scale":{"$ref":"#/$defs/plant.Decimal"},"tag":{"type":["string","number","boolean"]}},"required":["tag"],"type":"object"}]}`
	if string(doc.Defs["config.inner"]) != long {
		t.Errorf("inner is %s", doc.Defs["config.inner"])
	}
}

// A type that Decode would panic on must not reach a schema either.
func TestSchemaOfAnImpossibleField(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a channel in a config")
		}
	}()
	Schema([]Part{{"bus", struct {
		C chan int `yaml:"c"`
	}{}}}, []Part{{"post", sized{}}}, Part{Options: sized{}}, Part{Options: sized{}}, nil, false)
}

func TestWrittenDurationsReadBack(t *testing.T) {
	for _, d := range []Duration{1, 1500, Duration(time.Millisecond), Duration(90 * time.Second), Duration(36 * time.Hour), Duration(14 * 24 * time.Hour)} {
		var again Duration
		if err := again.UnmarshalText([]byte(d.written())); err != nil || again != d {
			t.Errorf("%d is written %s and read %d, %v", d, d.written(), again, err)
		}
	}
}
