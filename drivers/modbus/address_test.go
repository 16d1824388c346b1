package modbus

import (
	"strings"
	"testing"
)

func TestParseAddress(t *testing.T) {
	for in, want := range map[string]string{
		"holding:100":     "holding:100 (40101)",
		"Holding: 100":    "holding:100 (40101)",
		"holding:0x64":    "holding:100 (40101)",
		"holding:0XFFFF":  "holding:65535 (465536)",
		"40101":           "holding:100 (40101)",
		"400101":          "holding:100 (40101)",
		" 465536 ":        "holding:65535 (465536)",
		"49999":           "holding:9998 (49999)",
		"holding:9999":    "holding:9999 (410000)",
		"input:5":         "input:5 (30006)",
		"30001":           "input:0 (30001)",
		"300001":          "input:0 (30001)",
		"coil:3":          "coil:3 (00004)",
		"00001":           "coil:0 (00001)",
		"000001":          "coil:0 (00001)",
		"discrete:7":      "discrete:7 (10008)",
		"10001":           "discrete:0 (10001)",
		"holding:100.3":   "holding:100.3 (40101.3)",
		"40101.15":        "holding:100.15 (40101.15)",
		"input:0x10.0":    "input:16.0 (30017.0)",
		"discrete:0x0000": "discrete:0 (10001)",
		"4x0101":          "holding:100 (40101)",
		"4X101":           "holding:100 (40101)",
		"4x00101.2":       "holding:100.2 (40101.2)",
		"3x30001":         "input:30000 (330001)",
		"1x8":             "discrete:7 (10008)",
		"%MW100":          "holding:100 (40101)",
		"%MW100:X3":       "holding:100.3 (40101.3)",
		"%MW100.3":        "holding:100.3 (40101.3)",
		"%M3":             "coil:3 (00004)",
		"%IW5":            "input:5 (30006)",
		"%I7":             "discrete:7 (10008)",
		"0x64":            "holding:100 (40101)",
		"0x64.1":          "holding:100.1 (40101.1)",
	} {
		a, err := ParseAddress(in)
		if err == nil {
			a, err = a.resolve(nil)
		}
		if err != nil || a.String() != want {
			t.Errorf("ParseAddress(%q) = %v, %v; want %s", in, a, err, want)
		}
	}
	for in, want := range map[string]string{
		"":                "no Modbus address",
		"4000101":         "no Modbus address",
		"40000":           "`40000` is no Modbus address — such numbers count from 1: the first is 40001, the same as holding:0",
		"300000":          "the first is 300001, the same as input:0",
		"00000":           "the first is 00001, the same as coil:0",
		"40000.3":         "`40000.3` is no Modbus address — such numbers count from 1",
		"4.01E+04":        "`4.01E+04` is a number that a spreadsheet has rounded — format the column as text, and write the address again",
		"4,01E+04":        "spreadsheet",
		"4e4":             "spreadsheet",
		"%QX0.0":          "`%QX0.0` is the PLC's own name",
		"DB1.DBW100":      "`DB1.DBW100` is the PLC's own name",
		"M0.0":            "`M0.0` is the PLC's own name",
		"MW100":           "`MW100` is the PLC's own name",
		"465537":          "no Modbus address",
		"99999":           "no Modbus address",
		"4x0":             "no Modbus address",
		"4x65537":         "no Modbus address",
		"2x1":             "no Modbus address",
		"%MW65536":        "`%MW65536` is the PLC's own name",
		"%MD100":          "`%MD100` is the PLC's own name",
		"%I0.3":           "bit of a bit",
		"%MW1:X16":        "no bit of a register",
		"%M1:X1":          "bit of a bit",
		"0x10000":         "no Modbus address",
		"-0101":           "no Modbus address",
		"DB1.DBW0":        "no Modbus address",
		"register:1":      "`register` is no table",
		"holding:":        "no address of a table",
		"holding:65536":   "`holding:65536` is no address of a table",
		"holding:-1":      "no address of a table",
		"holding:0x":      "no address of a table",
		"holding:0x1FFFF": "no address of a table",
		"holding:1_0":     "no address of a table",
		"holding:1.16":    "no bit of a register",
		"holding:1.":      "no bit of a register",
		"holding:1.-1":    "no bit of a register",
		"coil:1.0":        "bit of a bit",
	} {
		if a, err := ParseAddress(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseAddress(%q) = %v, %v; want an error with %q", in, a, err, want)
		}
	}
}

// Where a manual begins to count is said once for a device.
func TestBase(t *testing.T) {
	zero, one := 0, 1
	for _, c := range []struct {
		in   string
		base *int
		want string // the canonical form, or a part of the error
	}{
		{"100", &zero, "holding:100 (40101)"}, {"100", &one, "holding:99 (40100)"},
		{"0x64", &zero, "holding:100 (40101)"}, {"0x64", &one, "holding:99 (40100)"},
		{"holding:100", &one, "holding:99 (40100)"}, {"coil:1", &one, "coil:0 (00001)"}, {"100.3", &one, "holding:99.3 (40100.3)"},
		{"40101", &one, "holding:100 (40101)"}, {"4x101", &one, "holding:100 (40101)"}, {"%MW100", &one, "holding:100 (40101)"},
		{"20001", &one, "holding:20000 (420001)"},
		{"100", nil, "does not say whether it counts from 0 or from 1"}, {"0", &one, "the first is 1"}, {"holding:0", &one, "the first is 1"},
	} {
		a, err := ParseAddress(c.in)
		if err != nil {
			t.Errorf("%s: %v", c.in, err)
			continue
		}
		a, err = a.resolve(c.base)
		got := a.String()
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, c.want) {
			t.Errorf("%s: %s, want %s", c.in, got, c.want)
		}
	}
}

func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{"holding:100.3", "40101", "400101.15", "input:0xFFFF", "00001", "coil:", ":", ".", "discrete:1.1", "4x0101", "%MW100:X3", "%M1", "%IW0", "%I65535", "0x64", "100", "100.15", "0x", "4x", "%", "4.01E+04"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAddress(s)
		if err != nil {
			return
		}
		if a, err = a.resolve(nil); err != nil {
			return
		}
		// Both halves of the canonical form mean the same address.
		named, classic, _ := strings.Cut(strings.TrimSuffix(a.String(), ")"), " (")
		for _, form := range []string{named, classic} {
			b, err := ParseAddress(form)
			if err == nil {
				b, err = b.resolve(nil)
			}
			if err != nil || b != a {
				t.Errorf("%q is %v, its form %q is %v, %v", s, a, form, b, err)
			}
		}
	})
}
