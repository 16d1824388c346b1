package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// entry types of the tests.
type point struct {
	Address string  `yaml:"address,required"`
	Type    string  `yaml:"type"`
	Scale   float64 `yaml:"scale"`
	Codes   []int   `yaml:"codes"`
}

func (p *point) UnmarshalText(b []byte) error {
	if len(b) > 40 {
		return errors.New("an address this long — write a shorter one")
	}
	p.Address = string(b)
	return nil
}

func (p point) Validate() error {
	if p.Address == "nowhere" {
		return Field("address", "leads nowhere", "write another")
	}
	return nil
}

type base struct {
	Timeout Duration `yaml:"timeout"`
}

type state int

func (s *state) UnmarshalText(b []byte) error {
	switch string(b) {
	case "run":
		*s = 1
	case "stop":
		*s = 2
	default:
		return fmt.Errorf("`%s` is no state", b)
	}
	return nil
}

type limits struct {
	Low  int `yaml:"low"`
	High int `yaml:"high,required"`
}

func (l *limits) Validate() error {
	if l.Low > l.High {
		return errors.Join(Field("low", "is above high", "swap the two"), Warn("", "odd limits", "look again"))
	}
	return nil
}

// coded is a row with a mapping in it.
type coded struct {
	Type  string            `yaml:"type,required"`
	Names map[string]string `yaml:"names"`
}

type settings struct {
	base    `yaml:",inline"`
	Text    string            `yaml:"text"`
	Flag    bool              `yaml:"flag"`
	MaybeOn *bool             `yaml:"maybe"`
	Small   int8              `yaml:"small"`
	Unit    uint8             `yaml:"unit"`
	Big     uint64            `yaml:"big"`
	Number  float64           `yaml:"number"`
	Every   Duration          `yaml:"every"`
	Quota   Size              `yaml:"quota"`
	MaxRate Rate              `yaml:"max_rate"`
	Key     Secret            `yaml:"key"`
	Cert    Path              `yaml:"cert"`
	Words   []string          `yaml:"words"`
	Numbers []int             `yaml:"numbers"`
	Codes   map[string]string `yaml:"codes"`
	States  map[int]state     `yaml:"states"`
	State   state             `yaml:"state"`
	Limits  *limits           `yaml:"limits"`
	Ranges  []limits          `yaml:"ranges"`
	Named   map[string]limits `yaml:"named"`
	Points  Table[point]      `yaml:"points"`
	Plain   Table[string]     `yaml:"plain"`
	NotHere int               `yaml:"-"`
	Coded   Table[coded]      `yaml:"coded"`
}

// decodeText decodes text over defaults and returns the faults with "-" for the
// name of the config file.
func decodeText(t *testing.T, text string, into any) []string {
	t.Helper()
	s, faults := ParseSection("s", "-", text)
	if len(faults) == 0 {
		faults = s.Decode(into)
	}
	return messages(faults)
}

func messages(faults Faults) []string {
	var out []string
	for _, f := range faults {
		out = append(out, strings.TrimPrefix(f.String(), "-:"))
	}
	return out
}

func same(t *testing.T, got, want []string) {
	t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

func TestDecodeGood(t *testing.T) {
	t.Setenv("SLUICE_TEST_KEY", "hunter2")
	got := settings{Text: "default", Words: []string{"default"}, Codes: map[string]string{"old": "x"}, Number: 7}
	text := `
timeout: 2s
text: 0012345
flag: true
maybe: false
small: -128
unit: 255
big: 18446744073709551615
every: 250ms
quota: 64 MiB
max_rate: 20/s
key: env:SLUICE_TEST_KEY
cert: tls/ca.pem
words: one
numbers: [1, 2, +3]
codes: {007: 1e3, on: yes, 0x1F: "null", 12: 'it''s'}
states: {1: run, 2: stop}
state: run
limits: {high: 3}
ranges: {low: 1, high: 2}
named: {a: {high: 1}}
points:
  a: "40001"
  b: {address: 0002, type: uint16, codes: 5}
plain: {x: 1.50}
`
	same(t, decodeText(t, text, &got), nil)
	off := false
	want := settings{
		base: base{Timeout: Duration(2 * time.Second)}, Text: "0012345", Flag: true, MaybeOn: &off, Small: -128, Unit: 255, Big: 1<<64 - 1,
		Number: 7, Every: Duration(250 * time.Millisecond), Quota: 64 << 20, MaxRate: Rate{20, time.Second},
		Key: NewSecret("hunter2"), Cert: Path(filepath.Join("tls", "ca.pem")), Words: []string{"one"}, Numbers: []int{1, 2, 3},
		Codes:  map[string]string{"007": "1e3", "on": "yes", "0x1F": "null", "12": "it's"},
		States: map[int]state{1: 1, 2: 2}, State: 1, Limits: &limits{High: 3}, Ranges: []limits{{1, 2}}, Named: map[string]limits{"a": {High: 1}},
		Points: Table[point]{Rows: []Row[point]{
			{Name: "a", Value: point{Address: "40001"}, At: Position{"-", 23, 3}},
			{Name: "b", Value: point{Address: "0002", Type: "uint16", Codes: []int{5}}, At: Position{"-", 24, 3}},
		}},
		Plain: Table[string]{Rows: []Row[string]{{Name: "x", Value: "1.50", At: Position{"-", 25, 9}}}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
}

// Text is what the file says, whatever YAML would make of it.
func TestDecodeTextAsWritten(t *testing.T) {
	for _, text := range []string{
		"0012345", "007", "1e3", "0x1F", "0o17", "1_000", "on", "yes", "True", "NaN", ".inf", "2024-01-02", "5:30", "+5", "-0", "1.50", "a b", "20/s", "ä/ö",
	} {
		var got settings
		same(t, decodeText(t, "text: "+text, &got), nil)
		if got.Text != text {
			t.Errorf("%q became %q", text, got.Text)
		}
		var key struct {
			Codes map[string]string `yaml:"codes"`
		}
		same(t, decodeText(t, "codes:\n  "+text+": "+text, &key), nil)
		if key.Codes[text] != text {
			t.Errorf("%q became %q", text, key.Codes)
		}
	}
}

func TestDecodeFaults(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"intervall: 5s", "1:1: s: unknown key `intervall` — choose from `timeout`, `text`, `flag`, `maybe`, `small`, `unit`, `big`, `number`, `every`, `quota`, `max_rate`, `key`, …"},
		{"evry: 5s", "1:1: s: unknown key `evry` — did you mean `every`?"},
		{"internal: 5", "1:1: s: unknown key `internal` — choose from `timeout`, `text`, `flag`, `maybe`, `small`, `unit`, `big`, `number`, `every`, `quota`, `max_rate`, `key`, …"},
		{"flag: yes", "1:7: s.flag: `yes` where true or false is expected — write true"},
		{"flag: off", "1:7: s.flag: `off` where true or false is expected — write false"},
		{"flag: True", "1:7: s.flag: `True` where true or false is expected — write true or false"},
		{"flag: \"true\"", "1:7: s.flag: the text \"true\" where true or false is expected — remove the quotes"},
		{"flag: maybe", "1:7: s.flag: `maybe` where true or false is expected — write true or false"},
		{"flag:", "1:1: s.flag: no value — write true or false or remove the key"},
		{"text: ~", "1:1: s.text: no value — write text or remove the key; quote it if the text `~` is meant"},
		{"text: [a]", "1:7: s.text: a list where text is expected — write text"},
		{"{text: [tls://n:8883]}", "1:8: s.text: a list where text is expected — write text"},
		{"{words: [tls://n:8883]}", "1:10: s.words[0]: `tls://n:8883` is torn apart at its colon, as all is in brackets — write it in quotes: \"tls://n:8883\""},
		{"{words: [a: 1]}", "1:10: s.words[0]: a mapping where text is expected — write text"},
		{"text:\n  a: 1", "1:1: s.text: a mapping where text is expected — write text"},
		{"small: 128", "1:8: s.small: `128` is out of range — write a whole number from -128 to 127"},
		{"unit: 256", "1:7: s.unit: `256` is out of range — write a whole number from 0 to 255"},
		{"unit: -1", "1:7: s.unit: `-1` is out of range — write a whole number from 0 to 255"},
		{"big: 18446744073709551616", "1:6: s.big: `18446744073709551616` is out of range — write a whole number from 0 to 18446744073709551615"},
		{"unit: 1.5", "1:7: s.unit: `1.5` where a whole number is expected — write a whole number"},
		{"unit: 0x10", "1:7: s.unit: `0x10` where a whole number is expected — write a whole number"},
		{"unit: 1_0", "1:7: s.unit: `1_0` where a whole number is expected — write a whole number"},
		{"unit: 007", "1:7: s.unit: `007` has leading zeros where a whole number is expected — write it without them"},
		{"unit: \"7\"", "1:7: s.unit: the text \"7\" where a whole number is expected — remove the quotes"},
		{"number: 00.5", "1:9: s.number: `00.5` has leading zeros where a number is expected — write it without them"},
		{"number: 1,5", "1:9: s.number: a decimal comma in `1,5` — write 1.5"},
		{"number: 1,500", "1:9: s.number: a decimal comma in `1,500` — write 1.500, or 1500 if thousands are meant"},
		{"number: 1,5s", "1:9: s.number: `1,5s` where a number is expected — write a number"},
		{"number: .nan", "1:9: s.number: `.nan` where a number is expected — write a number"},
		{"number: 0x1p4", "1:9: s.number: `0x1p4` where a number is expected — write a number"},
		{"number: 1e999", "1:9: s.number: `1e999` is out of range — write a smaller number"},
		{"every: 5", "1:8: s.every: `5` is no duration — write a number and a unit, for example 250ms, 5s, 2h or 7d"},
		{"every: 1 5s", "1:8: s.every: `1 5s` is no duration — write a number and a unit, for example 250ms, 5s, 2h or 7d"},
		{"every: 1,5s", "1:8: s.every: a decimal comma in `1,5s` — write 1.5s"},
		{"{max_rate: 2,5/s, unit: 3}", "1:12: s.max_rate: a decimal comma in `2,5/s` — write 2.5/s"},
		{"{number: 0,5}", "1:10: s.number: a decimal comma in `0,5` — write 0.5; a list stands in brackets: [0, 5]"},
		{"{number: 0, 5}", "1:13: s: unknown key `5` — choose from `timeout`, `text`, `flag`, `maybe`, `small`, `unit`, `big`, `number`, `every`, `quota`, `max_rate`, `key`, …"},
		{"every: {a: 1}", "1:8: s.every: a mapping where one value is expected — write one value"},
		{"quota: 5", "1:8: s.quota: `5` is no size — write a number and a unit, for example 64 MiB or 2 GiB"},
		{"max_rate: 5", "1:11: s.max_rate: `5` is no rate — write a number above 0 per s, min, h or d, for example 20/s or 40/min"},
		{"key: hunter2", "1:6: s.key: a secret in clear text — write env:NAME or file:PATH, and change the secret, since it was in a file that is copied around"},
		{"key: \"env:\"", "1:6: s.key: a secret in clear text — write env:NAME or file:PATH, and change the secret, since it was in a file that is copied around"},
		{"key: env:SLUICE_TEST_UNSET", "1:6: warning: s.key: the environment variable SLUICE_TEST_UNSET is not set — it must be there when the service starts, for example from its systemd unit"},
		{"key: ENV:hunter2", "1:6: s.key: `ENV:` is not known — write env:, in lower case"},
		{"key: \"${HUNTER}\"", "1:6: s.key: a config does not fill in `${HUNTER}` as a shell does — write env:HUNTER"},
		{"key: $hunter2", "1:6: s.key: a secret in clear text — write env:NAME or file:PATH, and change the secret, since it was in a file that is copied around"},
		{"key: file:/run/credentials/sluice-none.service/x", "1:6: warning: s.key: the secret cannot be read: stat /run/credentials/sluice-none.service/x: no such file or directory — it must be there when the service starts: LoadCredential= in its systemd unit"},
		{"key: [env:A]", "1:6: s.key: a list where env:NAME or file:PATH is expected — write env:NAME or file:PATH"},
		{"cert: \"\"", "1:7: s.cert: quoted text where the path of a file is expected — write the path of a file"},
		{"words:", "1:1: s.words: no value — write a list or remove the key"},
		{"words: [a, [b]]", "1:12: s.words[1]: a list where text is expected — write text"},
		{"numbers: [1, x, 007]", "1:14: s.numbers[1]: `x` where a whole number is expected — write a whole number\n" +
			"1:17: s.numbers[2]: `007` has leading zeros where a whole number is expected — write it without them"},
		{"codes: [a]", "1:8: s.codes: a list where a mapping is expected — write a mapping"},
		{"states: {x: run, 2: go}", "1:10: s.states.x: `x` where a whole number is expected — write a whole number\n1:21: s.states.2: `go` is no state"},
		{"limits: {}", "1:9: s.limits: required key `high` is missing — add `high:`"},
		{"limits:\n  low: 1", "1:1: s.limits: required key `high` is missing — add `high:`"},
		{"limits: 5", "1:9: s.limits: `5` where a mapping of keys is expected — write keys, for example {low: …}; there are `low`, `high`"},
		{"limits: {low: 2, high: 1}", "1:9: warning: s.limits: odd limits — look again\n1:15: s.limits.low: is above high — swap the two"},
		{"ranges:\n- {low: 1, high: 2}\n- {low: 3, high: 2}", "3:3: warning: s.ranges[1]: odd limits — look again\n3:9: s.ranges[1].low: is above high — swap the two"},
		{"named: {b.c: {low: 3, high: 2}}", "1:14: warning: s.named.b.c: odd limits — look again\n1:20: s.named.b.c.low: is above high — swap the two"},
		{"points: [a]", "1:9: s.points: a list where a mapping or the path of a CSV file is expected — write a mapping or the path of a CSV file"},
		{"points: {a: nowhere, b: {address: nowhere}}", "1:13: s.points.a.address: leads nowhere — write another\n1:35: s.points.b.address: leads nowhere — write another"},
		{"points: {a: }", "1:10: s.points.a: no value — write a mapping of keys or remove the key"},
		{"points: {a: [1]}", "1:13: s.points.a: a list where a mapping of keys is expected — write a mapping of keys"},
		{"points: {a: 12345678901234567890123456789012345678901}", "1:13: s.points.a: an address this long — write a shorter one"},
		{"points: {a: {adress: 1}}", "1:14: s.points.a: unknown key `adress` — did you mean `address`?"},
		{"points: none.csv", "1:9: s.points: the table cannot be read: open none.csv: no such file or directory — write a mapping, or the path of a CSV file from the folder of this config"},
		{"text: a\ntext: b\ncodes: {x: 1, x: 2}", "2:1: s: the key `text` is here twice, first on line 1 — remove or rename one of the two\n" +
			"3:15: s.codes: the key `x` is here twice, first on line 3 — remove or rename one of the two"},
		{"unit: 300\nlimits: {low: 2, high: 1}\nflag: yes", "1:7: s.unit: `300` is out of range — write a whole number from 0 to 255\n2:9: warning: s.limits: odd limits — look again\n2:15: s.limits.low: is above high — swap the two\n3:7: s.flag: `yes` where true or false is expected — write true"},
	} {
		t.Run(c.text, func(t *testing.T) {
			var into settings
			same(t, decodeText(t, c.text, &into), strings.Split(c.want, "\n"))
		})
	}
}

func TestDecodeSecretFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("good", "hunter2\n", 0o600)
	write("crlf", " hunter2 \r\n", 0o600)
	write("open", "hunter2", 0o644)
	write("empty", "\n", 0o600)
	for name, c := range map[string]struct{ clear, want string }{
		"file:good":  {clear: "hunter2"},
		"file:crlf":  {clear: " hunter2 "},
		"file:open":  {"hunter2", "1:6: warning: s.key: the secret file DIR/open is readable by every user — chmod 600 DIR/open"},
		"file:empty": {"", "1:6: s.key: the secret file DIR/empty is empty — write the secret into it"},
		"file:none":  {"", "1:6: s.key: the secret cannot be read: stat DIR/none: no such file or directory — create the file, readable by the gateway's user only"},
		"file:.":     {"", "1:6: s.key: the secret cannot be read: DIR is not a file — create the file, readable by the gateway's user only"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(dir, "c.yaml")
			s, faults := ParseSection("s", file, "key: "+name)
			if len(faults) > 0 {
				t.Fatal(faults)
			}
			var into settings
			var got []string
			for _, f := range s.Decode(&into) {
				got = append(got, strings.ReplaceAll(strings.TrimPrefix(f.String(), file+":"), dir, "DIR"))
			}
			same(t, got, lines(c.want))
			if into.Key.Reveal() != c.clear {
				t.Errorf("got the secret %q, want %q", into.Key.Reveal(), c.clear)
			}
		})
	}
}

func lines(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, "\n")
}

// No message may show what might be a secret.
func TestDecodeSecretNotShown(t *testing.T) {
	for _, text := range []string{"key: hunter2", "key: \"hunter2\"", "key: hunter2:x", "key: ENV:hunter2", "key: $hunter2", "key: {hunter2: x}", "key: [hunter2]", "key: |\n  hunter2"} {
		var into settings
		for _, m := range decodeText(t, text, &into) {
			if strings.Contains(m, "hunter2") {
				t.Errorf("%q: shown in %q", text, m)
			}
		}
	}
}

func TestDecodePanicsOnlyForProgrammers(t *testing.T) {
	s, _ := ParseSection("s", "-", "a: 1")
	for name, into := range map[string]any{
		"no pointer": settings{},
		"no struct":  new(int),
		"time.Duration": &struct {
			A time.Duration `yaml:"a"`
		}{},
		"channel": &struct {
			A chan int `yaml:"a"`
		}{},
		"twice": &struct {
			A int `yaml:"a"`
			B int `yaml:"a"`
		}{},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			s.Decode(into)
		})
	}
}

func TestSectionFaults(t *testing.T) {
	s, faults := ParseSection("s", "-", "driver: x\ntags:\n  a.b: {address: 1}\n  made: 5\nlist: [1,\n  2]\n")
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	if s.Driver != "x" {
		t.Errorf("driver %q", s.Driver)
	}
	if got := s.Faults(nil); len(got) != 0 {
		t.Errorf("nil error: %v", got)
	}
	err := errors.Join(
		Field("tags.made.address", "p", "r"), // deeper than the file goes
		fmt.Errorf("plan: %w", errors.Join(Field("tags.a.b.address", "p", "r"), Warn("list[1]", "p", "r"))),
		Field("list.0", "p", "r"), Field("list[9]", "p", "r"), Field("list[x", "p", "r"), Field("none.x", "p", "r"), Field("", "p", "r"),
		errors.New("no path"),
	)
	same(t, messages(s.Faults(err)), []string{
		"1:1: s.none.x: p — r",
		"1:1: s: p — r",
		"1:1: s: no path",
		"3:18: s.tags.a.b.address: p — r",
		"4:9: s.tags.made.address: p — r",
		"5:7: s.list[9]: p — r",
		"5:7: s.list[x: p — r",
		"5:8: s.list.0: p — r",
		"6:3: warning: s.list[1]: p — r",
	})
	s.unread = []string{"tags.made", "list[0]"}
	err = errors.Join(Field("tags[0].made", "only a consequence", ""), Field("tags.a.b", "p", "r"), Field("list[0]", "only a consequence", ""), Field("list[1]", "p", "r"))
	same(t, messages(s.Faults(err)), []string{"3:8: s.tags.a.b: p — r", "6:3: s.list[1]: p — r"})
	s.unread = nil
	if got, want := s.At("tags.made"), (Position{"-", 4, 9}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	empty := &Section{Name: "e"}
	var into struct {
		A int `yaml:"a,required"`
	}
	if got := empty.Decode(&into); len(got) != 1 || !strings.Contains(got[0].String(), "required key `a` is missing") {
		t.Errorf("got %v", got)
	}
}
