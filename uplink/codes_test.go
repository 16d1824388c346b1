package uplink

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
)

// parsed decodes a config's code tables beside a file types.csv.
func parsed(t *testing.T, text, csv string) (c CodeTables, faults config.Faults) {
	t.Helper()
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "types.csv"), []byte(csv), 0o600); err != nil {
		t.Fatal(err)
	}
	s, faults := config.ParseSection("codes", filepath.Join(folder, "sluice.yaml"), text)
	faults = append(faults, s.Decode(&c)...)
	return c, faults
}

// decoded is parsed of tables without a fault.
func decoded(t *testing.T, text, csv string) CodeTables {
	t.Helper()
	c, faults := parsed(t, text, csv)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	return c
}

// A table is what Excel saves: a byte order mark, semicolons, CRLF.
func TestCodesFromASpreadsheet(t *testing.T) {
	c := NewCodes(decoded(t, "{downtime_type: types.csv, machine: {PRESS-01: M7}}", "\ufeffours;theirs;text\r\nJam;Stau;Papierstau\r\n\"No; work\";Leerlauf;\r\n"), nil)
	for _, x := range []struct {
		kind       plant.CodeKind
		ours, want string
		ok         bool
	}{
		{plant.CodeDowntimeType, "Jam", "Stau", true},
		{plant.CodeDowntimeType, "No; work", "Leerlauf", true},
		{plant.CodeDowntimeType, "Power", "Power", false},
		{plant.CodeDowntimeType, "", "", true},
		{plant.CodeMachine, "PRESS-01", "M7", true},
		{plant.CodeMachine, "PRESS-02", "PRESS-02", false},
		{plant.CodeWaste, "W1", "W1", true}, // no table: the same codes on both sides
	} {
		if got, ok := c.Lookup(x.kind, x.ours); got != x.want || ok != x.ok {
			t.Errorf("%s %q is %q (%v), want %q (%v)", x.kind, x.ours, got, ok, x.want, x.ok)
		}
	}
	_, _ = c.Lookup(plant.CodeDowntimeType, "Power")
	unmapped, more := c.Unmapped()
	if len(unmapped) != 2 || more != 0 || unmapped[0].Code != "Power" || unmapped[0].Count != 1 || unmapped[1].Code != "PRESS-02" {
		t.Errorf("got %+v and %d more", unmapped, more)
	}
}

// What is wrong with a table is said with its file, line and column.
func TestCodeTableFaults(t *testing.T) {
	for name, x := range map[string]struct{ text, csv, want string }{
		"a column's name":   {"{waste: types.csv}", "ours,their,text\nA,B,C\n", "types.csv:1:6"},
		"no other code":     {"{waste: types.csv}", "ours,theirs\nA,\n", "types.csv:2:1"},
		"the same twice":    {"{waste: types.csv}", "ours,theirs\nA,B\nA,C\n", "types.csv:3:1"},
		"no such kind":      {"{downtime: types.csv}", "ours,theirs\nA,B\n", "sluice.yaml:1:2"},
		"machines mixed up": {"{machine: types.csv}", "ours,theirs\nA,M1\nB,M1\n", "types.csv:3:1"},
	} {
		t.Run(name, func(t *testing.T) {
			_, faults := parsed(t, x.text, x.csv)
			if len(faults) != 1 {
				t.Fatalf("got %v", faults)
			}
			if got := fmt.Sprintf("%s:%d:%d", filepath.Base(faults[0].File), faults[0].Line, faults[0].Column); got != x.want {
				t.Errorf("got %s, want %s: %v", got, x.want, faults[0])
			}
		})
	}
}

// press is the table of reasons of one machine.
type press struct{}

// DowntimeType implements Downtimes.
func (press) DowntimeType(m plant.MachineID, reason string) (string, bool) {
	switch {
	case m != "PRESS-01":
		return "", false
	case reason == "21":
		return "M-21", true
	case reason == "31":
		return "Jam", false
	default:
		return "Power", false
	}
}

// Own implements Downtimes.
func (press) Own() bool { return true }

// The machine's own column for the uplink comes before the table of the uplink,
// and the table of the uplink goes by the downtime type of now.
func TestDowntimeTypes(t *testing.T) {
	c := NewCodes(decoded(t, "{downtime_type: {Jam: Stau, unknown: Sonstiges}}", ""), press{})
	for _, x := range []struct {
		machine               plant.MachineID
		recorded, reason, out string
		ok                    bool
	}{
		{"PRESS-01", "Waiting", "21", "M-21", true},
		{"PRESS-01", "recorded as something else", "31", "Stau", true},
		{"PRESS-01", "Jam", "99", "Power", false},
		{"GONE", "Jam", "31", "Stau", true},
	} {
		if got, ok := c.DowntimeType(x.machine, x.recorded, x.reason); got != x.out || ok != x.ok {
			t.Errorf("%+v: got %q (%v)", x, got, ok)
		}
	}
}

// A tag with a wrong address makes up codes without end; they cost no memory.
func TestUnmappedCodesAreBounded(t *testing.T) {
	c := NewCodes(decoded(t, "{waste: {A: B}}", ""), nil)
	for i := range maxUnmapped + 7 {
		_, _ = c.Lookup(plant.CodeWaste, fmt.Sprintf("code %d", i))
	}
	if unmapped, more := c.Unmapped(); len(unmapped) != maxUnmapped || more != 7 {
		t.Errorf("got %d and %d more", len(unmapped), more)
	}
	var none *Codes
	if got, ok := none.Lookup(plant.CodeWaste, "A"); got != "A" || !ok {
		t.Errorf("without tables: %q, %v", got, ok)
	}
	if got, ok := none.DowntimeType("M", "Jam", "1"); got != "Jam" || !ok {
		t.Errorf("without tables: %q, %v", got, ok)
	}
	if unmapped, more := none.Unmapped(); len(unmapped) != 0 || more != 0 {
		t.Errorf("without tables: %v, %d", unmapped, more)
	}
}

func TestExpiries(t *testing.T) {
	soon, late := time.Now().Add(time.Hour), time.Now().Add(48*time.Hour)
	e := NewExpiries(Expiry{"the token", late})
	settings := &tls.Config{MinVersion: tls.VersionTLS12, VerifyConnection: func(tls.ConnectionState) error { return nil }}
	e.Watch(settings, "the certificate of mes.example")
	if err := settings.VerifyConnection(tls.ConnectionState{PeerCertificates: []*x509.Certificate{{NotAfter: soon}, {NotAfter: late}}}); err != nil {
		t.Fatal(err)
	}
	list := e.List()
	if len(list) != 2 || list[0].What != "the certificate of mes.example" || !list[0].At.Equal(soon) || list[1].What != "the token" {
		t.Errorf("got %+v", list)
	}
	e.Note("the token", time.Time{})
	if list = e.List(); len(list) != 1 {
		t.Errorf("a token without an end is listed: %+v", list)
	}
	refused := errors.New("refused")
	settings = &tls.Config{MinVersion: tls.VersionTLS12, VerifyConnection: func(tls.ConnectionState) error { return refused }}
	e.Watch(settings, "another")
	if err := settings.VerifyConnection(tls.ConnectionState{PeerCertificates: []*x509.Certificate{{NotAfter: soon}}}); !errors.Is(err, refused) || len(e.List()) != 1 {
		t.Errorf("got %v, %+v", err, e.List())
	}
	for i := range 2 * maxExpiries {
		e.Note(fmt.Sprintf("name %d", i), late)
	}
	if n := len(e.List()); n != maxExpiries {
		t.Errorf("%d are kept", n)
	}
	var none *Expiries
	none.Note("the token", soon)
	if none.List() != nil {
		t.Error("a nil one remembers")
	}
}
