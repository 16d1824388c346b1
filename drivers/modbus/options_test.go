package modbus

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
)

func faultsOf(t *testing.T, text string) config.Faults {
	t.Helper()
	s, faults := config.ParseSection("press", "press.yaml", text)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	_, faults = Kind.Check(s)
	return faults
}

func TestDefaults(t *testing.T) {
	p := openPlan(t, "driver: modbus\nendpoint: ENDPOINT\ntags: {made: 40101, t: {address: input:1, type: REAL, scale: 0.5, unit: °C}, run: holding:7.2}\n", "10.0.0.7")
	if p.Endpoint != "10.0.0.7:502" || p.Interval != time.Second || p.Timeout < time.Second {
		t.Errorf("plan %+v", p)
	}
	want := []plant.Tag{
		{ID: "made", Type: plant.TypeUint16, Address: "holding:100 (40101)", Every: time.Second},
		{ID: "t", Type: plant.TypeFloat32, Scaled: true, Unit: "°C", Address: "input:1 (30002)", Every: time.Second},
		{ID: "run", Type: plant.TypeBool, Address: "holding:7.2 (40008.2)", Every: time.Second},
	}
	for i := range want {
		if p.Tags[i] != want[i] {
			t.Errorf("tag %+v, want %+v", p.Tags[i], want[i])
		}
	}
}

func TestTagsFromCSV(t *testing.T) {
	folder := t.TempDir()
	csv := "name,address,type,word_order,bit,length,scale,offset,unit,writable\n" +
		"made,holding:100,uint32,CDAB,,,,,,\n" +
		"level,40103,int16,,,,0.1,-40,°C,\n" +
		"order,holding:110,string,,,8,,,,true\n" +
		"run,holding:120,,,3,,,,,\n"
	if err := os.WriteFile(filepath.Join(folder, "tags.csv"), []byte(csv), 0o600); err != nil {
		t.Fatal(err)
	}
	s, _ := config.ParseSection("press", filepath.Join(folder, "press.yaml"), "driver: modbus\nendpoint: 10.0.0.7\ntags: tags.csv\n")
	p, faults := Kind.Check(s)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	var got []string
	for _, tag := range p.Tags {
		got = append(got, string(tag.ID)+" "+tag.Type.String()+" "+tag.Address)
	}
	want := "made uint32 holding:100 (40101); level int16 holding:102 (40103); order string holding:110 (40111); run bool holding:120.3 (40121.3)"
	if strings.Join(got, "; ") != want {
		t.Errorf("tags %s, want %s", got, want)
	}
}

// Each case breaks one thing; the fault names the place, and nothing else is
// reported.
func TestFaults(t *testing.T) {
	const head = "driver: modbus\nendpoint: 10.0.0.7\n"
	tag := func(s string) string { return head + "tags:\n  made: {" + s + "}\n" }
	for _, c := range []struct{ text, path, problem string }{
		{"driver: modbus\ntags: {made: 40101}\n", "press", "neither an endpoint nor a line"},
		{head, "press", "required key `tags`"},
		{head + "tags: {}\n", "press.tags", "no tags"},
		{head + "tags: {made: 100}\n", "press.tags.made.address", "does not say whether it counts from 0 or from 1"},
		{head + "base: 2\ntags: {made: 100}\n", "press.base", "2 is no base"},
		{head + "base: 1\ntags: {made: 0}\n", "press.tags.made.address", "the first is 1"},
		{head + "pause: 11s\ntags: {made: 40101}\n", "press.pause", "too long"},
		{head + "max_connections: -1\ntags: {made: 40101}\n", "press.max_connections", "-1"},
		{head + "bind: 'eth 0'\ntags: {made: 40101}\n", "press.bind", "neither a network card"},
		{"driver: modbus\nendpoint: rtu:///dev/ttyS0\ntags: {made: 40101}\n", "press.endpoint", "`rtu` is not supported"},
		{"driver: modbus\nendpoint: 10.0.0.7:99999\ntags: {made: 40101}\n", "press.endpoint", "port"},
		{"driver: modbus\nendpoint: ':502'\ntags: {made: 40101}\n", "press.endpoint", "names no host"},
		{"driver: modbus\nendpoint: 'plc:geh@im@10.0.0.7:502'\ntags: {made: 40101}\n", "press.endpoint", "`…@10.0.0.7:502` has a user before the @"},
		{"driver: modbus\nendpoint: a:b:c\ntags: {made: 40101}\n", "press.endpoint", "no host and port"},
		{"driver: modbus\nendpoint: 10.0.0.300\ntags: {made: 40101}\n", "press.endpoint", "no IPv4 address"},
		{"driver: modbus\nendpoint: 10.0.0.7.502\ntags: {made: 40101}\n", "press.endpoint", "no IPv4 address"},
		{"driver: modbus\nendpoint: 10,0,0,7:502\ntags: {made: 40101}\n", "press.endpoint", "holds ','"},
		{head + "unit: 248\ntags: {made: 40101}\n", "press.unit", "248"},
		{head + "interval: 0s\ntags: {made: 40101}\n", "press.interval", "it is 0"},
		{head + "timeout: 0s\ntags: {made: 40101}\n", "press.timeout", "it is 0"},
		{head + "max_registers: 126\ntags: {made: 40101}\n", "press.max_registers", "126"},
		{head + "max_gap: -1\ntags: {made: 40101}\n", "press.max_gap", "-1"},
		{head + "word_order: ABDC\ntags: {made: 40101}\n", "press.word_order", "no word order"},
		{head + "max_registers: 3\ntags: {made: {address: 40101, type: float64}}\n", "press.tags.made", "4 registers wide"},
		{tag("type: int16"), "press.tags.made", "required key `address`"},
		{tag("address: 40101, type: int7"), "press.tags.made.type", "no type of a Modbus tag"},
		{tag("address: 40101, bits: 6..4"), "press.tags.made.bits", "no bits of a number"},
		{tag("address: 40101, bits: 4..16"), "press.tags.made.bits", "uint16 has the bits 0 to 15"},
		{tag("address: 40101, type: int16, bits: 4..6"), "press.tags.made.bits", "no sign"},
		{tag("address: 40101, type: REAL, bits: 4..6"), "press.tags.made.bits", "only a whole number"},
		{tag("address: 40101, byte: high"), "press.tags.made.byte", "only an int8"},
		{tag("address: 40101, type: uint8, byte: middle"), "press.tags.made.byte", "unknown half"},
		{tag("address: 40101, count: 1001"), "press.tags.made.count", "1001"},
		{tag("address: 40101.1, count: 2"), "press.tags.made.count", "no array"},
		{tag("address: holding:65535, count: 2"), "press.tags.made.address", "beyond address 65535"},
		{tag("address: 40101, decimals: 30101"), "press.tags.made.decimals", "input table"},
		{tag("address: 40101, decimals: 'coil:1'"), "press.tags.made.decimals", "no register"},
		{tag("address: 40101, decimals: 40401"), "press.tags.made.decimals", "301 registers away"},
		{tag("address: 40101, type: REAL, decimals: 40102"), "press.tags.made.decimals", "only a whole number"},
		{tag("address: 40101, negative: 40102"), "press.tags.made.negative", "the sign is one bit"},
		{tag("address: 40101, type: int16, negative: 40102.1"), "press.tags.made.negative", "a sign of its own"},
		{tag("address: 40101, negative: 40102.16"), "press.tags.made.negative", "bits 0 to 15"},
		{tag("address: 40101, trim: both"), "press.tags.made.trim", "only a string"},
		{tag("address: 40101, type: string, length: 2, trim: start"), "press.tags.made.trim", "unknown way"},
		{tag("address: 40101, bits: 1..2, writable: true"), "press.tags.made.writable", "only a part"},
		{tag("address: 40101, type: uint8, writable: true"), "press.tags.made.writable", "only a part"},
		{tag("address: 40101, every: 1500ms"), "press.tags.made.every", "no multiple"},
		{tag("address: 40101, every: 500ms"), "press.tags.made.every", "no multiple"},
		{tag("address: coil:1, type: int16"), "press.tags.made.type", "one bit"},
		{tag("address: coil:1, bit: 2"), "press.tags.made.bit", "one bit already"},
		{tag("address: coil:1, word_order: CDAB"), "press.tags.made.word_order", "no word order"},
		{tag("address: 40101, bit: 16"), "press.tags.made.bit", "16"},
		{tag("address: 40101, bit: -1"), "press.tags.made.bit", "-1"},
		{tag("address: 40101.3, bit: 4"), "press.tags.made.bit", "the address says bit 3"},
		{tag("address: 40101.3, type: int16"), "press.tags.made.type", "one bit"},
		{tag("address: 40101, type: string"), "press.tags.made.length", "needs a length"},
		{tag("address: 40101, type: string, length: 126"), "press.tags.made.length", "126"},
		{tag("address: 40101, length: 2"), "press.tags.made.length", "only a string"},
		{tag("address: 40101, type: string, length: 2, scale: 0.1"), "press.tags.made.scale", "only a number"},
		{tag("address: coil:1, offset: 1"), "press.tags.made.offset", "only a number"},
		{tag("address: 40101, scale: 0.0"), "press.tags.made.scale", "times 0"},
		{tag("address: 40101, scale: 1e-1"), "press.tags.made.scale", "no decimal number"},
		{tag("address: input:1, writable: true"), "press.tags.made.writable", "input table"},
		{tag("address: discrete:1, writable: true"), "press.tags.made.writable", "discrete table"},
		{tag("address: 40101.3, writable: true"), "press.tags.made.writable", "one bit of a register"},
		{tag("address: 40101, type: string, length: 124, writable: true"), "press.tags.made.writable", "123"},
		{tag("address: holding:65535, type: int32"), "press.tags.made.address", "beyond address 65535"},
		{tag("address: 40101, adress: 1"), "press.tags.made", "unknown key"},
	} {
		faults := faultsOf(t, c.text)
		if len(faults) != 1 || faults[0].Path != c.path || !strings.Contains(faults[0].Problem, c.problem) || faults[0].Remedy == "" || faults[0].Line == 0 {
			t.Errorf("%s\ngives %v\nwant %s: …%s… with a remedy", c.text, faults, c.path, c.problem)
		}
	}
}

func TestGoodForms(t *testing.T) {
	for _, text := range []string{
		"endpoint: tcp://10.0.0.7:1502\ntags: {a: 40001, b: 000001, c: holding:1}\n",
		"endpoint: '[::1]:502'\nunit: 255\ntags: {a: {address: holding:65534, type: int32}}\n",
		"endpoint: '::1'\nunit: 0\nword_order: little\ntags: {a: {address: 40001, type: string, length: 125}}\n",
		"endpoint: plc-3.plant.local\nmax_registers: 1\nmax_gap: 0\ntags: {a: 40001, b: 40002}\n",
		"endpoint: plc_3\ntags: {word: 40001, first: holding:0.0, again: holding:0.0, coil: coil:0, copy: coil:0, input: input:0}\n",
		"endpoint: plc\ntags: {text: {address: holding:0, type: string, length: 4}, next: holding:4, wide: {address: holding:5, type: float64}, last: holding:9}\n",
	} {
		if faults := faultsOf(t, text); len(faults) > 0 {
			t.Errorf("%s\ngives %v", text, faults)
		}
	}
}

// Tags that share registers are doubtful; the warning is at the later one and
// names the other.
func TestOverlaps(t *testing.T) {
	for text, want := range map[string]string{
		"a: {address: holding:100, type: uint32}\n  b: holding:101": "press.tags.b: it shares registers with the tag `a` on line 4: holding:100 to 101 and holding:101",
		"a: holding:101\n  b: {address: holding:100, type: uint32}": "press.tags.b: it shares registers with the tag `a` on line 4: holding:101 and holding:100 to 101",
		"a: holding:100\n  b: {address: holding:100, type: uint32}": "press.tags.b: it shares registers with the tag `a` on line 4: holding:100 and holding:100 to 101",
		"a: 40101\n  b: {address: holding:100, type: int16}":        "press.tags.b: it is at the same address as the tag `a` on line 4: holding:100",
		"a: {address: input:0, type: string, length: 9}\n  b: input:1\n  c: {address: input:7, type: uint64}\n  d: input:10": "press.tags.b: it shares registers with the tag `a` on line 4: input:0 to 8 and input:1; " +
			"press.tags.c: it shares registers with the tag `a` on line 4: input:0 to 8 and input:7 to 10; " +
			"press.tags.d: it shares registers with the tag `c` on line 6: input:7 to 10 and input:10",
		"a: {address: holding:100, type: uint32}\n  b: input:101": "",
	} {
		var got []string
		for _, f := range faultsOf(t, "driver: modbus\nendpoint: 10.0.0.7\ntags:\n  "+text+"\n") {
			if !f.Warning {
				t.Errorf("an error: %s", f)
			}
			got = append(got, f.Path+": "+f.Problem)
		}
		if strings.Join(got, "; ") != want {
			t.Errorf("%s\ngives %s\nwant %s", text, strings.Join(got, "; "), want)
		}
	}
}
