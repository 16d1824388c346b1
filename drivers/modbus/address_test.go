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
	} {
		a, err := ParseAddress(in)
		if err != nil || a.String() != want {
			t.Errorf("ParseAddress(%q) = %v, %v; want %s", in, a, err, want)
		}
	}
	for in, want := range map[string]string{
		"":                "no Modbus address",
		"100":             "no Modbus address",
		"4101":            "no Modbus address",
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
		"20001":           "no Modbus address",
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

func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{"holding:100.3", "40101", "400101.15", "input:0xFFFF", "00001", "coil:", ":", ".", "discrete:1.1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAddress(s)
		if err != nil {
			return
		}
		// Both halves of the canonical form mean the same address.
		named, classic, _ := strings.Cut(strings.TrimSuffix(a.String(), ")"), " (")
		for _, form := range []string{named, classic} {
			if b, err := ParseAddress(form); err != nil || b != a {
				t.Errorf("%q is %v, its form %q is %v, %v", s, a, form, b, err)
			}
		}
	})
}
