package modbus

import (
	"testing"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
)

// What gives another value of the same answer is other words, and what gives the
// same value is the same words, however the config says it.
func TestReadsWordsWhatMakesAValue(t *testing.T) {
	reads := func(device, tag string) string {
		t.Helper()
		s, faults := config.ParseSection("dut", "test.yaml", "driver: modbus\nendpoint: 10.0.0.7\n"+device+"\ntags: {x: "+tag+"}\n")
		if len(faults) > 0 {
			t.Fatal(faults)
		}
		p, faults := Kind.Check(s)
		if len(faults.Errors()) > 0 {
			t.Fatal(faults)
		}
		return p.Reads()[plant.TagID("x")]
	}
	for _, same := range [][2]string{
		{`"holding:0"`, `{address: "holding:0", type: word, every: 5s, writable: true, unit: kg}`},
		{`{address: "holding:0", type: uint32}`, `{address: "40001", type: udint, word_order: big, scale: 1.00, offset: 0}`},
		{`{address: "holding:0.3"}`, `{address: "holding:0", type: bool, bit: 3}`},
		{`{address: "holding:0", type: int8}`, `{address: "holding:0", type: sint, byte: low}`},
		{`{address: "holding:0", type: string, length: 4}`, `{address: "holding:0", type: string, length: 4, text: plain, trim: end, word_order: CDAB}`},
	} {
		if a, b := reads("", same[0]), reads("", same[1]); a != b || a == "" {
			t.Errorf("%q and %q", a, b)
		}
	}
	if a, b := reads("word_order: CDAB", `{address: "holding:0", type: uint32}`), reads("", `{address: "holding:0", type: uint32, word_order: CDAB}`); a != b {
		t.Errorf("%q and %q", a, b)
	}
	seen := map[string]string{}
	for _, tag := range []string{
		`"holding:0"`, `"input:0"`, `"coil:0"`, `"holding:0.1"`, `"holding:1"`,
		`{address: "holding:0", type: int16}`, `{address: "holding:0", type: bcd16}`, `{address: "holding:0", word_order: BADC}`,
		`{address: "holding:0", type: uint32}`, `{address: "holding:0", type: uint32, word_order: CDAB}`, `{address: "holding:0", type: uint32, word_order: DCBA}`,
		`{address: "holding:0", type: uint8}`, `{address: "holding:0", type: uint8, byte: high}`,
		`{address: "holding:0", bits: 2..4}`, `{address: "holding:0", bits: 2..5}`,
		`{address: "holding:0", scale: 0.1}`, `{address: "holding:0", offset: -40}`,
		`{address: "holding:0", decimals: "holding:1"}`, `{address: "holding:0", decimals: "holding:1.4..6"}`, `{address: "holding:0", negative: "holding:1.7"}`,
		`{address: "holding:0", type: string, length: 4}`, `{address: "holding:0", type: string, length: 5}`,
		`{address: "holding:0", type: string, length: 4, text: s7}`, `{address: "holding:0", type: string, length: 4, trim: both}`,
		`{address: "holding:0", type: string, length: 4, word_order: BADC}`,
	} {
		words := reads("", tag)
		if other, twice := seen[words]; twice {
			t.Errorf("%s and %s are both %q", tag, other, words)
		}
		seen[words] = tag
	}
}
