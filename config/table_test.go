package config

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// decodeCSV decodes a CSV file as the points and, with plain, as the plain
// table of settings.
func decodeCSV(t *testing.T, key, csv string) (settings, []string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "tags"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "tags", "t.csv"), []byte(csv), 0o644); err != nil {
		t.Fatal(err)
	}
	s, faults := ParseSection("s", filepath.Join(dir, "c.yaml"), key+": tags/t.csv")
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	var into settings
	var got []string
	for _, f := range s.Decode(&into) {
		got = append(got, strings.ReplaceAll(f.String(), filepath.Join(dir, "tags")+string(filepath.Separator), ""))
	}
	return into, got
}

func TestTableCSV(t *testing.T) {
	for name, csv := range map[string]string{
		"plain":     "name,address,type,scale\nmade,40001,uint16,0.1\nbad,0002,,\n",
		"excel":     "\ufeffname;address;type;scale\r\nmade;40001;uint16;0.1\r\nbad;0002;;\r\n;;;\r\n",
		"tabs":      "name\taddress\ttype\tscale\nmade\t40001\tuint16\t0.1\nbad\t0002\t\t",
		"sep=":      "\ufeffsep=;\r\nname;address;type;scale\r\nmade;40001;uint16;0.1\r\nbad;0002;;\r\n",
		"sep=tab":   "\"SEP=\t\"\nname\taddress\ttype\tscale\nmade\t40001\tuint16\t0.1\nbad\t0002\t\t",
		"quoted":    "tag,\"address\",type,scale\n\"made\",\"40001\",uint16,0.1\nbad,0002\n",
		"reordered": "Tag;scale;;type;address\n\nmade;0.1;a remark;uint16;40001\nbad;;;;0002\n",
	} {
		t.Run(name, func(t *testing.T) {
			got, faults := decodeCSV(t, "points", csv)
			same(t, faults, nil)
			if len(got.Points.Rows) != 2 || filepath.Base(got.Points.File) != "t.csv" {
				t.Fatalf("got %+v", got.Points)
			}
			made, bad := got.Points.Rows[0], got.Points.Rows[1]
			if made.Name != "made" || made.Value.Address != "40001" || made.Value.Type != "uint16" || made.Value.Scale != 0.1 {
				t.Errorf("got %+v", made)
			}
			if bad.Name != "bad" || bad.Value.Address != "0002" || bad.Value.Scale != 0 || filepath.Base(bad.At.File) != "t.csv" || bad.At.Column != 1 {
				t.Errorf("got %+v", bad)
			}
		})
	}
}

func TestTableCSVOfValues(t *testing.T) {
	got, faults := decodeCSV(t, "plain", "code;reason\n007;Jam\n0012;\"Störung; Band\"\n")
	same(t, faults, nil)
	if v, _ := got.Plain.Get("007"); v != "Jam" {
		t.Errorf("got %+v", got.Plain)
	}
	if v, _ := got.Plain.Get("0012"); v != "Störung; Band" {
		t.Errorf("got %+v", got.Plain)
	}
}

// TestTableCSVOfMappings: a field that is a mapping has a column for each entry.
func TestTableCSVOfMappings(t *testing.T) {
	got, faults := decodeCSV(t, "coded", "code;names.erp;type;names.mes\r\n21;M-21;Waiting;W\r\n31;;Jam;J\r\n32;;Jam;\r\n")
	same(t, faults, nil)
	want := map[string]map[string]string{"21": {"erp": "M-21", "mes": "W"}, "31": {"mes": "J"}, "32": nil}
	for _, row := range got.Coded.Rows {
		if !maps.Equal(row.Value.Names, want[row.Name]) || row.Value.Type == "" {
			t.Errorf("%s: %+v", row.Name, row.Value)
		}
	}
	if len(got.Coded.Rows) != len(want) {
		t.Errorf("%d rows", len(got.Coded.Rows))
	}
	for csv, want := range map[string]string{
		"code,names.,type\n1,a,b\n":            "t.csv:1:6: s.coded: unknown column `names.` — did you mean `names`?",
		"code,type.erp,type\n1,a,b\n":          "t.csv:1:6: s.coded: unknown column `type.erp` — choose from `type`, `names`",
		"code,type,names.a,names.a\n1,x,a,b\n": "t.csv:1:19: s.coded: the column `names.a` is here twice — remove one of the two",
	} {
		_, faults := decodeCSV(t, "coded", csv)
		same(t, faults, []string{want})
	}
}

func TestTableCSVFaults(t *testing.T) {
	for _, c := range []struct{ name, key, csv, want string }{
		{"empty", "points", "", "t.csv:1:1: s.points: the table is empty — name the columns in its first row: the name first, then the fields"},
		{"blank", "points", "\n;;\n", "t.csv:1:1: s.points: the table is empty — name the columns in its first row: the name first, then the fields"},
		{"heading alone", "points", "name,address\n", "t.csv:1:1: warning: s.points: the table has its first row, which names the columns, and no other — write a row for each name, or remove the key"},
		{"missing column", "points", "name,type\nmade,uint16\n", "t.csv:1:1: s.points: the column `address` is missing — add it to the first row"},
		{"no header", "points", "made,40001,uint16\nbad,40002,\n", "t.csv:1:1: s.points: the first row must name the columns, and none of its cells does — write them above it: the name first, then any of `address`, `type`, `scale`, `codes`"},
		{"sep= and a fault", "points", "sep=;\nname;address\n;5\n", "t.csv:3:1: s.points: a row without a name — write the name into the first column"},
		{"misspelt column", "points", "name,Adresse,type\nmade,40001,uint16\n", "t.csv:1:6: s.points: unknown column `Adresse` — did you mean `address`?"},
		{"foreign column", "points", "name,Ort,type\nmade,40001,uint16\n", "t.csv:1:6: s.points: unknown column `Ort` — did you mean `address`, which is required?"},
		{"unknown column", "points", "name,adress,address\nmade,1,2\n", "t.csv:1:6: s.points: unknown column `adress` — did you mean `address`?"},
		{"column twice", "points", "name,address,address\nmade,1,2\n", "t.csv:1:14: s.points: the column `address` is here twice — remove one of the two"},
		{"bad value", "points", "name;address;scale\nmäde;x;1,5\nb;y;ü\n", "t.csv:2:8: s.points.mäde.scale: a decimal comma in `1,5` — write 1.5\n" +
			"t.csv:3:5: s.points.b.scale: `ü` where a number is expected — write a number"},
		{"missing cell", "points", "name,address,type\nmade,,uint16\nbad\n", "t.csv:2:1: s.points.made: required key `address` is missing — add `address:`\n" +
			"t.csv:3:1: s.points.bad: required key `address` is missing — add `address:`"},
		{"no name", "points", "name,address\n,5\n", "t.csv:2:1: s.points: a row without a name — write the name into the first column"},
		{"name twice", "points", "name,address\na,5\nb,6\na,7\n", "t.csv:4:1: s.points: the name `a` is here twice, first on line 2 — remove or rename one of the two"},
		{"long row", "points", "name,address\na,5,6\n", "t.csv:2:5: s.points: the row has 3 cells, the first row only 2 — quote a cell that holds the separator"},
		{"quote", "points", "name,address\na,\"5\nb,6\n", "t.csv:2:1: s.points: not valid CSV: extraneous or missing \" in quoted-field — quote a cell only as a whole, and double the quotes inside of it"},
		{"bare quote", "points", "name,address\na,x\"5\nb,nowhere\nc,00\"\n", "t.csv:2:4: s.points: not valid CSV: bare \" in non-quoted-field — quote a cell only as a whole, and double the quotes inside of it\n" +
			"t.csv:4:5: s.points: not valid CSV: bare \" in non-quoted-field — quote a cell only as a whole, and double the quotes inside of it"},
		{"latin1", "points", "name,address\nm\xe4de,1\n", "t.csv:2:2: s.points: the byte 0xe4 does not belong into a table — save it as \"CSV UTF-8\""},
		{"NUL", "points", "name,address\nm\x00de,1\n", "t.csv:2:2: s.points: the byte 0x00 does not belong into a table — save it as \"CSV UTF-8\""},
		{"validate", "points", "name,type,address\na,,5\nb,,nowhere\n", "t.csv:3:4: s.points.b.address: leads nowhere — write another"},
		{"values", "plain", "code,reason,type\n7,Jam,x\n", "t.csv:1:1: s.plain: the table has 3 columns instead of 2 — keep two: the name and its value"},
		{"value missing", "plain", "code,reason\n7,\n", "t.csv:2:1: s.plain.7: no value — write text or remove the key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, got := decodeCSV(t, c.key, c.csv)
			same(t, got, strings.Split(c.want, "\n"))
		})
	}
}
