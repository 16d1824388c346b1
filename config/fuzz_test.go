package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Whatever a file holds, Load and Decode return; each fault has a place in the
// file and says something; and a config without faults has what it requires.
func FuzzLoad(f *testing.F) {
	for _, seed := range []string{
		good, "", "\ufeff", "a", "- a", "a: 1\n---\nb: 2", "site: &a [*a]", "<<: {}", "!!x y", "%TAG ! x\n---\n", "? a\n: b", "? [a]: b", "{a: {b: [c, {d: e}]}}", "a: |\n b\nc: >-\n d", "a: \"\\u0041\"", "a: 'b\n  c'", "\ta: b", "a:\n- b\n - c",
		"site: {enterprise: 1, site: 2, area: 3}\ndevices: {x: {driver: y, points: {a: 1, b: {address: 2}}, numbers: [1, 2], limits: {high: 1}}}", "a: [[[[[[[[", "\"\": x", ": x", "{: }", "a: !", "a: *", "a: &", "...", "--- ---", "#", "null: null", "~: ~", "a: 0x", "a: {{b}}", "[a]: b", "key: |", "devices: {\"\\0\": 1}", "a: @b", "a: `b`", "x: >\n", "x: |9\n a", "? ", "- - - a: b\n  - c",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		l := newLoader()
		l.fragment("f.yaml", text)
		l.finish("f.yaml")
		faults := l.faults
		for _, s := range append(append(l.config.Devices, l.config.Machines...), l.config.Uplinks...) {
			if s.Name == "" || s.At("") == (Position{}) {
				t.Errorf("a section without a name or a place: %+v", s)
			}
			// Path and Secret would read files that the fuzzer names.
			var into struct {
				Text   string            `yaml:"text"`
				Number int16             `yaml:"number"`
				Float  float64           `yaml:"float"`
				Flag   *bool             `yaml:"flag"`
				Every  Duration          `yaml:"every"`
				Words  []string          `yaml:"words"`
				Codes  map[string]string `yaml:"codes"`
				Limits []limits          `yaml:"limits"`
			}
			faults = append(faults, s.Decode(&into)...)
		}
		lines := strings.Count(string(text), "\n") + 1
		for _, fault := range faults.Sort() {
			if fault.File != "f.yaml" || fault.Line < 1 || fault.Line > lines+1 || fault.Column < 1 || fault.Problem == "" || strings.ContainsAny(fault.Problem, "\n\x00") {
				t.Errorf("a fault without a place or words: %#v", fault)
			}
		}
		if len(faults.Errors()) == 0 && (l.config.Site.Enterprise == "" || l.config.Site.Gateway == "") {
			t.Errorf("no fault, but no site: %+v", l.config.Site)
		}
	})
}

// A table file, too, may hold anything.
func FuzzTable(f *testing.F) {
	for _, seed := range []string{"name,address\na,1\n", "\ufeffname;address\r\na;1\r\n", "", ",", "\"", "a,\"b\nc\"\n", "name,address,scale\nx,y,z\n", "a\tb\n", "\x00", "name,type\n,,,\n", "name,codes,address\na,1,2"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		dir := t.TempDir()
		file := filepath.Join(dir, "t.csv")
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		s, _ := ParseSection("s", filepath.Join(dir, "c.yaml"), "points: t.csv")
		var into struct {
			Points Table[point] `yaml:"points"`
		}
		faults := s.Decode(&into)
		for _, fault := range faults {
			if fault.Line < 1 || fault.Column < 1 || fault.Problem == "" {
				t.Errorf("a fault without a place or words: %#v", fault)
			}
		}
		seen := make(map[string]bool)
		for _, row := range into.Points.Rows {
			if row.Name == "" || seen[row.Name] || row.At.File != file {
				t.Errorf("the row %+v has no name, a name of another, or no place", row)
			}
			seen[row.Name] = true
		}
	})
}

// BenchmarkDecode reads 20 000 tags, the largest plant that one file should
// describe.
func BenchmarkDecode(b *testing.B) {
	var text strings.Builder
	text.WriteString("driver: modbus\npoints:\n")
	for i := range 20_000 {
		fmt.Fprintf(&text, "  tag%d: {address: \"4%05d\", type: uint16, scale: 0.1}\n", i, i)
	}
	b.SetBytes(int64(text.Len()))
	for b.Loop() {
		s, faults := ParseSection("s", "s.yaml", text.String())
		var into struct {
			Points Table[point] `yaml:"points"`
		}
		if faults = append(faults, s.Decode(&into)...); len(faults) > 0 || len(into.Points.Rows) != 20_000 {
			b.Fatal(faults)
		}
	}
}
